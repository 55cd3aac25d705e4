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

use super::arrivals::{ArrivalPermit, Arrivals, ClientShare};
use crate::metrics::Metrics;

/// Cost of a request in addition to its bytes, so that empty requests are not free.
pub(super) const REQUEST_OVERHEAD_BYTES: usize = 1 << 10;

/// A response is small if it takes at most this part of the limiter.
const SMALL_DIVISOR: usize = 256;

/// The replica accepts no more requests, because it is draining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica is shutting down and accepts no more requests")]
pub struct ShuttingDown;

/// Identifies the reader to which a [`ConnectionQuota`] belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReaderId(u64);

/// Memory for small responses while larger ones hold the rest.
#[derive(Debug)]
struct SmallShare {
    /// The largest cost of a small response.
    cost_max: usize,
    reserve_bytes: usize,
    reserve: Arc<Semaphore>,
}

/// Limits the bytes of requests that a replica holds.
#[derive(Debug)]
pub struct MemoryLimiter {
    bytes: usize,
    quotas: AtomicU64,
    pub(super) semaphore: Arc<Semaphore>,
    /// For limiters of frames that acquire memory as they arrive.
    pub(super) arrivals: Option<Arrivals>,
    /// For limiters of responses.
    small: Option<SmallShare>,
    pub(super) metrics: Arc<Metrics>,
}

