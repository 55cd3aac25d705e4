//! Memory limiter: requests acquire a permit before their bytes are read.
//!
//! A [`MemoryLimiter`] bounds the replica, a [`ConnectionQuota`] each connection. A connection that
//! has exhausted its quota waits for its own requests only. When the limiter is exhausted, all
//! connections that need memory wait, in FIFO order. A waiting connection does not read its socket.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;

use super::arrivals::{ArrivalPermit, Arrivals};
use crate::metrics::Metrics;

/// Cost of a request in addition to its bytes, so that empty requests are not free.
pub(super) const REQUEST_OVERHEAD_BYTES: usize = 1 << 10;

/// The replica accepts no more requests, because it is draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica is shutting down and accepts no more requests")]
pub struct ShuttingDown;

/// Identifies the reader to which a [`ConnectionQuota`] belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId(u64);

/// Limits the bytes of requests that a replica holds.
#[derive(Debug)]
pub struct MemoryLimiter {
    bytes: usize,
    quotas: AtomicU64,
    pub(super) semaphore: Arc<Semaphore>,
    /// For limiters of frames that acquire memory as they arrive.
    pub(super) arrivals: Option<Arrivals>,
    pub(super) metrics: Arc<Metrics>,
}

impl MemoryLimiter {
    /// Creates a limiter of `bytes` bytes, at most 4 GiB.
    pub fn new(bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self::build(bytes, None, metrics))
    }

    /// Creates a limiter of `bytes` bytes for frames that acquire memory in steps of `step_bytes`
    /// bytes. An eighth of the memory is reserved for [completing](ConnectionQuota::cover) them.
    pub fn for_frames(bytes: usize, step_bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let bytes = bytes.min(u32::MAX as usize);
        Arc::new(Self::build(bytes, Some(Arrivals::new(bytes, step_bytes)), metrics))
    }

    fn build(bytes: usize, arrivals: Option<Arrivals>, metrics: Arc<Metrics>) -> Self {
        let bytes = bytes.min(u32::MAX as usize);
        let reserved = arrivals.as_ref().map_or(0, |arrivals| arrivals.reserve_bytes);
        let semaphore = Arc::new(Semaphore::new(bytes - reserved));
        Self { bytes, quotas: AtomicU64::new(0), semaphore, arrivals, metrics }
    }

    /// Creates a connection's quota: it never holds more than `bytes` bytes at once.
    pub fn quota(self: &Arc<Self>, bytes: usize) -> ConnectionQuota {
        let bytes = bytes.min(self.acquirable_bytes());
        let semaphore = Arc::new(Semaphore::new(bytes));
        let reader = ReaderId(self.quotas.fetch_add(1, Ordering::Relaxed));
        ConnectionQuota { limiter: Arc::clone(self), reader, bytes, semaphore, share: None }
    }

    /// Creates a connection's quota as [`MemoryLimiter::quota`] does. Frames that are arriving from
    /// one client address hold at most half of the limiter.
    pub fn quota_of(self: &Arc<Self>, bytes: usize, client: IpAddr) -> ConnectionQuota {
        let share = self.arrivals.as_ref().map(|arrivals| arrivals.share(client));
        ConnectionQuota { share, ..self.quota(bytes) }
    }

    /// Returns the bytes that are not reserved for completing frames.
    pub(super) fn acquirable_bytes(&self) -> usize {
        self.bytes - self.arrivals.as_ref().map_or(0, |arrivals| arrivals.reserve_bytes)
    }

    /// Returns the limit, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes that are free.
    pub fn available(&self) -> usize {
        let reserved = self.arrivals.as_ref().map_or(0, Arrivals::available);
        self.semaphore.available_permits() + reserved
    }

    /// Fails all waiting and future acquisitions with [`ShuttingDown`].
    pub fn close(&self) {
        self.semaphore.close();
        if let Some(arrivals) = &self.arrivals {
            arrivals.close();
        }
    }
}

/// One connection's quota of a [`MemoryLimiter`].
#[derive(Debug)]
pub struct ConnectionQuota {
    pub(super) limiter: Arc<MemoryLimiter>,
    reader: ReaderId,
    pub(super) bytes: usize,
    pub(super) semaphore: Arc<Semaphore>,
    /// Memory that frames which are arriving from the client's address may hold.
    pub(super) share: Option<Arc<Semaphore>>,
}

/// Bytes that are held until the permit is dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    pub(super) of_quota: OwnedSemaphorePermit,
    pub(super) of_limiter: OwnedSemaphorePermit,
    /// Permits of the reserve, and those that the frame holds only while it arrives.
    pub(super) arrival: ArrivalPermit,
    /// Time spent waiting for it.
    pub waited: Duration,
}

