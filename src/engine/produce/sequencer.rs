//! Orders commits per (connection, partition).
//!
//! Kafka keeps the order of one connection's batches in one partition and promises nothing between
//! connections (ADR 7). A part may therefore be committed as soon as the earlier parts of its own
//! [`CommitLane`] are, whatever the state of the other parts of their objects.
//!
//! The work is linear in the number of parts: a part is visited when it is sealed, when its object
//! becomes durable, when it becomes the first of its lane and when it is decided.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::buffer::CommitLane;
use crate::coordinator::CommitOrder;

/// Identifies a sealed part by the sequence of its object and its index.
type PartRef = (u32, u32);

/// The lane and the shard of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SequencedPart {
    pub(super) lane: CommitLane,
    /// The shard of the coordinator that commits it.
    pub(super) shard: u16,
}

/// Parts of one object that one call of the coordinator commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadyParts {
    pub(super) sequence: u32,
    pub(super) shard: u16,
    /// Indexes of the parts, ascending.
    pub(super) parts: Vec<u32>,
}

/// The parts of an object that are not decided yet.
#[derive(Debug, Default)]
struct UncommittedObject {
    is_durable: bool,
    /// By index; `None` once decided.
    parts: Vec<Option<SequencedPart>>,
    undecided: usize,
}

/// Decides which parts may be committed now.
#[derive(Debug)]
pub(super) struct CommitSequencer {
    order: CommitOrder,
    objects: BTreeMap<u32, UncommittedObject>,
    /// The undecided parts of each lane, oldest first.
    lanes: HashMap<CommitLane, VecDeque<PartRef>>,
    /// The parts that may be committed and were not returned yet, by object and shard.
    ready: BTreeMap<(u32, u16), Vec<u32>>,
    /// The number of undecided parts of each shard, by the sequence of their object.
    undecided: HashMap<u16, BTreeMap<u32, usize>>,
    /// The object that was returned last, if the order is [`CommitOrder::ByObject`].
    committing: Option<u32>,
    /// Visits of parts, for the test that the work is linear.
    #[cfg(test)]
    visits: usize,
}

impl CommitSequencer {
    pub(super) fn new(order: CommitOrder) -> Self {
        Self {
            order,
            objects: BTreeMap::new(),
            lanes: HashMap::new(),
            ready: BTreeMap::new(),
            undecided: HashMap::new(),
            committing: None,
            #[cfg(test)]
            visits: 0,
        }
    }

    /// Adds a sealed object with its parts by index. Sequences are ascending.
    pub(super) fn add_sealed(
        &mut self,
        sequence: u32,
        parts: impl IntoIterator<Item = SequencedPart>,
    ) {
        let object = self.objects.entry(sequence).or_default();
        for (index, part) in (0..).zip(parts) {
            self.lanes.entry(part.lane).or_default().push_back((sequence, index));
            *self.undecided.entry(part.shard).or_default().entry(sequence).or_default() += 1;
            object.parts.push(Some(part));
            object.undecided += 1;
        }
        self.visit(self.objects.get(&sequence).map_or(0, |object| object.undecided));
    }

    /// Marks an object as durable.
    pub(super) fn mark_durable(&mut self, sequence: u32) {
        let Some(object) = self.objects.get_mut(&sequence) else { return };
        object.is_durable = true;
        if self.order == CommitOrder::ByObject {
            return self.release_oldest();
        }
        for (index, part) in (0..).zip(&object.parts) {
            let Some(part) = part else { continue };
            let first = self.lanes.get(&part.lane).and_then(VecDeque::front);
            if first == Some(&(sequence, index)) {
                self.ready.entry((sequence, part.shard)).or_default().push(index);
            }
        }
        let visited = object.parts.len();
        self.visit(visited);
    }

