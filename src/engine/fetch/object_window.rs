//! Chooses the objects that a fetch reads, so that its partitions pass them together.
//!
//! Partitions that are filled together share objects. If one fetch returned much of the first
//! partition and nothing of the last, the last would need the same objects later, when the cache
//! has evicted them. A catch-up fetch therefore reads a few objects and of each partition only the
//! runs in them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use crate::log::batch::Run;
use crate::log::ids::ObjectId;

/// Distinct objects that the tailing reads of a fetch need at most.
pub(super) const TAILING_OBJECTS_MAX: usize = 64;

/// For each writer (incarnation and process id) and each of its objects the lists that wait for it.
type WaitingLists<'a> = HashMap<(u64, u32), BTreeMap<u32, Vec<&'a [Run]>>>;

/// Adds a list to those that wait for its first object.
fn wait<'a>(waiting: &mut WaitingLists<'a>, list: &'a [Run]) {
    if let Some(Run { object, .. }) = list.first() {
        let objects = waiting.entry((object.incarnation, object.process_id)).or_default();
        objects.entry(object.sequence).or_default().push(list);
    }
}

/// Orders the objects of these lists of runs, one list per partition, such that each list meets its
/// objects in about this order. The first object is that of the first list, so that each
/// partition, once it is the first, makes progress. Then follows the oldest object of the writer
/// for whose objects most lists wait: objects of different writers have no order, but lists that
/// contain objects of both come to wait for the one that is behind. Returns at most `objects_max`
/// objects.
pub(super) fn object_order<'a>(
    lists: impl Iterator<Item = &'a [Run]>,
    objects_max: usize,
) -> Vec<ObjectId> {
    let mut order = Vec::new();
    let mut chosen: HashSet<ObjectId> = HashSet::new();
    // For each writer the lists by the object for which they wait.
    let mut waiting = WaitingLists::new();
    let mut first = None;
    for list in lists {
        let Some(run) = list.first() else { continue };
        first.get_or_insert(run.object);
        wait(&mut waiting, list);
    }
    while order.len() < objects_max {
        let lists = |objects: &BTreeMap<u32, Vec<&[Run]>>| objects.values().map(Vec::len).sum();
        let most = waiting.iter().max_by_key(|(writer, objects)| -> (usize, Reverse<_>) {
            (lists(objects), Reverse(**writer))
        });
        let oldest = most.and_then(|((incarnation, process_id), objects)| {
            let (sequence, _) = objects.first_key_value()?;
            let (incarnation, process_id, sequence) = (*incarnation, *process_id, *sequence);
            Some(ObjectId { incarnation, process_id, sequence })
        });
        let Some(next) = first.take().or(oldest) else { break };
        order.push(next);
        chosen.insert(next);
        let writer = (next.incarnation, next.process_id);
        let Some(objects) = waiting.get_mut(&writer) else { continue };
        let passing = objects.remove(&next.sequence).unwrap_or_default();
        if objects.is_empty() {
            waiting.remove(&writer);
        }
        for list in passing {
            let passed = list.iter().take_while(|run| chosen.contains(&run.object)).count();
            wait(&mut waiting, &list[passed..]);
        }
    }
    order
}

/// Returns how many of the first objects of `order` may be read: at most `objects_max`, and only
/// as many as have `bytes_max` bytes of runs, but at least one.
pub(super) fn window<'a>(
    order: &[ObjectId],
    lists: impl Iterator<Item = &'a [Run]>,
    objects_max: usize,
    bytes_max: u64,
) -> HashSet<ObjectId> {
    let mut bytes: HashMap<ObjectId, u64> = HashMap::new();
    for run in lists.flatten() {
        *bytes.entry(run.object).or_default() += run.bytes;
    }
    let mut total = 0;
    let fits = |object: &&ObjectId| {
        let is_first = total == 0;
        total += bytes.get(*object).copied().unwrap_or_default();
        is_first || total <= bytes_max
    };
    order.iter().take(objects_max.max(1)).take_while(fits).copied().collect()
}

/// Returns how many runs from the first on are in these objects.
pub(super) fn runs_within(runs: &[Run], objects: &HashSet<ObjectId>) -> usize {
    runs.iter().take_while(|run| objects.contains(&run.object)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(sequence: u32) -> ObjectId {
        ObjectId { incarnation: 1, process_id: 1, sequence }
    }

    fn runs(objects: &[u32]) -> Vec<Run> {
        let run = |sequence: &u32| Run {
            base_offset: i64::from(*sequence),
            offset_count: 1,
            object: object(*sequence),
            start: 8,
            bytes: 100,
            max_timestamp: -1,
        };
        objects.iter().map(run).collect()
    }

    fn order(lists: &[Vec<Run>], objects_max: usize) -> Vec<u32> {
        let order = object_order(lists.iter().map(Vec::as_slice), objects_max);
        order.into_iter().map(|object| object.sequence).collect()
    }

    #[test]
    fn partitions_meet_objects_in_their_order() {
        let lists = [runs(&[1, 3, 4, 6]), runs(&[1, 2, 4, 5]), runs(&[2, 3, 5, 6]), Vec::new()];
        assert_eq!(order(&lists, 9), [1, 2, 3, 4, 5, 6]);
        assert_eq!(order(&lists, 3), [1, 2, 3]);
    }

    #[test]
    fn first_partition_makes_progress_although_others_are_elsewhere() {
        let lists = [runs(&[9, 10]), runs(&[1, 2]), runs(&[1, 3])];
        assert_eq!(order(&lists, 4), [9, 1, 2, 3]);
    }

    #[test]
    fn partition_that_is_behind_alone_is_not_overtaken() {
        let lists = [runs(&[5, 6]), runs(&[5, 6]), runs(&[2, 3, 5]), runs(&[5, 7])];
        assert_eq!(order(&lists, 4), [5, 2, 3, 6]);
    }

    #[test]
    fn window_is_bounded_by_objects_and_by_bytes() {
        let lists = [runs(&[1, 2, 3, 4]), runs(&[1, 2, 3])];
        let lists = || lists.iter().map(Vec::as_slice);
        let order = object_order(lists(), 9);
        let within = |objects, bytes| {
            let window = window(&order, lists(), objects, bytes);
            lists().map(|runs| runs_within(runs, &window)).collect::<Vec<_>>()
        };
        assert_eq!(within(9, 1_000), [4, 3]);
        assert_eq!(within(3, 1_000), [3, 3]);
        assert_eq!(within(9, 450), [2, 2]);
        assert_eq!(within(9, 1), [1, 1], "one object is always read");
    }
}
