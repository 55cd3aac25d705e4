//! The size of the objects that the store accepts, as far as it is known.

/// Size of the object by which the store is probed at start, in bytes: objects up to this size are
/// accepted.
const PROBED_BYTES: usize = 64 << 10;

/// The store's limit, as far as uploads have shown it.
#[derive(Debug)]
pub(super) struct SizeLimit {
    stored: usize,
    limit: usize,
}

impl Default for SizeLimit {
    fn default() -> Self {
        Self { stored: PROBED_BYTES, limit: usize::MAX }
    }
}

impl SizeLimit {
    /// Returns the size of the batches, in bytes, above which no object is sealed. It stays below
    /// half of the smallest refused object until the process ends, so that footers have room.
    pub(super) fn batch_bytes_max(&self) -> usize {
        self.limit
    }

    /// Returns whether the store has accepted an object of this size or a larger one.
    pub(super) fn is_proven(&self, bytes: usize) -> bool {
        bytes <= self.stored
    }

    /// Records an object that was stored.
    pub(super) fn record_stored(&mut self, bytes: usize) {
        self.stored = self.stored.max(bytes);
    }

    /// Records an object that was refused for its size.
    pub(super) fn record_refused(&mut self, bytes: usize) {
        self.limit = self.limit.min(bytes / 2).max(1);
        self.stored = self.stored.min(self.limit);
    }
}
