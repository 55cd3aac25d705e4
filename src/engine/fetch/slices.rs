//! Slices runs into batches and sets their offsets, without copying records.

use bytes::Bytes;

use crate::log::batch::Run;
use crate::wire::record_batch::{PREFIX_BYTES, batches, placed_prefix};

/// Remaining byte limits of a fetch.
#[derive(Debug)]
pub(super) struct ByteLimit {
    response: usize,
    partition: usize,
    is_empty: bool,
}

impl ByteLimit {
    pub(super) fn new(response_bytes: usize) -> Self {
        Self { response: response_bytes, partition: 0, is_empty: true }
    }

    /// Sets the limit of the next partition.
    pub(super) fn begin_partition(&mut self, partition_bytes: usize) {
        self.partition = partition_bytes;
    }

    /// Returns the bytes that the response may still hold.
    pub(super) fn remaining(&self) -> usize {
        if self.is_empty { self.response.max(1) } else { self.response }
    }

    /// Consumes the bytes of a batch, and returns whether it may be returned. The first batch of a
    /// response always may: otherwise a batch above the limits would block its partition forever
    /// (KIP-74).
    fn consume(&mut self, bytes: usize) -> bool {
        if !self.is_empty && bytes > self.response.min(self.partition) {
            return false;
        }
        self.is_empty = false;
        self.response = self.response.saturating_sub(bytes);
        self.partition = self.partition.saturating_sub(bytes);
        true
    }
}

/// Reason why [`slice_run`] has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SliceOutcome {
    /// All batches of the run were returned.
    RunComplete,
    /// A limit is reached.
    LimitReached,
}

/// The bytes of a run do not match the index.
#[derive(Debug, thiserror::Error)]
pub(super) enum CorruptRun {
    #[error("no valid batch at byte {0} of the run")]
    InvalidBatch(usize),
    #[error("the run ends at offset {actual}, expected {expected}")]
    EndOffset { actual: i64, expected: i64 },
    #[error("the run starts at offset {actual}, after the requested offset {requested}")]
    Gap { actual: i64, requested: i64 },
}

/// Appends the batches of a run to `out`, starting with the one that contains `offset`, within
/// `limit`.
///
/// # Errors
/// [`CorruptRun`], and nothing is appended, if the run does not contain exactly the offsets of the
/// index: a batch with a wrong record count would shift the batches after it.
pub(super) fn slice_run(
    run: &Run,
    bytes: &Bytes,
    offset: i64,
    leader_epoch: i32,
    limit: &mut ByteLimit,
    out: &mut Vec<Bytes>,
) -> Result<SliceOutcome, CorruptRun> {
    if run.base_offset > offset {
        return Err(CorruptRun::Gap { actual: run.base_offset, requested: offset });
    }
    check_offsets(run, bytes)?;
    let (mut at, mut next_offset) = (0, run.base_offset);
    for batch in batches(bytes) {
        let batch = batch.map_err(|_| CorruptRun::InvalidBatch(at))?;
        let range = at..at + batch.bytes().len();
        let base_offset = next_offset;
        next_offset += i64::from(batch.last_offset_delta()) + 1;
        at = range.end;
        if next_offset <= offset {
            continue;
        }
        if !limit.consume(range.len()) {
            return Ok(SliceOutcome::LimitReached);
        }
        let prefix = placed_prefix(base_offset, leader_epoch, &batch);
        out.push(Bytes::copy_from_slice(&prefix));
        out.push(bytes.slice(range.start + PREFIX_BYTES..range.end));
    }
    Ok(SliceOutcome::RunComplete)
}

fn check_offsets(run: &Run, bytes: &[u8]) -> Result<(), CorruptRun> {
    let (mut at, mut next_offset) = (0, run.base_offset);
    for batch in batches(bytes) {
        let batch = batch.ok().filter(|batch| batch.last_offset_delta() >= 0);
        let batch = batch.ok_or(CorruptRun::InvalidBatch(at))?;
        next_offset += i64::from(batch.last_offset_delta()) + 1;
        at += batch.bytes().len();
    }
    if next_offset == run.end_offset() {
        Ok(())
    } else {
        Err(CorruptRun::EndOffset { actual: next_offset, expected: run.end_offset() })
    }
}
