//! Metrics of fetches of diskless topics.

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

/// Metrics of fetches.
#[derive(Debug)]
pub struct FetchMetrics {
    stages: Vec<Timer>,
    cache_lookups: Family<CacheLabels, Counter>,
    wakeups: Family<WakeupLabels, Counter>,
    peer_requests: Family<PeerLabels, Counter>,
    /// Time from the start of a fetch until its response is ready, including the client's wait.
    pub duration: Timer,
    /// Offsets below the high watermark for which the coordinator has no index entry.
    pub missing_index_entries: Counter,
    /// Bytes of records returned.
    pub bytes: Counter,
    /// Bytes of objects in the cache.
    pub cache_bytes: Gauge<i64, AtomicI64>,
    /// Bytes of objects received from peers.
    pub peer_bytes: Counter,
    /// GETs avoided because a peer responded.
    pub gets_avoided: Counter,
    /// Requests to the peer port that were rejected.
    pub peer_rejected_requests: Counter,
}

impl FetchMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let stages = registry.timer_vec(
            "fetch_stage_duration_seconds",
            "stage",
            "Duration of the stages of fetches of diskless topics",
            FetchStage::ALL,
            |stage| FetchStageLabels { stage },
        );
        let made = Self {
            stages,
            cache_lookups: registry.counter_family(
                "cache_lookups",
                "outcome",
                "Lookups of blocks of objects, by where the block was found",
            ),
            wakeups: registry.counter_family(
                "fetch_waits",
                "outcome",
                "Waits of fetches for more records, by how they ended",
            ),
            peer_requests: registry.counter_family(
                "peer_requests",
                "outcome",
                "Requests for objects to other replicas of the zone",
            ),
            duration: registry.timer(
                "fetch_duration_seconds",
                "Duration of fetches of diskless topics until the response is ready, including the \
                 client's own wait",
            ),
            missing_index_entries: registry.counter(
                "fetch_missing_index_entries",
                "Fetched offsets below the high watermark for which the coordinator has no index \
                 entry: metadata is missing",
            ),
            bytes: registry.counter(
                "fetched_bytes",
                "Bytes of records of diskless topics returned to clients",
            ),
            cache_bytes: registry.gauge("cache_bytes", "Bytes of objects in the cache"),
            peer_bytes: registry
                .counter("peer_received_bytes", "Bytes of objects received from peers"),
            gets_avoided: registry.counter(
                "store_gets_avoided",
                "GETs that this replica avoided because a peer responded; the peer may have made \
                 one instead",
            ),
            peer_rejected_requests: registry.counter(
                "peer_rejected_requests",
                "Requests to the peer port without a valid signature",
            ),
        };
        // All series exist from the start, so that the rate of the first event is not lost.
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

    /// Returns the timer of a stage.
    pub fn stage(&self, stage: FetchStage) -> &Timer {
        &self.stages[stage as usize]
    }

    /// Counts a lookup of a block.
    pub fn cache_lookup(&self, outcome: CacheOutcome) {
        self.cache_lookups.get_or_create(&CacheLabels { outcome }).inc();
    }

    /// Counts a wait that ended.
    pub fn wakeup(&self, outcome: WakeupOutcome) {
        self.wakeups.get_or_create(&WakeupLabels { outcome }).inc();
    }

    /// Counts a request to a peer.
    pub fn peer_request(&self, outcome: PeerOutcome) {
        self.peer_requests.get_or_create(&PeerLabels { outcome }).inc();
    }
}
