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

/// How often and how long to ask again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// How often a call is made, the first time included; at least once.
    pub max_attempts: u32,
    /// The longest pause before the second attempt; it doubles with each further one.
    pub base_delay: Duration,
    /// No pause is longer than this.
    pub max_delay: Duration,
    /// No attempt begins later than this after the first.
    pub total_delay: Duration,
}

impl RetryPolicy {
    /// Five attempts within 30 s, pauses of at most 50, 100, 200, 400 ms.
    pub const STANDARD: Self = Self {
        max_attempts: 5,
        base_delay: Duration::from_millis(50),
        max_delay: Duration::from_secs(2),
        total_delay: Duration::from_secs(30),
    };
}

/// A store whose calls are repeated when they meet a passing fault.
pub struct RetryStore {
    inner: Arc<dyn Store>,
    policy: RetryPolicy,
    entropy: Arc<Entropy>,
}

impl RetryStore {
    /// Decorates `inner`; the pauses are drawn from `entropy`.
    pub fn new(inner: Arc<dyn Store>, policy: RetryPolicy, entropy: Arc<Entropy>) -> Self {
        Self { inner, policy, entropy }
    }

    /// Makes a call until it goes through, fails for good, or the policy is used up; says also
    /// whether an attempt before the last one is in doubt.
    async fn call<T, F>(&self, mut attempt: impl FnMut() -> F) -> (Result<T, StoreError>, Certainty)
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let deadline = Instant::now() + self.policy.total_delay;
        let mut earlier_certainty = Certainty::Determinate;
        let mut attempts = 0;
        loop {
            let result = attempt().await;
            attempts += 1;
            let error = match result {
                Err(error) if error.kind.is_transient() => error,
                done => return (done, earlier_certainty),
            };
            let delay = self.delay(attempts);
            if attempts >= self.policy.max_attempts || Instant::now() + delay > deadline {
                return (Err(error), earlier_certainty);
            }
            tracing::debug!(attempts, %error, "asking the store again");
            if error.certainty == Certainty::Indeterminate {
                earlier_certainty = Certainty::Indeterminate;
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// A pause drawn evenly from nothing up to a bound that doubles: callers that failed
    /// together do not come back together.
    fn delay(&self, attempts: u32) -> Duration {
        let doubled = self.policy.base_delay.saturating_mul(1 << (attempts - 1).min(16));
        let bound = doubled.min(self.policy.max_delay).as_micros() as u64;
        Duration::from_micros(self.entropy.next_u64() % (bound + 1))
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
