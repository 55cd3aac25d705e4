//! The commit outcomes that later objects report.

use std::collections::VecDeque;

use crate::coordinator::PartOutcome;
use crate::log::ids::ObjectId;
use crate::log::object_format::{
    JournalEntry, JournalOutcome, JournaledCommit, JournaledPart, ShardPosition,
};

/// The number of parts whose outcomes fit into one object. Further ones are carried over to the
/// next objects. An object with many parts may carry the outcomes of twice as many, so that a
/// backlog shrinks.
const PARTS_MAX: usize = 32_768;

/// Outcomes that no object reports yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct PendingJournal(VecDeque<JournaledCommit>);

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
        match self.0.back_mut() {
            Some(last) if last.object == object && last.position == position => {
                last.parts.push(part);
            }
            _ => {
                let parts = vec![part];
                self.0.push_back(JournaledCommit { object, position, sealed_ms, parts });
            }
        }
    }

    /// Takes the outcomes that an object with this many parts reports.
    pub(super) fn take(&mut self, object_parts: usize) -> Vec<JournalEntry> {
        let room = PARTS_MAX.max(2 * object_parts);
        let (mut taken, mut parts) = (Vec::new(), 0);
        while let Some(commit) = self.0.pop_front() {
            parts += commit.parts.len();
            if parts > room && !taken.is_empty() {
                self.0.push_front(commit);
                break;
            }
            taken.push(JournalEntry::Commit(commit));
        }
        taken
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
