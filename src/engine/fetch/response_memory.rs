//! Memory of a response: its records, and the blocks that they keep alive.

use std::collections::HashSet;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::engine::cache::RunBytes;
use crate::engine::memory::MemoryPermit;

/// A permit for the records of a response, and the buffers of which they are slices.
#[derive(Debug)]
pub(super) struct ResponseMemory(Mutex<Held>);

#[derive(Debug)]
struct Held {
    permit: MemoryPermit,
    /// Addresses of the buffers for which the permit was extended.
    buffers: HashSet<usize>,
}

impl ResponseMemory {
    /// Starts with a permit for the bytes of the runs to be read.
    pub(super) fn new(permit: MemoryPermit) -> Self {
        Self(Mutex::new(Held { permit, buffers: HashSet::new() }))
    }

    /// Returns the bytes of a run for the response. They remain a slice of their block if the permit
    /// can be extended by the rest of the block, which they keep alive; otherwise they are copied.
    pub(super) fn hold(&self, run: RunBytes) -> Bytes {
        let RunBytes { bytes, retained, buffer } = run;
        let rest = retained.saturating_sub(bytes.len() as u64);
        let mut held = self.0.lock();
        if rest == 0 || held.buffers.contains(&buffer) {
            return bytes;
        }
        if held.permit.try_extend(rest) {
            held.buffers.insert(buffer);
            return bytes;
        }
        drop(held);
        Bytes::copy_from_slice(&bytes)
    }

    /// Returns the permit, to be held as long as the bytes.
    pub(super) fn into_permit(self) -> MemoryPermit {
        self.0.into_inner().permit
    }
}
