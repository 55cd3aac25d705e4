//! Parts that will never be committed, although their objects may be stored.
//!
//! A recovery commits what a process stored and did not commit. So a part is answered with an error
//! only once a stored object reports that it was withdrawn.

use super::Pipeline;
use crate::coordinator::CommitOrder;
use crate::engine::produce::request::AppendOutcome;
use crate::log::object_format::JournalEntry;

impl Pipeline {
    /// Completes a part that was aborted, once that is stored.
    pub(super) fn withdraw(&mut self, sequence: u32, index: u32, outcome: AppendOutcome) {
        if self.components.coordinator.commit_order() == CommitOrder::ByObject {
            // The order of the objects is the log: what is stored is committed by the next start.
            return self.complete_part(sequence, index, |_| outcome);
        }
        self.report_withdrawn(sequence, index);
        self.withheld.insert((sequence, index), outcome);
    }

    /// Reports in the next object that a part will not be committed.
    fn report_withdrawn(&mut self, sequence: u32, index: u32) {
        let Some(object) = self.sealed.get(&sequence) else { return };
        let Some(sealed) = object.part(index) else { return };
        let position = self.components.coordinator.position(sealed.part.partition);
        self.journal.push_withdrawn(object.id, position, object.sealed_ms, &sealed.part);
    }

    /// Reports in the next object that no part of an object will be committed. The store refused
    /// it, and an attempt whose outcome is unknown may be applied later all the same.
    pub(super) fn report_refused_object(&mut self, sequence: u32) {
        if self.components.coordinator.commit_order() == CommitOrder::ByObject {
            return;
        }
        let Some(object) = self.sealed.get(&sequence) else { return };
        let parts: Vec<u32> = object.parts().map(|sealed| sealed.part.index).collect();
        for index in parts {
            self.report_withdrawn(sequence, index);
        }
    }

    /// Completes the withdrawn parts that a stored object reports.
    pub(super) fn release_reported(&mut self, reported: &[JournalEntry]) {
        if self.withheld.is_empty() {
            return;
        }
        for entry in reported {
            let JournalEntry::Commit(commit) = entry else { continue };
            for part in &commit.parts {
                self.release((commit.object.sequence, part.part));
            }
        }
    }

    /// Completes the withdrawn parts of an object that the store refused.
    pub(super) fn release_refused(&mut self, sequence: u32) {
        let of_object = self.withheld.range((sequence, 0)..=(sequence, u32::MAX));
        let parts: Vec<_> = of_object.map(|(part, _)| *part).collect();
        for part in parts {
            self.release(part);
        }
    }

    fn release(&mut self, (sequence, index): (u32, u32)) {
        if let Some(outcome) = self.withheld.remove(&(sequence, index)) {
            self.complete_part(sequence, index, |_| outcome);
        }
    }

    /// Returns whether an object is needed that reports withdrawn parts.
    pub(super) fn must_report(&self) -> bool {
        !self.withheld.is_empty() && self.journal.has_unreported_withdrawal()
    }
}
