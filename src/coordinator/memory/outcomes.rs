//! Stored outcomes of commits, for callers that did not receive the response.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::PartOutcome;
use crate::log::ids::ObjectId;

/// The retention time of an outcome, in milliseconds of seal time.
pub(in crate::coordinator) const OUTCOME_RETENTION_MS: i64 = 3_600_000;

/// Outcomes by object and part, stored for an hour of seal time.
#[derive(Debug, Default)]
pub(in crate::coordinator) struct Outcomes {
    by_object: BTreeMap<ObjectId, ObjectOutcomes>,
    by_age: BTreeSet<(i64, ObjectId)>,
    clock_ms: i64,
}

#[derive(Debug)]
struct ObjectOutcomes {
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

    pub(in crate::coordinator) fn store(
        &mut self,
        object: ObjectId,
        sealed_ms: i64,
        outcome: PartOutcome,
    ) {
        self.clock_ms = self.clock_ms.max(sealed_ms);
        // The clock, not the object's seal time: an object that was sealed by a slow clock is stored
        // for the same time.
        let since_ms = self.clock_ms;
        let stored = self.by_object.entry(object).or_insert_with(|| {
            self.by_age.insert((since_ms, object));
            ObjectOutcomes { since_ms, parts: BTreeMap::new() }
        });
        stored.parts.insert(outcome.index, outcome);
        let cutoff = self.clock_ms.saturating_sub(OUTCOME_RETENTION_MS);
        while let Some(&(since_ms, oldest)) = self.by_age.first() {
            if since_ms >= cutoff {
                break;
            }
            self.by_age.pop_first();
            let removed = self.by_object.remove(&oldest);
            debug_assert!(removed.is_some_and(|stored| stored.since_ms == since_ms));
        }
    }
}
