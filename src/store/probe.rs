//! Probes the capabilities of a store at start-up. Stores that implement S3 differ, and some accept
//! requests that they do not carry out.

use std::sync::Arc;

use bytes::Bytes;

use super::s3::S3Store;
use super::{PutMode, Store, StoreError, StoreErrorKind};

/// The capabilities of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCapabilities {
    /// [`PutMode::Create`] does not replace an existing object (`If-None-Match: *`).
    pub conditional_create: bool,
    /// An object that does not match the checksum in its header is rejected. Otherwise corruption
    /// on the way to the store is detected only when the object is read.
    pub checksums: bool,
}

/// Probes a store with a few small objects at `key`, which is deleted afterwards. `s3` is the
/// adapter below `store` if that is S3: the bytes of other stores do not cross a network.
///
/// # Errors
/// A call to the store failed, or the store returned other bytes than were written.
pub async fn probe(
    store: &dyn Store,
    s3: Option<&Arc<S3Store>>,
    key: &str,
) -> Result<StoreCapabilities, StoreError> {
    let checksums = match s3 {
        Some(s3) => s3.verifies_checksums(key).await?,
        None => true,
    };
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    store.put(key, vec![first.clone()], PutMode::Overwrite).await?;
    let conditional_create = match store.put(key, vec![second.clone()], PutMode::Create).await {
        Ok(()) => false,
        Err(error) if error.kind == StoreErrorKind::AlreadyExists => true,
        Err(error) => return Err(error),
    };
    let expected = if conditional_create { first } else { second };
    let stored = store.get(key, None).await?;
    // Producing does not need the permission to delete; the object that remains has few bytes.
    if let Err(error) = store.delete(key).await {
        tracing::debug!(%error, "the probe object was not deleted");
    }
    if stored != expected {
        let detail = "the store returns other bytes than were written";
        return Err(StoreError::determinate(StoreErrorKind::Denied, "get", key, detail));
    }
    Ok(StoreCapabilities { conditional_create, checksums })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::{Fault, FaultyStore, StoreOperation};
    use crate::store::memory::MemoryStore;

    const FULL_CAPABILITIES: StoreCapabilities =
        StoreCapabilities { conditional_create: true, checksums: true };

    #[tokio::test]
    async fn a_lost_write_is_detected() {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        assert_eq!(probe(&*memory, None, "probe").await.unwrap(), FULL_CAPABILITIES);
        assert!(memory.head("probe").await.is_err(), "the probe object is deleted");
        let faulty = FaultyStore::new(Arc::clone(&memory));
        faulty.script(StoreOperation::put, [Fault::NONE, Fault::FALSE_SUCCESS]);
        let error = probe(&faulty, None, "probe").await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    }
}
