//! Memory for frames that are forwarded to brokers, a pool for each broker.
//!
//! A broker that accepts no bytes holds the frames that wait for it. In a pool of all brokers, those
//! of one that hangs would take everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::endpoint::Endpoint;
use crate::engine::memory::MemoryLimiter;
use crate::metrics::Metrics;

/// The least memory of a broker: a few large requests, also with a hundred brokers.
const POOL_BYTES_MIN: usize = 16 << 20;

/// The pools of all brokers.
#[derive(Debug)]
pub struct ClassicMemory {
    bytes: usize,
    step_bytes: usize,
    metrics: Arc<Metrics>,
    /// By broker; `None` is the pool of the bootstrap port.
    pools: Mutex<BTreeMap<Option<i32>, Arc<MemoryLimiter>>>,
}

impl ClassicMemory {
    /// Creates pools that are together about as large as `bytes`.
    pub fn new(bytes: usize, step_bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { bytes, step_bytes, metrics, pools: Mutex::default() })
    }

    /// Returns the pool of an endpoint. A new one is an equal part of the memory for `brokers`
    /// brokers and the bootstrap port, and at least 16 MiB.
    pub(super) fn pool(&self, endpoint: Endpoint, brokers: usize) -> Arc<MemoryLimiter> {
        let key = match endpoint {
            Endpoint::Broker(id) => Some(id),
            Endpoint::Bootstrap | Endpoint::Node(_) => None,
        };
        let mut pools = self.pools.lock();
        let pool = pools.entry(key).or_insert_with(|| {
            let bytes = (self.bytes / (brokers + 1)).max(POOL_BYTES_MIN.min(self.bytes));
            MemoryLimiter::for_frames(bytes, self.step_bytes, Arc::clone(&self.metrics))
        });
        Arc::clone(pool)
    }

    /// Returns the bytes of all pools together, and those that are held.
    pub fn usage(&self) -> (usize, usize) {
        let pools = self.pools.lock();
        let bytes = pools.values().map(|pool| pool.bytes()).sum();
        let available: usize = pools.values().map(|pool| pool.available()).sum();
        (self.bytes.max(bytes), bytes.saturating_sub(available))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const MIB: usize = 1 << 20;

    #[tokio::test]
    async fn frames_for_one_broker_leave_memory_to_the_other_brokers() {
        let memory = ClassicMemory::new(96 * MIB, MIB, Arc::default());
        let pool = |endpoint| memory.pool(endpoint, 2);
        let hung = pool(Endpoint::Broker(1));
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let quota = hung.quota(64 * MIB);
            waiting.push(quota.acquire(MIB).now_or_never());
        }
        assert!(waiting.iter().any(Option::is_none), "its pool is exhausted");
        for endpoint in [Endpoint::Broker(2), Endpoint::Bootstrap] {
            let quota = pool(endpoint).quota(64 * MIB);
            assert!(quota.acquire(20 * MIB).now_or_never().is_some(), "{endpoint:?}");
        }
        assert_eq!(memory.usage().0, 96 * MIB);
        assert!(memory.usage().1 >= 24 * MIB, "{:?}", memory.usage());
    }

    #[test]
    fn pools_of_many_brokers_have_a_minimum() {
        let memory = ClassicMemory::new(256 * MIB, MIB, Arc::default());
        assert_eq!(memory.pool(Endpoint::Broker(7), 99).bytes(), 16 * MIB);
        let small = ClassicMemory::new(8 * MIB, MIB, Arc::default());
        assert_eq!(small.pool(Endpoint::Broker(7), 99).bytes(), 8 * MIB);
    }
}
