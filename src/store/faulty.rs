//! A decorator that fails on demand.
//!
//! # Fault model
//! A call to a store has two sides: whether it *happened*, and what was *reported*. Both vary
//! freely ([`Effect`] × [`Report`]):
//!
//! | | reported well | reported an error |
//! |---|---|---|
//! | happened | an ordinary call | a lost reply: the error must be in doubt |
//! | did not happen | a lying store: breaks the port, for checkers that must notice | a refusal, or a timeout before the store heard of it |
//!
//! On top of it a call may be *late* (before it happens, or before it is reported) and may *hang*
//! (the caller never hears; whether it happened is chosen). Faults are scripted per verb, first
//! come first served, or stand until lifted. Objects are never changed or torn, listings are
//! complete: a store that corrupts bytes is what checksums in objects are for, and is tested there.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::{Certainty, ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};

/// A verb of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreOperation {
    /// [`Store::put`].
    Put,
    /// [`Store::get`].
    Get,
    /// [`Store::head`].
    Head,
    /// [`Store::list`].
    List,
    /// [`Store::delete`].
    Delete,
}

impl StoreOperation {
    /// As errors name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// Whether a call reaches the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Applied,
    /// It does not.
    NotApplied,
}

/// What the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// What the store said; of a write that was lost, that it went well; of a read that was lost,
    /// that the store is unavailable.
    Accurate,
    /// This error instead.
    Error(StoreErrorKind, Certainty),
    /// Nothing, ever.
    Hang,
}

/// What one call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether it reaches the store.
    pub effect: Effect,
    /// What the caller is told.
    pub report: Report,
    /// How long it takes to reach the store.
    pub before: Duration,
    /// How long the answer takes from there.
    pub after: Duration,
}

impl Fault {
    /// No fault at all.
    pub const NONE: Self = Self {
        effect: Effect::Applied,
        report: Report::Accurate,
        before: Duration::ZERO,
        after: Duration::ZERO,
    };
    /// It happens and the answer is lost.
    pub const REPLY_LOST: Self = Self {
        report: Report::Error(StoreErrorKind::Unavailable, Certainty::Indeterminate),
        ..Self::NONE
    };
    /// It does not happen, but nobody can tell.
    pub const REQUEST_LOST: Self = Self { effect: Effect::NotApplied, ..Self::REPLY_LOST };
    /// It does not happen, and the error says so.
    pub const REFUSED: Self = Self {
        effect: Effect::NotApplied,
        report: Report::Error(StoreErrorKind::Unavailable, Certainty::Determinate),
        ..Self::NONE
    };
    /// It does not happen and is said to have gone well: no store may do this.
    pub const FALSE_SUCCESS: Self = Self { effect: Effect::NotApplied, ..Self::NONE };
    /// It happens and the caller waits for ever.
    pub const HANG: Self = Self { report: Report::Hang, ..Self::NONE };

    /// Late: it happens after `latency`.
    pub fn slow(latency: Duration) -> Self {
        Self { before: latency, ..Self::NONE }
    }
}

/// A store that fails as told.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    script: Mutex<BTreeMap<StoreOperation, Script>>,
}

#[derive(Debug, Default)]
struct Script {
    scripted: VecDeque<Fault>,
    persistent: Option<Fault>,
    calls: u64,
}

impl FaultyStore {
    /// A store without faults as yet.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, script: Mutex::default() }
    }

    /// The next calls of `operation` meet these faults, one each, after those scripted before.
    pub fn script(&self, operation: StoreOperation, faults: impl IntoIterator<Item = Fault>) {
        self.scripts().entry(operation).or_default().scripted.extend(faults);
    }

    /// Every call of `operation` that has no scripted fault meets this one, until it is lifted.
    pub fn set_persistent(&self, operation: StoreOperation, fault: Option<Fault>) {
        self.scripts().entry(operation).or_default().persistent = fault;
    }

    /// How often `operation` was called.
    pub fn calls(&self, operation: StoreOperation) -> u64 {
        self.scripts().get(&operation).map_or(0, |script| script.calls)
    }

    fn scripts(&self) -> MutexGuard<'_, BTreeMap<StoreOperation, Script>> {
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
        let accurate = match fault.effect {
            Effect::Applied => call.await,
            Effect::NotApplied => lost(),
        };
        sleep(fault.after).await;
        match fault.report {
            Report::Accurate => accurate,
            Report::Hang => std::future::pending().await,
            Report::Error(kind, certainty) => {
                let (operation, detail) = (operation.name(), "a fault was injected".to_owned());
                Err(StoreError { kind, certainty, operation, key: key.to_owned(), detail })
            }
        }
    }
}

/// Not even a yield when there is nothing to wait for.
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
        self.with_fault(StoreOperation::Put, key, self.inner.put(key, body, mode), || Ok(())).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.with_fault(StoreOperation::Get, key, self.inner.get(key, range), || {
            lost_read(StoreOperation::Get, key)
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        self.with_fault(StoreOperation::Head, key, self.inner.head(key), || {
            lost_read(StoreOperation::Head, key)
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
        self.with_fault(StoreOperation::List, prefix, call, || {
            lost_read(StoreOperation::List, prefix)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.with_fault(StoreOperation::Delete, key, self.inner.delete(key), || Ok(())).await
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

    /// Happened × reported, and how late.
    #[tokio::test(start_paused = true)]
    async fn both_sides_of_a_call_vary_freely() {
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
            store.script(StoreOperation::Put, [fault]);
            let start = tokio::time::Instant::now();
            let put = store.put("a", vec![Bytes::from_static(b"x")], PutMode::Create).await;
            assert_eq!(start.elapsed(), fault.before, "{fault:?}");
            assert_eq!(put.err().map(|error| error.certainty), reported, "{fault:?}");
            assert_eq!(memory.head("a").await.is_ok(), is_applied, "{fault:?}");
            store.put("b", Vec::new(), PutMode::Create).await.expect("the script is at its end");
            assert_eq!(store.calls(StoreOperation::Put), 2);
        }
    }

    #[tokio::test]
    async fn a_standing_fault_stays_until_it_is_lifted() {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.set_persistent(StoreOperation::Get, Some(Fault::FALSE_SUCCESS));
        for _ in 0..3 {
            let error = store.get("a", None).await.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::Unavailable, "a lost read tells no lies");
        }
        store.set_persistent(StoreOperation::Get, None);
        assert_eq!(store.get("a", None).await.unwrap_err().kind, StoreErrorKind::NotFound);
    }
}