impl MemoryPermit {
    /// Adds `bytes` bytes to the permit if they are free, and returns whether they were. Never
    /// waits: a holder that waited for more could wait for itself.
    pub fn try_extend(&mut self, bytes: u64) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        let more = |permit: &OwnedSemaphorePermit| {
            Arc::clone(permit.semaphore()).try_acquire_many_owned(bytes).ok()
        };
        let (Some(of_quota), Some(of_limiter)) = (more(&self.of_quota), more(&self.of_limiter))
        else {
            return false;
        };
        self.of_quota.merge(of_quota);
        self.of_limiter.merge(of_limiter);
        true
    }
}

impl ConnectionQuota {
    /// Returns the id of the reader, which is unique among the quotas of a limiter.
    pub fn reader(&self) -> ReaderId {
        self.reader
    }

    /// Acquires a permit for a request of `request_bytes` bytes. A request larger than the quota or
    /// the limiter acquires all of it, and so proceeds alone instead of never.
    ///
    /// # Errors
    /// [`ShuttingDown`] once the replica drains.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing is held; the place in the queue is lost.
    pub async fn acquire(&self, request_bytes: usize) -> Result<MemoryPermit, ShuttingDown> {
        let cost = request_bytes.saturating_add(REQUEST_OVERHEAD_BYTES);
        let limiter = &self.limiter;
        let mut waited = Duration::ZERO;
        // The quota first: while it is exhausted, the connection must not hold up others.
        let of_quota = acquire_many(&self.semaphore, cost.min(self.bytes), &mut waited).await?;
        let most = cost.min(limiter.acquirable_bytes());
        let of_limiter = acquire_many(&limiter.semaphore, most, &mut waited).await?;
        if !waited.is_zero() {
            limiter.metrics.clients.memory_pool_waits.inc();
        }
        Ok(MemoryPermit { of_quota, of_limiter, arrival: Default::default(), waited })
    }
}

/// Acquires `bytes` permits and adds the waiting time to `waited`. Only an actual wait counts: time
/// spent acquiring free permits must not be reported to a client as throttling.
pub(super) async fn acquire_many(
    semaphore: &Arc<Semaphore>,
    bytes: usize,
    waited: &mut Duration,
) -> Result<OwnedSemaphorePermit, ShuttingDown> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    match Arc::clone(semaphore).try_acquire_many_owned(bytes) {
        Ok(permit) => return Ok(permit),
        Err(TryAcquireError::Closed) => return Err(ShuttingDown),
        Err(TryAcquireError::NoPermits) => {}
    }
    let started = Instant::now();
    let acquired = Arc::clone(semaphore).acquire_many_owned(bytes).await;
    let permit = acquired.map_err(|_| ShuttingDown)?;
    *waited += started.elapsed();
    Ok(permit)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const KIB: usize = 1 << 10;

    fn limiter(kib: usize) -> Arc<MemoryLimiter> {
        MemoryLimiter::new(kib * KIB, Arc::default())
    }

    #[tokio::test]
    async fn exhausted_quota_leaves_the_limiter_to_others() {
        let limiter = limiter(100);
        let (greedy, modest) = (limiter.quota(40 * KIB), limiter.quota(40 * KIB));
        let first = greedy.acquire(29 * KIB).await.unwrap();
        assert!(greedy.acquire(10 * KIB).now_or_never().is_none(), "30 of its 40 are held");
        assert_eq!(limiter.available(), 70 * KIB, "a waiting connection holds no more");
        let _other = modest.acquire(39 * KIB).now_or_never().unwrap().unwrap();
        drop(first);
        assert!(greedy.acquire(10 * KIB).now_or_never().is_some());
        assert_eq!(limiter.available(), 60 * KIB);
    }

    #[tokio::test(start_paused = true)]
    async fn request_above_the_limit_proceeds_alone() {
        let limiter = limiter(10);
        let quota = limiter.quota(usize::MAX);
        let alone = quota.acquire(1 << 30).await.unwrap();
        assert_eq!((limiter.available(), alone.waited), (0, Duration::ZERO));
        let second = tokio::time::timeout(Duration::from_secs(9), quota.acquire(0)).await;
        assert!(second.is_err());
        drop(alone);
        assert!(quota.acquire(0).now_or_never().is_some());
    }

    #[tokio::test]
    async fn permit_is_extended_by_what_is_free() {
        let limiter = limiter(100);
        let (small, large) = (limiter.quota(40 * KIB), limiter.quota(80 * KIB));
        let mut first = small.acquire(9 * KIB).await.unwrap();
        assert!(first.try_extend(20 << 10) && !first.try_extend(20 << 10), "30 of its 40 are held");
        let mut second = large.acquire(59 * KIB).await.unwrap();
        assert!(!second.try_extend(11 << 10), "90 of 100 are held");
        drop(first);
        assert!(second.try_extend(11 << 10));
        drop(second);
        assert_eq!(limiter.available(), 100 * KIB);
    }

    #[tokio::test]
    async fn closed_limiter_fails_acquisitions() {
        let limiter = limiter(10);
        let quota = limiter.quota(KIB);
        let waiting = quota.acquire(0);
        limiter.close();
        assert_eq!(waiting.await.unwrap_err(), ShuttingDown);
    }
}
