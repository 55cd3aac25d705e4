//! Orders commits per (connection, partition).
//!
//! Kafka keeps the order of one connection's batches in one partition and promises nothing between
//! connections (ADR 7). A part may therefore be committed as soon as the earlier parts of its own
//! [`CommitLane`] are, whatever the state of the other parts of their objects.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::buffer::CommitLane;
use crate::coordinator::CommitOrder;

/// Identifies a sealed part by the sequence of its object and its index.
type PartRef = (u32, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartState {
    Waiting,
    Committing,
}

/// The parts of an object that are not decided yet.
#[derive(Debug, Default)]
struct UncommittedObject {
    is_durable: bool,
    parts: BTreeMap<u32, (CommitLane, PartState)>,
}

/// Decides which parts may be committed now.
#[derive(Debug)]
pub(super) struct CommitSequencer {
    order: CommitOrder,
    objects: BTreeMap<u32, UncommittedObject>,
    /// The undecided parts of each lane, oldest first.
    lanes: HashMap<CommitLane, VecDeque<PartRef>>,
}

impl CommitSequencer {
    pub(super) fn new(order: CommitOrder) -> Self {
        Self { order, objects: BTreeMap::new(), lanes: HashMap::new() }
    }

    /// Adds a sealed object. Sequences are ascending.
    pub(super) fn add_sealed(
        &mut self,
        sequence: u32,
        parts: impl Iterator<Item = (u32, CommitLane)>,
    ) {
        let mut object = UncommittedObject::default();
        for (index, lane) in parts {
            self.lanes.entry(lane).or_default().push_back((sequence, index));
            object.parts.insert(index, (lane, PartState::Waiting));
        }
        self.objects.insert(sequence, object);
    }

    /// Marks an object as durable.
    pub(super) fn mark_durable(&mut self, sequence: u32) {
        if let Some(object) = self.objects.get_mut(&sequence) {
            object.is_durable = true;
        }
    }

    /// Removes parts that the coordinator has decided, so that their successors may be committed.
    pub(super) fn complete(&mut self, sequence: u32, parts: &[u32]) {
        for &index in parts {
            let Some(lane) = self.remove(sequence, index) else { continue };
            if let Some(queue) = self.lanes.get_mut(&lane) {
                debug_assert_eq!(queue.front(), Some(&(sequence, index)));
                queue.pop_front();
                if queue.is_empty() {
                    self.lanes.remove(&lane);
                }
            }
        }
    }

    /// Removes parts that will never be committed together with their successors, and returns all
    /// of them by object. A successor that were committed alone would overtake its predecessor when
    /// the client repeats that one. With [`CommitOrder::ByObject`] no object can be left out, so
    /// everything is removed.
    pub(super) fn abort(&mut self, sequence: u32, parts: &[u32]) -> BTreeMap<u32, Vec<u32>> {
        let mut aborted: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        match self.order {
            CommitOrder::ByObject => {
                self.lanes.clear();
                for (sequence, object) in std::mem::take(&mut self.objects) {
                    aborted.insert(sequence, object.parts.into_keys().collect());
                }
            }
            CommitOrder::Independent => {
                let lane_of = |index| self.objects.get(&sequence)?.parts.get(index).map(|p| p.0);
                let lanes: Vec<_> = parts.iter().filter_map(lane_of).collect();
                for lane in lanes {
                    for (sequence, index) in self.lanes.remove(&lane).unwrap_or_default() {
                        aborted.entry(sequence).or_default().push(index);
                        self.remove(sequence, index);
                    }
                }
            }
        }
        aborted
    }

    fn remove(&mut self, sequence: u32, index: u32) -> Option<CommitLane> {
        let object = self.objects.get_mut(&sequence)?;
        let (lane, _) = object.parts.remove(&index)?;
        if object.parts.is_empty() {
            self.objects.remove(&sequence);
        }
        Some(lane)
    }

    /// Returns the parts that may be committed now, grouped by object, oldest object first. Each
    /// part is returned once.
    pub(super) fn take_ready(&mut self) -> Vec<(u32, Vec<u32>)> {
        let mut ready = Vec::new();
        for (&sequence, object) in &mut self.objects {
            if !object.is_durable {
                match self.order {
                    CommitOrder::ByObject => break,
                    CommitOrder::Independent => continue,
                }
            }
            let mut parts = Vec::new();
            for (&index, (lane, state)) in &mut object.parts {
                let first = self.lanes.get(lane).and_then(VecDeque::front);
                if *state == PartState::Waiting
                    && (self.order == CommitOrder::ByObject || first == Some(&(sequence, index)))
                {
                    *state = PartState::Committing;
                    parts.push(index);
                }
            }
            if !parts.is_empty() {
                ready.push((sequence, parts));
            }
            if self.order == CommitOrder::ByObject {
                // Whole objects in sequence: the next one follows when this one is decided.
                break;
            }
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::produce::ConnectionId;
    use crate::log::ids::{TopicId, TopicPartition};

    fn lane(partition: i32, connection: u64) -> CommitLane {
        (TopicPartition { topic: TopicId([1; 16]), partition }, ConnectionId(connection))
    }

    #[test]
    fn part_waits_for_its_own_lane_only() {
        let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
        sequencer.add_sealed(0, [(0, lane(0, 1))].into_iter());
        // Connection 1 continues its lane; connection 2 writes to the same partition.
        sequencer.add_sealed(1, [(0, lane(0, 1)), (1, lane(0, 2))].into_iter());
        sequencer.mark_durable(1);
        assert_eq!(sequencer.take_ready(), [(1, vec![1])]);
        sequencer.complete(1, &[1]);
        assert_eq!(sequencer.take_ready(), []);
        sequencer.mark_durable(0);
        assert_eq!(sequencer.take_ready(), [(0, vec![0])]);
        assert_eq!(sequencer.take_ready(), [], "a part is returned once");
        sequencer.complete(0, &[0]);
        assert_eq!(sequencer.take_ready(), [(1, vec![0])]);
        sequencer.complete(1, &[0]);
        assert!(sequencer.objects.is_empty() && sequencer.lanes.is_empty());
    }

    #[test]
    fn by_object_every_part_waits_for_the_oldest_object() {
        let mut sequencer = CommitSequencer::new(CommitOrder::ByObject);
        sequencer.add_sealed(0, [(0, lane(0, 1))].into_iter());
        sequencer.add_sealed(1, [(0, lane(1, 2)), (1, lane(2, 2))].into_iter());
        sequencer.mark_durable(1);
        assert_eq!(sequencer.take_ready(), []);
        sequencer.mark_durable(0);
        assert_eq!(sequencer.take_ready(), [(0, vec![0])]);
        assert_eq!(sequencer.take_ready(), [], "the next object waits for this one's decision");
        sequencer.complete(0, &[0]);
        assert_eq!(sequencer.take_ready(), [(1, vec![0, 1])]);
    }

    #[test]
    fn abort_removes_the_successors_in_the_lane() {
        let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
        sequencer.add_sealed(0, [(0, lane(0, 1)), (1, lane(0, 2))].into_iter());
        sequencer.add_sealed(1, [(0, lane(0, 1)), (1, lane(0, 3))].into_iter());
        sequencer.add_sealed(2, [(0, lane(0, 1))].into_iter());
        sequencer.mark_durable(0);
        assert_eq!(sequencer.take_ready(), [(0, vec![0, 1])]);
        let aborted: Vec<_> = sequencer.abort(0, &[0]).into_iter().collect();
        assert_eq!(aborted, [(0, vec![0]), (1, vec![0]), (2, vec![0])]);
        // The other lanes continue, and this one accepts new parts.
        sequencer.complete(0, &[1]);
        sequencer.add_sealed(3, [(0, lane(0, 1))].into_iter());
        (1..=3).for_each(|sequence| sequencer.mark_durable(sequence));
        assert_eq!(sequencer.take_ready(), [(1, vec![1]), (3, vec![0])]);
    }

    #[test]
    fn by_object_abort_removes_everything() {
        let mut sequencer = CommitSequencer::new(CommitOrder::ByObject);
        sequencer.add_sealed(0, [(0, lane(0, 1))].into_iter());
        sequencer.add_sealed(1, [(0, lane(1, 2)), (1, lane(2, 2))].into_iter());
        let aborted: Vec<_> = sequencer.abort(0, &[0]).into_iter().collect();
        assert_eq!(aborted, [(0, vec![0]), (1, vec![0, 1])]);
        assert!(sequencer.objects.is_empty() && sequencer.lanes.is_empty());
    }
}
