//! Gauges that are computed when the metrics are read.

use std::sync::Arc;

use crate::engine::cache::ObjectCache;
use crate::engine::memory::MemoryLimiter;
use crate::metrics::{MemoryPool, Metrics};
use crate::proxy::classic_memory::ClassicMemory;
use crate::proxy::topics::Topics;

/// Registers the gauges of a memory limiter under a name.
pub(super) fn budget(metrics: &Metrics, name: MemoryPool, budget: &Arc<MemoryLimiter>) {
    let (bytes, used) = metrics.clients.memory_pool(name);
    let budget = Arc::clone(budget);
    metrics.on_scrape(move || {
        bytes.set(gauge_value(budget.bytes()));
        used.set(gauge_value(budget.bytes().saturating_sub(budget.available())));
    });
}

/// Registers the gauges of the pools of forwarded requests, all of them together.
pub(super) fn classic_memory(metrics: &Metrics, memory: &Arc<ClassicMemory>) {
    let (bytes, used) = metrics.clients.memory_pool(MemoryPool::classic);
    let memory = Arc::clone(memory);
    metrics.on_scrape(move || {
        let (limit, held) = memory.usage();
        bytes.set(gauge_value(limit));
        used.set(gauge_value(held));
    });
}

/// Registers the gauge of the object cache.
pub(super) fn cache(metrics: &Metrics, objects: &Arc<ObjectCache>) {
    let (retained, objects) = (metrics.fetch.cache_bytes.clone(), Arc::clone(objects));
    metrics.on_scrape(move || {
        retained.set(i64::try_from(objects.cached_bytes()).unwrap_or(i64::MAX));
    });
}

/// Registers the gauge of the diskless topics.
pub(super) fn topics(metrics: &Metrics, topics: &Arc<Topics>) {
    let (cached, topics) = (metrics.clients.diskless_topics.clone(), Arc::clone(topics));
    metrics.on_scrape(move || {
        cached.set(gauge_value(topics.registry.diskless().len()));
    });
}

fn gauge_value(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
