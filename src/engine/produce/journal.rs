//! The commit outcomes that later objects report.

use std::collections::{HashMap, VecDeque};

use crate::coordinator::PartOutcome;
use crate::log::batch::Part;
use crate::log::ids::ObjectId;
use crate::log::object_format::{
    JournalEntry, JournalOutcome, JournaledCommit, JournaledPart, ShardPosition,
};

/// The number of parts whose outcomes fit into one object. Further ones are carried over to the
/// next objects. An object with many parts may carry the outcomes of twice as many, so that a
/// backlog shrinks.
const PARTS_MAX: usize = 32_768;

/// Lower bound of the number of parts whose outcomes fit into one object, where the store refuses
/// objects for their size.
const PARTS_MIN: usize = 1_024;

/// Outcomes that no stored object reports yet.
#[derive(Debug)]
pub(super) struct PendingJournal {
    /// Those that no object reports, oldest first.
    pending: VecDeque<JournaledCommit>,
    /// Those that an object reports that is not stored, by its sequence.
    uploading: HashMap<u32, Vec<JournalEntry>>,
    parts_max: usize,
    /// The next object reports nothing.
    skip_next: bool,
    /// A withdrawn part was added that no object reports.
    has_unreported_withdrawal: bool,
}

impl Default for PendingJournal {
    fn default() -> Self {
        Self {
            pending: VecDeque::new(),
            uploading: HashMap::new(),
            parts_max: PARTS_MAX,
            skip_next: false,
            has_unreported_withdrawal: false,
        }
    }
}

impl PendingJournal {
    /// Adds the outcome of a part, to the entry of the same commit if that is the last one.
    pub(super) fn push(
        &mut self,
        object: ObjectId,
        position: ShardPosition,
        outcome: &PartOutcome,
    ) {
        let sealed_ms = outcome.sealed_ms;
        let batches = outcome.batches.iter().map(|batch| JournalOutcome::from(*batch));
        let part = JournaledPart { part: outcome.index, outcomes: batches.collect() };
        match self.pending.back_mut() {
            Some(last) if last.object == object && last.position == position => {
                last.parts.push(part);
            }
            _ => {
                let parts = vec![part];
                self.pending.push_back(JournaledCommit { object, position, sealed_ms, parts });
            }
        }
    }

    /// Adds a part that will never be committed, before all outcomes, so that a recovery does not
    /// commit it.
    pub(super) fn push_withdrawn(
        &mut self,
        object: ObjectId,
        position: ShardPosition,
        sealed_ms: i64,
        part: &Part,
    ) {
        self.has_unreported_withdrawal = true;
        let outcomes = vec![JournalOutcome::Refused; part.batches.len()];
        let withdrawn = JournaledPart { part: part.index, outcomes };
        match self.pending.front_mut() {
            Some(first) if first.object == object && first.position == position => {
                first.parts.push(withdrawn);
            }
            _ => {
                let parts = vec![withdrawn];
                self.pending.push_front(JournaledCommit { object, position, sealed_ms, parts });
            }
        }
    }

    /// Returns whether a withdrawn part waits for an object that reports it.
    pub(super) fn has_unreported_withdrawal(&self) -> bool {
        self.has_unreported_withdrawal
    }

    /// Takes the outcomes that an object with this many parts reports.
    pub(super) fn take(&mut self, object_parts: usize) -> Vec<JournalEntry> {
        if std::mem::take(&mut self.skip_next) {
            return Vec::new();
        }
        let room = self.parts_max.max(2 * object_parts);
        let (mut taken, mut parts) = (Vec::new(), 0);
        while let Some(commit) = self.pending.pop_front() {
            parts += commit.parts.len();
            if parts > room && !taken.is_empty() {
                self.pending.push_front(commit);
                break;
            }
            taken.push(JournalEntry::Commit(commit));
        }
        self.has_unreported_withdrawal &= !self.pending.is_empty();
        taken
    }

    /// Keeps the outcomes that an object reports until it is stored.
    pub(super) fn begin_upload(&mut self, sequence: u32, reported: Vec<JournalEntry>) {
        if !reported.is_empty() {
            self.uploading.insert(sequence, reported);
        }
    }

    /// Forgets the outcomes that a stored object reports, and returns them.
    pub(super) fn end_upload(&mut self, sequence: u32) -> Vec<JournalEntry> {
        self.uploading.remove(&sequence).unwrap_or_default()
    }

    /// Puts the outcomes back that an object reports which the store refused, and returns whether
    /// there were any. They may be what made it too large: the next object reports none, and later
    /// ones fewer.
    pub(super) fn put_back(&mut self, sequence: u32) -> bool {
        let Some(reported) = self.uploading.remove(&sequence) else { return false };
        let mut parts = 0;
        for entry in reported.into_iter().rev() {
            if let JournalEntry::Commit(commit) = entry {
                parts += commit.parts.len();
                self.pending.push_front(commit);
            }
        }
        self.parts_max = self.parts_max.min(parts / 2).max(PARTS_MIN);
        self.skip_next = true;
        // One of them may be a withdrawn part.
        self.has_unreported_withdrawal = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::CommitOutcome;

    #[test]
    fn outcomes_that_do_not_fit_are_carried_over() {
        let mut journal = PendingJournal::default();
        let id = |sequence| ObjectId { incarnation: 1, process_id: 1, sequence };
        let outcome = |index| PartOutcome {
            index,
            batches: vec![CommitOutcome::Committed { base_offset: 7 }],
            log_start_offset: 0,
            sealed_ms: 0,
        };
        for (sequence, index) in (0..5).flat_map(|s| (0..20_000).map(move |i| (s, i))) {
            journal.push(id(sequence), ShardPosition::default(), &outcome(index));
        }
        let objects = |taken: Vec<JournalEntry>| -> Vec<u32> {
            let sequence = |entry: &JournalEntry| match entry {
                JournalEntry::Commit(commit) => commit.object.sequence,
                other => panic!("{other:?}"),
            };
            taken.iter().map(sequence).collect()
        };
        assert_eq!(objects(journal.take(1)), [0]);
        assert_eq!(objects(journal.take(20_000)), [1, 2]);
        assert_eq!(objects(journal.take(0)), [3]);
        assert_eq!(objects(journal.take(0)), [4]);
        assert!(journal.take(0).is_empty());
    }
}
