//! GETs with deadlines and hedges: a request that hangs delays the readers of its object little.

use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, select};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::source::{ObjectSource, read_error};
use crate::engine::latency::Latency;
use crate::log::ids::ObjectId;
use crate::store::{StoreError, StoreErrorKind};

/// Assumed latency of GETs until it is measured.
const LATENCY_DEFAULT: Duration = Duration::from_millis(500);
/// Lower bound of the time after which a GET is hedged.
const HEDGE_AFTER_MIN: Duration = Duration::from_millis(10);
/// The deadline of a GET is this multiple of the 99th percentile …
const DEADLINE_FACTOR: u32 = 10;
/// … within these bounds. The upper one admits a block of 16 MiB over a slow link.
const DEADLINE_MIN: Duration = Duration::from_secs(2);
const DEADLINE_MAX: Duration = Duration::from_secs(10);
/// GETs of one read, hedges not counted. Later ones start when an earlier one is late.
const ATTEMPTS_MAX: u32 = 3;
/// Hedges that may follow each other.
const HEDGES_BURST: f64 = 4.0;
/// Long-term limit of hedges per GET: a store that is slow as a whole is not helped by twice the
/// load.
const HEDGES_PER_GET: f64 = 0.05;

/// A source whose reads are hedged by a second one if they are later than usual, and replaced if
/// they are late. Latencies are those of whole reads, so a source is used for blocks of similar
/// sizes.
#[derive(Debug)]
pub struct HedgedSource {
    inner: Arc<dyn ObjectSource>,
    state: Mutex<HedgeState>,
}

#[derive(Debug)]
struct HedgeState {
    latency: Latency,
    /// Token bucket of hedges.
    hedges: f64,
}

impl HedgedSource {
    /// Decorates a source.
    pub fn new(inner: Arc<dyn ObjectSource>) -> Self {
        let state = HedgeState { latency: Latency::default(), hedges: HEDGES_BURST };
        Self { inner, state: Mutex::new(state) }
    }

    /// Makes one GET, and a second one in parallel if the first exceeds the 99th percentile. The
    /// first to succeed completes the attempt.
    async fn attempt(
        &self,
        object: ObjectId,
        range: &Range<u64>,
        hedge_after: Duration,
    ) -> Result<Bytes, StoreError> {
        let mut first = pin!(self.inner.read(object, range.clone()));
        match timeout(hedge_after, &mut first).await {
            Ok(done) => return done,
            Err(_elapsed) if !self.take_hedge() => return first.await,
            Err(_elapsed) => {}
        }
        let second = pin!(self.inner.read(object, range.clone()));
        match select(first, second).await {
            Either::Left((Ok(bytes), _)) | Either::Right((Ok(bytes), _)) => Ok(bytes),
            Either::Left((Err(_), second)) => second.await,
            Either::Right((Err(_), first)) => first.await,
        }
    }

    /// Takes a token for a hedge, and returns whether there was one.
    fn take_hedge(&self) -> bool {
        let mut state = self.state.lock();
        let may_hedge = state.hedges >= 1.0;
        if may_hedge {
            state.hedges -= 1.0;
        }
        may_hedge
    }

    fn record(&self, elapsed: Duration) {
        let mut state = self.state.lock();
        state.latency.record(elapsed);
        state.hedges = (state.hedges + HEDGES_PER_GET).min(HEDGES_BURST);
    }
}

#[async_trait]
impl ObjectSource for HedgedSource {
    fn is_local_owner(&self, object: ObjectId) -> bool {
        self.inner.is_local_owner(object)
    }

    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        let p99 = self.state.lock().latency.p99().unwrap_or(LATENCY_DEFAULT);
        let hedge_after = p99.max(HEDGE_AFTER_MIN);
        let mut deadline = (p99 * DEADLINE_FACTOR).clamp(DEADLINE_MIN, DEADLINE_MAX);
        let started = Instant::now();
        for _attempt in 0..ATTEMPTS_MAX {
            let attempt = self.attempt(object, &range, hedge_after);
            match timeout(deadline, attempt).await {
                Ok(Ok(bytes)) => {
                    // Measured from the first GET: that of a hedge would hide that it was slow.
                    self.record(started.elapsed());
                    return Ok(bytes);
                }
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => deadline = (deadline * 2).min(DEADLINE_MAX),
            }
        }
        let detail = format!("no response to {ATTEMPTS_MAX} requests");
        Err(read_error(StoreErrorKind::Unavailable, object, detail))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures::FutureExt as _;
    use futures::future::join_all;

    use super::*;

    /// Takes the scripted time for each GET, then the usual one.
    #[derive(Debug)]
    struct SlowSource {
        script: Mutex<VecDeque<Duration>>,
        usual: Mutex<Duration>,
        gets: Mutex<u32>,
    }

    const FOREVER: Duration = Duration::from_secs(86_400);
    const OBJECT: ObjectId = ObjectId { incarnation: 1, process_id: 1, sequence: 1 };

    #[async_trait]
    impl ObjectSource for SlowSource {
        async fn read(&self, _: ObjectId, _: Range<u64>) -> Result<Bytes, StoreError> {
            *self.gets.lock() += 1;
            let time = self.script.lock().pop_front().unwrap_or_else(|| *self.usual.lock());
            tokio::time::sleep(time).await;
            Ok(Bytes::from_static(b"x"))
        }
    }

    /// A source whose latency is known to be 20 ms.
    async fn measured() -> (Arc<SlowSource>, HedgedSource) {
        let (script, usual) = (Mutex::default(), Mutex::new(Duration::from_millis(20)));
        let inner = Arc::new(SlowSource { script, usual, gets: Mutex::default() });
        let source = HedgedSource::new(Arc::clone(&inner) as Arc<dyn ObjectSource>);
        for _ in 0..100 {
            source.read(OBJECT, 0..1).await.unwrap();
        }
        assert_eq!(std::mem::take(&mut *inner.gets.lock()), 100);
        (inner, source)
    }

    #[tokio::test(start_paused = true)]
    async fn get_that_hangs_once_is_hedged() {
        let (inner, source) = measured().await;
        inner.script.lock().push_back(FOREVER);
        let started = Instant::now();
        source.read(OBJECT, 0..1).await.unwrap();
        assert!(started.elapsed() < Duration::from_millis(60), "{:?}", started.elapsed());
        assert_eq!(*inner.gets.lock(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn late_get_is_replaced_when_no_hedge_is_left() {
        let (inner, source) = measured().await;
        source.state.lock().hedges = 0.0;
        inner.script.lock().push_back(FOREVER);
        let started = Instant::now();
        source.read(OBJECT, 0..1).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn store_that_is_slow_as_a_whole_gets_few_hedges() {
        let (inner, source) = measured().await;
        *inner.usual.lock() = Duration::from_secs(1);
        for _ in 0..20 {
            join_all((0..20).map(|_| source.read(OBJECT, 0..1).map(Result::unwrap))).await;
        }
        let gets = *inner.gets.lock();
        assert!(gets <= 400 + 400 / 20 + 4, "{gets} GETs for 400 reads");
    }

    #[tokio::test(start_paused = true)]
    async fn store_that_never_responds_is_given_up() {
        let (inner, source) = measured().await;
        *inner.usual.lock() = FOREVER;
        let started = Instant::now();
        let error = source.read(OBJECT, 0..1).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unavailable);
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    }
}
