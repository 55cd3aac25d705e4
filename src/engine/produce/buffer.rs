//! Buffers batches by partition and connection until they are sealed.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

use super::pending::{BatchRef, NewAppend, PendingAppends};
use super::request::{AppendOutcome, AppendRequest, ConnectionId, FlushProfile};
use crate::log::batch::BatchMetadata;
use crate::log::ids::TopicPartition;

/// The scope of ordering: commits within a lane keep the order in which the batches were sent.
pub(super) type CommitLane = (TopicPartition, ConnectionId);

/// The batches of a part, at most. A part is committed by one call of a script, which takes about
/// 5 µs for each batch and has to end within 10 ms.
const BATCHES_PER_PART_MAX: usize = 1_000;

/// A batch that is not sealed yet.
#[derive(Debug)]
pub(super) struct BufferedBatch {
    pub(super) metadata: BatchMetadata,
    pub(super) bytes: Bytes,
    pub(super) at: BatchRef,
}

/// Batches by lane, in the order in which they were sent. The lanes of one partition are
/// neighbours.
pub(super) type LaneBatches = BTreeMap<CommitLane, Vec<BufferedBatch>>;

/// The open object, which accepts batches.
#[derive(Debug, Default)]
pub(super) struct OpenObject {
    batches: LaneBatches,
    bytes: usize,
    first_append_at: Option<Instant>,
    last_append_at: Option<Instant>,
    has_fast_batch: bool,
}

impl OpenObject {
    /// Adds the batches of a request, except those of shards that accept no more: they are
    /// completed with [`AppendOutcome::ShardFailing`], and their number is returned. `shards` are
    /// those of the batches.
    pub(super) fn push(
        &mut self,
        request: AppendRequest,
        shards: Vec<u16>,
        appends: &mut PendingAppends,
        now: Instant,
    ) -> u64 {
        let AppendRequest { connection, batches, reply, permit, span } = request;
        let (full, mut refused) = (appends.full_shards(now), 0);
        let bytes = batches.iter().map(|produced| produced.batch.len()).sum();
        let refs = appends.add(NewAppend { reply, permit, span, bytes, shards }, now);
        for (at, produced) in refs.into_iter().zip(batches) {
            if full.contains(&at.shard) {
                appends.complete(at, AppendOutcome::ShardFailing);
                refused += 1;
                continue;
            }
            self.first_append_at.get_or_insert(now);
            self.last_append_at = Some(now);
            self.bytes += produced.batch.len();
            self.has_fast_batch |= produced.profile == FlushProfile::Fast;
            self.batches.entry((produced.partition, connection)).or_default().push(BufferedBatch {
                metadata: produced.metadata,
                bytes: produced.batch,
                at,
            });
        }
        refused
    }

    /// Puts batches back in front of those that were sent later.
    pub(super) fn put_back(&mut self, batches: LaneBatches, now: Instant) {
        self.first_append_at.get_or_insert(now);
        self.last_append_at.get_or_insert(now);
        // The batches have waited for a PUT already.
        self.has_fast_batch = true;
        self.bytes += size(&batches);
        for (lane, mut batches) in batches {
            let later = self.batches.entry(lane).or_default();
            batches.append(later);
            *later = batches;
        }
    }

    /// Removes the batches of a lane that must not be committed, and completes them with `outcome`.
    pub(super) fn abort(
        &mut self,
        lane: &CommitLane,
        outcome: AppendOutcome,
        appends: &mut PendingAppends,
    ) {
        for batch in self.batches.remove(lane).unwrap_or_default() {
            self.bytes -= batch.bytes.len();
            appends.complete(batch.at, outcome);
        }
        if self.batches.is_empty() {
            *self = Self::default();
        }
    }

    /// Removes all batches, and completes them with `outcome`.
    pub(super) fn abort_all(&mut self, outcome: AppendOutcome, appends: &mut PendingAppends) {
        for batch in std::mem::take(self).batches.into_values().flatten() {
            appends.complete(batch.at, outcome);
        }
    }

    /// Takes at most `bytes_max` bytes of batches and [`BATCHES_PER_PART_MAX`] of each lane, and at
    /// least one batch. The rest stays.
    pub(super) fn take(&mut self, bytes_max: usize) -> LaneBatches {
        let buffered = std::mem::take(&mut self.batches);
        let (mut taken, mut rest) = match self.bytes <= bytes_max {
            true => (buffered, LaneBatches::new()),
            false => cut(buffered, bytes_max),
        };
        for (lane, batches) in &mut taken {
            if batches.len() > BATCHES_PER_PART_MAX {
                let mut later = batches.split_off(BATCHES_PER_PART_MAX);
                later.append(rest.entry(*lane).or_default());
                rest.insert(*lane, later);
            }
        }
        if rest.is_empty() {
            *self = Self::default();
        } else {
            self.bytes = size(&rest);
            self.batches = rest;
        }
        taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the size of the buffered batches, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether a buffered batch has [`FlushProfile::Fast`].
    pub(super) fn has_fast_batch(&self) -> bool {
        self.has_fast_batch
    }

    /// Returns the time of the first append.
    pub(super) fn first_append_at(&self) -> Option<Instant> {
        self.first_append_at
    }

    /// Returns the time of the last append.
    pub(super) fn last_append_at(&self) -> Option<Instant> {
        self.last_append_at
    }
}

/// Returns the size of batches, in bytes.
pub(super) fn size(batches: &LaneBatches) -> usize {
    batches.values().flatten().map(|batch| batch.bytes.len()).sum()
}

/// Divides batches into the first `bytes_max` bytes, at least one batch, and the rest. The batches
/// of a lane keep their order.
pub(super) fn cut(batches: LaneBatches, bytes_max: usize) -> (LaneBatches, LaneBatches) {
    let (mut first, mut rest) = (LaneBatches::new(), LaneBatches::new());
    let mut bytes = 0;
    for (lane, batches) in batches {
        for batch in batches {
            let is_first =
                rest.is_empty() && (bytes == 0 || bytes + batch.bytes.len() <= bytes_max);
            bytes += batch.bytes.len();
            let of = if is_first { &mut first } else { &mut rest };
            of.entry(lane).or_default().push(batch);
        }
    }
    (first, rest)
}