    /// Makes the oldest object ready: whole objects are committed in sequence, each after the
    /// decision of the one before.
    fn release_oldest(&mut self) {
        let Some((&sequence, object)) = self.objects.first_key_value() else { return };
        if !object.is_durable || self.committing == Some(sequence) {
            return;
        }
        self.committing = Some(sequence);
        for (index, part) in (0..).zip(&object.parts) {
            if let Some(part) = part {
                self.ready.entry((sequence, part.shard)).or_default().push(index);
            }
        }
        let visited = object.parts.len();
        self.visit(visited);
    }

    /// Removes a part that the coordinator has decided, so that its successor may be committed.
    pub(super) fn complete(&mut self, sequence: u32, index: u32) {
        self.visit(1);
        let Some(part) = self.remove(sequence, index) else { return };
        if let Some(queue) = self.lanes.get_mut(&part.lane) {
            debug_assert_eq!(queue.front(), Some(&(sequence, index)));
            queue.pop_front();
            if queue.is_empty() {
                self.lanes.remove(&part.lane);
            }
        }
        match self.order {
            CommitOrder::ByObject => self.release_oldest(),
            CommitOrder::Independent => self.release_first(part.lane),
        }
    }

    /// Makes the first part of a lane ready if its object is durable.
    fn release_first(&mut self, lane: CommitLane) {
        let first = self.lanes.get(&lane).and_then(VecDeque::front);
        let Some(&(sequence, index)) = first else { return };
        let Some(object) = self.objects.get(&sequence) else { return };
        let Some(Some(part)) = object.parts.get(index as usize) else { return };
        if object.is_durable {
            self.ready.entry((sequence, part.shard)).or_default().push(index);
        }
    }

    /// Removes a part that will never be committed together with its successors, and returns all
    /// of them. A successor that were committed alone would overtake its predecessor when the
    /// client repeats that one. With [`CommitOrder::ByObject`] no object can be left out, so
    /// everything is removed.
    pub(super) fn abort(&mut self, sequence: u32, index: u32) -> Vec<PartRef> {
        if self.order == CommitOrder::ByObject {
            return self.abort_all();
        }
        let Some(Some(part)) =
            self.objects.get(&sequence).and_then(|object| object.parts.get(index as usize))
        else {
            return Vec::new();
        };
        let lane = part.lane;
        let Some(queue) = self.lanes.get_mut(&lane) else { return Vec::new() };
        // The first one, unless the store refused its object.
        let Some(position) = queue.iter().position(|at| *at == (sequence, index)) else {
            return Vec::new();
        };
        let aborted: Vec<PartRef> = queue.split_off(position).into();
        if queue.is_empty() {
            self.lanes.remove(&lane);
        }
        for &(sequence, index) in &aborted {
            self.remove(sequence, index);
        }
        self.visit(position + aborted.len());
        aborted
    }

    fn abort_all(&mut self) -> Vec<PartRef> {
        self.lanes.clear();
        self.ready.clear();
        self.undecided.clear();
        let mut aborted = Vec::new();
        for (sequence, object) in std::mem::take(&mut self.objects) {
            let parts = (0..).zip(object.parts).filter(|(_, part)| part.is_some());
            aborted.extend(parts.map(|(index, _)| (sequence, index)));
        }
        aborted
    }

    fn remove(&mut self, sequence: u32, index: u32) -> Option<SequencedPart> {
        let object = self.objects.get_mut(&sequence)?;
        let part = object.parts.get_mut(index as usize)?.take()?;
        object.undecided -= 1;
        if object.undecided == 0 {
            self.objects.remove(&sequence);
        }
        if let Some(of_shard) = self.undecided.get_mut(&part.shard)
            && let Some(count) = of_shard.get_mut(&sequence)
        {
            *count -= 1;
            if *count == 0 {
                of_shard.remove(&sequence);
            }
        }
        Some(part)
    }

    /// Returns the parts that may be committed now, grouped by object and shard, oldest object
    /// first. Each part is returned once.
    pub(super) fn take_ready(&mut self) -> Vec<ReadyParts> {
        let ready = std::mem::take(&mut self.ready).into_iter();
        let sorted = ready.map(|((sequence, shard), mut parts)| {
            parts.sort_unstable();
            ReadyParts { sequence, shard, parts }
        });
        sorted.collect()
    }

