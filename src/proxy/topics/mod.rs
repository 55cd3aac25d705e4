//! Every topic's kind, and what is needed of it at hand.
//!
//! Invariant: a topic is served as diskless only if its id is bound so in the coordinator. A kind
//! that is not known yet is never taken for classic: the answer is a retriable error.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::protocol::StrBytes;
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error_code::ErrorCode;
use super::upstream::cluster::KafkaCluster;
use super::upstream::error::UpstreamError;
use crate::coordinator::{
    BindRule, Coordinator, CoordinatorError, Event, Registration, TopicBinding, TopicType,
};
use crate::engine::produce::FlushProfile;
use crate::log::ids::{TopicId, TopicPartition};
use crate::topic_rules::TopicRules;

mod audit;
mod classic_status;
mod classify;
mod configs;
mod migrate;
mod placeholder;
mod rules;

pub use classify::{MakeDisklessError, MigrationMode};
pub use placeholder::{TopicConfig, includes_compact};

/// A topic as it was last seen, its kind known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub topic_type: TopicType,
    /// The leader epoch of each partition, by partition index.
    pub leader_epochs: Vec<i32>,
    /// The configs that we obey.
    pub config: TopicConfig,
}

impl Topic {
    /// Whether we keep it.
    pub fn is_diskless(&self) -> bool {
        self.topic_type == TopicType::Diskless
    }

    /// The partition, if the topic has it.
    pub fn partition(&self, index: i32) -> Option<TopicPartition> {
        let is_known = usize::try_from(index).is_ok_and(|i| i < self.leader_epochs.len());
        is_known.then_some(TopicPartition { topic: self.id, partition: index })
    }

    /// The partition's leader epoch, as the broker last gave it.
    pub fn leader_epoch(&self, index: i32) -> i32 {
        usize::try_from(index).ok().and_then(|i| self.leader_epochs.get(i)).copied().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct TopicCache {
    by_id: HashMap<TopicId, Arc<Topic>>,
    ids: HashMap<String, TopicId>,
    bindings: HashMap<TopicId, TopicType>,
    configs: HashMap<TopicId, TopicConfig>,
    deleted: DeletedTopics,
    /// Names of topics on their way from classic to diskless, and since when we know. They have no
    /// kind as yet: nobody may write to them.
    migrating: HashMap<TopicId, (String, Instant)>,
}

/// The topics.
#[derive(Debug)]
pub struct TopicRegistry {
    cluster: Arc<KafkaCluster>,
    coordinator: Arc<dyn Coordinator>,
    /// What the file says of topics, and what those are tuned for whose rule says nothing.
    rules: RwLock<(TopicRules, FlushProfile)>,
    cache: RwLock<TopicCache>,
    /// Held while a kind is decided, so that one topic is decided once.
    classify_lock: Mutex<()>,
    /// Names that a request at hand creates as diskless: see [`TopicRegistry::begin_creation`].
    pending_creations: parking_lot::Mutex<HashMap<String, (u64, TopicType)>>,
    /// Tells intents apart.
    creations_started: AtomicU64,
    /// Raised whenever a known classic topic becomes diskless, or is about to.
    migrations: AtomicU64,
    /// What is known of classic topics to which records are relayed.
    classic_status: classic_status::ClassicStatusCache,
    audit: audit::PlaceholderAudit,
}

/// Keeps a name marked as diskless-to-be until dropped.
#[derive(Debug)]
pub struct PendingCreation {
    topics: Arc<TopicRegistry>,
    name: String,
    number: u64,
}

impl Drop for PendingCreation {
    fn drop(&mut self) {
        let mut pending_creations = self.topics.pending_creations();
        // Another request may have meant the same name since; then the word is its own.
        if pending_creations.get(&self.name).is_some_and(|(number, _)| *number == self.number) {
            pending_creations.remove(&self.name);
        }
    }
}

impl TopicRegistry {
    /// Knows nothing until [`TopicRegistry::load`] and the first [`TopicRegistry::observe`].
    pub fn new(
        cluster: Arc<KafkaCluster>,
        coordinator: Arc<dyn Coordinator>,
        rules: TopicRules,
        profile: FlushProfile,
    ) -> Self {
        Self {
            cluster,
            coordinator,
            rules: RwLock::new((rules, profile)),
            cache: RwLock::default(),
            classify_lock: Mutex::new(()),
            pending_creations: parking_lot::Mutex::default(),
            creations_started: AtomicU64::new(0),
            migrations: AtomicU64::new(0),
            audit: audit::PlaceholderAudit::default(),
            classic_status: classic_status::ClassicStatusCache::default(),
        }
    }

    /// Takes over every binding of the coordinator.
    pub async fn load(&self) -> Result<(), CoordinatorError> {
        let bindings = self.coordinator.topics().await?;
        let (migrating, bindings): (Vec<_>, Vec<_>) =
            bindings.into_iter().partition(|b| b.topic_type == TopicType::Migrating);
        let bindings: HashMap<_, _> =
            bindings.into_iter().map(|b| (b.topic, b.topic_type)).collect();
        let mut cache = self.write();
        let ids: HashSet<_> = migrating.iter().map(|b| b.topic).collect();
        cache.migrating.retain(|id, _| ids.contains(id));
        for binding in migrating {
            cache.migrating.entry(binding.topic).or_insert_with(|| (binding.name, Instant::now()));
        }
        // What is not bound any more was forgotten while nobody told us; it is looked at anew.
        cache.by_id.retain(|id, topic| bindings.get(id) == Some(&topic.topic_type));
        cache.bindings = bindings;
        Ok(())
    }

    /// The topic of that name, if it was seen and its kind is known.
    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        let cache = self.read();
        cache.by_id.get(cache.ids.get(name)?).cloned()
    }

    /// The topic of that id, if it was seen and its kind is known.
    pub fn by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.read().by_id.get(&id).cloned()
    }

