//! Appends that wait for the outcomes of their batches.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::request::{AppendOutcome, AppendResult};
use super::shards::ShardCommits;
use super::stored_outcomes::StoredOutcomes;
use crate::engine::memory::MemoryPermit;
use crate::tasks;

/// Divisor of the memory limit: the share that the requests with batches in failing shards may hold
/// together.
const FAILING_SHARE_DIVISOR: usize = 2;
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
    pub(super) commits: ShardCommits,
    pub(super) stored: StoredOutcomes,
    appends: HashMap<u64, PendingAppend>,
    next: u64,
    /// The bytes that the appends with batches in failing shards may hold together.
    failing_bytes_max: usize,
    /// The shards that failed when this was last computed, …
    failing: BTreeSet<u16>,
    /// … and the bytes of the appends with outstanding batches in them, each counted once.
    failing_bytes: usize,
}

impl PendingAppends {
    /// Creates the appends of a replica whose requests hold at most `memory_bytes`, and for which
    /// the coordinator stores the outcomes of `stored_outcomes_max` batches in a shard.
    pub(super) fn new(memory_bytes: usize, stored_outcomes_max: usize) -> Self {
        Self {
            commits: ShardCommits::default(),
            stored: StoredOutcomes::new(stored_outcomes_max),
            appends: HashMap::new(),
            next: 0,
            failing_bytes_max: memory_bytes / FAILING_SHARE_DIVISOR,
            failing: BTreeSet::new(),
            failing_bytes: 0,
        }
    }

    /// Returns the shards that accept no more batches: those that have as many stored outcomes as
    /// they may, and those that fail, if the appends with batches in them hold their share of the
    /// memory.
    pub(super) fn full_shards(&mut self, now: Instant) -> BTreeSet<u16> {
        let failing = self.commits.failing(now);
        if failing != self.failing {
            self.failing = failing;
            let affected = self.appends.values().filter(|append| append.is_in(&self.failing));
            self.failing_bytes = affected.map(|append| append.bytes).sum();
        }
        let mut full: BTreeSet<u16> = self.stored.full_shards().collect();
        if self.failing_bytes >= self.failing_bytes_max {
            full.extend(&self.failing);
        }
        full
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
        if pending.is_in(&self.failing) {
            self.failing_bytes += bytes;
        }
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
            let was_in = pending.is_in(&self.failing);
            if let Some((_, count)) = pending.shards.iter_mut().find(|(of, _)| *of == at.shard) {
                *count -= 1;
            }
            if was_in && !pending.is_in(&self.failing) {
                self.failing_bytes -= pending.bytes;
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
    /// Returns whether a batch in one of these shards is outstanding.
    fn is_in(&self, shards: &BTreeSet<u16>) -> bool {
        self.shards.iter().any(|(shard, count)| *count > 0 && shards.contains(shard))
    }

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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::shards::FAILING_AFTER;
    use super::*;
    use crate::engine::memory::MemoryLimiter;

    const BYTES: usize = 2_000;

    #[tokio::test(start_paused = true)]
    async fn appends_in_failing_shards_count_once() {
        let limiter = MemoryLimiter::new(1 << 20, Arc::default());
        let mut appends = PendingAppends::new(4 * (BYTES + APPEND_OVERHEAD_BYTES), usize::MAX);
        let mut refs = Vec::new();
        for shards in [vec![0, 1, 2], vec![0], vec![3], vec![2, 1]] {
            let permit = limiter.quota(usize::MAX).acquire(BYTES).await.unwrap();
            let (reply, span) = (oneshot::channel().0, tracing::Span::none());
            let new = NewAppend { reply, permit, span, bytes: BYTES, shards };
            refs.push(appends.add(new, Instant::now()));
        }
        let start = Instant::now();
        let commit = appends.commits.begin(2, start);
        let late = start + FAILING_AFTER;
        assert_eq!(appends.full_shards(start), BTreeSet::new());
        assert_eq!(appends.full_shards(late), BTreeSet::from([2]), "the first and the last one");
        appends.complete(refs[0][0], AppendOutcome::TooLarge);
        assert_eq!(appends.full_shards(late), BTreeSet::from([2]));
        appends.complete(refs[0][2], AppendOutcome::TooLarge);
        assert_eq!(appends.full_shards(late), BTreeSet::new());
        // Two failing shards have one share together.
        appends.commits.begin(3, start);
        assert_eq!(appends.full_shards(late), BTreeSet::from([2, 3]));
        appends.commits.end(2, commit);
        assert_eq!(appends.full_shards(late), BTreeSet::new());
        refs.concat().into_iter().for_each(|at| {
            appends.complete(at, AppendOutcome::TooLarge);
        });
        assert_eq!((appends.failing_bytes, appends.appends.len()), (0, 0));
    }
}
