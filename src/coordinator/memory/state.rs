//! All metadata and its transitions, without IO.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use super::outcomes::Outcomes;
use super::subscribers::Subscribers;
use crate::coordinator::{
    BindRule, CLOCK_TOLERANCE_MS, Commit, CommitOutcome, CoordinatorError, CoordinatorEvent,
    CoordinatorResult, FindRequest, Found, PartOutcome, ProducerSnapshot, Refusal, Registration,
    TopicBinding, TopicType, Watermarks,
};
use crate::log::batch::Part;
use crate::log::ids::{ObjectId, ProcessIdentity, TopicId, TopicPartition};
use crate::log::partition_log::PartitionLog;

mod checkpoint;

#[derive(Debug, Default)]
pub(in crate::coordinator) struct MetadataState {
    cluster_id: Option<String>,
    zones: Vec<String>,
    bindings: BTreeMap<TopicId, TopicBinding>,
    deleted: BTreeSet<TopicId>,
    partitions: BTreeMap<TopicPartition, PartitionLog>,
    /// By shard.
    outcomes: BTreeMap<u16, Outcomes>,
    /// The fences that were raised in all shards.
    everywhere: Outcomes,
    subscribers: Subscribers,
}

impl MetadataState {
    /// Binds the cluster, or checks it; returns the zone's index.
    pub(in crate::coordinator) fn attach(
        &mut self,
        cluster_id: &str,
        zone: &str,
    ) -> Result<u16, CoordinatorError> {
        let bound = self.cluster_id.get_or_insert_with(|| cluster_id.to_owned());
        if bound != cluster_id {
            let (bound, requested) = (bound.clone(), cluster_id.to_owned());
            return Err(CoordinatorError::OtherCluster { bound, requested });
        }
        let existing = self.zones.iter().position(|z| z == zone);
        let index = u16::try_from(existing.unwrap_or(self.zones.len()))
            .map_err(|_| CoordinatorError::Unavailable("too many zones".to_owned()))?;
        if existing.is_none() {
            self.zones.push(zone.to_owned());
        }
        Ok(index)
    }

    pub(in crate::coordinator) fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    pub(in crate::coordinator) fn zones(&self) -> &[String] {
        &self.zones
    }

    pub(in crate::coordinator) fn register(
        &mut self,
        registrations: Vec<Registration>,
    ) -> Vec<Option<TopicBinding>> {
        registrations.into_iter().map(|registration| self.register_one(registration)).collect()
    }

    /// Returns the bindings that the registrations would change, in their new state.
    pub(in crate::coordinator) fn plan_register(
        &self,
        registrations: &[Registration],
    ) -> BTreeMap<TopicId, TopicBinding> {
        let mut changed: BTreeMap<TopicId, TopicBinding> = BTreeMap::new();
        for registration in registrations {
            let topic = registration.binding.topic;
            if self.is_deleted(topic) {
                continue;
            }
            let bound = changed.get(&topic).or_else(|| self.bindings.get(&topic));
            if let Some(binding) = resolve(bound, registration) {
                changed.insert(topic, binding);
            }
        }
        changed
    }

    pub(in crate::coordinator) fn topics(&self) -> Vec<TopicBinding> {
        self.bindings.values().cloned().collect()
    }

    pub(in crate::coordinator) fn is_deleted(&self, topic: TopicId) -> bool {
        self.deleted.contains(&topic)
    }

    pub(in crate::coordinator) fn delete_topic(&mut self, topic: TopicId) {
        if !self.deleted.insert(topic) {
            return;
        }
        self.bindings.remove(&topic);
        let first = TopicPartition { topic, partition: i32::MIN };
        let last = TopicPartition { topic, partition: i32::MAX };
        let deleted: Vec<_> = self.partitions.range(first..=last).map(|(p, _)| *p).collect();
        for partition in deleted {
            self.partitions.remove(&partition);
        }
        self.subscribers.publish(&CoordinatorEvent::TopicDeleted(topic));
    }

