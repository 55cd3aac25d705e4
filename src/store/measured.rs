//! A decorator that counts calls. It wraps the adapter below the retrying decorator, so that every
//! attempt is counted, as the store charges it.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};
use crate::metrics::{Metrics, MonitoredOperation, StoreOperation, StoreOutcome};

/// A store whose calls are counted.
#[derive(Debug)]
pub struct MeasuredStore {
    inner: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl MeasuredStore {
    /// Counts the calls to `inner`.
    pub fn new(inner: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    async fn call<T>(
        &self,
        operation: StoreOperation,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut measured_call = MeasuredCall {
            metrics: &self.metrics,
            operation,
            started: Instant::now(),
            outcome: None,
        };
        let result = call.await;
        measured_call.outcome =
            Some(result.as_ref().map_or_else(|error| outcome(error.kind), |_| StoreOutcome::ok));
        if result.is_ok() {
            match operation {
                StoreOperation::put => {
                    self.metrics.last_successes.record(MonitoredOperation::store_put)
                }
                StoreOperation::get => {
                    self.metrics.last_successes.record(MonitoredOperation::store_get)
                }
                StoreOperation::head | StoreOperation::list | StoreOperation::delete => {}
            }
        }
        result
    }
}

fn outcome(kind: StoreErrorKind) -> StoreOutcome {
    match kind {
        StoreErrorKind::NotFound => StoreOutcome::not_found,
        StoreErrorKind::AlreadyExists => StoreOutcome::exists,
        StoreErrorKind::InvalidRange => StoreOutcome::invalid_range,
        StoreErrorKind::Denied => StoreOutcome::denied,
        StoreErrorKind::TooLarge => StoreOutcome::too_large,
        StoreErrorKind::Corrupt | StoreErrorKind::UnsupportedFormat => StoreOutcome::corrupt,
        StoreErrorKind::Unavailable => StoreOutcome::unavailable,
        StoreErrorKind::SlowDown => StoreOutcome::slow_down,
    }
}

/// Counts a call when it ends, or when it is dropped before that.
struct MeasuredCall<'a> {
    metrics: &'a Metrics,
    operation: StoreOperation,
    started: Instant,
    outcome: Option<StoreOutcome>,
}

impl Drop for MeasuredCall<'_> {
    fn drop(&mut self) {
        let elapsed = self.outcome.map(|_| self.started.elapsed());
        self.metrics.store.record(
            self.operation,
            self.outcome.unwrap_or(StoreOutcome::cancelled),
            elapsed,
        );
    }
}

#[async_trait]
impl Store for MeasuredStore {
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError> {
        let bytes = body.iter().map(|chunk| chunk.len() as u64).sum();
        self.metrics.store.record_bytes(StoreOperation::put, bytes);
        self.call(StoreOperation::put, self.inner.put(key, body, mode)).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let got = self.call(StoreOperation::get, self.inner.get(key, range)).await?;
        self.metrics.store.record_bytes(StoreOperation::get, got.len() as u64);
        Ok(got)
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        self.call(StoreOperation::head, self.inner.head(key)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        self.call(StoreOperation::list, self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.call(StoreOperation::delete, self.inner.delete(key)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn conforms() {
        let store = MeasuredStore::new(Arc::new(MemoryStore::new()), Arc::default());
        crate::store::conformance::run(&(Arc::new(store) as Arc<dyn Store>)).await;
    }

    #[tokio::test]
    async fn calls_are_counted_by_outcome() {
        let metrics = Arc::new(Metrics::default());
        let store = MeasuredStore::new(Arc::new(MemoryStore::new()), Arc::clone(&metrics));
        let body = || vec![Bytes::from_static(b"four"), Bytes::from_static(b"more")];
        store.put("a/b", body(), PutMode::Create).await.unwrap();
        store.put("a/b", body(), PutMode::Create).await.unwrap_err();
        store.get("a/b", Some(0..3)).await.unwrap();
        store.get("a/c", None).await.unwrap_err();
        drop(store.get("a/b", None));
        let count = |operation, outcome| metrics.store.count(operation, outcome);
        assert_eq!(count(StoreOperation::put, StoreOutcome::ok), 1);
        assert_eq!(count(StoreOperation::put, StoreOutcome::exists), 1);
        assert_eq!(count(StoreOperation::get, StoreOutcome::not_found), 1);
        assert_eq!(metrics.store.total(StoreOperation::get), 2, "one was never polled");
        let text = metrics.text();
        assert!(text.contains("odradek_store_bytes_total{operation=\"put\"} 16\n"), "{text}");
        assert!(text.contains("odradek_store_bytes_total{operation=\"get\"} 3\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_call_is_counted() {
        let metrics = Arc::new(Metrics::default());
        let store = MeasuredStore::new(Arc::new(MemoryStore::new()), Arc::clone(&metrics));
        let call =
            store.call(StoreOperation::get, std::future::pending::<Result<(), StoreError>>());
        let timed_out = tokio::time::timeout(std::time::Duration::from_secs(1), call).await;
        assert!(timed_out.is_err());
        assert_eq!(metrics.store.count(StoreOperation::get, StoreOutcome::cancelled), 1);
    }
}
