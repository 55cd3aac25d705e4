//! Where the bytes of objects come from.

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
pub trait Source: Send + Sync + Debug {
    /// The bytes of an object in a range; fewer where the object ends.
    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError>;
}

/// Object storage itself.
#[derive(Debug)]
pub struct FromStore(pub Arc<dyn Store>);

#[async_trait]
impl Source for FromStore {
    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get(&wal_key(object), Some(range)).await
    }
}
