//! All metadata and its transitions, without IO.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use super::outcomes::Outcomes;
use super::subscribers::Subscribers;
use crate::coordinator::{
    BindRule, Commit, CommitOutcome, CoordinatorError, CoordinatorEvent, FindRequest, Found,
    PartOutcome, ProducerSnapshot, Refusal, Registration, TopicBinding, TopicType, Watermarks,
};
use crate::log::batch::Part;
use crate::log::ids::{ObjectId, TopicId, TopicPartition};
use crate::log::partition_log::PartitionLog;

#[derive(Debug, Default)]
pub(in crate::coordinator) struct MetadataState {
    cluster_id: Option<String>,
    zones: Vec<String>,
    bindings: BTreeMap<TopicId, TopicBinding>,
    deleted: BTreeSet<TopicId>,
    partitions: BTreeMap<TopicPartition, PartitionLog>,
    outcomes: Outcomes,
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

    pub(in crate::coordinator) fn commit(&mut self, commit: &Commit) -> Vec<PartOutcome> {
        commit.parts.iter().map(|p| self.commit_part(commit.object, commit.sealed_ms, p)).collect()
    }

    pub(in crate::coordinator) fn stored(
        &self,
        object: ObjectId,
        part: u32,
    ) -> Option<PartOutcome> {
        self.outcomes.stored(object, part).cloned()
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
    ) -> Vec<ProducerSnapshot> {
        let Some(log) = self.partitions.get(&partition) else { return Vec::new() };
        let snapshots = log.producers().iter().filter_map(|(id, entry)| {
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

    fn commit_part(&mut self, object: ObjectId, sealed_ms: i64, part: &Part) -> PartOutcome {
        if let Some(stored) = self.outcomes.stored(object, part.index) {
            return stored.clone();
        }
        let outcome = if self.is_deleted(part.partition.topic) {
            let refused = CommitOutcome::Refused(Refusal::TopicDeleted);
            let batches = vec![refused; part.batches.len()];
            PartOutcome { index: part.index, batches, log_start_offset: 0 }
        } else {
            self.append(object, sealed_ms, part)
        };
        self.outcomes.store(object, sealed_ms, outcome.clone());
        outcome
    }

    fn append(&mut self, object: ObjectId, sealed_ms: i64, part: &Part) -> PartOutcome {
        let log = self.partitions.entry(part.partition).or_default();
        let (batches, runs) = log.commit(object, sealed_ms, part);
        let log_start_offset = log.log_start_offset();
        if !runs.is_empty() {
            self.subscribers
                .publish(&CoordinatorEvent::Committed { partition: part.partition, runs });
        }
        PartOutcome { index: part.index, batches, log_start_offset }
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
