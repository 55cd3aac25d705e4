//! GETs with deadlines and hedges: a request that hangs delays the readers of its object little.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::select_all;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::source::{ObjectSource, read_error};
use crate::engine::latency::Latency;
use crate::log::ids::ObjectId;
use crate::store::{StoreError, StoreErrorKind};

/// Assumed latency of GETs until it is measured.
const LATENCY_DEFAULT: Duration = Duration::from_millis(500);
/// Lower bound of the time after which a GET is hedged.
const HEDGE_AFTER_MIN: Duration = Duration::from_millis(10);
/// A GET is late after this multiple of the 99th percentile …
const LATE_FACTOR: u32 = 10;
/// … within these bounds, but never before one and a half times the 99th percentile: a slow link is
/// not helped by a second copy of the same bytes.
const LATE_MIN: Duration = Duration::from_secs(2);
const LATE_MAX: Duration = Duration::from_secs(10);
/// A read is given up after this time …
const READ_MAX: Duration = Duration::from_secs(10);
/// … and this for each MiB of its range.
const READ_MAX_PER_MIB: Duration = Duration::from_secs(2);
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
        let mut late_after = (p99 * LATE_FACTOR).clamp(LATE_MIN, LATE_MAX).max(p99 * 3 / 2);
        let started = Instant::now();
        let mebibytes = u32::try_from(range.end.saturating_sub(range.start) >> 20);
        let end =
            started + READ_MAX + READ_MAX_PER_MIB * mebibytes.unwrap_or(u32::MAX).min(1 << 10);
        let mut late = started + late_after;
        let mut hedge = Some(started + p99.max(HEDGE_AFTER_MIN)).filter(|at| *at < late);
        // The first GET goes on, because it may make progress; the second is replaced when it is
        // late too.
        let mut running = vec![self.inner.read(object, range.clone())];
        loop {
            let next = hedge.unwrap_or(late).min(end);
            match timeout_at(next, select_all(running.iter_mut())).await {
                Ok((Ok(bytes), ..)) => {
                    // Measured from the first GET: that of a hedge would hide that it was slow.
                    self.record(started.elapsed());
                    return Ok(bytes);
                }
                Ok((Err(error), failed, _)) => {
                    drop(running.remove(failed));
                    if running.is_empty() {
                        return Err(error);
                    }
                }
                Err(_elapsed) if Instant::now() >= end => {
                    // A read that was too slow is a measurement as well.
                    self.record(started.elapsed());
                    let detail = format!("not read within {:?}", started.elapsed());
                    return Err(read_error(StoreErrorKind::Unavailable, object, detail));
                }
                Err(_elapsed) => {
                    let is_hedge = hedge.take().is_some();
                    if !is_hedge {
                        late_after = (late_after * 2).min(LATE_MAX.max(p99 * 3 / 2));
                        late = Instant::now() + late_after;
                    }
                    if !is_hedge || self.take_hedge() {
                        running.truncate(1);
                        running.push(self.inner.read(object, range.clone()));
                    }
                }
            }
        }
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
        assert_eq!(started.elapsed(), READ_MAX);
        // The 16 MiB of a block have more time.
        let started = Instant::now();
        source.read(OBJECT, 0..16 << 20).await.unwrap_err();
        assert_eq!(started.elapsed(), READ_MAX + 16 * READ_MAX_PER_MIB);
    }

    /// A source whose GETs share a link.
    #[derive(Debug, Default)]
    struct SharedLink {
        bytes_per_second: u64,
        active: Mutex<u64>,
        gets: Mutex<u32>,
    }

    /// Counts a GET while it is active.
    struct Active<'a>(&'a Mutex<u64>);

    impl Drop for Active<'_> {
        fn drop(&mut self) {
            *self.0.lock() -= 1;
        }
    }

    #[async_trait]
    impl ObjectSource for SharedLink {
        async fn read(&self, _: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
            *self.gets.lock() += 1;
            *self.active.lock() += 1;
            let _active = Active(&self.active);
            let mut remaining = range.end - range.start;
            while remaining > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let share = self.bytes_per_second / 10 / *self.active.lock();
                remaining = remaining.saturating_sub(share);
            }
            Ok(Bytes::from_static(b"x"))
        }
    }

    /// A block that takes longer than a GET may be late is read nevertheless, and the next ones
    /// need one GET each.
    #[tokio::test(start_paused = true)]
    async fn slow_link_completes_every_block() {
        const BLOCK: u64 = 16 << 20;
        let inner = Arc::new(SharedLink { bytes_per_second: 1 << 20, ..SharedLink::default() });
        let source = HedgedSource::new(Arc::clone(&inner) as Arc<dyn ObjectSource>);
        for _ in 0..40 {
            let started = Instant::now();
            source.read(OBJECT, 0..BLOCK).await.expect("it makes progress");
            assert!(started.elapsed() <= Duration::from_secs(40), "{:?}", started.elapsed());
        }
        let before = std::mem::take(&mut *inner.gets.lock());
        assert!(before < 120, "{before} GETs of 40 blocks before the link is known");
        for _ in 0..10 {
            let started = Instant::now();
            source.read(OBJECT, 0..BLOCK).await.expect("it makes progress");
            assert!(started.elapsed() < Duration::from_secs(17), "{:?}", started.elapsed());
        }
        assert_eq!(*inner.gets.lock(), 10);
    }
}
