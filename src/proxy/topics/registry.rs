//! The cached topics: names, ids, types, leader epochs and configs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use parking_lot::RwLock;
use tokio::time::Instant;

use super::classic_status::ClassicStatusCache;
use super::topic::{Topic, TopicConfig, id_of};
use crate::coordinator::{CoordinatorEvent, TopicBinding, TopicType};
use crate::log::ids::TopicId;

/// The topics that this replica knows. Does no I/O.
#[derive(Debug, Default)]
pub struct TopicRegistry {
    cache: RwLock<TopicCache>,
    /// Incremented whenever a known classic topic becomes diskless or begins to.
    migrations: AtomicU64,
    classic_status: ClassicStatusCache,
}

#[derive(Debug, Default)]
struct TopicCache {
    by_id: HashMap<TopicId, Arc<Topic>>,
    ids: HashMap<String, TopicId>,
    bindings: HashMap<TopicId, TopicType>,
    configs: HashMap<TopicId, TopicConfig>,
    deleted: DeletedTopics,
    /// The names of topics that are migrating from classic to diskless, and since when this is
    /// known. They have no binding, so nothing can be produced to them.
    migrating: HashMap<TopicId, (String, Instant)>,
}

impl TopicRegistry {
    /// Returns the topic with this name, if it was observed and its type is known.
    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        let cache = self.cache.read();
        cache.by_id.get(cache.ids.get(name)?).cloned()
    }

    /// Returns the topic with this id, if it was observed and its type is known.
    pub fn by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.cache.read().by_id.get(&id).cloned()
    }

    /// Returns the topic with this id, or with this name if the id is zero.
    pub fn by_id_or_name(&self, id: TopicId, name: &str) -> Option<Arc<Topic>> {
        if id.is_zero() { self.by_name(name) } else { self.by_id(id) }
    }

    /// Returns every diskless topic, in the order of their names.
    pub fn diskless(&self) -> Vec<Arc<Topic>> {
        let cache = self.cache.read();
        let mut all: Vec<_> = cache.by_id.values().filter(|t| t.is_diskless()).cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Returns a number that grows whenever a known classic topic becomes diskless or begins to.
    pub fn migrations(&self) -> u64 {
        self.migrations.load(Ordering::Acquire)
    }

    /// Applies what other replicas did.
    pub fn apply_event(&self, event: &CoordinatorEvent) {
        match event {
            CoordinatorEvent::Bound(binding) => self.bind(binding),
            CoordinatorEvent::TopicDeleted(id) => self.remove(*id),
            CoordinatorEvent::Committed { .. }
            | CoordinatorEvent::Trimmed { .. }
            | CoordinatorEvent::Disconnected(_)
            | CoordinatorEvent::Gap(_) => {}
        }
    }

    pub(super) fn classic_status(&self) -> &ClassicStatusCache {
        &self.classic_status
    }

    /// Replaces all bindings with those of the coordinator.
    pub(super) fn replace_bindings(&self, bindings: Vec<TopicBinding>) {
        let (migrating, bound): (Vec<_>, Vec<_>) =
            bindings.into_iter().partition(|b| b.topic_type == TopicType::Migrating);
        let bound: HashMap<_, _> = bound.into_iter().map(|b| (b.topic, b.topic_type)).collect();
        let mut cache = self.cache.write();
        let ids: HashSet<_> = migrating.iter().map(|b| b.topic).collect();
        cache.migrating.retain(|id, _| ids.contains(id));
        for binding in migrating {
            cache.migrating.entry(binding.topic).or_insert_with(|| (binding.name, Instant::now()));
        }
        // A topic that is no longer bound was deleted without an event; it is looked up again.
        cache.by_id.retain(|id, topic| bound.get(id) == Some(&topic.topic_type));
        cache.bindings = bound;
    }

    /// Applies the coordinator's bindings of these ids; `None` is a deleted topic. Returns the
    /// bindings of the others.
    pub(super) fn apply_bindings(
        &self,
        ids: &[TopicId],
        bound: Vec<Option<TopicBinding>>,
    ) -> Vec<TopicBinding> {
        for (id, bound) in ids.iter().zip(&bound) {
            match bound {
                Some(binding) => self.bind(binding),
                // The broker that named the topic has not yet seen its deletion.
                None => self.remove(*id),
            }
        }
        bound.into_iter().flatten().collect()
    }

    pub(super) fn bind(&self, binding: &TopicBinding) {
        let (id, topic_type) = (binding.topic, binding.topic_type);
        let mut cache = self.cache.write();
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
        let was_migrating = cache.migrating.remove(&id).is_some();
        let before = cache.bindings.insert(id, topic_type);
        if let Some(topic) = cache.by_id.get(&id).filter(|topic| topic.topic_type != topic_type) {
            let topic = Topic { topic_type, ..Topic::clone(topic) };
            cache.by_id.insert(id, Arc::new(topic));
        }
        let became_diskless =
            before == Some(TopicType::Classic) && topic_type == TopicType::Diskless;
        if was_migrating || became_diskless {
            self.migrations.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Drops a binding that may be outdated: the type is unknown until the next lookup.
    pub(super) fn invalidate(&self, id: TopicId) {
        let mut cache = self.cache.write();
        cache.bindings.remove(&id);
        cache.by_id.remove(&id);
    }

    /// Removes a deleted topic.
    pub(super) fn remove(&self, id: TopicId) {
        self.classic_status.remove(id);
        let mut cache = self.cache.write();
        cache.deleted.insert(id);
        cache.bindings.remove(&id);
        cache.configs.remove(&id);
        let migrating = cache.migrating.remove(&id).map(|(name, _)| name);
        let known = cache.by_id.remove(&id).map(|topic| topic.name.clone());
        for name in migrating.into_iter().chain(known) {
            if cache.ids.get(&name) == Some(&id) {
                cache.ids.remove(&name);
            }
        }
    }

    pub(super) fn is_bound(&self, id: TopicId) -> bool {
        self.cache.read().bindings.contains_key(&id)
    }

    pub(super) fn is_deleted(&self, id: TopicId) -> bool {
        self.cache.read().deleted.contains(id)
    }

    pub(super) fn is_migrating(&self, id: TopicId) -> bool {
        self.cache.read().migrating.contains_key(&id)
    }

    /// Returns the id of the migrating topic with this name.
    pub(super) fn migrating_by_name(&self, name: &str) -> Option<TopicId> {
        let cache = self.cache.read();
        cache.migrating.iter().find(|(_, (other, _))| other == name).map(|(id, _)| *id)
    }

    /// Returns the topics that have been migrating for at least `age`.
    pub(super) fn migrating_for(&self, age: Duration) -> Vec<(TopicId, String)> {
        let cache = self.cache.read();
        let old = cache.migrating.iter().filter(|(_, (_, since))| since.elapsed() >= age);
        old.map(|(id, (name, _))| (*id, name.clone())).collect()
    }

    /// Caches observed topics whose types are known. Most responses change nothing, and then no
    /// reader of the cache has to wait.
    pub(super) fn update<'a>(&self, observed: impl Iterator<Item = &'a MetadataResponseTopic>) {
        let changed: Vec<_> = {
            let cache = self.cache.read();
            observed.filter(|topic| cache.is_changed_by(topic)).collect()
        };
        if !changed.is_empty() {
            let mut cache = self.cache.write();
            changed.into_iter().for_each(|topic| cache.update(topic));
        }
    }

    /// Drops topics that are not among all topics of the brokers.
    pub(super) fn retain_listed(&self, listed: &[MetadataResponseTopic]) {
        let names: HashSet<&str> =
            listed.iter().filter_map(|t| t.name.as_ref()).map(|name| name.as_str()).collect();
        let ids: HashSet<TopicId> = listed.iter().map(id_of).collect();
        let mut cache = self.cache.write();
        cache.ids.retain(|name, _| names.contains(name.as_str()));
        cache.by_id.retain(|id, _| ids.contains(id));
    }

    pub(super) fn has_config(&self, id: TopicId) -> bool {
        self.cache.read().configs.contains_key(&id)
    }

    pub(super) fn set_config(&self, id: TopicId, config: TopicConfig) {
        let mut cache = self.cache.write();
        let before = cache.configs.insert(id, config);
        if config.compacted && !before.is_some_and(|before| before.compacted) {
            let name = cache.by_id.get(&id).map(|topic| topic.name.as_str());
            tracing::warn!(
                topic = name,
                "cleanup.policy=compact on a diskless topic: records need keys, but nothing is \
                 compacted"
            );
        }
        if let Some(topic) = cache.by_id.get(&id).filter(|topic| topic.config != config) {
            let topic = Topic { config, ..Topic::clone(topic) };
            cache.by_id.insert(id, Arc::new(topic));
        }
    }
}

impl TopicCache {
    /// Returns whether [`TopicCache::update`] would change anything.
    fn is_changed_by(&self, observed: &MetadataResponseTopic) -> bool {
        let id = id_of(observed);
        if !self.bindings.contains_key(&id) {
            return false;
        }
        let name = observed.name.as_ref().map_or("", |name| name.as_str());
        let Some(cached) = self.by_id.get(&id) else { return true };
        let is_newer = |partition: &MetadataResponsePartition| {
            partition.leader_epoch > cached.leader_epoch(partition.partition_index)
        };
        cached.name != name
            || self.ids.get(name) != Some(&id)
            || cached.leader_epochs.len() < observed.partitions.len()
            || observed.partitions.iter().any(is_newer)
    }

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
            // A response of a broker with outdated metadata reverts nothing.
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

/// The ids of deleted topics. Kafka never reuses an id.
#[derive(Debug, Default)]
struct DeletedTopics {
    ids: HashSet<TopicId>,
    order: VecDeque<TopicId>,
}

impl DeletedTopics {
    /// More than are deleted during the seconds until every broker knows of a deletion.
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
