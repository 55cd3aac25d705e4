//! Finds topics on the brokers and decides the type of new ones: by a creation in progress, else by
//! the rules of the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use parking_lot::RwLock;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::attempts::{Attempt, TopicAttempts};
use super::error::MakeDisklessError;
use super::placeholder;
use super::recent_lookups::{Lookup, RecentLookups};
use super::registry::TopicRegistry;
use super::topic::id_of;
use crate::coordinator::{
    BindRule, Coordinator, CoordinatorError, Registration, TopicBinding, TopicType,
};
use crate::engine::produce::FlushProfile;
use crate::log::ids::TopicId;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::proxy::upstream::error::UpstreamError;
use crate::tasks;
use crate::topic_rules::TopicRules;

/// Time for which a response waits for the first attempt to decide the types of topics in it.
const FIRST_ATTEMPT: Duration = Duration::from_millis(500);
/// Time for which a failure to decide the type of a topic is remembered.
const RETRY_AFTER: Duration = Duration::from_secs(3);
/// Maximum number of topics whose logs are examined at a time.
const EXAMINATIONS_MAX: usize = 8;
/// Maximum number of topics in one lookup.
const LOOKUP_MAX: usize = 1_000;
/// Maximum number of topics that are looked up for one request. The client retries for the others.
const LOOKUPS_PER_REQUEST_MAX: usize = 100_000;
/// Time for which a request waits until others have looked up their topics.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);

/// Finds topics and decides their types.
#[derive(Debug)]
pub struct TopicClassifier {
    registry: Arc<TopicRegistry>,
    cluster: Arc<KafkaCluster>,
    coordinator: Arc<dyn Coordinator>,
    /// The rules, and the profile of topics for which no rule gives one.
    rules: RwLock<(TopicRules, FlushProfile)>,
    /// The attempts to decide the types of new topics.
    attempts: Arc<TopicAttempts>,
    /// Limits the topics whose logs are examined at a time.
    examinations: Semaphore,
    /// Held during one lookup for a client.
    lookups: Mutex<()>,
    recent: RecentLookups,
    /// Names that a request creates right now: see [`TopicClassifier::begin_creation`].
    pending_creations: parking_lot::Mutex<HashMap<String, (u64, TopicType)>>,
    /// Tells pending creations of the same name apart.
    creations_started: AtomicU64,
}

/// Marks a name as being created, until dropped.
#[derive(Debug)]
pub struct PendingCreation {
    classifier: Arc<TopicClassifier>,
    name: String,
    number: u64,
}

impl Drop for PendingCreation {
    fn drop(&mut self) {
        let mut pending = self.classifier.pending_creations.lock();
        // Another request may have begun to create the same name since; its mark stays.
        if pending.get(&self.name).is_some_and(|(number, _)| *number == self.number) {
            pending.remove(&self.name);
        }
    }
}

impl TopicClassifier {
    pub(super) fn new(
        registry: Arc<TopicRegistry>,
        cluster: Arc<KafkaCluster>,
        coordinator: Arc<dyn Coordinator>,
        rules: (TopicRules, FlushProfile),
    ) -> Self {
        Self {
            registry,
            cluster,
            coordinator,
            rules: RwLock::new(rules),
            attempts: TopicAttempts::new(RETRY_AFTER),
            examinations: Semaphore::new(EXAMINATIONS_MAX),
            lookups: Mutex::new(()),
            recent: RecentLookups::default(),
            pending_creations: parking_lot::Mutex::default(),
            creations_started: AtomicU64::new(0),
        }
    }

    pub(super) fn registry(&self) -> &TopicRegistry {
        &self.registry
    }

    /// Loads every binding from the coordinator.
    ///
    /// # Errors
    /// The coordinator could not be reached; nothing changes.
    pub async fn load(&self) -> Result<(), CoordinatorError> {
        self.registry.replace_bindings(self.coordinator.topics().await?);
        Ok(())
    }