    /// The topic of that id when there is one, else the one of that name.
    pub fn by_id_or_name(&self, id: TopicId, name: &str) -> Option<Arc<Topic>> {
        if id.is_zero() { self.by_name(name) } else { self.by_id(id) }
    }

    /// Every diskless topic, by name.
    pub fn diskless(&self) -> Vec<Arc<Topic>> {
        let cache = self.read();
        let mut all: Vec<_> = cache.by_id.values().filter(|t| t.is_diskless()).cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// How many classic topics became diskless while this process knew them.
    pub fn migrations(&self) -> u64 {
        self.migrations.load(Ordering::Acquire)
    }

    /// The brokers behind the topics.
    pub fn cluster(&self) -> Arc<KafkaCluster> {
        Arc::clone(&self.cluster)
    }

    /// Until the intent is dropped, a topic of this name that is seen for the first time is bound
    /// to this kind: its creation is on the way.
    pub fn begin_creation(self: &Arc<Self>, name: &str, topic_type: TopicType) -> PendingCreation {
        let number = self.creations_started.fetch_add(1, Ordering::Relaxed);
        self.pending_creations().insert(name.to_owned(), (number, topic_type));
        PendingCreation { topics: Arc::clone(self), name: name.to_owned(), number }
    }

    /// Takes note of topics in an answer of a broker, and decides the kind of those never seen.
    /// Afterwards [`TopicRegistry::by_id`] knows each whose kind could be decided.
    pub async fn observe(&self, observed: &[MetadataResponseTopic]) {
        // A broker that lags behind still lists what was deleted: it must not come back to life.
        let alive =
            |t: &&MetadataResponseTopic| is_complete(t) && !self.read().deleted.contains(id_of(t));
        let observed: Vec<_> = observed.iter().filter(alive).collect();
        let unknown: Vec<_> = observed.iter().copied().filter(|t| !self.is_bound(t)).collect();
        if !unknown.is_empty() {
            self.classify(&unknown).await;
        }
        let mut cache = self.write();
        observed.into_iter().for_each(|topic| cache.update(topic));
    }

    /// As [`TopicRegistry::observe`] with the metadata of all topics: those not among them are gone, or
    /// are asked for when somebody names them.
    pub async fn observe_all(&self, observed: &[MetadataResponseTopic]) {
        self.observe(observed).await;
        let names: HashSet<&str> =
            observed.iter().filter_map(|t| t.name.as_ref()).map(|name| name.as_str()).collect();
        let ids: HashSet<TopicId> = observed.iter().map(id_of).collect();
        let mut cache = self.write();
        cache.ids.retain(|name, _| names.contains(name.as_str()));
        cache.by_id.retain(|id, _| ids.contains(id));
    }

    /// Asks the brokers for topics by name or id, and takes note of the answer. Whether the kind
    /// of each that exists is known now.
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
        // A broker refuses a request that mixes the two.
        for requested in [by_name.collect::<Vec<_>>(), by_id.collect()] {
            if !requested.is_empty() {
                let metadata = self.cluster.metadata(Some(requested)).await?;
                self.observe(&metadata.topics).await;
                let undecided = |t: &MetadataResponseTopic| exists(t) && !self.is_bound(t);
                all_decided &= !metadata.topics.iter().any(undecided);
            }
        }
        Ok(all_decided)
    }

