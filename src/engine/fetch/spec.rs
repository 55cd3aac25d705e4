//! Fetches and the results of their partitions.

use std::time::Duration;

use bytes::Bytes;

use crate::coordinator::Watermarks;
use crate::log::ids::TopicPartition;

/// One partition of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionFetch {
    /// The partition.
    pub partition: TopicPartition,
    /// First offset to return.
    pub offset: i64,
    /// Limit of record bytes; the first batch of a response may exceed it.
    pub bytes_max: usize,
    /// Leader epoch to be set in the batches.
    pub leader_epoch: i32,
    /// Queries the coordinator although the tail index holds the partition: a client that
    /// comes from another replica may know a high watermark that has not reached this one.
    pub fresh: bool,
}

impl PartitionFetch {
    /// Returns whether the offset is within the log.
    pub(super) fn is_in_range(&self, watermarks: &Watermarks) -> bool {
        (watermarks.log_start_offset..=watermarks.high_watermark).contains(&self.offset)
    }
}

/// A fetch. The byte limit is consumed in the order of its partitions.
#[derive(Clone, Debug)]
pub struct FetchSpec {
    /// The partitions.
    pub partitions: Vec<PartitionFetch>,
    /// Number of available bytes that ends the wait.
    pub bytes_min: usize,
    /// Limit of record bytes in total; one batch is always returned.
    pub bytes_max: usize,
    /// Limit of the wait.
    pub wait: Duration,
}

/// Reason why a partition returns no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The offset is below the log start offset or above the high watermark.
    OffsetOutOfRange,
    /// The store or the coordinator is unavailable, or returned invalid data.
    Storage,
    /// The coordinator has no index entry for an offset below the high watermark: metadata is
    /// missing.
    IndexEntryMissing,
    /// The topic was deleted while the fetch waited.
    TopicDeleted,
}

/// Result of one partition.
#[derive(Clone, Debug, Default)]
pub struct FetchedPartition {
    /// Watermarks of the partition; `None` if the coordinator is unavailable.
    pub watermarks: Option<Watermarks>,
    /// The error, if there are no records.
    pub error: Option<FetchError>,
    /// Batches as slices to be concatenated: a rewritten prefix, the stored remainder, and so on.
    pub records: Vec<Bytes>,
}

impl FetchedPartition {
    /// Returns the size of the records, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.records.iter().map(|slice| slice.len() as u64).sum()
    }
}