    /// Caches topics of a Metadata response and decides the types of new ones. Afterwards
    /// [`TopicRegistry::by_id`] returns each topic whose type could be decided. What takes longer
    /// is decided later, and delays no other topic.
    pub async fn observe(self: &Arc<Self>, observed: &[MetadataResponseTopic]) {
        // A broker with outdated metadata still lists deleted topics.
        let is_live =
            |t: &&MetadataResponseTopic| is_complete(t) && !self.registry.is_deleted(id_of(t));
        let observed: Vec<_> = observed.iter().filter(is_live).collect();
        let unknown: Vec<_> =
            observed.iter().copied().filter(|t| !self.registry.is_bound(id_of(t))).collect();
        if !unknown.is_empty() {
            self.classify(&unknown).await;
        }
        self.registry.update(observed.into_iter());
    }

    /// As [`TopicClassifier::observe`], with the metadata of all topics. Cached topics that are not
    /// among them are dropped; they are looked up when a request names them.
    pub async fn observe_all(self: &Arc<Self>, observed: &[MetadataResponseTopic]) {
        self.observe(observed).await;
        self.registry.retain_listed(observed);
    }

    /// Looks up topics by name or id on the brokers and caches them, except those that were looked
    /// up a moment ago. Returns whether the type of each existing one is known now.
    ///
    /// # Errors
    /// The brokers could not be asked.
    pub async fn look_up(
        self: &Arc<Self>,
        names: &[&str],
        ids: &[TopicId],
    ) -> Result<bool, UpstreamError> {
        let is_new = |topic: &Lookup<'_>| !self.recent.has(topic);
        let new: Vec<_> = lookups(names, ids).filter(is_new).collect();
        let (new, is_complete) = within_limit(&new);
        let mut all_decided = is_complete;
        for topics in chunks(new) {
            let found = {
                // Many requests for the same topics wait for the first one's response. A request
                // with many topics gives way to others between its lookups.
                let turn = timeout(TURN_TIMEOUT, self.lookups.lock()).await;
                let _one_at_a_time = turn.map_err(|_| UpstreamError::Busy)?;
                let new: Vec<_> = topics.iter().copied().filter(is_new).collect();
                self.ask(&new).await?
            };
            all_decided &= self.observe_found(&found).await;
        }
        Ok(all_decided)
    }

    /// The same, whenever the topics were looked up last: for a request that writes to a topic unless
    /// it is diskless.
    ///
    /// # Errors
    /// The brokers could not be asked.
    pub async fn look_up_now(
        self: &Arc<Self>,
        names: &[&str],
        ids: &[TopicId],
    ) -> Result<bool, UpstreamError> {
        let topics: Vec<_> = lookups(names, ids).collect();
        let (topics, is_complete) = within_limit(&topics);
        let mut all_decided = is_complete;
        for topics in chunks(topics) {
            let found = self.ask(topics).await?;
            all_decided &= self.observe_found(&found).await;
        }
        Ok(all_decided)
    }

    /// Asks the brokers about topics of one chunk, and caches those with a known type.
    async fn ask(
        &self,
        topics: &[Lookup<'_>],
    ) -> Result<Vec<MetadataResponseTopic>, UpstreamError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let requested = topics.iter().map(Lookup::requested).collect();
        let found = self.cluster.look_up(requested).await?.topics;
        self.cache_found(&found);
        Ok(found)
    }

    /// Caches topics with a known type. They, and those that do not exist, are not looked up again
    /// for a moment.
    fn cache_found(&self, found: &[MetadataResponseTopic]) {
        let is_live =
            |t: &&MetadataResponseTopic| is_complete(t) && !self.registry.is_deleted(id_of(t));
        self.registry.update(found.iter().filter(is_live));
        // Only now: a topic that is recorded and not cached is taken for one that does not exist.
        let is_cached =
            |topic: &&MetadataResponseTopic| self.registry.by_id(id_of(topic)).is_some();
        let known = || {
            let is_known = |t: &&MetadataResponseTopic| is_cached(t) || !self.exists_here(t);
            found.iter().filter(is_known)
        };
        self.recent.record_names(known().filter_map(|topic| topic.name.as_ref()));
        self.recent.record_ids(known().map(id_of).filter(|id| !id.is_zero()));
    }

