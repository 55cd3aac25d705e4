//! Metrics of a replica, in Prometheus' text format.
//!
//! All metrics are fields of one struct, which is passed down; none is process-wide. No label
//! contains a value that a peer can choose, unless an operator enables it.

mod client_telemetry;
mod clients;
mod coordinator;
mod cost;
mod fetch;
mod labels;
mod process;
mod produce;
mod recovery;
mod registry;
mod store;
mod timer;
mod topics;

use std::fmt;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;

pub use client_telemetry::{ClientSeries, ClientTelemetryMetrics};
pub use clients::ClientMetrics;
pub use coordinator::{CoordinatorMetrics, LastSuccesses};
pub use cost::{CostMetrics, TopicSeries};
pub use fetch::FetchMetrics;
pub use labels::{
    ApiKind, CacheOutcome, CoordinatorOperation, CoordinatorOutcome, Direction, EndpointKind,
    Expiry, FetchStage, MemoryPool, MonitoredOperation, PeerOutcome, ProduceStage, Refusal,
    ReloadOutcome, StoreOperation, StoreOutcome, TrafficPath, WakeupOutcome, ZoneResolutionOutcome,
};
use process::ProcessMetrics;
pub use produce::ProduceMetrics;
pub use recovery::RecoveryMetrics;
use registry::MetricRegistry;
pub use store::StoreMetrics;
pub use timer::{Timer, TimerSnapshot, TimerSummary};
pub use topics::{TopicCounts, TopicTable, TopicTraffic};

/// All metrics of a replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    table: String,
    on_scrape: Mutex<Vec<ScrapeHook>>,
    process: ProcessMetrics,
    /// Connections, requests and zones of clients.
    pub clients: ClientMetrics,
    /// Produce requests to diskless topics.
    pub produce: ProduceMetrics,
    /// Fetch requests for diskless topics.
    pub fetch: FetchMetrics,
    /// Calls of the object store.
    pub store: StoreMetrics,
    /// Calls of the batch coordinator, and its state.
    pub coordinator: CoordinatorMetrics,
    /// Times of the last successful operations.
    pub last_successes: LastSuccesses,
    /// Cost of the traffic, and of the same traffic on replicated Kafka.
    pub cost: CostMetrics,
    /// Metrics that clients push (KIP-714).
    pub client_telemetry: ClientTelemetryMetrics,
    /// Traffic by topic.
    pub topics: TopicTable,
}

/// Updates gauges before each scrape.
struct ScrapeHook(Box<dyn Fn() + Send>);

impl fmt::Debug for ScrapeHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtScrape")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = MetricRegistry::new();
        let process = ProcessMetrics::new(&mut registry);
        let clients = ClientMetrics::new(&mut registry);
        let produce = ProduceMetrics::new(&mut registry);
        let fetch = FetchMetrics::new(&mut registry);
        let store = StoreMetrics::new(&mut registry);
        let coordinator = CoordinatorMetrics::new(&mut registry);
        let last_successes = LastSuccesses::new(&mut registry);
        let cost = CostMetrics::new(&mut registry);
        let client_telemetry = ClientTelemetryMetrics::new(&mut registry);
        Self {
            table: registry.table(),
            registry: registry.inner,
            on_scrape: Mutex::default(),
            process,
            clients,
            produce,
            fetch,
            store,
            coordinator,
            last_successes,
            cost,
            client_telemetry,
            topics: TopicTable::default(),
        }
    }
}

impl Metrics {
    /// Sets the labels of `odradek_build_info`.
    pub fn set_build_info(&self, replica: &str, zone: &str) {
        self.process.set_build_info(replica, zone);
    }

    /// Counts a reload of the configuration.
    pub fn record_reload(&self, outcome: ReloadOutcome) {
        self.process.record_reload(outcome);
    }

    /// Sets whether the configuration file contains changes that require a restart.
    pub fn set_restart_required(&self, is_needed: bool) {
        self.process.set_restart_required(is_needed);
    }

    /// Registers a function that is called before each scrape.
    pub fn on_scrape(&self, refresh: impl Fn() + Send + 'static) {
        let mut all = self.on_scrape.lock();
        all.push(ScrapeHook(Box::new(refresh)));
    }

    /// Returns the text that Prometheus scrapes.
    pub fn text(&self) -> String {
        self.process.refresh();
        self.last_successes.refresh();
        for refresh in self.on_scrape.lock().iter() {
            (refresh.0)();
        }
        let mut out = String::new();
        // Writing to a string fails only if a metric cannot be formatted; the rest is returned.
        let _partial = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }

    /// Returns a Markdown table of all metrics.
    pub fn table(&self) -> &str {
        &self.table
    }
}

/// Returns the text of `docs/metrics.md`.
pub fn reference() -> String {
    let head = include_str!("reference-head.md");
    let tail = include_str!("reference-tail.md");
    format!("{head}\n{}\n{tail}", Metrics::default().table())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_lists_the_registered_metrics() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference(), "{path} is out of date; UPDATE_DOCS=1 rewrites it");
    }

    #[test]
    fn every_exported_series_is_in_the_reference() {
        let metrics = Metrics::default();
        metrics.clients.request("Produce", EndpointKind::diskless);
        metrics.store.record(StoreOperation::put, StoreOutcome::ok, None);
        let text = metrics.text();
        let listed = reference();
        let of_series = |line: &&str| !line.starts_with('#');
        let mut names: Vec<_> = text.lines().filter(of_series).collect();
        assert!(names.len() > 100, "{text}");
        names.dedup();
        for line in names {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_listed = |name: &str| listed.contains(&format!("`{name}`"));
            assert!(is_listed(name) || base.is_some_and(is_listed), "{line}");
        }
    }

    #[test]
    fn age_is_negative_before_the_first_success() {
        let metrics = Metrics::default();
        let row = "odradek_last_success_age_seconds{operation=\"store_put\"} ";
        assert!(metrics.text().contains(&format!("{row}-1")));
        metrics.last_successes.record(MonitoredOperation::store_put);
        assert!(metrics.text().contains(&format!("{row}0.")));
    }
}
