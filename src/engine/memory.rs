//! Memory for requests: room is taken before bytes are read.
//!
//! One [`MemoryLimiter`] bounds the replica, a [`ConnectionQuota`] of it each connection. A connection that has
//! spent its share waits for itself alone; when the replica's budget is spent all who need some
//! wait, first come first served. Whoever waits does not read its socket.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;

use crate::metrics::Metrics;

/// What a request costs beyond its bytes: bookkeeping, so that empty ones are not free.
const REQUEST_BYTES: usize = 1 << 10;

/// No more is taken: the replica drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the replica takes no more requests")]
pub struct Closed;

/// Bytes of requests that a replica may hold.
#[derive(Debug)]
pub struct MemoryLimiter {
    bytes: usize,
    free: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl MemoryLimiter {
    /// A budget of `bytes`, at most 4 GiB.
    pub fn new(bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        let bytes = bytes.min(u32::MAX as usize);
        Arc::new(Self { bytes, free: Arc::new(Semaphore::new(bytes)), metrics })
    }

    /// A connection's share: it never holds more than `bytes` of the budget at once.
    pub fn quota(self: &Arc<Self>, bytes: usize) -> ConnectionQuota {
        let bytes = bytes.min(self.bytes);
        ConnectionQuota { budget: Arc::clone(self), bytes, free: Arc::new(Semaphore::new(bytes)) }
    }

    /// Bytes in all.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that nobody holds.
    pub fn available(&self) -> usize {
        self.free.available_permits()
    }

    /// From now on everybody who asks is told [`Closed`].
    pub fn close(&self) {
        self.free.close();
    }
}

/// One connection's share of a [`MemoryLimiter`].
#[derive(Debug)]
pub struct ConnectionQuota {
    budget: Arc<MemoryLimiter>,
    bytes: usize,
    free: Arc<Semaphore>,
}

/// Bytes that are held until this is dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    _of_share: OwnedSemaphorePermit,
    _of_budget: OwnedSemaphorePermit,
    /// How long it was waited for.
    pub waited: Duration,
}

impl ConnectionQuota {
    /// Takes room for a request of so many bytes. One that is larger than the share, or than the
    /// budget, takes all of it: it goes alone rather than never.
    ///
    /// # Errors
    /// [`Closed`] once the replica drains.
    ///
    /// # Cancel safety
    /// Dropped before it returns, nothing was taken; its place in the queue is lost.
    pub async fn acquire(&self, request_bytes: usize) -> Result<MemoryPermit, Closed> {
        let wanted = request_bytes.saturating_add(REQUEST_BYTES);
        let mut waited = Duration::ZERO;
        // First the own share: who waits for himself must not stand in the way of others.
        let of_share = acquire(&self.free, wanted.min(self.bytes), &mut waited).await?;
        let of_budget =
            acquire(&self.budget.free, wanted.min(self.budget.bytes), &mut waited).await?;
        if !waited.is_zero() {
            self.budget.metrics.clients.memory_pool_waits.inc();
        }
        Ok(MemoryPermit { _of_share: of_share, _of_budget: of_budget, waited })
    }
}

/// Only a wait counts: being slow to take what is free is nobody's fault, and must not be told to a
/// client as throttling.
async fn acquire(
    free: &Arc<Semaphore>,
    bytes: usize,
    waited: &mut Duration,
) -> Result<OwnedSemaphorePermit, Closed> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    match Arc::clone(free).try_acquire_many_owned(bytes) {
        Ok(permit) => return Ok(permit),
        Err(TryAcquireError::Closed) => return Err(Closed),
        Err(TryAcquireError::NoPermits) => {}
    }
    let begun = Instant::now();
    let permit = Arc::clone(free).acquire_many_owned(bytes).await.map_err(|_| Closed)?;
    *waited += begun.elapsed();
    Ok(permit)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const KIB: usize = 1 << 10;

    fn budget(kib: usize) -> Arc<MemoryLimiter> {
        MemoryLimiter::new(kib * KIB, Arc::default())
    }

    #[tokio::test]
    async fn a_share_ends_before_the_budget_does() {
        let budget = budget(100);
        let (greedy, modest) = (budget.quota(40 * KIB), budget.quota(40 * KIB));
        let first = greedy.acquire(29 * KIB).await.unwrap();
        assert!(greedy.acquire(10 * KIB).now_or_never().is_none(), "30 of its 40 are taken");
        assert_eq!(budget.available(), 70 * KIB, "who waits for himself holds nothing");
        let _other = modest.acquire(39 * KIB).now_or_never().unwrap().unwrap();
        drop(first);
        assert!(greedy.acquire(10 * KIB).now_or_never().is_some());
        assert_eq!(budget.available(), 60 * KIB);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_larger_than_everything_goes_alone() {
        let budget = budget(10);
        let quota = budget.quota(usize::MAX);
        let alone = quota.acquire(1 << 30).await.unwrap();
        assert_eq!((budget.available(), alone.waited), (0, Duration::ZERO));
        let second = tokio::time::timeout(Duration::from_secs(9), quota.acquire(0)).await;
        assert!(second.is_err());
        drop(alone);
        assert!(quota.acquire(0).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_closed_budget_says_so() {
        let budget = budget(10);
        let quota = budget.quota(KIB);
        let waits = quota.acquire(0);
        budget.close();
        assert_eq!(waits.await.unwrap_err(), Closed);
    }
}
