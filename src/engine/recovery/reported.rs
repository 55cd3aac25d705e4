//! The reports of a process's objects on its earlier objects.

use std::collections::{HashMap, HashSet};

use crate::log::ids::ObjectId;
use crate::log::object_format::{Footer, JournalEntry, JournalOutcome, JournaledPart};

/// The greatest number of offsets that are kept. Without its offset, a part is committed in the
/// order of the objects.
const OFFSETS_MAX: usize = 1 << 21;

/// The reported parts, by the sequence of their object and their index.
#[derive(Debug)]
pub(super) struct Reported {
    next: ObjectId,
    /// The offset of the first appended batch.
    offsets: HashMap<(u32, u32), i64>,
    /// The parts that were answered with an error. They are few: those in flight at a failure.
    withdrawn: HashSet<(u32, u32)>,
}

impl Reported {
    /// Returns no reports of the objects of a process from `next` on.
    pub(super) fn new(next: ObjectId) -> Self {
        Self { next, offsets: HashMap::new(), withdrawn: HashSet::new() }
    }

    /// Adds what an object reports.
    pub(super) fn add(&mut self, footer: &Footer) {
        for entry in &footer.journal {
            let JournalEntry::Commit(commit) = entry else { continue };
            let object = commit.object;
            if object.process() == self.next.process() && object.sequence >= self.next.sequence {
                for part in &commit.parts {
                    self.add_part(object, part);
                }
            }
        }
    }

    fn add_part(&mut self, object: ObjectId, part: &JournaledPart) {
        let at = (object.sequence, part.part);
        if part.outcomes.iter().all(|outcome| *outcome == JournalOutcome::Refused) {
            self.withdrawn.insert(at);
            return;
        }
        let first = part.outcomes.iter().find_map(|outcome| match outcome {
            JournalOutcome::Committed(offset) => Some(*offset),
            JournalOutcome::Duplicate(_) | JournalOutcome::Refused => None,
        });
        if let Some(offset) = first
            && self.offsets.len() < OFFSETS_MAX
        {
            self.offsets.insert(at, offset);
        }
    }

    /// Returns whether every batch of a part was answered with an error.
    pub(super) fn is_withdrawn(&self, object: ObjectId, index: u32) -> bool {
        self.withdrawn.contains(&(object.sequence, index))
    }

    /// Returns the offset at which a part was acknowledged, if a later object reports it.
    pub(super) fn offset(&self, object: ObjectId, index: u32) -> Option<i64> {
        self.offsets.get(&(object.sequence, index)).copied()
    }
}
