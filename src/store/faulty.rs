//! A decorator that injects faults.
//!
//! # Fault model
//! A call to a store has two independent sides: whether it was *applied*, and what was *reported*
//! ([`Effect`] × [`ReportedOutcome`]):
//!
//! | | success reported | error reported |
//! |---|---|---|
//! | applied | an ordinary call | a lost reply: the error must be indeterminate |
//! | not applied | a false success: violates the port, for checkers that must detect it | a refusal, or a timeout before the request reached the store |
//!
//! A call may also be *late* (before it is applied, or before it is reported) and may *hang* (the
//! caller gets no result; whether the call is applied is chosen). Faults are scripted for each
//! operation and used in order, or persist until they are removed. Objects are never changed or
//! torn, and listings are complete: corruption is tested with the checksums in objects.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::{Certainty, ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};
pub use crate::metrics::StoreOperation;

/// The effect of a call on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The call reaches the store.
    Applied,
    /// The call does not reach the store.
    NotApplied,
}

/// The result that the caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedOutcome {
    /// The store's result. For a call that is not applied: success of a write, and unavailability
    /// for a read.
    Accurate,
    /// This error instead.
    Error(StoreErrorKind, Certainty),
    /// No result: the call never returns.
    Hang,
}

/// The fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The effect on the store.
    pub effect: Effect,
    /// The result that the caller gets.
    pub report: ReportedOutcome,
    /// The time until the call reaches the store.
    pub before: Duration,
    /// The time from there until the result is returned.
    pub after: Duration,
}

impl Fault {
    /// No fault.
    pub const NONE: Self = Self {
        effect: Effect::Applied,
        report: ReportedOutcome::Accurate,
        before: Duration::ZERO,
        after: Duration::ZERO,
    };
    /// The call is applied and its reply is lost.
    pub const REPLY_LOST: Self = Self {
        report: ReportedOutcome::Error(StoreErrorKind::Unavailable, Certainty::Indeterminate),
        ..Self::NONE
    };
    /// The call is not applied, and the error is indeterminate.
    pub const REQUEST_LOST: Self = Self { effect: Effect::NotApplied, ..Self::REPLY_LOST };
    /// The call is not applied, and the error is determinate.
    pub const REFUSED: Self = Self {
        effect: Effect::NotApplied,
        report: ReportedOutcome::Error(StoreErrorKind::Unavailable, Certainty::Determinate),
        ..Self::NONE
    };
    /// The call is not applied, and success is reported. This violates the port.
    pub const FALSE_SUCCESS: Self = Self { effect: Effect::NotApplied, ..Self::NONE };
    /// The call is applied and never returns.
    pub const HANG: Self = Self { report: ReportedOutcome::Hang, ..Self::NONE };

    /// The call is applied after `latency`.
    pub fn slow(latency: Duration) -> Self {
        Self { before: latency, ..Self::NONE }
    }
}

/// A store with injected faults.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    script: Mutex<BTreeMap<StoreOperation, FaultScript>>,
    /// The size above which PUTs are refused.
    put_bytes_max: Mutex<Option<usize>>,
    /// The part of a key whose PUTs are denied.
    denied_key: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct FaultScript {
    scripted: VecDeque<Fault>,
    persistent: Option<Fault>,
    calls: u64,
}

impl FaultyStore {
    /// Creates a store without faults.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self {
            inner,
            script: Mutex::default(),
            put_bytes_max: Mutex::default(),
            denied_key: Mutex::default(),
        }
    }

    /// Scripts faults for the next calls of `operation`, one each, after those already scripted.
    pub fn script(&self, operation: StoreOperation, faults: impl IntoIterator<Item = Fault>) {
        self.scripts().entry(operation).or_default().scripted.extend(faults);
    }

    /// Sets the fault of every call of `operation` without a scripted fault; `None` removes it.
    pub fn set_persistent(&self, operation: StoreOperation, fault: Option<Fault>) {
        self.scripts().entry(operation).or_default().persistent = fault;
    }

    /// Denies PUTs of keys that contain `part`, as a policy does.
    pub fn set_denied_key(&self, part: Option<&str>) {
        *self.denied_key.lock() = part.map(str::to_owned);
    }

    /// Refuses PUTs of more than `bytes` bytes, as a proxy with a limit does.
    pub fn set_put_bytes_max(&self, bytes: Option<usize>) {
        *self.put_bytes_max.lock() = bytes;
    }

    /// Returns the number of calls of `operation`.
    pub fn calls(&self, operation: StoreOperation) -> u64 {
        self.scripts().get(&operation).map_or(0, |script| script.calls)
    }

    fn scripts(&self) -> MutexGuard<'_, BTreeMap<StoreOperation, FaultScript>> {
        self.script.lock()
    }

    fn next_fault(&self, operation: StoreOperation) -> Fault {
        let mut scripts = self.scripts();
        let script = scripts.entry(operation).or_default();
        script.calls += 1;
        script.scripted.pop_front().or(script.persistent).unwrap_or(Fault::NONE)
    }

    async fn with_fault<T>(
        &self,
        operation: StoreOperation,
        key: &str,
        call: impl Future<Output = Result<T, StoreError>>,
        lost: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fault = self.next_fault(operation);
        sleep(fault.before).await;
        let result = match fault.effect {
            Effect::Applied => call.await,
            Effect::NotApplied => lost(),
        };
        sleep(fault.after).await;
        match fault.report {
            ReportedOutcome::Accurate => result,
            ReportedOutcome::Hang => std::future::pending().await,
            ReportedOutcome::Error(kind, certainty) => {
                let (operation, detail) = (operation.name(), "a fault was injected".to_owned());
                Err(StoreError { kind, certainty, operation, key: key.to_owned(), detail })
            }
        }
    }
}

