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

    /// Removes an object that will never be committed, without the successors of its parts.
    pub(super) fn withdraw(&mut self, sequence: u32) {
        self.replace(sequence, Vec::new());
    }

    /// Puts other objects, with the same lanes, in the place of an object that is not durable: the
    /// successors of its parts wait for theirs.
    pub(super) fn replace(&mut self, sequence: u32, by: Vec<(u32, Vec<SequencedPart>)>) {
        let Some(object) = self.objects.get(&sequence) else { return };
        // The place of the part in its lane, and the place of the next part that follows it.
        let mut places: HashMap<CommitLane, (usize, usize)> = HashMap::new();
        let parts: Vec<_> = (0..).zip(object.parts.iter().copied()).collect();
        for (index, part) in parts {
            let Some(part) = part else { continue };
            if let Some(queue) = self.lanes.get_mut(&part.lane)
                && let Some(place) = queue.iter().position(|at| *at == (sequence, index))
            {
                queue.remove(place);
                places.insert(part.lane, (place, place));
            }
            self.remove(sequence, index);
        }
        for (sequence, parts) in by {
            let object = self.objects.entry(sequence).or_default();
            for (index, part) in (0..).zip(parts) {
                let queue = self.lanes.entry(part.lane).or_default();
                let end = (queue.len(), queue.len());
                let (_, place) = places.entry(part.lane).or_insert(end);
                queue.insert(*place, (sequence, index));
                *place += 1;
                *self.undecided.entry(part.shard).or_default().entry(sequence).or_default() += 1;
                object.parts.push(Some(part));
                object.undecided += 1;
            }
        }
        for (lane, (place, _)) in places {
            if self.lanes.get(&lane).is_some_and(VecDeque::is_empty) {
                self.lanes.remove(&lane);
            } else if place == 0 && self.order == CommitOrder::Independent {
                // The successor of a withdrawn part may be first now.
                self.release_first(lane);
            }
        }
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
mod tests;
