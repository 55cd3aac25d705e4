//! Objects that the store refused.

use std::time::Duration;

use tokio::time::Instant;

use super::Pipeline;
use crate::coordinator::CommitOrder;
use crate::engine::produce::buffer::{LaneBatches, cut, size};
use crate::engine::produce::refusal::UploadRefusal;
use crate::engine::produce::request::AppendOutcome;

/// Delay before an object that cannot be divided is uploaded again.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

impl Pipeline {
    /// Divides an object that is too large, and fails the batches of any other one. Its id is never
    /// committed.
    pub(super) fn handle_refusal(&mut self, sequence: u32, refusal: UploadRefusal) {
        self.end_upload(sequence);
        self.release_refused(sequence);
        let Some(object) = self.sealed.get(&sequence) else {
            // All of its parts were aborted during the upload.
            self.journal.put_back(sequence);
            return;
        };
        match refusal {
            UploadRefusal::TooLarge => {
                let order = self.components.coordinator.commit_order();
                if order == CommitOrder::ByObject && self.next_sequence != sequence + 1 {
                    // The limit was lowered: a proven size is refused, and later objects exist.
                    tracing::error!(object = %object.id, "the store refuses a size that it accepted; retrying");
                    let (id, bytes, span) = (object.id, object.bytes.clone(), object.span.clone());
                    return self.start_upload(id, bytes, &span, REPEAT_AFTER);
                }
                tracing::warn!(object = %object.id, bytes = object.bytes.len(), "the store refuses an object for its size");
                self.divide(sequence);
            }
            UploadRefusal::Denied => {
                tracing::error!(object = %object.id, "the store refuses an object; its batches fail");
                self.metrics.produce.objects_refused.inc();
                self.journal.put_back(sequence);
                let parts: Vec<u32> = object.parts().map(|sealed| sealed.part.index).collect();
                for index in parts {
                    self.abort(sequence, index, AppendOutcome::StoreRefused);
                }
                // Its own parts are reported too, but the store does not have them.
                self.release_refused(sequence);
            }
        }
    }

    fn divide(&mut self, sequence: u32) {
        let had_journal = self.journal.put_back(sequence);
        self.report_refused_object(sequence);
        let Some(object) = self.sealed.remove(&sequence) else { return };
        self.size_limit.record_refused(object.bytes.len(), Instant::now());
        self.metrics.produce.objects_too_large.inc();
        let batches = object.into_batches();
        // With outcomes of earlier objects in its footer, the batch was not alone.
        let is_single = !had_journal && batches.values().map(Vec::len).sum::<usize>() <= 1;
        let order = self.components.coordinator.commit_order();
        if order == CommitOrder::ByObject {
            // It is the newest object: an object of unproven size is uploaded alone. So its
            // sequence is used again.
            self.next_sequence = sequence;
        }
        match order {
            _ if is_single => {
                self.sequencer.withdraw(sequence);
                self.refuse_batches(batches);
            }
            CommitOrder::ByObject => {
                self.sequencer.withdraw(sequence);
                self.open.put_back(batches, Instant::now());
            }
            CommitOrder::Independent => {
                let bytes_max = size(&batches) / 2;
                let (first, second) = cut(batches, bytes_max);
                let halves = [first, second].into_iter().filter(|half| !half.is_empty());
                let halves = halves.map(|half| self.seal_batches(half, Vec::new())).collect();
                self.sequencer.replace(sequence, halves);
            }
        }
    }

    /// Completes batches that are too large even alone. A broker that refuses one batch accepts the
    /// next, and the sequences of an idempotent producer show the gap: so nothing else is aborted.
    fn refuse_batches(&mut self, batches: LaneBatches) {
        for batch in batches.into_values().flatten() {
            self.appends.complete(batch.at, AppendOutcome::TooLarge);
        }
    }
}