    /// Returns the lowest sequence of an object with undecided parts in a shard, sealed objects
    /// that are not durable included; `None` if there are none.
    pub(super) fn lowest_undecided(&self, shard: u16) -> Option<u32> {
        self.undecided.get(&shard)?.first_key_value().map(|(sequence, _)| *sequence)
    }

    /// Returns the lowest sequence of an object with undecided parts; `None` if there are none.
    pub(super) fn lowest_undecided_of_all(&self) -> Option<u32> {
        self.objects.first_key_value().map(|(sequence, _)| *sequence)
    }

    #[cfg(test)]
    fn visit(&mut self, parts: usize) {
        self.visits += parts;
    }

    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "counts in tests only"
    )]
    fn visit(&mut self, _parts: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::produce::ConnectionId;
    use crate::log::ids::{TopicId, TopicPartition};

    fn lane(partition: i32, connection: u64) -> CommitLane {
        (TopicPartition { topic: TopicId([1; 16]), partition }, ConnectionId(connection))
    }

    /// Returns a part whose shard is its partition modulo 2.
    fn part(partition: i32, connection: u64) -> SequencedPart {
        let shard = u16::try_from(partition % 2).unwrap();
        SequencedPart { lane: lane(partition, connection), shard }
    }

    fn ready(sequence: u32, shard: u16, parts: &[u32]) -> ReadyParts {
        ReadyParts { sequence, shard, parts: parts.to_vec() }
    }

    fn is_empty(sequencer: &CommitSequencer) -> bool {
        sequencer.objects.is_empty()
            && sequencer.lanes.is_empty()
            && sequencer.ready.is_empty()
            && sequencer.undecided.values().all(BTreeMap::is_empty)
    }

    #[test]
    fn part_waits_for_its_own_lane_only() {
        let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
        sequencer.add_sealed(0, [part(0, 1)]);
        // Connection 1 continues its lane; connection 2 writes to the same partition.
        sequencer.add_sealed(1, [part(0, 1), part(0, 2)]);
        sequencer.mark_durable(1);
        assert_eq!(sequencer.take_ready(), [ready(1, 0, &[1])]);
        sequencer.complete(1, 1);
        assert_eq!(sequencer.take_ready(), []);
        sequencer.mark_durable(0);
        assert_eq!(sequencer.take_ready(), [ready(0, 0, &[0])]);
        assert_eq!(sequencer.take_ready(), [], "a part is returned once");
        sequencer.complete(0, 0);
        assert_eq!(sequencer.take_ready(), [ready(1, 0, &[0])]);
        sequencer.complete(1, 0);
        assert!(is_empty(&sequencer));
    }

    #[test]
    fn parts_are_grouped_by_object_and_shard() {
        let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
        sequencer.add_sealed(0, [part(0, 1), part(1, 1), part(2, 1)]);
        sequencer.add_sealed(1, [part(4, 2)]);
        assert_eq!(sequencer.lowest_undecided(1), Some(0));
        sequencer.mark_durable(1);
        sequencer.mark_durable(0);
        let all = [ready(0, 0, &[0, 2]), ready(0, 1, &[1]), ready(1, 0, &[0])];
        assert_eq!(sequencer.take_ready(), all);
        // An object that is not durable is undecided, too.
        sequencer.add_sealed(2, [part(1, 1)]);
        sequencer.complete(0, 1);
        assert_eq!(
            (sequencer.lowest_undecided(0), sequencer.lowest_undecided(1)),
            (Some(0), Some(2))
        );
        sequencer.complete(0, 0);
        sequencer.complete(0, 2);
        assert_eq!(
            (sequencer.lowest_undecided(0), sequencer.lowest_undecided_of_all()),
            (Some(1), Some(1))
        );
        assert_eq!(sequencer.lowest_undecided(7), None);
    }

    #[test]
    fn by_object_every_part_waits_for_the_oldest_object() {
        let mut sequencer = CommitSequencer::new(CommitOrder::ByObject);
        sequencer.add_sealed(0, [part(0, 1)]);
        sequencer.add_sealed(1, [part(2, 2), part(4, 2)]);
        sequencer.mark_durable(1);
        assert_eq!(sequencer.take_ready(), []);
        sequencer.mark_durable(0);
        assert_eq!(sequencer.take_ready(), [ready(0, 0, &[0])]);
        assert_eq!(sequencer.take_ready(), [], "the next object waits for this one's decision");
        sequencer.complete(0, 0);
        assert_eq!(sequencer.take_ready(), [ready(1, 0, &[0, 1])]);
        sequencer.complete(1, 0);
        assert_eq!(sequencer.take_ready(), [], "a part is returned once");
        sequencer.complete(1, 1);
        assert!(is_empty(&sequencer));
    }

    #[test]
    fn abort_removes_the_successors_in_the_lane() {
        let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
        sequencer.add_sealed(0, [part(0, 1), part(0, 2)]);
        sequencer.add_sealed(1, [part(0, 1), part(0, 3)]);
        sequencer.add_sealed(2, [part(0, 1)]);
        sequencer.mark_durable(0);
        assert_eq!(sequencer.take_ready(), [ready(0, 0, &[0, 1])]);
        assert_eq!(sequencer.abort(0, 0), [(0, 0), (1, 0), (2, 0)]);
        // The other lanes continue, and this one accepts new parts.
        sequencer.complete(0, 1);
        sequencer.add_sealed(3, [part(0, 1)]);
        (1..=3).for_each(|sequence| sequencer.mark_durable(sequence));
        assert_eq!(sequencer.take_ready(), [ready(1, 0, &[1]), ready(3, 0, &[0])]);
    }

    #[test]
    fn abort_leaves_the_predecessors_in_the_lane() {
        let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
        (0..3).for_each(|sequence| sequencer.add_sealed(sequence, [part(0, 1)]));
        sequencer.mark_durable(0);
        assert_eq!(sequencer.abort(1, 0), [(1, 0), (2, 0)]);
        assert_eq!(sequencer.take_ready(), [ready(0, 0, &[0])]);
        sequencer.complete(0, 0);
        assert!(is_empty(&sequencer));
    }

    #[test]
    fn by_object_abort_removes_everything() {
        let mut sequencer = CommitSequencer::new(CommitOrder::ByObject);
        sequencer.add_sealed(0, [part(0, 1)]);
        sequencer.add_sealed(1, [part(2, 2), part(4, 2)]);
        assert_eq!(sequencer.abort(0, 0), [(0, 0), (1, 0), (1, 1)]);
        assert!(is_empty(&sequencer));
    }

    /// 50 objects of 2,000 parts in flight at once, whose parts are decided one by one.
    #[test]
    fn work_is_linear_in_parts() {
        for order in [CommitOrder::Independent, CommitOrder::ByObject] {
            let (objects, parts) = (50_u32, 2_000_u32);
            let mut sequencer = CommitSequencer::new(order);
            for sequence in 0..objects {
                // Even parts continue the lanes of the object before, odd parts are alone.
                let connection =
                    |index: u32| u64::from(if index.is_multiple_of(2) { 0 } else { sequence });
                let part = |index| part(i32::try_from(index).unwrap(), connection(index));
                sequencer.add_sealed(sequence, (0..parts).map(part));
            }
            (0..objects).rev().for_each(|sequence| sequencer.mark_durable(sequence));
            let mut decided = 0;
            while decided < objects * parts {
                let ready = sequencer.take_ready();
                assert!(!ready.is_empty(), "{decided} parts are decided");
                for ReadyParts { sequence, parts, .. } in ready {
                    for index in parts {
                        sequencer.complete(sequence, index);
                        decided += 1;
                    }
                }
            }
            let most = (objects * parts) as usize * 4;
            assert!(sequencer.visits <= most, "{} visits of parts", sequencer.visits);
            assert!(is_empty(&sequencer));
        }
    }
}
