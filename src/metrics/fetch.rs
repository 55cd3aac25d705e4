//! The way of a fetch of diskless topics.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::book::Book;
use super::labels::{
    CacheLabels, CacheOutcome, FetchStage, FetchStageLabels, PeerLabels, PeerOutcome, WakeupLabels,
    WakeupOutcome,
};
use super::timer::Timer;

/// Figures of fetches.
#[derive(Debug)]
pub struct FetchMetrics {
    stages: Vec<Timer>,
    cache_lookups: Family<CacheLabels, Counter>,
    wakeups: Family<WakeupLabels, Counter>,
    peer_requests: Family<PeerLabels, Counter>,
    /// From a fetch's turn until its answer is ready, the client's own wait included.
    pub seconds: Timer,
    /// Bytes of records given.
    pub bytes: Counter,
    /// Bytes of objects in memory.
    pub cache_bytes: Gauge<i64, AtomicI64>,
    /// Bytes of objects that peers gave.
    pub peer_bytes: Counter,
    /// GETs not made, because a peer answered.
    pub gets_saved: Counter,
    /// Requests to the peer port that were refused.
    pub peer_refusals: Counter,
}

impl FetchMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        let stages = book.timers(
            "fetch_stage_seconds",
            "stage",
            "Where the time of fetches of diskless topics went",
            FetchStage::ALL,
            |stage| FetchStageLabels { stage },
        );
        let made = Self {
            stages,
            cache_lookups: book.counters(
                "cache_lookups",
                "outcome",
                "Blocks of objects that readers wanted, by where they were",
            ),
            wakeups: book.counters(
                "fetch_wakeups",
                "outcome",
                "Waits of fetches for more records, by how they ended",
            ),
            peer_requests: book.counters(
                "peer_requests",
                "outcome",
                "Objects asked of the zone's other replicas",
            ),
            seconds: book.timer(
                "fetch_seconds",
                "Fetches of diskless topics, from their turn until the answer is ready; the \
                 client's own wait included",
            ),
            bytes: book.counter("fetched_bytes", "Bytes of diskless records given to readers"),
            cache_bytes: book.gauge("cache_bytes", "Bytes of objects in memory"),
            peer_bytes: book.counter("peer_bytes", "Bytes of objects that peers gave"),
            gets_saved: book.counter(
                "gets_saved",
                "GETs that this replica did not make, because a peer answered; the peer may have \
                 made one in its place",
            ),
            peer_refusals: book.counter(
                "peer_refusals",
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
