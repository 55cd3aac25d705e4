//! Appends that wait for the outcomes of their batches.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::request::{AppendOutcome, AppendResult};
use super::shards::ShardLoads;
use crate::engine::memory::MemoryPermit;
use crate::tasks;

/// Cost of an append in addition to its bytes.
const APPEND_OVERHEAD_BYTES: usize = 1 << 10;
/// Delay of the result of an append whose batches were all refused because their shard fails, so
/// that its client does not repeat it at once. It holds no memory meanwhile.
const REFUSAL_DELAY: Duration = Duration::from_secs(1);

/// Refers to a batch of a pending append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchRef {
    append: u64,
    /// Index of the batch within the append.
    batch: usize,
    /// The shard of the coordinator that commits it.
    pub(super) shard: u16,
}

/// An append to be added.
#[derive(Debug)]
pub(super) struct NewAppend {
    pub(super) reply: oneshot::Sender<AppendResult>,
    pub(super) permit: MemoryPermit,
    pub(super) span: tracing::Span,
    /// The bytes of its batches.
    pub(super) bytes: usize,
    /// The shard of each batch.
    pub(super) shards: Vec<u16>,
}

/// An append that waits for the outcomes of its batches.
#[derive(Debug)]
struct PendingAppend {
    reply: oneshot::Sender<AppendResult>,
    received_at: Instant,
    span: tracing::Span,
    outcomes: Vec<Option<AppendOutcome>>,
    outstanding: usize,
    bytes: usize,
    /// The number of its outstanding batches in each shard.
    shards: Vec<(u16, usize)>,
    /// Held until the last outcome is known.
    permit: MemoryPermit,
}

/// The appends without a result. Their batches may be in several objects.
#[derive(Debug)]
pub(super) struct PendingAppends {
    pub(super) loads: ShardLoads,
    appends: HashMap<u64, PendingAppend>,
    next: u64,
}

impl PendingAppends {
    /// Creates the appends of a replica whose requests hold at most `memory_bytes`.
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self { loads: ShardLoads::new(memory_bytes), appends: HashMap::new(), next: 0 }
    }

    /// Adds an append, and returns references to its batches.
    pub(super) fn add(&mut self, new: NewAppend, now: Instant) -> Vec<BatchRef> {
        let append = self.next;
        self.next += 1;
        let bytes = new.bytes + APPEND_OVERHEAD_BYTES;
        let mut shards: Vec<(u16, usize)> = Vec::new();
        for shard in &new.shards {
            match shards.iter_mut().find(|(of, _)| of == shard) {
                Some((_, count)) => *count += 1,
                None => shards.push((*shard, 1)),
            }
        }
        shards.iter().for_each(|(shard, _)| self.loads.add(*shard, bytes));
        let outstanding = new.shards.len();
        let pending = PendingAppend {
            reply: new.reply,
            received_at: now,
            span: new.span,
            outcomes: vec![None; outstanding],
            outstanding,
            bytes,
            shards,
            permit: new.permit,
        };
        self.appends.insert(append, pending);
        let refs = new.shards.into_iter().enumerate();
        refs.map(|(batch, shard)| BatchRef { append, batch, shard }).collect()
    }

    /// Records the outcome of one batch. If it was the last one outstanding, sends the result and
    /// returns the time at which the append was received.
    pub(super) fn complete(&mut self, at: BatchRef, outcome: AppendOutcome) -> Option<Instant> {
        let pending = self.appends.get_mut(&at.append)?;
        if pending.outcomes[at.batch].replace(outcome).is_none() {
            pending.outstanding -= 1;
            if let Some((_, count)) = pending.shards.iter_mut().find(|(of, _)| *of == at.shard) {
                *count -= 1;
                if *count == 0 {
                    self.loads.remove(at.shard, pending.bytes);
                }
            }
        }
        if pending.outstanding > 0 {
            return None;
        }
        let pending = self.appends.remove(&at.append)?;
        let received_at = pending.received_at;
        pending.finish();
        Some(received_at)
    }

    /// Links the span of an object to the span of an append with a batch in it.
    pub(super) fn link(&self, object: &tracing::Span, batch: BatchRef) {
        if batch.batch == 0
            && let Some(pending) = self.appends.get(&batch.append)
        {
            object.follows_from(&pending.span);
        }
    }
}

impl PendingAppend {
    /// Releases the memory and sends the result. The receiver is gone if the client disconnected;
    /// its batches stay committed.
    fn finish(self) {
        let Self { reply, outcomes, permit, .. } = self;
        drop(permit);
        let outcomes: Vec<AppendOutcome> = outcomes.into_iter().flatten().collect();
        let send = |outcomes| {
            let _closed = reply.send(AppendResult { outcomes, completed_at: Instant::now() });
        };
        if outcomes.iter().all(|outcome| *outcome == AppendOutcome::ShardFailing) {
            tasks::spawn("refusal", async move {
                tokio::time::sleep(REFUSAL_DELAY).await;
                send(outcomes);
            });
        } else {
            send(outcomes);
        }
    }
}
