//! Buffers batches by partition and connection until they are sealed.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

use super::pending::{BatchRef, PendingAppends};
use super::request::{AppendOutcome, AppendRequest, ConnectionId, FlushProfile};
use crate::log::batch::BatchMetadata;
use crate::log::ids::TopicPartition;

/// The scope of ordering: commits within a lane keep the order in which the batches were sent.
pub(super) type CommitLane = (TopicPartition, ConnectionId);

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
    /// Adds the batches of a request.
    pub(super) fn push(
        &mut self,
        request: AppendRequest,
        appends: &mut PendingAppends,
        now: Instant,
    ) {
        self.first_append_at.get_or_insert(now);
        self.last_append_at = Some(now);
        let AppendRequest { connection, batches, reply, permit, span } = request;
        let append = appends.add(batches.len(), reply, permit, span, now);
        for (batch, produced) in batches.into_iter().enumerate() {
            self.bytes += produced.batch.len();
            self.has_fast_batch |= produced.profile == FlushProfile::Fast;
            self.batches.entry((produced.partition, connection)).or_default().push(BufferedBatch {
                metadata: produced.metadata,
                bytes: produced.batch,
                at: append.with_batch(batch),
            });
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

    /// Takes all batches. The object is empty afterwards.
    pub(super) fn take(&mut self) -> LaneBatches {
        std::mem::take(self).batches
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the number of parts that the object would have.
    pub(super) fn parts(&self) -> usize {
        self.batches.len()
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