    /// Caches topics that the brokers have described; returns whether all types are known.
    async fn observe_found(self: &Arc<Self>, found: &[MetadataResponseTopic]) -> bool {
        self.observe(found).await;
        !found.iter().any(|topic| self.is_undecided(topic))
    }

    /// Returns whether a topic exists and has no type. A broker with outdated metadata still
    /// describes a deleted topic.
    fn is_undecided(&self, topic: &MetadataResponseTopic) -> bool {
        self.exists_here(topic) && !self.registry.is_bound(id_of(topic))
    }

    /// Returns whether a topic exists and has not been deleted through a replica.
    fn exists_here(&self, topic: &MetadataResponseTopic) -> bool {
        exists(topic) && !self.registry.is_deleted(id_of(topic))
    }

    /// Binds a topic of this name to this type if it is observed for the first time before the
    /// returned value is dropped: a request is creating it.
    pub fn begin_creation(self: &Arc<Self>, name: &str, topic_type: TopicType) -> PendingCreation {
        let number = self.creations_started.fetch_add(1, Ordering::Relaxed);
        self.pending_creations.lock().insert(name.to_owned(), (number, topic_type));
        PendingCreation { classifier: Arc::clone(self), name: name.to_owned(), number }
    }

    /// Returns the profile of a diskless topic: that of its rule, else the default.
    pub fn profile(&self, name: &str) -> FlushProfile {
        let (rules, profile) = &*self.rules.read();
        rules.diskless_profile(name).unwrap_or(*profile)
    }

    /// Returns whether the rules make a new topic of this name diskless.
    pub fn is_diskless_by_rules(&self, name: &str) -> bool {
        self.rules.read().0.diskless_profile(name).is_some()
    }

    /// Replaces the rules for topics that are created from now on, and the default profile.
    pub fn set_rules(&self, rules: TopicRules, profile: FlushProfile) {
        *self.rules.write() = (rules, profile);
    }

    /// Decides the types of topics observed for the first time, and binds them. Each topic whose logs
    /// have to be examined has a task of its own; the others are bound together.
    async fn classify(self: &Arc<Self>, observed: &[&MetadataResponseTopic]) {
        let (mut simple, mut examined) = (Vec::new(), Vec::new());
        for topic in observed.iter().map(|topic| NewTopic::of(topic)) {
            let is_examined = !self.registry.is_migrating(topic.id)
                && self.intended_type(&topic) == TopicType::Diskless;
            (if is_examined { &mut examined } else { &mut simple }).push(topic);
        }
        if let Some(attempt) = self.attempts.begin(simple.iter().map(|topic| topic.id)) {
            simple.retain(|topic| attempt.includes(topic.id));
            let classifier = Arc::clone(self);
            tasks::spawn("bind-topics", async move { classifier.bind_all(simple, attempt).await });
        }
        for topic in examined {
            if let Some(attempt) = self.attempts.begin(std::iter::once(topic.id)) {
                let classifier = Arc::clone(self);
                tasks::spawn("decide-topic", async move {
                    classifier.examine(topic, attempt).await;
                });
            }
        }
        let ids: Vec<_> = observed.iter().map(|topic| id_of(topic)).collect();
        self.attempts.first(&ids, FIRST_ATTEMPT).await;
    }

    /// Binds topics as classic, unless they are bound already. The coordinator's response is the
    /// binding; that of a migrating topic, which is bound, says whether it still migrates.
    async fn bind_all(&self, topics: Vec<NewTopic>, attempt: Attempt) {
        let bindings = topics.into_iter().map(|topic| topic.bound_as(TopicType::Classic));
        self.register(bindings.collect(), attempt).await;
    }

    /// Examines the logs of a topic that is to be diskless, and binds it.
    async fn examine(&self, topic: NewTopic, attempt: Attempt) {
        if let Some(topic_type) = self.examined_type(&topic.name).await {
            self.register(vec![topic.bound_as(topic_type)], attempt).await;
        }
    }

