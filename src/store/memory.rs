//! An object store in the memory of this process, for tests and demonstrations.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::body::{clip, concat};
use super::key::{check_key, check_listing};
use super::{ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};

/// A store whose objects are lost when the process ends.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock()
    }

    fn find(&self, operation: &'static str, key: &str) -> Result<Bytes, StoreError> {
        check_key(operation, key)?;
        let found = self.objects().get(key).cloned();
        found.ok_or_else(|| {
            StoreError::determinate(StoreErrorKind::NotFound, operation, key, "no such object")
        })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("objects", &self.objects().len()).finish()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError> {
        check_key("put", key)?;
        let body = concat(body);
        let mut objects = self.objects();
        if mode == PutMode::Create && objects.contains_key(key) {
            let kind = StoreErrorKind::AlreadyExists;
            return Err(StoreError::determinate(kind, "put", key, "the object exists"));
        }
        objects.insert(key.to_owned(), body);
        Ok(())
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let object = self.find("get", key)?;
        let Some(range) = range else { return Ok(object) };
        let range = clip(key, &range, object.len() as u64)?;
        Ok(object.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        Ok(self.find("head", key)?.len() as u64)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        check_listing(prefix, after)?;
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let objects = self.objects();
        let rows = objects.range::<str, _>((start, Bound::Unbounded));
        let rows = rows.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        let row = |(key, body): (&String, &Bytes)| ObjectMeta {
            key: key.clone(),
            size: body.len() as u64,
        };
        Ok(rows.map(row).collect())
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key("delete", key)?;
        self.objects().remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::conformance;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn conforms() {
        conformance::run(&(Arc::new(MemoryStore::new()) as Arc<dyn Store>)).await;
    }
}
