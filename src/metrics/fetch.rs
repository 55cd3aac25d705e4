//! The way of a fetch of diskless topics.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{
    CacheLabels, CacheOutcome, FetchStage, FetchStageLabels, PeerLabels, PeerOutcome, WakeupLabels,
    WakeupOutcome,
};
use super::registry::MetricRegistry;
use super::timer::Timer;

/// Figures of fetches.
#[derive(Debug)]
pub struct FetchMetrics {
    stages: Vec<Timer>,
    cache_lookups: Family<CacheLabels, Counter>,
    wakeups: Family<WakeupLabels, Counter>,
    peer_requests: Family<PeerLabels, Counter>,
    /// From a fetch's turn until its answer is ready, the client's own wait included.
    pub duration: Timer,
    /// Bytes of records given.
    pub bytes: Counter,
    /// Bytes of objects in memory.
    pub cache_bytes: Gauge<i64, AtomicI64>,
    /// Bytes of objects that peers gave.
    pub peer_bytes: Counter,
    /// GETs not made, because a peer answered.
    pub gets_avoided: Counter,
    /// Requests to the peer port that were refused.
    pub peer_rejected_requests: Counter,
}

impl FetchMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let stages = registry.timer_vec(
            "fetch_stage_duration_seconds",
            "stage",
            "Where the time of fetches of diskless topics went",
            FetchStage::ALL,
            |stage| FetchStageLabels { stage },
        );
        let made = Self {
            stages,
            cache_lookups: registry.counter_family(
                "cache_lookups",
                "outcome",
                "Blocks of objects that readers wanted, by where they were",
            ),
            wakeups: registry.counter_family(
                "fetch_waits",
                "outcome",
                "Waits of fetches for more records, by how they ended",
            ),
            peer_requests: registry.counter_family(
                "peer_requests",
                "outcome",
                "Objects asked of the zone's other replicas",
            ),
            duration: registry.timer(
                "fetch_duration_seconds",
                "Fetches of diskless topics, from their turn until the answer is ready; the \
                 client's own wait included",
            ),
            bytes: registry.counter("fetched_bytes", "Bytes of diskless records given to readers"),
            cache_bytes: registry.gauge("cache_bytes", "Bytes of objects in memory"),
            peer_bytes: registry.counter("peer_received_bytes", "Bytes of objects that peers gave"),
            gets_avoided: registry.counter(
                "store_gets_avoided",
                "GETs that this replica did not make, because a peer answered; the peer may have \
                 made one in its place",
            ),
            peer_rejected_requests: registry.counter(
                "peer_rejected_requests",
                "Requests to the peer port that were not signed, or not as they should be",
            ),
        };
        // There from the start, so that a rate of the first is one.
        for outcome in CacheOutcome::ALL {
            drop(made.cache_lookups.get_or_create(&CacheLabels { outcome: *outcome }));
        }
        for outcome in WakeupOutcome::ALL {
            drop(made.wakeups.get_or_create(&WakeupLabels { outcome: *outcome }));
        }
        for outcome in PeerOutcome::ALL {
            drop(made.peer_requests.get_or_create(&PeerLabels { outcome: *outcome }));
        }
        made
    }

    /// The timer of a stage.
    pub fn stage(&self, stage: FetchStage) -> &Timer {
        &self.stages[stage as usize]
    }

    /// Counts a reader's look for a block.
    pub fn cache_lookup(&self, outcome: CacheOutcome) {
        self.cache_lookups.get_or_create(&CacheLabels { outcome }).inc();
    }

    /// Counts a wait that ended.
    pub fn wakeup(&self, outcome: WakeupOutcome) {
        self.wakeups.get_or_create(&WakeupLabels { outcome }).inc();
    }

    /// Counts a question to a peer.
    pub fn peer_request(&self, outcome: PeerOutcome) {
        self.peer_requests.get_or_create(&PeerLabels { outcome }).inc();
    }
}