    /// Commits parts; `shard` returns the shard of a partition, each of which has fences and
    /// outcomes of its own. With `now_ms`, the time of the coordinator's clock, the seal time is
    /// moved to within [`CLOCK_TOLERANCE_MS`] of it.
    pub(in crate::coordinator) fn commit(
        &mut self,
        commit: &Commit,
        now_ms: Option<i64>,
        shard: &dyn Fn(TopicPartition) -> u16,
    ) -> Vec<CoordinatorResult<PartOutcome>> {
        let object = commit.object;
        let sealed_ms = now_ms.map_or(commit.sealed_ms, |now| {
            commit.sealed_ms.clamp(now - CLOCK_TOLERANCE_MS, now + CLOCK_TOLERANCE_MS)
        });
        let stored = commit.parts.iter().map(|part| {
            let outcomes = self.outcomes.get(&shard(part.partition));
            outcomes.and_then(|of| of.stored(object, part.index)).cloned()
        });
        let stored: Vec<_> = stored.collect();
        let shards: BTreeSet<u16> = commit.parts.iter().map(|p| shard(p.partition)).collect();
        for shard in shards {
            let outcomes = self.outcomes.entry(shard).or_default();
            outcomes.raise_fence(object.process(), commit.lowest_undecided);
        }
        let is_fenced = |part: &&Part| self.is_fenced(object, shard(part.partition));
        let unknown = commit.parts.iter().zip(&stored).filter(|(_, stored)| stored.is_none());
        let undecided: Vec<_> =
            unknown.map(|(part, _)| part).filter(|part| !is_fenced(part)).collect();
        let mut decided = self.commit_parts(object, sealed_ms, &undecided);
        for part in &undecided {
            if let Some(outcome) = decided.get(&part.index) {
                let outcomes = self.outcomes.entry(shard(part.partition)).or_default();
                outcomes.store(object, outcome.clone());
            }
        }
        let fenced = || CoordinatorError::Fenced(format!("object {object}"));
        let results = commit.parts.iter().zip(stored);
        results
            .map(|(part, stored)| stored.or_else(|| decided.remove(&part.index)).ok_or_else(fenced))
            .collect()
    }

    /// Returns whether the coordinator has decided a part, or refuses to.
    pub(in crate::coordinator) fn is_decided(
        &self,
        object: ObjectId,
        shard: u16,
        part: u32,
    ) -> bool {
        let of_shard = self.outcomes.get(&shard);
        of_shard.is_some_and(|of| of.stored(object, part).is_some())
            || self.is_fenced(object, shard)
    }

    /// Raises the fence of a process in all shards.
    pub(in crate::coordinator) fn raise_fence(&mut self, process: ProcessIdentity, lowest: u32) {
        for outcomes in self.outcomes.values_mut().chain([&mut self.everywhere]) {
            outcomes.raise_fence(process, lowest);
        }
    }

    pub(in crate::coordinator) fn find(&self, request: &FindRequest) -> Found {
        let Some(log) = self.partitions.get(&request.partition) else {
            return Found { watermarks: Watermarks::default(), runs: Vec::new() };
        };
        let runs = log.find(request.from, request.bytes_max, request.runs_max);
        Found { watermarks: watermarks(log), runs }
    }

    pub(in crate::coordinator) fn watermarks(&self, partition: TopicPartition) -> Watermarks {
        self.partitions.get(&partition).map(watermarks).unwrap_or_default()
    }

    pub(in crate::coordinator) fn trim(
        &mut self,
        partition: TopicPartition,
        start: i64,
    ) -> Watermarks {
        let Some(log) = self.partitions.get_mut(&partition) else { return Watermarks::default() };
        if log.trim(start) {
            let log_start_offset = log.log_start_offset();
            self.subscribers.publish(&CoordinatorEvent::Trimmed { partition, log_start_offset });
        }
        self.watermarks(partition)
    }