    /// Binds the id of a topic that a request at hand has just created.
    pub async fn bind_created(
        &self,
        id: TopicId,
        name: &str,
        topic_type: TopicType,
    ) -> Result<(), MakeDisklessError> {
        let binding = TopicBinding { topic: id, name: name.to_owned(), topic_type: topic_type };
        let registration = Registration { binding, rule: BindRule::FirstWins };
        // What holds, not what was asked: another replica may have seen the topic first, or
        // even its end.
        let bound = self.coordinator.register(vec![registration]).await;
        let bound =
            bound.map_err(|error| MakeDisklessError::Coordinator(name.to_owned(), error))?;
        let mut is_other = false;
        for bound in self.apply_bindings(&[id], bound) {
            tracing::info!(topic = name, %id, topic_type = ?bound.topic_type, "topic created");
            is_other = topic_type == TopicType::Diskless && bound.topic_type != topic_type;
        }
        // It may have records already, by way of whoever saw it first.
        if is_other { self.make_diskless(name, MigrationMode::Apply).await } else { Ok(()) }
    }

    /// Forgets a topic that was deleted.
    pub async fn delete_topic(&self, id: TopicId) -> Result<(), CoordinatorError> {
        self.coordinator.delete_topic(id).await?;
        self.remove_topic(id);
        Ok(())
    }

    /// Takes note of what other replicas did.
    pub fn apply_event(&self, event: &Event) {
        match event {
            Event::Bound(binding) => self.bind(binding),
            Event::TopicDeleted(id) => self.remove_topic(*id),
            Event::Committed { .. } | Event::Trimmed { .. } | Event::Gap => {}
        }
    }

    fn is_bound(&self, topic: &MetadataResponseTopic) -> bool {
        self.read().bindings.contains_key(&id_of(topic))
    }

