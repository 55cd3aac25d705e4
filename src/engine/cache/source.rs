//! Sources of object bytes that are not cached.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::log::ids::ObjectId;
use crate::log::object_format::wal_key;
use crate::store::{Certainty, Store, StoreError, StoreErrorKind};

/// Provides the bytes of objects.
#[async_trait]
pub trait ObjectSource: Send + Sync + Debug {
    /// Reads a byte range of an object. The result is shorter where the object ends.
    ///
    /// # Errors
    /// The store's error.
    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Returns whether this replica is the one that reads the object from the store for its zone.
    fn is_local_owner(&self, _object: ObjectId) -> bool {
        true
    }
}

/// Reads from object storage.
#[derive(Clone, Debug)]
pub struct StoreSource(pub Arc<dyn Store>);

#[async_trait]
impl ObjectSource for StoreSource {
    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get(&wal_key(object), Some(range)).await
    }
}

/// Returns an error of the cache itself, in the store's terms.
pub(super) fn read_error(kind: StoreErrorKind, object: ObjectId, detail: String) -> StoreError {
    let (certainty, key) = (Certainty::Determinate, wal_key(object));
    StoreError { kind, certainty, operation: "get", key, detail }
}