/// Sleeps without yielding if the duration is zero.
async fn sleep(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

fn lost_read<T>(operation: StoreOperation, key: &str) -> Result<T, StoreError> {
    let kind = StoreErrorKind::Unavailable;
    Err(StoreError::determinate(kind, operation.name(), key, "a read was lost"))
}

#[async_trait]
impl Store for FaultyStore {
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError> {
        let bytes: usize = body.iter().map(Bytes::len).sum();
        let is_too_large = self.put_bytes_max.lock().is_some_and(|max| bytes > max);
        let is_denied = self.denied_key.lock().as_ref().is_some_and(|part| key.contains(part));
        let put = async {
            if is_denied {
                let kind = StoreErrorKind::Denied;
                return Err(StoreError::determinate(kind, "put", key, "AccessDenied (HTTP 403)"));
            }
            if is_too_large {
                let detail = format!("{bytes} bytes are too many");
                let kind = StoreErrorKind::TooLarge;
                return Err(StoreError::determinate(kind, "put", key, detail));
            }
            self.inner.put(key, body, mode).await
        };
        self.with_fault(StoreOperation::put, key, put, || Ok(())).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.with_fault(StoreOperation::get, key, self.inner.get(key, range), || {
            lost_read(StoreOperation::get, key)
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        self.with_fault(StoreOperation::head, key, self.inner.head(key), || {
            lost_read(StoreOperation::head, key)
        })
        .await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let call = self.inner.list(prefix, after, limit);
        self.with_fault(StoreOperation::list, prefix, call, || {
            lost_read(StoreOperation::list, prefix)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.with_fault(StoreOperation::delete, key, self.inner.delete(key), || Ok(())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;
    use crate::store::memory::MemoryStore;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn conforms_while_it_has_no_faults() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        conformance::run(&(Arc::new(store) as Arc<dyn Store>)).await;
    }

    /// Effect × report, and latency.
    #[tokio::test(start_paused = true)]
    async fn effect_and_report_vary_independently() {
        let rows = [
            (Fault::NONE, true, None),
            (Fault::REPLY_LOST, true, Some(Certainty::Indeterminate)),
            (Fault::FALSE_SUCCESS, false, None),
            (Fault::REQUEST_LOST, false, Some(Certainty::Indeterminate)),
            (Fault::REFUSED, false, Some(Certainty::Determinate)),
            (Fault::slow(Duration::from_secs(3)), true, None),
        ];
        for (fault, is_applied, reported) in rows {
            let memory = Arc::new(MemoryStore::new());
            let store = FaultyStore::new(Arc::clone(&memory) as Arc<dyn Store>);
            store.script(StoreOperation::put, [fault]);
            let start = tokio::time::Instant::now();
            let put = store.put("a", vec![Bytes::from_static(b"x")], PutMode::Create).await;
            assert_eq!(start.elapsed(), fault.before, "{fault:?}");
            assert_eq!(put.err().map(|error| error.certainty), reported, "{fault:?}");
            assert_eq!(memory.head("a").await.is_ok(), is_applied, "{fault:?}");
            store
                .put("b", Vec::new(), PutMode::Create)
                .await
                .expect("all scripted faults are used");
            assert_eq!(store.calls(StoreOperation::put), 2);
        }
    }

    #[tokio::test]
    async fn a_persistent_fault_stays_until_it_is_removed() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.set_persistent(StoreOperation::get, Some(Fault::FALSE_SUCCESS));
        for _ in 0..3 {
            let error = store.get("a", None).await.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Unavailable, "a lost read reports an error");
        }
        store.set_persistent(StoreOperation::get, None);
        assert_eq!(store.get("a", None).await.unwrap_err().kind, StoreErrorKind::NotFound);
    }
}
