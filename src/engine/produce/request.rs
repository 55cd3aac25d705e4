//! Append requests and their outcomes.

use std::ops::Deref;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::coordinator::CommitOutcome;
use crate::engine::memory::MemoryPermit;
use crate::log::batch::BatchMetadata;
use crate::log::ids::TopicPartition;

/// Identifies a client connection: the scope within which the batches of a partition keep their
/// order. Never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// When an object that contains such a batch is sealed.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FlushProfile {
    /// Immediately if no upload is in flight, else when the latest one completes or exceeds the
    /// median latency of PUTs.
    Fast,
    /// Once per interval, or at the size limit: fewest PUTs.
    Cheap,
}

/// A validated batch to be appended.
#[derive(Clone, Debug)]
pub struct ProducedBatch {
    /// Target partition.
    pub partition: TopicPartition,
    /// Flush profile of the topic.
    pub profile: FlushProfile,
    /// Metadata for the coordinator.
    pub metadata: BatchMetadata,
    /// The bytes, as they will be stored in the object.
    pub batch: Bytes,
}

/// Outcome of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The coordinator processed the commit.
    Decided {
        /// Its decision.
        outcome: CommitOutcome,
        /// Log start offset of the partition.
        log_start_offset: i64,
    },
    /// The coordinator's metadata is lost or unreadable. The batch was not appended; neither was
    /// any later batch of its connection and partition.
    MetadataLost,
    /// The shard of the partition does not respond, and its requests hold their share of the
    /// memory. The batch was not appended.
    ShardFailing,
    /// The store refused the object of the batch for a lasting reason. The batch was not appended;
    /// neither was any later batch of its connection and partition.
    StoreRefused,
    /// The store refused an object that contained only this batch for its size. The batch was not
    /// appended.
    TooLarge,
}

/// Outcomes of an append.
#[derive(Clone, Debug)]
pub struct AppendResult {
    /// One outcome per batch, in request order.
    pub outcomes: Vec<AppendOutcome>,
    /// Time at which the last outcome was known.
    pub completed_at: Instant,
}

impl Deref for AppendResult {
    type Target = [AppendOutcome];

    fn deref(&self) -> &[AppendOutcome] {
        &self.outcomes
    }
}

/// An append on its way to the pipeline.
#[derive(Debug)]
pub(super) struct AppendRequest {
    pub(super) connection: ConnectionId,
    pub(super) batches: Vec<ProducedBatch>,
    pub(super) reply: oneshot::Sender<AppendResult>,
    pub(super) permit: MemoryPermit,
    /// Span of the request; the object's span is linked to it.
    pub(super) span: tracing::Span,
}
