//! Uploads: side by side, each with deadlines, repeated until they succeed, and hedged when late.
//!
//! An object is never given up, because whether a PUT that failed has happened cannot be known,
//! and the order of what follows depends on it (`docs/adr/0006-uploads-are-never-given-up.md`).
//! All PUTs of an object write the same bytes to the same key, so it does not matter which one of
//! them lands, nor when, nor how often.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::ProduceSettings;
use super::latency::PutLatency;
use super::rate_limit::{PutRateLimiter, UploadWindow};
use crate::engine::Components;
use crate::log::ids::ObjectId;
use crate::log::object_format::wal_key;
use crate::metrics::Metrics;
use crate::store::{PutMode, StoreError, StoreErrorKind};

/// When a PUT is late while nobody knows yet what is usual.
const LATE_AT_FIRST: Duration = Duration::from_millis(500);
/// A PUT is never called late earlier than this.
const LATE_MIN: Duration = Duration::from_millis(10);
/// The deadline of an attempt is so many times what is late, within the bounds of the settings …
const DEADLINE_FACTOR: u32 = 10;
/// … and so much more for each MiB, for thin links.
const DEADLINE_PER_MIB: Duration = Duration::from_secs(1);
/// Hedges are at most one for twenty uploads in the long run: a store that is slow as a whole is
/// not helped by twice the load.
const HEDGES_PER_UPLOAD: f64 = 0.05;

/// How uploads are made.
#[derive(Clone, Debug)]
pub struct UploadSettings {
    /// Objects that may be uploading at once.
    pub parallel_max: usize,
    /// Late PUTs in a row that get a second one beside them.
    pub hedges_burst: u32,
    /// The bounds of the deadline after which a PUT is begun anew.
    pub deadline: RangeInclusive<Duration>,
}

impl UploadSettings {
    /// What serves: 32 uploads, 10 hedges, 5 to 30 s.
    pub const STANDARD: Self = Self {
        parallel_max: 32,
        hedges_burst: 10,
        deadline: Duration::from_secs(5)..=Duration::from_secs(30),
    };
}

#[derive(Debug)]
struct UploadState {
    latency: PutLatency,
    window: UploadWindow,
    rate_limit: PutRateLimiter,
    hedges: f64,
}

/// Uploads objects; shared by all uploads of a replica.
#[derive(Debug)]
pub(crate) struct Uploader {
    components: Components,
    settings: UploadSettings,
    metrics: Arc<Metrics>,
    state: Mutex<UploadState>,
}

impl Uploader {
    pub(crate) fn new(
        components: Components,
        settings: &ProduceSettings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let state = UploadState {
            latency: PutLatency::default(),
            window: UploadWindow::new(settings.upload.parallel_max),
            rate_limit: PutRateLimiter::new(settings.puts_per_second_max, Instant::now()),
            hedges: settings.upload.hedges_burst.into(),
        };
        let settings = settings.upload.clone();
        Self { components, settings, metrics, state: Mutex::new(state) }
    }

    /// How many uploads may run side by side now.
    pub(crate) fn window(&self) -> usize {
        self.state().window.uploads()
    }

    /// When the next object may be begun without breaking the cap of PUTs.
    pub(crate) fn next_put(&self, now: Instant) -> Instant {
        self.state().rate_limit.next(now)
    }

    /// So many PUTs may be begun in a second from now on.
    pub(crate) fn cap(&self, per_second: Option<f64>) {
        self.state().rate_limit.cap(per_second, Instant::now());
    }

    /// How long a PUT usually takes.
    pub(crate) fn usual(&self) -> Duration {
        self.state().latency.usual().unwrap_or(LATE_AT_FIRST)
    }

    /// The same; nothing while nobody knows.
    pub(crate) fn usual_if_known(&self) -> Duration {
        self.state().latency.usual().unwrap_or_default()
    }

    /// Returns once the object is durable.
    pub(crate) async fn upload(&self, id: ObjectId, bytes: &Bytes) {
        let key = wal_key(id);
        let mut delays = self.components.retry_delays();
        for attempt in 0_u32.. {
            match self.attempt(&key, bytes).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(object = %id, attempt, %error, "upload failed; repeating it");
                    self.metrics.produce.put_errors.inc();
                    if error.kind == StoreErrorKind::SlowDown {
                        self.metrics.produce.put_slow_downs.inc();
                        self.state().window.slow_down(Instant::now());
                    }
                    delays.wait().await;
                }
            }
        }
        let mut state = self.state();
        state.window.succeeded();
        state.hedges = (state.hedges + HEDGES_PER_UPLOAD).min(self.settings.hedges_burst.into());
    }

    /// One PUT, and a second one beside it when the first is late; the first to succeed counts.
    async fn attempt(&self, key: &str, bytes: &Bytes) -> Result<(), StoreError> {
        let begun = Instant::now();
        let late = self.state().latency.late().unwrap_or(LATE_AT_FIRST).max(LATE_MIN);
        let deadline = self.deadline(late, bytes.len());
        let puts = async {
            let mut first = pin!(self.put(key, bytes));
            match tokio::time::timeout(late, &mut first).await {
                Ok(done) => return done,
                Err(_late) if !self.take_hedge() => return first.await,
                Err(_late) => {}
            }
            let second = pin!(self.put(key, bytes));
            match select(first, second).await {
                Either::Left((Ok(()), _)) | Either::Right((Ok(()), _)) => Ok(()),
                Either::Left((Err(_), second)) => second.await,
                Either::Right((Err(_), first)) => first.await,
            }
        };
        let done = tokio::time::timeout(deadline, puts).await.unwrap_or_else(|_| {
            let detail = format!("no answer within {} ms", deadline.as_millis());
            Err(StoreError::indeterminate("put", key, detail))
        });
        if done.is_ok() {
            // A hedge's own time would hide that the first PUT was late.
            let took = begun.elapsed();
            self.metrics.produce.put_seconds.observe(took);
            self.state().latency.note(took);
        }
        done
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> Result<(), StoreError> {
        self.state().rate_limit.spend(Instant::now());
        self.metrics.produce.puts.inc();
        self.components.uploads.put(key, vec![bytes.clone()], PutMode::Overwrite).await
    }

    fn deadline(&self, late: Duration, bytes: usize) -> Duration {
        let (least, most) = (*self.settings.deadline.start(), *self.settings.deadline.end());
        let per_size = DEADLINE_PER_MIB.mul_f64(bytes as f64 / f64::from(1 << 20));
        (late * DEADLINE_FACTOR).clamp(least, most) + per_size
    }

    fn take_hedge(&self) -> bool {
        let mut state = self.state();
        let may = state.hedges >= 1.0 && state.window.is_calm(Instant::now());
        if may {
            state.hedges -= 1.0;
            self.metrics.produce.hedges.inc();
        }
        may
    }

    fn state(&self) -> MutexGuard<'_, UploadState> {
        self.state.lock()
    }
}
