//! A decorator that asks again when a call met a passing fault.
//!
//! All verbs of the port may be repeated; what differs is what the outcome then says:
//! - A write of which an earlier attempt is in doubt stays in doubt, whatever a later one was
//!   told, unless a later one went through.
//! - A CREATE of which an earlier attempt is in doubt may find its own object. The bytes are
//!   compared: if they are what we wrote, it is ours. Who uses CREATE to claim a key therefore
//!   writes something of its own into the object, such as its id.

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

/// No attempt begins later than this after the first.
const ATTEMPTS_BEGIN_WITHIN: Duration = Duration::from_secs(30);

/// A store whose calls are repeated when they meet a passing fault.
pub struct RetryStore {
    inner: Arc<dyn Store>,
    entropy: Arc<Entropy>,
}

impl RetryStore {
    /// Decorates `inner`; the jitter of the delays comes from `entropy`.
    pub fn new(inner: Arc<dyn Store>, entropy: Arc<Entropy>) -> Self {
        Self { inner, entropy }
    }

    /// Makes a call until it goes through, fails for good, or the policy is used up; says also
    /// whether an attempt before the last one is in doubt.
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

    /// Whether the object at `key` is the one that we meant to create.
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

/// What a write came to when an attempt before its last one may have happened.
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
            // Somebody else's object stands there: had ours been there first, theirs could not.
            Ok(false) => Err(StoreError { certainty: Certainty::Determinate, ..error }),
            Err(cause) => {
                let detail = format!("{}, and whose it is cannot be told: {cause}", error.detail);
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