    async fn register(&self, registrations: Vec<Registration>, attempt: Attempt) {
        let ids: Vec<_> = registrations.iter().map(|r| r.binding.topic).collect();
        match self.coordinator.register(registrations).await {
            Ok(bound) => {
                self.registry.apply_bindings(&ids, bound);
                attempt.succeed();
            }
            Err(error) => tracing::warn!(%error, "types of new topics are unknown for now"),
        }
    }

    /// Returns the type that a new topic is to have.
    fn intended_type(&self, topic: &NewTopic) -> TopicType {
        let pending = self.pending_creations.lock().get(&topic.name).map(|(_, intended)| *intended);
        let is_diskless = match pending {
            Some(intended) => intended == TopicType::Diskless,
            None => self.is_diskless_by_rules(&topic.name),
        };
        match is_diskless && !topic.is_internal {
            true => TopicType::Diskless,
            false => TopicType::Classic,
        }
    }

    /// Returns the type of a new topic that is to be diskless; `None` if it cannot be determined now.
    async fn examined_type(&self, name: &str) -> Option<TopicType> {
        match placeholder::check_eligible(&self.cluster, name, &self.examinations).await {
            Ok(()) => Some(TopicType::Diskless),
            Err(
                error @ (MakeDisklessError::HasRecords(_)
                | MakeDisklessError::Compacted(_)
                | MakeDisklessError::Internal(_)),
            ) => {
                tracing::warn!(topic = name, %error, "the topic stays classic");
                Some(TopicType::Classic)
            }
            Err(error) => {
                tracing::warn!(topic = name, %error, "the type of the topic is unknown for now");
                None
            }
        }
    }

    #[cfg(test)]
    pub(super) fn pending_count(&self) -> usize {
        self.pending_creations.lock().len()
    }

    #[cfg(test)]
    pub(super) fn pending_type(&self, name: &str) -> Option<TopicType> {
        self.pending_creations.lock().get(name).map(|(_, topic_type)| *topic_type)
    }
}

fn lookups<'a>(names: &[&'a str], ids: &[TopicId]) -> impl Iterator<Item = Lookup<'a>> {
    let names = names.iter().map(|name| Lookup::Name(name));
    names.chain(ids.iter().map(|id| Lookup::Id(*id)))
}

/// Returns the topics that are looked up for one request, and whether these are all.
fn within_limit<'a, 'b>(topics: &'a [Lookup<'b>]) -> (&'a [Lookup<'b>], bool) {
    let count = topics.len().min(LOOKUPS_PER_REQUEST_MAX);
    (&topics[..count], count == topics.len())
}

/// Returns the topics of each lookup: a broker rejects a request that contains both names and ids.
fn chunks<'a, 'b>(topics: &'a [Lookup<'b>]) -> impl Iterator<Item = &'a [Lookup<'b>]> {
    let by_name = topics.iter().take_while(|topic| matches!(topic, Lookup::Name(_))).count();
    let (names, ids) = topics.split_at(by_name);
    names.chunks(LOOKUP_MAX).chain(ids.chunks(LOOKUP_MAX))
}

/// A topic without a type.
#[derive(Debug)]
struct NewTopic {
    id: TopicId,
    name: String,
    is_internal: bool,
}

impl NewTopic {
    fn of(observed: &MetadataResponseTopic) -> Self {
        let name = observed.name.as_ref().map_or("", |name| name.as_str()).to_owned();
        Self { id: id_of(observed), name, is_internal: observed.is_internal }
    }

    fn bound_as(self, topic_type: TopicType) -> Registration {
        let binding = TopicBinding { topic: self.id, name: self.name, topic_type };
        Registration { binding, rule: BindRule::FirstWins }
    }
}

/// Returns whether a Metadata response describes an existing topic. The row for an unknown id
/// repeats the id.
fn exists(topic: &MetadataResponseTopic) -> bool {
    let unknown = [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_TOPIC_ID];
    !id_of(topic).is_zero() && !unknown.contains(&ErrorCode(topic.error_code))
}

/// Returns whether a Metadata response describes a topic with its id and partitions.
fn is_complete(topic: &MetadataResponseTopic) -> bool {
    !id_of(topic).is_zero() && topic.name.is_some() && !topic.partitions.is_empty()
}
