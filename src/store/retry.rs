//! A decorator that repeats calls after transient faults.
//!
//! All operations of the port may be repeated; the outcome depends on the earlier attempts:
//! - A write with an indeterminate earlier attempt remains indeterminate if a later attempt fails.
//! - A CREATE with an indeterminate earlier attempt may find its own object. The bytes are
//!   compared: if they are the ones that were written, the CREATE succeeded. A caller that uses
//!   CREATE to claim a key therefore writes something unique into the object, such as its id.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::body::concat;
use super::{Certainty, ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};
use crate::entropy::Entropy;
use crate::retry::RetryPolicy;

/// No attempt starts later than this after the first.
const ATTEMPTS_BEGIN_WITHIN: Duration = Duration::from_secs(30);

/// A store whose calls are repeated after transient faults.
pub struct RetryStore {
    inner: Arc<dyn Store>,
    entropy: Arc<Entropy>,
}

impl RetryStore {
    /// Decorates `inner`; the jitter of the delays comes from `entropy`.
    pub fn new(inner: Arc<dyn Store>, entropy: Arc<Entropy>) -> Self {
        Self { inner, entropy }
    }

    /// Repeats a call until it succeeds, fails permanently, or the policy is exhausted. Also
    /// returns whether an attempt before the last one is indeterminate.
    async fn call<T, F>(&self, mut attempt: impl FnMut() -> F) -> (Result<T, StoreError>, Certainty)
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let deadline = Instant::now() + ATTEMPTS_BEGIN_WITHIN;
        let mut delays = RetryPolicy::STORE.delays(&self.entropy);
        let mut earlier_certainty = Certainty::Determinate;
        loop {
            let error = match attempt().await {
                Err(error) if error.kind.is_transient() => error,
                result => return (result, earlier_certainty),
            };
            let in_time = |delay: &Duration| Instant::now() + *delay <= deadline;
            let Some(delay) = delays.next().filter(in_time) else {
                return (Err(error), earlier_certainty);
            };
            tracing::debug!(%error, ?delay, "repeating a call to the store");
            if error.certainty == Certainty::Indeterminate {
                earlier_certainty = Certainty::Indeterminate;
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// Returns whether the object at `key` is the one that this call writes.
    async fn is_own_object(&self, key: &str, body: Vec<Bytes>) -> Result<bool, StoreError> {
        let ours = concat(body);
        let (size, _) = self.call(|| self.inner.head(key)).await;
        if size? != ours.len() as u64 {
            return Ok(false);
        }
        let (theirs, _) = self.call(|| self.inner.get(key, None)).await;
        Ok(theirs? == ours)
    }
}

/// Returns the outcome of a write, given the certainty of the attempts before the last one.
fn combine_certainty<T>(
    result: Result<T, StoreError>,
    earlier_certainty: Certainty,
) -> Result<T, StoreError> {
    result.map_err(|error| match earlier_certainty {
        Certainty::Determinate => error,
        Certainty::Indeterminate => StoreError { certainty: earlier_certainty, ..error },
    })
}

impl fmt::Debug for RetryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for RetryStore {
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError> {
        let (put, earlier_certainty) = self.call(|| self.inner.put(key, body.clone(), mode)).await;
        let indeterminate = earlier_certainty == Certainty::Indeterminate;
        let error = match combine_certainty(put, earlier_certainty) {
            Err(error) if error.kind == StoreErrorKind::AlreadyExists && indeterminate => error,
            done => return done,
        };
        match self.is_own_object(key, body).await {
            Ok(true) => Ok(()),
            // Another writer's object exists: had ours been first, theirs could not have been created.
            Ok(false) => Err(StoreError { certainty: Certainty::Determinate, ..error }),
            Err(cause) => {
                let detail =
                    format!("{}, and its content cannot be compared: {cause}", error.detail);
                Err(StoreError::indeterminate("put", key, detail))
            }
        }
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.call(|| self.inner.get(key, range.clone())).await.0
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        self.call(|| self.inner.head(key)).await.0
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        self.call(|| self.inner.list(prefix, after, limit)).await.0
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let (deleted, earlier_certainty) = self.call(|| self.inner.delete(key)).await;
        combine_certainty(deleted, earlier_certainty)
    }
}

#[cfg(test)]
mod tests;
