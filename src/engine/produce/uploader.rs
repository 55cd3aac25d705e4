//! Uploads objects in parallel, with a deadline per attempt, retries without end and hedges.
//!
//! An upload is not given up while it is unknown whether a failed PUT was applied (ADR 6): the order
//! of the batches that follow depends on it. All PUTs of an object write the same bytes to the same
//! key, so it does not matter which of them is applied, when, or how often. An object that the store
//! refuses for its size, or for another reason that lasts, is reported ([`super::refusal`]).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::rate_limit::{PutRateLimiter, UploadWindow};
use super::refusal::{LastRefusal, Refusals, UploadRefusal};
use super::settings::UploadSettings;
use crate::coordinator::CommitOrder;
use crate::engine::Components;
use crate::engine::latency::Latency;
use crate::log::ids::ObjectId;
use crate::log::object_format::wal_key;
use crate::metrics::Metrics;
use crate::store::{Certainty, PutMode, StoreError, StoreErrorKind};

/// Assumed latency of PUTs until it is measured.
const LATENCY_DEFAULT: Duration = Duration::from_millis(500);
/// PUTs that start within the median latency of one: more reduce the wait of a batch by less, at
/// the same cost each.
const OVERLAP: u32 = 2;
/// Lower bound of the time between overlapping PUTs, because a batch that waits for a fast store
/// waits for a short time.
const SPACING_MIN: Duration = Duration::from_millis(25);
/// Lower bound of the time after which a PUT is hedged.
const HEDGE_AFTER_MIN: Duration = Duration::from_millis(10);
/// The deadline of an attempt is this multiple of the 99th percentile, within the bounds of the
/// settings …
const DEADLINE_FACTOR: u32 = 10;
/// … plus this much per MiB, for slow links.
const DEADLINE_PER_MIB: Duration = Duration::from_secs(1);
/// Long-term limit of hedges per upload: a store that is slow as a whole is not helped by twice the
/// load.
const HEDGES_PER_UPLOAD: f64 = 0.05;

#[derive(Debug)]
struct UploadState {
    latency: Latency,
    window: UploadWindow,
    rate_limit: PutRateLimiter,
    /// Token bucket of hedges.
    hedges: f64,
}

/// Uploads the objects of a replica.
#[derive(Debug)]
pub(super) struct Uploader {
    components: Components,
    settings: UploadSettings,
    metrics: Arc<Metrics>,
    state: Mutex<UploadState>,
    order: CommitOrder,
    last_refusal: LastRefusal,
}

impl Uploader {
    pub(super) fn new(
        components: Components,
        settings: UploadSettings,
        puts_per_second_max: Option<f64>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let state = UploadState {
            latency: Latency::default(),
            window: UploadWindow::new(settings.parallel_max),
            rate_limit: PutRateLimiter::new(puts_per_second_max, Instant::now()),
            hedges: settings.hedges_burst.into(),
        };
        let order = components.coordinator.commit_order();
        let (state, last_refusal) = (Mutex::new(state), LastRefusal::default());
        Self { components, settings, metrics, state, order, last_refusal }
    }

    /// Returns how many uploads may run at once now.
    pub(super) fn window(&self) -> usize {
        self.state.lock().window.size()
    }

    /// Returns the time at which the rate limit admits the next object.
    pub(super) fn next_put_at(&self, now: Instant) -> Instant {
        self.state.lock().rate_limit.next_put_at(now)
    }

    /// Changes the limit of PUTs per second.
    pub(super) fn set_put_rate(&self, per_second: Option<f64>) {
        self.state.lock().rate_limit.set_rate(per_second, Instant::now());
    }

    /// Returns the time from the start of a PUT that is under way to the start of the next one.
    pub(super) fn upload_spacing(&self) -> Duration {
        let median = self.state.lock().latency.median();
        median.map_or(LATENCY_DEFAULT, |median| (median / OVERLAP).max(SPACING_MIN).min(median))
    }

    /// Returns the median latency of PUTs, or zero until it is measured.
    pub(super) fn measured_median_latency(&self) -> Duration {
        self.state.lock().latency.median().unwrap_or_default()
    }

    /// Returns why the store refuses objects, if it has done so recently and accepted none since.
    pub(super) fn refusal(&self) -> Option<String> {
        self.last_refusal.reason(Instant::now())
    }

    /// Uploads an object, and returns once it is durable. An object without batches does not show
    /// that the store accepts those of clients again.
    ///
    /// # Errors
    /// [`UploadRefusal`] if the store does not have the object and refuses it. With
    /// [`CommitOrder::ByObject`] only for its size, because no object can be left out.
    pub(super) async fn upload(
        &self,
        id: ObjectId,
        bytes: &Bytes,
        has_batches: bool,
    ) -> Result<(), UploadRefusal> {
        let key = wal_key(id);
        let mut delays = self.components.retry_delays();
        let mut refusals = Refusals::new(self.order);
        for attempt in 0_u32.. {
            let Err(error) = self.attempt(&key, bytes).await else { break };
            tracing::warn!(object = %id, attempt, %error, "upload failed");
            self.record_failure(&error);
            let refusal = refusals.record(&error, Instant::now());
            if refusals.is_lasting(Instant::now()) {
                self.last_refusal.set(&error, Instant::now());
            }
            if let Some(refusal) = refusal {
                // An attempt whose outcome is unknown may have been applied.
                let is_stored = match refusals.is_certain() {
                    true => Some(false),
                    false => self.is_stored(&key, bytes).await,
                };
                match is_stored {
                    Some(true) => break,
                    Some(false) => return Err(refusal),
                    None if refusals.is_beyond_doubt(Instant::now()) => {
                        tracing::error!(object = %id, "refused for long; it is unknown whether an earlier attempt was applied");
                        return Err(refusal);
                    }
                    None => {}
                }
            }
            delays.wait().await;
        }
        if has_batches {
            self.last_refusal.clear();
        }
        let mut state = self.state.lock();
        state.window.record_success();
        state.hedges = (state.hedges + HEDGES_PER_UPLOAD).min(self.settings.hedges_burst.into());
        Ok(())
    }

