//! Where the bytes of objects come from, when they are not in memory.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::log::ids::ObjectId;
use crate::log::object_format::wal_key;
use crate::store::{Store, StoreError};

/// Where the bytes of objects come from.
#[async_trait]
pub trait ObjectSource: Send + Sync + Debug {
    /// The bytes of an object in a range; fewer where the object ends.
    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// Whether this replica is the one that reads the object from the store for all others.
    fn is_local_owner(&self, _object: ObjectId) -> bool {
        true
    }
}

/// Object storage itself.
#[derive(Clone, Debug)]
pub struct StoreSource(pub Arc<dyn Store>);

#[async_trait]
impl ObjectSource for StoreSource {
    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get(&wal_key(object), Some(range)).await
    }
}
