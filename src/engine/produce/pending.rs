//! Appends that wait for the outcomes of their batches.

use std::collections::HashMap;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::request::{AppendOutcome, AppendResult};
use crate::engine::memory::MemoryPermit;

/// Refers to a batch of a pending append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchRef {
    append: u64,
    /// Index of the batch within the append.
    batch: usize,
}

/// An append that waits for the outcomes of its batches.
#[derive(Debug)]
struct PendingAppend {
    reply: oneshot::Sender<AppendResult>,
    received_at: Instant,
    span: tracing::Span,
    outcomes: Vec<Option<AppendOutcome>>,
    outstanding: usize,
    /// Held until the last outcome is known.
    _permit: MemoryPermit,
}

/// The appends without a result. Their batches may be in several objects.
#[derive(Debug, Default)]
pub(super) struct PendingAppends {
    appends: HashMap<u64, PendingAppend>,
    next: u64,
}

impl PendingAppends {
    /// Adds an append of `batches` batches, and returns the reference to its first batch.
    pub(super) fn add(
        &mut self,
        batches: usize,
        reply: oneshot::Sender<AppendResult>,
        permit: MemoryPermit,
        span: tracing::Span,
        received_at: Instant,
    ) -> BatchRef {
        let append = self.next;
        self.next += 1;
        let outcomes = vec![None; batches];
        let pending = PendingAppend {
            reply,
            received_at,
            span,
            outcomes,
            outstanding: batches,
            _permit: permit,
        };
        self.appends.insert(append, pending);
        BatchRef { append, batch: 0 }
    }

    /// Records the outcome of one batch. If it was the last one outstanding, sends the result and
    /// returns the time at which the append was received.
    pub(super) fn complete(&mut self, at: BatchRef, outcome: AppendOutcome) -> Option<Instant> {
        let pending = self.appends.get_mut(&at.append)?;
        if pending.outcomes[at.batch].replace(outcome).is_none() {
            pending.outstanding -= 1;
        }
        if pending.outstanding > 0 {
            return None;
        }
        let pending = self.appends.remove(&at.append)?;
        let outcomes = pending.outcomes.into_iter().flatten().collect();
        // The receiver is gone if the client disconnected; its batches stay committed.
        let result = AppendResult { outcomes, completed_at: Instant::now() };
        let _closed = pending.reply.send(result);
        Some(pending.received_at)
    }

    /// Links the span of an object to the span of an append with a batch in it.
    pub(super) fn link(&self, object: &tracing::Span, batch: BatchRef) {
        if let Some(pending) = self.appends.get(&batch.append) {
            object.follows_from(&pending.span);
        }
    }
}

impl BatchRef {
    /// Returns the reference to the batch with this index of the same append.
    pub(super) fn with_batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }
}