    fn record_failure(&self, error: &StoreError) {
        self.metrics.produce.put_errors.inc();
        if error.kind == StoreErrorKind::SlowDown {
            self.metrics.produce.put_slow_downs.inc();
            self.state.lock().window.record_throttling(Instant::now());
        }
    }

    /// Returns whether the store has an object; `None` if that is unknown.
    async fn is_stored(&self, key: &str, bytes: &Bytes) -> Option<bool> {
        let store = &self.components.store;
        let found = match self.order {
            // No other process has the key.
            CommitOrder::Independent => store.head(key).await.map(|n| n == bytes.len() as u64),
            CommitOrder::ByObject => store.get(key, None).await.map(|stored| stored == *bytes),
        };
        match found {
            Ok(true) => Some(true),
            Err(error) if error.kind == StoreErrorKind::NotFound => Some(false),
            // S3 answers HEAD of a key that does not exist with 403 unless listing is permitted.
            Err(error)
                if error.kind == StoreErrorKind::Denied
                    && self.order == CommitOrder::Independent =>
            {
                let listed = store.list(key, None, 1).await.ok()?;
                Some(listed.iter().any(|object| object.key == key))
            }
            Ok(false) | Err(_) => None,
        }
    }

    /// Makes one PUT, and a second one in parallel if the first exceeds the 99th percentile. The
    /// first to succeed completes the attempt.
    async fn attempt(&self, key: &str, bytes: &Bytes) -> Result<(), StoreError> {
        let started = Instant::now();
        let hedge_after =
            self.state.lock().latency.p99().unwrap_or(LATENCY_DEFAULT).max(HEDGE_AFTER_MIN);
        let deadline = self.deadline(hedge_after, bytes.len());
        let puts = async {
            let mut first = pin!(self.put(key, bytes));
            match tokio::time::timeout(hedge_after, &mut first).await {
                Ok(done) => return done,
                Err(_elapsed) if !self.take_hedge() => return first.await,
                Err(_elapsed) => {}
            }
            let second = pin!(self.put(key, bytes));
            match select(first, second).await {
                Either::Left((Ok(()), _)) | Either::Right((Ok(()), _)) => Ok(()),
                Either::Left((Err(error), second)) => either(&error, second.await),
                Either::Right((Err(error), first)) => either(&error, first.await),
            }
        };
        let done = tokio::time::timeout(deadline, puts).await.unwrap_or_else(|_| {
            let detail = format!("no response within {} ms", deadline.as_millis());
            Err(StoreError::indeterminate("put", key, detail))
        });
        if done.is_ok() {
            // Measured from the first PUT: a hedge's own latency would hide that the first was slow.
            let elapsed = started.elapsed();
            self.metrics.produce.put_seconds.observe(elapsed);
            self.state.lock().latency.record(elapsed);
        }
        done
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> Result<(), StoreError> {
        self.state.lock().rate_limit.take(Instant::now());
        self.metrics.produce.puts.inc();
        let uploads = &self.components.uploads;
        match self.components.coordinator.commit_order() {
            CommitOrder::Independent => {
                uploads.put(key, vec![bytes.clone()], PutMode::Overwrite).await
            }
            CommitOrder::ByObject => {
                let put = uploads.put(key, vec![bytes.clone()], PutMode::Create).await;
                match put {
                    Err(error) if error.kind == StoreErrorKind::AlreadyExists => {
                        self.compare(key, bytes, error).await
                    }
                    put => put,
                }
            }
        }
    }

    /// Returns whether the object that exists under the key is this one, which an earlier PUT
    /// created. Any other one is that of a process that took over the store: this process can
    /// store and acknowledge nothing more.
    async fn compare(&self, key: &str, bytes: &Bytes, error: StoreError) -> Result<(), StoreError> {
        if self.components.store.get(key, None).await? == *bytes {
            return Ok(());
        }
        tracing::error!(
            key,
            "another process has taken over the store; nothing more is acknowledged"
        );
        Err(error)
    }

    fn deadline(&self, p99: Duration, bytes: usize) -> Duration {
        let (min, max) = (*self.settings.deadline.start(), *self.settings.deadline.end());
        let for_size = DEADLINE_PER_MIB.mul_f64(bytes as f64 / f64::from(1 << 20));
        (p99 * DEADLINE_FACTOR).clamp(min, max) + for_size
    }

    /// Takes a token for a hedge, and returns whether there was one.
    fn take_hedge(&self) -> bool {
        let mut state = self.state.lock();
        let may_hedge = state.hedges >= 1.0 && state.window.may_hedge(Instant::now());
        if may_hedge {
            state.hedges -= 1.0;
            self.metrics.produce.hedges.inc();
        }
        may_hedge
    }
}

/// Returns the result of two PUTs of which the first to end failed: a failure is certain only if
/// both are.
fn either(first: &StoreError, second: Result<(), StoreError>) -> Result<(), StoreError> {
    second.map_err(|error| match first.certainty {
        Certainty::Indeterminate => StoreError { certainty: Certainty::Indeterminate, ..error },
        Certainty::Determinate => error,
    })
}
