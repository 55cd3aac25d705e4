//! What the store at hand honours, asked at start: stores that speak S3 differ, and some say yes to
//! what they do not do.

use std::sync::Arc;

use bytes::Bytes;

use super::s3::S3Store;
use super::{PutMode, Store, StoreError, StoreErrorKind};

/// What a store honours of what we ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCapabilities {
    /// [`PutMode::Create`] leaves an object alone that exists (`If-None-Match: *`).
    pub conditional_create: bool,
    /// An object that does not have the checksum in its header is refused. Without it, damage on
    /// the way to the store is noticed only when the object is read.
    pub checksums: bool,
}

/// Finds out with a few small objects at `key`, which is deleted afterwards. `s3` is the adapter
/// below `store`, where that is S3: other stores take bytes from memory, not from a network.
///
/// # Errors
/// The store cannot be asked, or a write that it took cannot be read back.
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
    // Who may not delete may produce all the same; what stays is a few bytes.
    if let Err(error) = store.delete(key).await {
        tracing::debug!(%error, "the probe stays");
    }
    if stored != expected {
        let detail = "the store gives other bytes than it took";
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
    async fn an_honest_store_and_one_that_forgets() {
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        assert_eq!(probe(&*memory, None, "probe").await.unwrap(), FULL_CAPABILITIES);
        assert!(memory.head("probe").await.is_err(), "nothing is left behind");
        let faulty = FaultyStore::new(Arc::clone(&memory));
        faulty.script(StoreOperation::Put, [Fault::NONE, Fault::FALSE_SUCCESS]);
        let error = probe(&faulty, None, "probe").await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Denied, "{error}");
    }
}