impl MemoryLimiter {
    /// Creates a limiter of `bytes` bytes, at most 4 GiB.
    pub fn new(bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self::build(bytes, None, None, metrics))
    }

    /// Creates a limiter of `bytes` bytes for frames that acquire memory in steps of `step_bytes`
    /// bytes. An eighth of the memory is reserved for [completing](ConnectionQuota::cover) them.
    pub fn for_frames(bytes: usize, step_bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let bytes = bytes.min(u32::MAX as usize);
        let arrivals = Arrivals::new(bytes, step_bytes, false);
        Arc::new(Self::build(bytes, Some(arrivals), None, metrics))
    }

    /// Creates a limiter as [`MemoryLimiter::for_frames`] does, in which all memory that is held for
    /// a client address counts for its share: for frames whose memory is released by others than
    /// this replica.
    pub fn with_lasting_shares(
        bytes: usize,
        step_bytes: usize,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let bytes = bytes.min(u32::MAX as usize);
        let arrivals = Arrivals::new(bytes, step_bytes, true);
        Arc::new(Self::build(bytes, Some(arrivals), None, metrics))
    }

    /// Creates a limiter of `bytes` bytes for responses. An eighth is reserved for small ones: slow
    /// readers of large responses do not delay them.
    pub fn for_responses(bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let bytes = bytes.min(u32::MAX as usize);
        let reserve_bytes = bytes / 8;
        let reserve = Arc::new(Semaphore::new(reserve_bytes));
        let small = SmallShare { cost_max: bytes / SMALL_DIVISOR, reserve_bytes, reserve };
        Arc::new(Self::build(bytes, None, Some(small), metrics))
    }

    fn build(
        bytes: usize,
        arrivals: Option<Arrivals>,
        small: Option<SmallShare>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let bytes = bytes.min(u32::MAX as usize);
        let quotas = AtomicU64::new(0);
        let semaphore = Arc::new(Semaphore::new(0));
        let limiter = Self { bytes, quotas, semaphore, arrivals, small, metrics };
        limiter.semaphore.add_permits(limiter.acquirable_bytes());
        limiter
    }

    /// Creates a connection's quota: it never holds more than `bytes` bytes at once.
    pub fn quota(self: &Arc<Self>, bytes: usize) -> ConnectionQuota {
        let bytes = bytes.min(self.acquirable_bytes());
        let semaphore = Arc::new(Semaphore::new(bytes));
        let reader = ReaderId(self.quotas.fetch_add(1, Ordering::Relaxed));
        ConnectionQuota { limiter: Arc::clone(self), reader, bytes, semaphore, share: None }
    }

    /// Creates a connection's quota as [`MemoryLimiter::quota`] does. Frames that are arriving from
    /// one client address hold at most half of the limiter, and the rest of one frame.
    pub fn quota_of(self: &Arc<Self>, bytes: usize, client: IpAddr) -> ConnectionQuota {
        let share = self.arrivals.as_ref().map(|arrivals| arrivals.share(client));
        ConnectionQuota { share, ..self.quota(bytes) }
    }

    /// Returns the bytes that are not reserved.
    pub(super) fn acquirable_bytes(&self) -> usize {
        let for_completing = self.arrivals.as_ref().map_or(0, |arrivals| arrivals.reserve_bytes);
        let for_small = self.small.as_ref().map_or(0, |small| small.reserve_bytes);
        self.bytes - for_completing - for_small
    }

    /// Returns the limit, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes that are free.
    pub fn available(&self) -> usize {
        let reserved = self.arrivals.as_ref().map_or(0, Arrivals::available);
        let small = self.small.as_ref().map_or(0, |small| small.reserve.available_permits());
        self.semaphore.available_permits() + reserved + small
    }

    /// Fails all waiting and future acquisitions with [`ShuttingDown`].
    pub fn close(&self) {
        self.semaphore.close();
        if let Some(arrivals) = &self.arrivals {
            arrivals.close();
        }
        if let Some(small) = &self.small {
            small.reserve.close();
        }
    }

    /// Returns the memory from which `cost` bytes are acquired: the reserve if they are few and
    /// nothing else is free.
    fn memory_for(&self, cost: usize) -> &Arc<Semaphore> {
        match &self.small {
            Some(small) if cost <= small.cost_max && self.semaphore.available_permits() < cost => {
                &small.reserve
            }
            _ => &self.semaphore,
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
    /// Memory that the frames from the client's address may hold.
    pub(super) share: Option<Arc<ClientShare>>,
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
    /// Returns the bytes that are held.
    pub fn bytes(&self) -> usize {
        self.of_limiter.num_permits()
    }

    /// Releases what exceeds `bytes` bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        for permit in [&mut self.of_quota, &mut self.of_limiter] {
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
    }

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
        let mut arrival = ArrivalPermit::default();
        if let (Some(share), Some(arrivals)) = (&self.share, &limiter.arrivals)
            && arrivals.keeps_shares
        {
            let most = cost.min(arrivals.share_bytes);
            arrival.of_share = Some(acquire_many(&share.bytes, most, &mut waited).await?);
            arrival.lasting_share = Some(Arc::clone(share));
        }
        let most = cost.min(limiter.acquirable_bytes());
        let of_limiter = acquire_many(limiter.memory_for(most), most, &mut waited).await?;
        if !waited.is_zero() {
            limiter.metrics.clients.memory_pool_waits.inc();
        }
        Ok(MemoryPermit { of_quota, of_limiter, arrival, waited })
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
    async fn small_responses_do_not_wait_for_large_ones() {
        let limiter = MemoryLimiter::for_responses(1 << 20, Arc::default());
        let mut large = Vec::new();
        for _ in 0..8 {
            let quota = limiter.quota(128 * KIB);
            large.push(quota.acquire(127 * KIB).now_or_never());
        }
        assert!(large.pop().is_some_and(|last| last.is_none()), "an eighth is reserved");
        let small = limiter.quota(128 * KIB);
        let permits: Vec<_> = (0..32).map(|_| small.acquire(3 * KIB).now_or_never()).collect();
        assert!(permits.iter().all(Option::is_some));
        assert!(limiter.quota(128 * KIB).acquire(4 * KIB).now_or_never().is_none(), "not small");
        drop((large, permits));
        assert_eq!(limiter.available(), limiter.bytes());
    }

    #[tokio::test]
    async fn permit_shrinks_to_what_is_left_of_a_response() {
        let limiter = limiter(100);
        let quota = limiter.quota(100 * KIB);
        let mut permit = quota.acquire(79 * KIB).await.unwrap();
        permit.shrink_to(90 * KIB);
        assert_eq!(permit.bytes(), 80 * KIB);
        permit.shrink_to(30 * KIB);
        assert_eq!((permit.bytes(), limiter.available()), (30 * KIB, 70 * KIB));
        assert!(quota.acquire(69 * KIB).now_or_never().is_some(), "of its quota too");
    }

    #[tokio::test]
    async fn lasting_share_counts_while_memory_is_held() {
        let limiter = MemoryLimiter::with_lasting_shares(64 * KIB, KIB, Arc::default());
        let client = |n| IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, n));
        let of = |n| limiter.quota_of(64 * KIB, client(n));
        let held: Vec<_> = (0..4).map(|_| of(1).acquire(9 * KIB).now_or_never()).collect();
        assert_eq!(held.iter().flatten().count(), 3, "30 of the 32 of one address");
        assert!(of(2).acquire(19 * KIB).now_or_never().is_some());
        drop(held);
        assert!(of(1).acquire(19 * KIB).now_or_never().is_some());
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
