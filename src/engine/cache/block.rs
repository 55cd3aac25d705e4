//! Fixed-size blocks of WAL objects, the unit of reading and caching.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::verify::VerifiedRuns;
use crate::log::ids::ObjectId;

/// Size of a block, in bytes. An object of the usual 8 MiB is one block, and so one GET.
pub(super) const BLOCK_BYTES: u64 = 16 << 20;
/// A run smaller than this fraction of its block is copied out, so that it does not keep the whole
/// block in memory.
const COPY_BELOW: u64 = 8;

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
}

impl Block {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, verified: Arc::default() }
    }

    /// Returns the memory that the block takes, in bytes.
    pub(super) fn memory(&self) -> u64 {
        self.bytes.len() as u64 + self.verified.memory()
    }
}

/// The bytes of a run, and the memory that they keep alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunBytes {
    /// The bytes.
    pub bytes: Bytes,
    /// Size of the buffer of which they are a slice, in bytes: that of a block, or their own.
    pub retained: u64,
    /// Address of that buffer, which identifies it while it is alive.
    pub buffer: usize,
}

impl RunBytes {
    /// Takes a slice of a block, or copies it if it is much smaller than the block.
    pub(super) fn of_block(slice: Bytes, block: &Block) -> Self {
        let (retained, buffer) = (block.bytes.len() as u64, block.bytes.as_ptr().addr());
        match (slice.len() as u64) < retained / COPY_BELOW {
            true => Self::owned(Bytes::copy_from_slice(&slice)),
            false => Self { bytes: slice, retained, buffer },
        }
    }

    fn owned(bytes: Bytes) -> Self {
        Self { retained: bytes.len() as u64, buffer: bytes.as_ptr().addr(), bytes }
    }
}

/// Returns the indices of the blocks that cover `range`.
pub(super) fn block_indices(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES).max(range.start / BLOCK_BYTES + 1)
}

/// Returns the bytes of `range`, as far as they exist, from the consecutive blocks that cover it.
/// One block is sliced; several are copied together.
pub(super) fn slice_blocks(blocks: &[Block], range: &Range<u64>) -> RunBytes {
    let first_start = range.start / BLOCK_BYTES * BLOCK_BYTES;
    let slice = |block: &Block, block_start: u64| {
        let start = range.start.saturating_sub(block_start).min(block.bytes.len() as u64);
        let end = range.end.saturating_sub(block_start).min(block.bytes.len() as u64);
        block.bytes.slice(start as usize..end.max(start) as usize)
    };
    if let [block] = blocks {
        return RunBytes::of_block(slice(block, first_start), block);
    }
    let mut out = BytesMut::new();
    for (index, block) in (0_u64..).zip(blocks) {
        out.extend_from_slice(&slice(block, first_start + index * BLOCK_BYTES));
    }
    RunBytes::owned(out.freeze())
}
