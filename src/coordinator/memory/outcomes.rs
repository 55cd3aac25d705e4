//! What commits were answered, kept for those who did not hear the answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::PartOutcome;
use crate::log::ids::ObjectId;

/// An outcome is kept this much longer than its object was sealed, in milliseconds.
pub(in crate::coordinator) const OUTCOME_RETENTION_MS: i64 = 3_600_000;

/// Outcomes by object and part, for an hour of seal time.
#[derive(Debug, Default)]
pub(in crate::coordinator) struct Outcomes {
    by_object: BTreeMap<ObjectId, Kept>,
    by_age: BTreeSet<(i64, ObjectId)>,
    clock_ms: i64,
}

#[derive(Debug)]
struct Kept {
    since_ms: i64,
    parts: BTreeMap<u32, PartOutcome>,
}

impl Outcomes {
    pub(in crate::coordinator) fn stored(
        &self,
        object: ObjectId,
        part: u32,
    ) -> Option<&PartOutcome> {
        self.by_object.get(&object)?.parts.get(&part)
    }

    pub(in crate::coordinator) fn keep(
        &mut self,
        object: ObjectId,
        sealed_ms: i64,
        outcome: PartOutcome,
    ) {
        self.clock_ms = self.clock_ms.max(sealed_ms);
        // The clock, not the object's own time: one sealed by a slow clock is kept as long.
        let since_ms = self.clock_ms;
        let kept = self.by_object.entry(object).or_insert_with(|| {
            self.by_age.insert((since_ms, object));
            Kept { since_ms, parts: BTreeMap::new() }
        });
        kept.parts.insert(outcome.index, outcome);
        let cutoff = self.clock_ms.saturating_sub(OUTCOME_RETENTION_MS);
        while let Some(&(since_ms, oldest)) = self.by_age.first() {
            if since_ms >= cutoff {
                break;
            }
            self.by_age.pop_first();
            let dropped = self.by_object.remove(&oldest);
            debug_assert!(dropped.is_some_and(|kept| kept.since_ms == since_ms));
        }
    }
}
