//! Who waits for whom.
//!
//! Kafka keeps the order of one connection's batches in one partition, and promises nothing
//! between connections. So a part may be committed once the earlier parts of its own chain
//! (connection, partition) are, whatever became of the rest of their objects.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::buffer::CommitLane;
use crate::coordinator::CommitOrder;

/// A sealed part: object sequence and part index.
pub(crate) type PartRef = (u32, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartState {
    Waiting,
    Committing,
}

#[derive(Debug, Default)]
struct Object {
    uploaded: bool,
    parts: BTreeMap<u32, (CommitLane, PartState)>,
}

/// Decides which parts may be committed now.
#[derive(Debug)]
pub(crate) struct CommitSequencer {
    order: CommitOrder,
    objects: BTreeMap<u32, Object>,
    lanes: HashMap<CommitLane, VecDeque<PartRef>>,
}

impl CommitSequencer {
    pub(crate) fn new(order: CommitOrder) -> Self {
        Self { order, objects: BTreeMap::new(), lanes: HashMap::new() }
    }

    /// An object was sealed; sequences come in order.
    pub(crate) fn sealed(&mut self, sequence: u32, parts: impl Iterator<Item = (u32, CommitLane)>) {
        let mut object = Object::default();
        for (index, lane) in parts {
            self.lanes.entry(lane).or_default().push_back((sequence, index));
            object.parts.insert(index, (lane, PartState::Waiting));
        }
        self.objects.insert(sequence, object);
    }

    /// An object's bytes are durable.
    pub(crate) fn uploaded(&mut self, sequence: u32) {
        if let Some(object) = self.objects.get_mut(&sequence) {
            object.uploaded = true;
        }
    }

    /// Parts that the coordinator decided on release their successors.
    pub(crate) fn decided(&mut self, sequence: u32, parts: &[u32]) {
        for &index in parts {
            let Some(lane) = self.take_out(sequence, index) else { continue };
            if let Some(queue) = self.lanes.get_mut(&lane) {
                debug_assert_eq!(queue.front(), Some(&(sequence, index)));
                queue.pop_front();
                if queue.is_empty() {
                    self.lanes.remove(&lane);
                }
            }
        }
    }

    /// Takes out parts that will never be committed, with all that waits behind them: committed
    /// on its own, it would overtake its predecessor when the client repeats that one. In the
    /// order of objects nothing can be left out, so everything falls.
    pub(crate) fn abort(&mut self, sequence: u32, parts: &[u32]) -> BTreeMap<u32, Vec<u32>> {
        let mut aborted: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        match self.order {
            CommitOrder::ByObject => {
                self.lanes.clear();
                for (sequence, object) in std::mem::take(&mut self.objects) {
                    aborted.insert(sequence, object.parts.into_keys().collect());
                }
            }
            CommitOrder::Independent => {
                let chain_of = |index| self.objects.get(&sequence)?.parts.get(index).map(|p| p.0);
                let lanes: Vec<_> = parts.iter().filter_map(chain_of).collect();
                for lane in lanes {
                    for (sequence, index) in self.lanes.remove(&lane).unwrap_or_default() {
                        aborted.entry(sequence).or_default().push(index);
                        self.take_out(sequence, index);
                    }
                }
            }
        }
        aborted
    }

    fn take_out(&mut self, sequence: u32, index: u32) -> Option<CommitLane> {
        let object = self.objects.get_mut(&sequence)?;
        let (lane, _) = object.parts.remove(&index)?;
        if object.parts.is_empty() {
            self.objects.remove(&sequence);
        }
        Some(lane)
    }

    /// Takes the parts that may be committed now, grouped by object, oldest object first.
    pub(crate) fn take_ready(&mut self) -> Vec<(u32, Vec<u32>)> {
        let mut ready = Vec::new();
        for (&sequence, object) in &mut self.objects {
            if !object.uploaded {
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
                // Whole objects, one after the other: the next one follows when this is settled.
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
    fn a_stranger_does_not_wait_and_a_successor_does() {
        let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
        sequencer.sealed(0, [(0, lane(0, 1))].into_iter());
        // Connection 2 writes the same partition, connection 1 follows itself.
        sequencer.sealed(1, [(0, lane(0, 1)), (1, lane(0, 2))].into_iter());
        sequencer.uploaded(1);
        assert_eq!(sequencer.take_ready(), [(1, vec![1])]);
        sequencer.decided(1, &[1]);
        assert_eq!(sequencer.take_ready(), []);
        sequencer.uploaded(0);
        assert_eq!(sequencer.take_ready(), [(0, vec![0])]);
        assert_eq!(sequencer.take_ready(), [], "a part is taken once");
        sequencer.decided(0, &[0]);
        assert_eq!(sequencer.take_ready(), [(1, vec![0])]);
        sequencer.decided(1, &[0]);
        assert!(sequencer.objects.is_empty() && sequencer.lanes.is_empty());
    }

    #[test]
    fn by_object_everyone_waits_for_the_oldest_object() {
        let mut sequencer = CommitSequencer::new(CommitOrder::ByObject);
        sequencer.sealed(0, [(0, lane(0, 1))].into_iter());
        sequencer.sealed(1, [(0, lane(1, 2)), (1, lane(2, 2))].into_iter());
        sequencer.uploaded(1);
        assert_eq!(sequencer.take_ready(), []);
        sequencer.uploaded(0);
        assert_eq!(sequencer.take_ready(), [(0, vec![0])]);
        assert_eq!(sequencer.take_ready(), [], "the next object waits for this one's settlement");
        sequencer.decided(0, &[0]);
        assert_eq!(sequencer.take_ready(), [(1, vec![0, 1])]);
    }

    #[test]
    fn what_waits_behind_a_lost_part_falls_with_it() {
        let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
        sequencer.sealed(0, [(0, lane(0, 1)), (1, lane(0, 2))].into_iter());
        sequencer.sealed(1, [(0, lane(0, 1)), (1, lane(0, 3))].into_iter());
        sequencer.sealed(2, [(0, lane(0, 1))].into_iter());
        sequencer.uploaded(0);
        assert_eq!(sequencer.take_ready(), [(0, vec![0, 1])]);
        let aborted: Vec<_> = sequencer.abort(0, &[0]).into_iter().collect();
        assert_eq!(aborted, [(0, vec![0]), (1, vec![0]), (2, vec![0])]);
        // The others go on, and the chain may begin anew.
        sequencer.decided(0, &[1]);
        sequencer.sealed(3, [(0, lane(0, 1))].into_iter());
        (1..=3).for_each(|sequence| sequencer.uploaded(sequence));
        assert_eq!(sequencer.take_ready(), [(1, vec![1]), (3, vec![0])]);
    }

    #[test]
    fn by_object_everything_falls() {
        let mut sequencer = CommitSequencer::new(CommitOrder::ByObject);
        sequencer.sealed(0, [(0, lane(0, 1))].into_iter());
        sequencer.sealed(1, [(0, lane(1, 2)), (1, lane(2, 2))].into_iter());
        let aborted: Vec<_> = sequencer.abort(0, &[0]).into_iter().collect();
        assert_eq!(aborted, [(0, vec![0]), (1, vec![0, 1])]);
        assert!(sequencer.objects.is_empty() && sequencer.lanes.is_empty());
    }
}
