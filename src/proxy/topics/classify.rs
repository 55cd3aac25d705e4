//! Finds topics on the brokers and decides the type of new ones: by a creation in progress, else by
//! the rules of the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::protocol::StrBytes;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::error::MakeDisklessError;
use super::placeholder;
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
use crate::topic_rules::TopicRules;

/// Finds topics and decides their types.
#[derive(Debug)]
pub struct TopicClassifier {
    registry: Arc<TopicRegistry>,
    cluster: Arc<KafkaCluster>,
    coordinator: Arc<dyn Coordinator>,
    /// The rules, and the profile of topics for which no rule gives one.
    rules: RwLock<(TopicRules, FlushProfile)>,
    /// Held while types are decided, so that each topic is decided once.
    classify_lock: Mutex<()>,
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
            classify_lock: Mutex::new(()),
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
    /// [`TopicRegistry::by_id`] returns each topic whose type could be decided.
    pub async fn observe(&self, observed: &[MetadataResponseTopic]) {
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
    pub async fn observe_all(&self, observed: &[MetadataResponseTopic]) {
        self.observe(observed).await;
        self.registry.retain_listed(observed);
    }

    /// Looks up topics by name or id on the brokers and caches them. Returns whether the type of
    /// each existing one is known now.
    ///
    /// # Errors
    /// The brokers could not be asked.
    pub async fn look_up(&self, names: &[&str], ids: &[TopicId]) -> Result<bool, UpstreamError> {
        let mut all_decided = true;
        let by_name = names.iter().map(|name| {
            let name = StrBytes::from_string((*name).to_owned());
            MetadataRequestTopic::default().with_name(Some(name.into()))
        });
        let by_id = ids.iter().map(|id| {
            let id = uuid::Uuid::from_bytes(id.0);
            MetadataRequestTopic::default().with_name(None).with_topic_id(id)
        });
        // A broker rejects a request that contains both names and ids.
        for requested in [by_name.collect::<Vec<_>>(), by_id.collect()] {
            if !requested.is_empty() {
                let metadata = self.cluster.metadata(Some(requested)).await?;
                self.observe(&metadata.topics).await;
                // A broker with outdated metadata still describes a deleted topic.
                let undecided = |t: &MetadataResponseTopic| {
                    let id = id_of(t);
                    exists(t) && !self.registry.is_bound(id) && !self.registry.is_deleted(id)
                };
                all_decided &= !metadata.topics.iter().any(undecided);
            }
        }
        Ok(all_decided)
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

    /// Decides the types of topics observed for the first time, and binds them.
    async fn classify(&self, observed: &[&MetadataResponseTopic]) {
        let _one_at_a_time = self.classify_lock.lock().await;
        let mut registrations = Vec::new();
        let unbound = observed.iter().filter(|topic| !self.registry.is_bound(id_of(topic)));
        for topic in unbound {
            let name = topic.name.as_ref().map_or("", |name| name.as_str());
            // A migrating topic is bound already: this only asks whether it still migrates.
            let topic_type = match self.registry.is_migrating(id_of(topic)) {
                true => Some(TopicType::Classic),
                false => self.desired_type(name, topic.is_internal).await,
            };
            let Some(topic_type) = topic_type else { continue };
            let binding = TopicBinding { topic: id_of(topic), name: name.to_owned(), topic_type };
            registrations.push(Registration { binding, rule: BindRule::FirstWins });
        }
        if registrations.is_empty() {
            return;
        }
        let ids: Vec<_> = registrations.iter().map(|r| r.binding.topic).collect();
        match self.coordinator.register(registrations).await {
            Ok(bound) => {
                self.registry.apply_bindings(&ids, bound);
            }
            Err(error) => tracing::warn!(%error, "types of new topics are unknown for now"),
        }
    }

    /// Returns the type of a new topic; `None` if it cannot be determined now.
    async fn desired_type(&self, name: &str, is_internal: bool) -> Option<TopicType> {
        let pending = self.pending_creations.lock().get(name).map(|(_, topic_type)| *topic_type);
        let is_diskless = match pending {
            Some(topic_type) => topic_type == TopicType::Diskless,
            None => self.is_diskless_by_rules(name),
        };
        if is_internal || !is_diskless {
            return Some(TopicType::Classic);
        }
        match placeholder::check_eligible(&self.cluster, name).await {
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
