//! Commits parts again, those of each partition in the order of their first commits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::arrange::{Queues, RecoveredPart, arrange};
use super::result::{Recovery, probe};
use crate::coordinator::{
    Commit, CommitOutcome, Coordinator, CoordinatorError, CoordinatorExt as _, CoordinatorResult,
    PartOutcome,
};
use crate::log::ids::{ObjectId, TopicPartition};
use crate::retry::RetryPolicy;

/// The greatest number of parts of one call.
const PARTS_PER_CALL: usize = 500;
/// The number of repetitions of a call that did not succeed, before its shard counts as failed.
const RETRIES: usize = 4;

/// The parts that may be committed now, by object.
type Ready = BTreeMap<ObjectId, Vec<RecoveredPart>>;

/// Commits parts again.
#[derive(Debug)]
pub(super) struct Recommit<'a> {
    coordinator: &'a dyn Coordinator,
    pub(super) recovery: Recovery,
}

impl<'a> Recommit<'a> {
    pub(super) fn new(coordinator: &'a dyn Coordinator) -> Self {
        Self { coordinator, recovery: Recovery::default() }
    }

    /// Commits parts, which are those of a process in the order of its objects.
    pub(super) async fn commit(&mut self, parts: Vec<RecoveredPart>) {
        let mut queues = Queues::new();
        for part in parts {
            queues.entry(part.part.partition).or_default().push_back(part);
        }
        arrange(self.coordinator, &mut queues).await;
        let mut ready = Ready::new();
        for queue in queues.values_mut() {
            release(queue, &mut ready);
        }
        while let Some((_, mut parts)) = ready.pop_first() {
            parts.sort_unstable_by_key(|recovered| recovered.part.index);
            for chunk in parts.chunks(PARTS_PER_CALL) {
                self.commit_parts(chunk).await;
            }
            let partitions: BTreeSet<_> = parts.iter().map(|part| part.part.partition).collect();
            for partition in partitions {
                if let Some(queue) = queues.get_mut(&partition)
                    && !self.is_left_out(partition)
                {
                    release(queue, &mut ready);
                }
            }
        }
    }

    /// Returns whether a part of the partition failed, which later ones must not overtake.
    fn is_left_out(&self, partition: TopicPartition) -> bool {
        self.recovery.failed.contains_key(&self.coordinator.shard(partition))
            || self.recovery.lost.contains_key(&partition)
    }

    /// Commits parts of one object, and repeats what does not succeed.
    async fn commit_parts(&mut self, parts: &[RecoveredPart]) {
        let served = parts.iter().filter(|part| !self.is_left_out(part.part.partition));
        let mut parts: Vec<RecoveredPart> = served.cloned().collect();
        let mut delays = RetryPolicy::DATA_PATH.delays_without_jitter();
        for attempt in 0..=RETRIES {
            let Some(first) = parts.first() else { return };
            let commit = Commit {
                object: first.object,
                sealed_ms: first.sealed_ms,
                // The fence is raised once everything is committed.
                lowest_undecided: 0,
                parts: parts.iter().map(|recovered| recovered.part.clone()).collect(),
            };
            let results = self.coordinator.commit(&commit).await;
            let mut repeated = Vec::new();
            for (recovered, result) in parts.into_iter().zip(results) {
                if let Err(CoordinatorError::MetadataLost(detail)) = result {
                    self.settle_lost(recovered.part.partition, detail).await;
                } else if let Some(again) = self.settle(recovered, result, attempt == RETRIES) {
                    repeated.push(again);
                }
            }
            repeated.retain(|recovered| !self.is_left_out(recovered.part.partition));
            parts = repeated;
            if !parts.is_empty() {
                delays.wait().await;
            }
        }
    }

    /// Leaves out a partition of which a commit reports lost metadata, or its shard if that is lost,
    /// or lacks the outcomes of the process: another Redis may have them, and the shard must not be
    /// served before everything is committed to it.
    async fn settle_lost(&mut self, partition: TopicPartition, detail: String) {
        if self.is_left_out(partition) {
            return;
        }
        let shard = self.coordinator.shard(partition);
        let error = match self.coordinator.check_shard(shard).await {
            Err(error) => error.to_string(),
            Ok(()) => match self.coordinator.find_one(probe(partition)).await {
                Err(CoordinatorError::MetadataLost(_)) => {
                    self.recovery.lost.insert(partition, detail);
                    return;
                }
                Ok(_) | Err(_) => detail,
            },
        };
        self.recovery.failed.insert(shard, error);
    }

    /// Records the result of a part; returns the part if its commit is to be repeated.
    fn settle(
        &mut self,
        recovered: RecoveredPart,
        result: CoordinatorResult<PartOutcome>,
        is_last: bool,
    ) -> Option<RecoveredPart> {
        let error = match result {
            Ok(outcome) => {
                self.recovery.parts += 1;
                let first = outcome.batches.iter().find_map(|batch| match batch {
                    CommitOutcome::Committed { base_offset } => Some(*base_offset),
                    CommitOutcome::Duplicate { .. } | CommitOutcome::Refused(_) => None,
                });
                let is_moved = recovered.offset.is_some() && first != recovered.offset;
                self.recovery.moved += usize::from(is_moved);
                return None;
            }
            Err(CoordinatorError::Fenced(_)) => {
                self.recovery.fenced += 1;
                return None;
            }
            Err(error) => error,
        };
        let is_retriable =
            matches!(error, CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_));
        if is_retriable && !is_last {
            return Some(recovered);
        }
        let shard = self.coordinator.shard(recovered.part.partition);
        self.recovery.failed.entry(shard).or_insert_with(|| error.to_string());
        None
    }
}

/// Makes the next parts of a partition ready: those that follow each other in one object.
fn release(queue: &mut VecDeque<RecoveredPart>, ready: &mut Ready) {
    let Some(first) = queue.pop_front() else { return };
    let (object, mut index) = (first.object, first.part.index);
    let of_object = ready.entry(object).or_default();
    of_object.push(first);
    while let Some(next) =
        queue.pop_front_if(|next| next.object == object && next.part.index > index)
    {
        index = next.part.index;
        of_object.push(next);
    }
}
