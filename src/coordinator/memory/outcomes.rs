//! Fences of processes, and the stored outcomes of the commits that they have not passed.

use std::collections::BTreeMap;

use crate::coordinator::PartOutcome;
use crate::log::ids::{ObjectId, ProcessIdentity};

/// Outcomes by object and part, for callers that did not receive the response, until the fence of
/// the object's process passes it.
#[derive(Debug, Default)]
pub(in crate::coordinator) struct Outcomes {
    by_object: BTreeMap<ObjectId, BTreeMap<u32, PartOutcome>>,
    /// The lowest sequence that may still be committed.
    fences: BTreeMap<ProcessIdentity, u32>,
}

impl Outcomes {
    pub(in crate::coordinator) fn stored(
        &self,
        object: ObjectId,
        part: u32,
    ) -> Option<&PartOutcome> {
        self.by_object.get(&object)?.get(&part)
    }

    pub(in crate::coordinator) fn store(&mut self, object: ObjectId, outcome: PartOutcome) {
        self.by_object.entry(object).or_default().insert(outcome.index, outcome);
    }

    /// Returns whether the object may no longer be committed.
    pub(in crate::coordinator) fn is_fenced(&self, object: ObjectId) -> bool {
        let fence = self.fences.get(&object.process()).copied().unwrap_or(0);
        object.sequence < fence || fence == u32::MAX
    }

    /// Raises the fence of a process, and removes the outcomes below it.
    pub(in crate::coordinator) fn raise_fence(&mut self, process: ProcessIdentity, lowest: u32) {
        let fence = self.fences.entry(process).or_default();
        *fence = lowest.max(*fence);
        let ProcessIdentity { incarnation, process_id } = process;
        let object = |sequence| ObjectId { incarnation, process_id, sequence };
        let last = if *fence == u32::MAX { u32::MAX } else { fence.saturating_sub(1) };
        if *fence > 0 {
            self.by_object.extract_if(object(0)..=object(last), |_, _| true).for_each(drop);
        }
    }
}
