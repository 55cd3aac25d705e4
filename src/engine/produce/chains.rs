//! Who waits for whom.
//!
//! Kafka keeps the order of one connection's batches in one partition, and promises nothing
//! between connections. So a part may be committed once the earlier parts of its own chain
//! (connection, partition) are, whatever became of the rest of their objects.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::object::ChainKey;
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
    parts: BTreeMap<u32, (ChainKey, PartState)>,
}

/// Decides which parts may be committed now.
#[derive(Debug)]
pub(crate) struct Chains {
    order: CommitOrder,
    objects: BTreeMap<u32, Object>,
    chains: HashMap<ChainKey, VecDeque<PartRef>>,
}

impl Chains {
    pub(crate) fn new(order: CommitOrder) -> Self {
        Self { order, objects: BTreeMap::new(), chains: HashMap::new() }
    }

    /// An object was sealed; sequences come in order.
    pub(crate) fn sealed(&mut self, sequence: u32, parts: impl Iterator<Item = (u32, ChainKey)>) {
        let mut object = Object::default();
        for (index, chain) in parts {
            self.chains.entry(chain).or_default().push_back((sequence, index));
            object.parts.insert(index, (chain, PartState::Waiting));
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
    pub(crate) fn settled(&mut self, sequence: u32, parts: &[u32]) {
        for &index in parts {
            let Some(chain) = self.take_out(sequence, index) else { continue };
            if let Some(queue) = self.chains.get_mut(&chain) {
                debug_assert_eq!(queue.front(), Some(&(sequence, index)));
                queue.pop_front();
                if queue.is_empty() {
                    self.chains.remove(&chain);
                }
            }
        }
    }

    /// Takes out parts that will never be committed, with all that waits behind them: committed
    /// on its own, it would overtake its predecessor when the client repeats that one. In the
    /// order of objects nothing can be left out, so everything falls.
    pub(crate) fn fall(&mut self, sequence: u32, parts: &[u32]) -> BTreeMap<u32, Vec<u32>> {
        let mut fallen: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        match self.order {
            CommitOrder::ByObject => {
                self.chains.clear();
                for (sequence, object) in std::mem::take(&mut self.objects) {
                    fallen.insert(sequence, object.parts.into_keys().collect());
                }
            }
            CommitOrder::Independent => {
                let chain_of = |index| self.objects.get(&sequence)?.parts.get(index).map(|p| p.0);
                let chains: Vec<_> = parts.iter().filter_map(chain_of).collect();
                for chain in chains {
                    for (sequence, index) in self.chains.remove(&chain).unwrap_or_default() {
                        fallen.entry(sequence).or_default().push(index);
                        self.take_out(sequence, index);
                    }
                }
            }
        }
        fallen
    }

    fn take_out(&mut self, sequence: u32, index: u32) -> Option<ChainKey> {
        let object = self.objects.get_mut(&sequence)?;
        let (chain, _) = object.parts.remove(&index)?;
        if object.parts.is_empty() {
            self.objects.remove(&sequence);
        }
        Some(chain)
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
            for (&index, (chain, state)) in &mut object.parts {
                let first = self.chains.get(chain).and_then(VecDeque::front);
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

    fn chain(partition: i32, connection: u64) -> ChainKey {
        (TopicPartition { topic: TopicId([1; 16]), partition }, ConnectionId(connection))
    }

    #[test]
    fn a_stranger_does_not_wait_and_a_successor_does() {
        let mut chains = Chains::new(CommitOrder::Independent);
        chains.sealed(0, [(0, chain(0, 1))].into_iter());
        // Connection 2 writes the same partition, connection 1 follows itself.
        chains.sealed(1, [(0, chain(0, 1)), (1, chain(0, 2))].into_iter());
        chains.uploaded(1);
        assert_eq!(chains.take_ready(), [(1, vec![1])]);
        chains.settled(1, &[1]);
        assert_eq!(chains.take_ready(), []);
        chains.uploaded(0);
        assert_eq!(chains.take_ready(), [(0, vec![0])]);
        assert_eq!(chains.take_ready(), [], "a part is taken once");
        chains.settled(0, &[0]);
        assert_eq!(chains.take_ready(), [(1, vec![0])]);
        chains.settled(1, &[0]);
        assert!(chains.objects.is_empty() && chains.chains.is_empty());
    }

    #[test]
    fn by_object_everyone_waits_for_the_oldest_object() {
        let mut chains = Chains::new(CommitOrder::ByObject);
        chains.sealed(0, [(0, chain(0, 1))].into_iter());
        chains.sealed(1, [(0, chain(1, 2)), (1, chain(2, 2))].into_iter());
        chains.uploaded(1);
        assert_eq!(chains.take_ready(), []);
        chains.uploaded(0);
        assert_eq!(chains.take_ready(), [(0, vec![0])]);
        assert_eq!(chains.take_ready(), [], "the next object waits for this one's settlement");
        chains.settled(0, &[0]);
        assert_eq!(chains.take_ready(), [(1, vec![0, 1])]);
    }

    #[test]
    fn what_waits_behind_a_lost_part_falls_with_it() {
        let mut chains = Chains::new(CommitOrder::Independent);
        chains.sealed(0, [(0, chain(0, 1)), (1, chain(0, 2))].into_iter());
        chains.sealed(1, [(0, chain(0, 1)), (1, chain(0, 3))].into_iter());
        chains.sealed(2, [(0, chain(0, 1))].into_iter());
        chains.uploaded(0);
        assert_eq!(chains.take_ready(), [(0, vec![0, 1])]);
        let fallen: Vec<_> = chains.fall(0, &[0]).into_iter().collect();
        assert_eq!(fallen, [(0, vec![0]), (1, vec![0]), (2, vec![0])]);
        // The others go on, and the chain may begin anew.
        chains.settled(0, &[1]);
        chains.sealed(3, [(0, chain(0, 1))].into_iter());
        (1..=3).for_each(|sequence| chains.uploaded(sequence));
        assert_eq!(chains.take_ready(), [(1, vec![1]), (3, vec![0])]);
    }

    #[test]
    fn by_object_everything_falls() {
        let mut chains = Chains::new(CommitOrder::ByObject);
        chains.sealed(0, [(0, chain(0, 1))].into_iter());
        chains.sealed(1, [(0, chain(1, 2)), (1, chain(2, 2))].into_iter());
        let fallen: Vec<_> = chains.fall(0, &[0]).into_iter().collect();
        assert_eq!(fallen, [(0, vec![0]), (1, vec![0, 1])]);
        assert!(chains.objects.is_empty() && chains.chains.is_empty());
    }
}
