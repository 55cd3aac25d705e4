//! Fixed-size blocks of WAL objects, the unit of reading and caching.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::verify::VerifiedRuns;
use crate::log::ids::ObjectId;

/// Size of a block, in bytes. An object of the usual 8 MiB is one block, and so one GET.
pub(super) const BLOCK_BYTES: u64 = 16 << 20;

/// Identifies a block: its object and its index within the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockId {
    pub(super) object: ObjectId,
    pub(super) index: u64,
}

impl BlockId {
    /// Returns the bytes of the object that the block covers.
    pub(super) fn range(self) -> Range<u64> {
        self.index * BLOCK_BYTES..(self.index + 1) * BLOCK_BYTES
    }
}

/// The bytes of a block, shorter than [`BLOCK_BYTES`] at the end of an object.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) bytes: Bytes,
    pub(super) verified: Arc<VerifiedRuns>,
    pub(super) progress: Arc<ReaderProgress>,
}

impl Block {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, verified: Arc::default(), progress: Arc::default() }
    }
}

/// Counts how many readers have read each run of a block to its end. The key is the offset of the
/// run's first byte in the object.
#[derive(Debug, Default)]
pub(super) struct ReaderProgress(Mutex<HashMap<u64, u32>>);

impl ReaderProgress {
    /// Records that one more reader has read the run that starts at byte `run_start` to its end.
    pub(super) fn record(&self, run_start: u64) {
        *self.0.lock().entry(run_start).or_default() += 1;
    }

    /// Returns the mean number of readers over the runs that at least one reader has read.
    pub(super) fn readers(&self) -> f64 {
        let counts = self.0.lock();
        let total: u32 = counts.values().sum();
        f64::from(total) / counts.len().max(1) as f64
    }
}

/// Returns the indices of the blocks that cover `range`.
pub(super) fn block_indices(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES).max(range.start / BLOCK_BYTES + 1)
}

/// Returns the bytes of `range`, as far as they exist, from the consecutive blocks that cover it.
/// One block is sliced; several are copied together.
pub(super) fn slice_blocks(blocks: &[Block], range: &Range<u64>) -> Bytes {
    let first_start = range.start / BLOCK_BYTES * BLOCK_BYTES;
    let slice = |block: &Block, block_start: u64| {
        let start = range.start.saturating_sub(block_start).min(block.bytes.len() as u64);
        let end = range.end.saturating_sub(block_start).min(block.bytes.len() as u64);
        block.bytes.slice(start as usize..end.max(start) as usize)
    };
    if let [block] = blocks {
        return slice(block, first_start);
    }
    let mut out = BytesMut::new();
    for (index, block) in (0_u64..).zip(blocks) {
        out.extend_from_slice(&slice(block, first_start + index * BLOCK_BYTES));
    }
    out.freeze()
}