    pub(in crate::coordinator) fn producers(
        &self,
        partition: TopicPartition,
        now_ms: Option<i64>,
    ) -> Vec<ProducerSnapshot> {
        let Some(log) = self.partitions.get(&partition) else { return Vec::new() };
        let reached_ms = now_ms.map_or(i64::MIN, |now| now - CLOCK_TOLERANCE_MS);
        let snapshots = log.producers().iter(reached_ms).filter_map(|(id, entry)| {
            let last = entry.batches.back()?;
            Some(ProducerSnapshot {
                id,
                epoch: entry.epoch,
                last_sequence: last.last_sequence,
                last_timestamp: last.max_timestamp,
            })
        });
        snapshots.collect()
    }

    pub(in crate::coordinator) fn subscribe(&mut self) -> mpsc::Receiver<CoordinatorEvent> {
        self.subscribers.subscribe()
    }

    fn is_fenced(&self, object: ObjectId, shard: u16) -> bool {
        let of_shard = self.outcomes.get(&shard);
        self.everywhere.is_fenced(object) || of_shard.is_some_and(|of| of.is_fenced(object))
    }

    /// Returns `None` for a deleted topic.
    fn register_one(&mut self, registration: Registration) -> Option<TopicBinding> {
        if self.is_deleted(registration.binding.topic) {
            return None;
        }
        let bound = self.bindings.get(&registration.binding.topic);
        let Some(binding) = resolve(bound, &registration) else {
            return Some(bound.cloned().unwrap_or(registration.binding));
        };
        self.bindings.insert(binding.topic, binding.clone());
        self.subscribers.publish(&CoordinatorEvent::Bound(binding.clone()));
        Some(binding)
    }

    /// Commits parts without a stored outcome; returns their outcomes by index. The parts of one
    /// partition are one event.
    fn commit_parts(
        &mut self,
        object: ObjectId,
        sealed_ms: i64,
        parts: &[&Part],
    ) -> BTreeMap<u32, PartOutcome> {
        let mut by_partition: BTreeMap<TopicPartition, Vec<&Part>> = BTreeMap::new();
        for part in parts {
            by_partition.entry(part.partition).or_default().push(part);
        }
        let mut outcomes = BTreeMap::new();
        for (partition, parts) in by_partition {
            let (batches, log_start_offset) = if self.is_deleted(partition.topic) {
                let refused = CommitOutcome::Refused(Refusal::TopicDeleted);
                (parts.iter().map(|part| vec![refused; part.batches.len()]).collect(), 0)
            } else {
                self.append(object, sealed_ms, partition, &parts)
            };
            for (part, batches) in parts.into_iter().zip(batches) {
                let index = part.index;
                outcomes.insert(index, PartOutcome { index, batches, log_start_offset, sealed_ms });
            }
        }
        outcomes
    }

    fn append(
        &mut self,
        object: ObjectId,
        sealed_ms: i64,
        partition: TopicPartition,
        parts: &[&Part],
    ) -> (Vec<Vec<CommitOutcome>>, i64) {
        let log = self.partitions.entry(partition).or_default();
        let (batches, runs) = log.commit(object, sealed_ms, parts.iter().copied());
        let log_start_offset = log.log_start_offset();
        if !runs.is_empty() {
            self.subscribers.publish(&CoordinatorEvent::Committed { partition, runs });
        }
        (batches, log_start_offset)
    }
}

/// Returns the binding to which a registration changes `bound`; `None` if it changes nothing.
pub(in crate::coordinator) fn resolve(
    bound: Option<&TopicBinding>,
    registration: &Registration,
) -> Option<TopicBinding> {
    let Some(bound) = bound else { return Some(registration.binding.clone()) };
    match (registration.rule, bound.topic_type, registration.binding.topic_type) {
        (BindRule::Migrate, TopicType::Classic, TopicType::Migrating)
        | (BindRule::Migrate, TopicType::Migrating, TopicType::Diskless | TopicType::Classic) => {
            Some(TopicBinding { topic_type: registration.binding.topic_type, ..bound.clone() })
        }
        (BindRule::FirstWins | BindRule::Migrate, _, _) => None,
    }
}

fn watermarks(log: &PartitionLog) -> Watermarks {
    Watermarks {
        log_start_offset: log.log_start_offset(),
        high_watermark: log.high_watermark(),
        bytes: log.bytes(),
    }
}
