//! The order of the parts of a partition.

use std::collections::{HashMap, VecDeque};

use super::result::probe;
use crate::coordinator::Coordinator;
use crate::log::batch::Part;
use crate::log::ids::{ObjectId, TopicPartition};

/// A part that is to be committed again.
#[derive(Clone, Debug)]
pub(super) struct RecoveredPart {
    pub(super) object: ObjectId,
    pub(super) sealed_ms: i64,
    pub(super) part: Part,
    /// The offset that a later object of the process reports.
    pub(super) offset: Option<i64>,
}

/// The parts of each partition, in order.
pub(super) type Queues = HashMap<TopicPartition, VecDeque<RecoveredPart>>;

/// Puts the parts of each partition in the order of their first commits: those with a reported
/// offset in that of the offsets, and the others, in that of their objects, where the offsets leave
/// room for them. The object that reports one may not have been stored although a later one was.
pub(super) async fn arrange(coordinator: &dyn Coordinator, queues: &mut Queues) {
    for queue in queues.values_mut() {
        // Stable: without an offset, the order of the objects stays.
        queue.make_contiguous().sort_by_key(|part| part.offset.unwrap_or(i64::MAX));
    }
    let unclear = queues.iter().filter(|(_, queue)| has_earlier_without_offset(queue));
    let unclear: Vec<TopicPartition> = unclear.map(|(partition, _)| *partition).collect();
    if unclear.is_empty() {
        return;
    }
    let found = coordinator.find(unclear.iter().map(|partition| probe(*partition)).collect()).await;
    for (partition, found) in unclear.iter().zip(found) {
        let end = found.ok().map(|found| found.watermarks.high_watermark);
        if let Some(queue) = queues.get_mut(partition) {
            *queue = fill_gaps(std::mem::take(queue), end);
        }
    }
}

/// Returns whether a part without an offset is in an earlier object than one with an offset.
fn has_earlier_without_offset(sorted: &VecDeque<RecoveredPart>) -> bool {
    let first = sorted.iter().filter(|part| part.offset.is_none()).map(|part| part.object).min();
    let last = sorted.iter().filter(|part| part.offset.is_some()).map(|part| part.object).max();
    first.zip(last).is_some_and(|(first, last)| first < last)
}

/// Moves parts without an offset before those of later objects, where the offsets leave room. The
/// coordinator has everything before `end`.
fn fill_gaps(sorted: VecDeque<RecoveredPart>, mut end: Option<i64>) -> VecDeque<RecoveredPart> {
    let count = sorted.len();
    let (reported, mut others): (VecDeque<_>, VecDeque<_>) =
        sorted.into_iter().partition(|part| part.offset.is_some());
    let mut arranged = VecDeque::with_capacity(count);
    for part in reported {
        let offset = part.offset.unwrap_or(i64::MAX);
        while let Some(at) = end
            && let Some(other) = others.pop_front_if(|other| {
                other.object < part.object && at.saturating_add(offset_count(other)) <= offset
            })
        {
            end = Some(at.saturating_add(offset_count(&other)));
            arranged.push_back(other);
        }
        let after = offset.saturating_add(offset_count(&part));
        end = end.map(|end| end.max(after));
        arranged.push_back(part);
    }
    arranged.extend(others);
    arranged
}

fn offset_count(part: &RecoveredPart) -> i64 {
    part.part.batches.iter().map(|batch| i64::from(batch.offset_count)).sum()
}
