//! Memory for frames that are forwarded to brokers, a pool for each broker.
//!
//! A broker that accepts no bytes holds the frames that wait for it. In a pool of all brokers, those
//! of one that hangs would take everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

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
    /// By broker; `None` is the pool of connections whose broker has no id yet.
    pools: Mutex<BTreeMap<Option<i32>, Arc<MemoryLimiter>>>,
}

impl ClassicMemory {
    /// Creates pools that are together about as large as `bytes`.
    pub fn new(bytes: usize, step_bytes: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { bytes, step_bytes, metrics, pools: Mutex::default() })
    }

    /// Returns the pool of a broker: an equal part of the memory for `brokers` brokers and for
    /// connections without one, and at least 16 MiB. When the number of brokers changes, a new pool
    /// takes the place of one of another size, which lasts until the frames in it are sent.
    pub(super) fn pool(&self, broker: Option<i32>, brokers: usize) -> Arc<MemoryLimiter> {
        let bytes = (self.bytes / (brokers + 1)).max(POOL_BYTES_MIN.min(self.bytes));
        let bytes = bytes.min(u32::MAX as usize);
        let mut pools = self.pools.lock();
        let pool = pools.entry(broker).or_insert_with(|| self.create(bytes));
        if pool.bytes() != bytes {
            *pool = self.create(bytes);
        }
        Arc::clone(pool)
    }

    fn create(&self, bytes: usize) -> Arc<MemoryLimiter> {
        let metrics = Arc::clone(&self.metrics);
        MemoryLimiter::with_lasting_shares(bytes, self.step_bytes, metrics)
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
        let pool = |broker| memory.pool(broker, 2);
        let hung = pool(Some(1));
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let quota = hung.quota(64 * MIB);
            waiting.push(quota.acquire(MIB).now_or_never());
        }
        assert!(waiting.iter().any(Option::is_none), "its pool is exhausted");
        for broker in [Some(2), None] {
            let quota = pool(broker).quota(64 * MIB);
            assert!(quota.acquire(20 * MIB).now_or_never().is_some(), "{broker:?}");
        }
        assert_eq!(memory.usage().0, 96 * MIB);
        assert!(memory.usage().1 >= 24 * MIB, "{:?}", memory.usage());
    }

    #[tokio::test]
    async fn pools_follow_the_number_of_brokers() {
        let memory = ClassicMemory::new(256 * MIB, MIB, Arc::default());
        let first = memory.pool(Some(1), 1);
        assert_eq!(first.bytes(), 128 * MIB);
        let held = first.quota(64 * MIB).acquire(64 * MIB).now_or_never();
        assert_eq!(memory.pool(Some(1), 3).bytes(), 64 * MIB);
        assert!(Arc::ptr_eq(&memory.pool(Some(1), 3), &memory.pool(Some(1), 3)));
        for broker in [None, Some(2), Some(3)] {
            memory.pool(broker, 3);
        }
        assert_eq!(memory.usage().0, 256 * MIB);
        drop(held);
        assert_eq!(memory.pool(Some(1), 1).bytes(), 128 * MIB);
    }

    #[test]
    fn pools_of_many_brokers_have_a_minimum() {
        let memory = ClassicMemory::new(256 * MIB, MIB, Arc::default());
        assert_eq!(memory.pool(Some(7), 99).bytes(), 16 * MIB);
        let small = ClassicMemory::new(8 * MIB, MIB, Arc::default());
        assert_eq!(small.pool(Some(7), 99).bytes(), 8 * MIB);
    }
}
