//! Memory of what is being sent to peers.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limits the bytes that are being sent to peers.
#[derive(Debug)]
pub(super) struct ServingMemory {
    bytes_max: u64,
    semaphore: Arc<Semaphore>,
}

/// Bytes with their memory.
struct Served {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Served {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ServingMemory {
    /// Creates a limit of `bytes_max` bytes, at most 4 GiB.
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes_max = bytes_max.clamp(1, u32::MAX.into());
        Self { bytes_max, semaphore: Arc::new(Semaphore::new(bytes_max as usize)) }
    }

    /// Returns how much memory a response of `bytes` bytes needs in addition to `permit`.
    pub(super) fn missing(&self, permit: &OwnedSemaphorePermit, bytes: u64) -> u64 {
        bytes.min(self.bytes_max).saturating_sub(permit.num_permits() as u64)
    }

    /// Waits for memory for a response of about `bytes` bytes. A response above the limit is sent
    /// alone.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing is held.
    pub(super) async fn acquire(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        Arc::clone(&self.semaphore).acquire_many_owned(permits).await.ok()
    }
}

/// Returns bytes that hold their part of the permit as long as they exist.
pub(super) fn with_permit(bytes: Bytes, mut permit: OwnedSemaphorePermit) -> Bytes {
    let excess = permit.num_permits().saturating_sub(bytes.len());
    drop(permit.split(excess));
    Bytes::from_owner(Served { bytes, _permit: permit })
}