    fn bind(&self, binding: &TopicBinding) {
        let (id, topic_type) = (binding.topic, binding.topic_type);
        let mut cache = self.write();
        if cache.deleted.contains(id) {
            return;
        }
        if topic_type == TopicType::Migrating {
            cache.bindings.remove(&id);
            cache.by_id.remove(&id);
            cache.migrating.entry(id).or_insert_with(|| (binding.name.clone(), Instant::now()));
            self.migrations.fetch_add(1, Ordering::AcqRel);
            return;
        }
        let was_switching = cache.migrating.remove(&id).is_some();
        let before = cache.bindings.insert(id, topic_type);
        if let Some(topic) = cache.by_id.get(&id).filter(|topic| topic.topic_type != topic_type) {
            let topic = Topic { topic_type, ..Topic::clone(topic) };
            cache.by_id.insert(id, Arc::new(topic));
        }
        if was_switching
            || (before == Some(TopicType::Classic) && topic_type == TopicType::Diskless)
        {
            self.migrations.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Takes note of what the coordinator said of these ids; the bindings among it.
    fn apply_bindings(
        &self,
        ids: &[TopicId],
        bound: Vec<Option<TopicBinding>>,
    ) -> Vec<TopicBinding> {
        for (id, bound) in ids.iter().zip(&bound) {
            match bound {
                Some(binding) => self.bind(binding),
                // Somebody deleted it, and the broker that named it lags behind.
                None => self.remove_topic(*id),
            }
        }
        bound.into_iter().flatten().collect()
    }

    fn invalidate(&self, id: TopicId) {
        let mut cache = self.write();
        cache.bindings.remove(&id);
        cache.by_id.remove(&id);
    }

    fn remove_topic(&self, id: TopicId) {
        self.invalidate(id);
        self.classic_status.delete_topic(id);
        let mut cache = self.write();
        cache.deleted.insert(id);
        cache.configs.remove(&id);
        cache.migrating.remove(&id);
        cache.ids.retain(|_, known_id| *known_id != id);
    }

    fn read(&self) -> parking_lot::RwLockReadGuard<'_, TopicCache> {
        self.cache.read()
    }

    fn write(&self) -> parking_lot::RwLockWriteGuard<'_, TopicCache> {
        self.cache.write()
    }

    fn pending_creations(&self) -> parking_lot::MutexGuard<'_, HashMap<String, (u64, TopicType)>> {
        self.pending_creations.lock()
    }
}

/// Topics that were deleted. Kafka never gives an id twice.
#[derive(Debug, Default)]
struct DeletedTopics {
    ids: HashSet<TopicId>,
    order: VecDeque<TopicId>,
}

impl DeletedTopics {
    /// Brokers hear of a deletion within seconds; so many are not deleted meanwhile.
    const IDS_MAX: usize = 65_536;

    fn contains(&self, id: TopicId) -> bool {
        self.ids.contains(&id)
    }

    fn insert(&mut self, id: TopicId) {
        if self.ids.insert(id) {
            self.order.push_back(id);
        }
        while self.order.len() > Self::IDS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
    }
}

impl TopicCache {
    fn update(&mut self, observed: &MetadataResponseTopic) {
        let id = id_of(observed);
        let Some(&topic_type) = self.bindings.get(&id) else { return };
        let name = observed.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
        let mut leader_epochs = vec![0; observed.partitions.len()];
        for partition in &observed.partitions {
            if let Some(epoch) = usize::try_from(partition.partition_index)
                .ok()
                .and_then(|index| leader_epochs.get_mut(index))
            {
                *epoch = partition.leader_epoch.max(0);
            }
        }
        if let Some(before) = self.by_id.get(&id) {
            // An answer of a broker that lags behind takes nothing back.
            for (index, epoch) in before.leader_epochs.iter().enumerate() {
                match leader_epochs.get_mut(index) {
                    Some(observed) => *observed = (*observed).max(*epoch),
                    None => leader_epochs.push(*epoch),
                }
            }
        }
        let config = self.configs.get(&id).copied().unwrap_or_default();
        self.ids.insert(name.clone(), id);
        self.by_id.insert(id, Arc::new(Topic { id, name, topic_type, leader_epochs, config }));
    }
}

/// The id of a topic in an answer of a broker.
pub fn id_of(topic: &MetadataResponseTopic) -> TopicId {
    TopicId(*topic.topic_id.as_bytes())
}

/// Whether the answer speaks of a topic that exists: one asked for by an id that nobody has is
/// answered with that id.
fn exists(topic: &MetadataResponseTopic) -> bool {
    let unknown = [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_TOPIC_ID];
    !id_of(topic).is_zero() && !unknown.contains(&ErrorCode(topic.error_code))
}

/// Whether the answer describes a topic that exists, with its id.
fn is_complete(topic: &MetadataResponseTopic) -> bool {
    !id_of(topic).is_zero() && topic.name.is_some() && !topic.partitions.is_empty()
}

#[cfg(test)]
mod tests;
