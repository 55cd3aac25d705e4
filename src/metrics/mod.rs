//! Figures of a replica, in Prometheus' text format. One struct, handed down; nothing is
//! process-wide, and no label holds what a peer can make up, unless an operator asks for it.

mod book;
mod clients;
mod coordinator;
mod fetch;
mod labels;
mod money;
mod process;
mod produce;
mod store;
mod timer;
mod told;
mod topics;

use std::fmt;

use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use book::Book;
pub use clients::ClientMetrics;
pub use coordinator::{CoordinatorMetrics, Successes};
pub use fetch::FetchMetrics;
pub use labels::{
    ApiKind, Border, BudgetName, CacheOutcome, CoordinatorOutcome, CoordinatorVerb, Direction,
    EndpointKind, FetchStage, PeerOutcome, PlacementOutcome, ProduceStage, ReloadOutcome,
    StoreOutcome, StoreVerb, Success, WakeupOutcome,
};
pub use money::{MoneyMetrics, TopicRow};
use process::ProcessMetrics;
pub use produce::ProduceMetrics;
pub use store::StoreMetrics;
pub use timer::{Reading, Summary, Timer};
pub use told::{ClientRow, ToldMetrics};
pub use topics::{TopicCounts, TopicTable, TopicTraffic};

/// All metrics of a replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    table: String,
    at_scrape: Mutex<Vec<AtScrape>>,
    process: ProcessMetrics,
    /// Clients, their requests and their zones.
    pub clients: ClientMetrics,
    /// The way of a produce.
    pub produce: ProduceMetrics,
    /// The way of a fetch.
    pub fetch: FetchMetrics,
    /// Calls of the object store.
    pub store: StoreMetrics,
    /// Calls of the batch coordinator, and what it says.
    pub coordinator: CoordinatorMetrics,
    /// When something last went well.
    pub successes: Successes,
    /// What the traffic costs, and would have cost.
    pub money: MoneyMetrics,
    /// What clients tell of themselves.
    pub told: ToldMetrics,
    /// Traffic by topic.
    pub topics: TopicTable,
}

/// Brings gauges up to date before they are shown.
struct AtScrape(Box<dyn Fn() + Send>);

impl fmt::Debug for AtScrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtScrape")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut book = Book::new();
        let process = ProcessMetrics::new(&mut book);
        let clients = ClientMetrics::new(&mut book);
        let produce = ProduceMetrics::new(&mut book);
        let fetch = FetchMetrics::new(&mut book);
        let store = StoreMetrics::new(&mut book);
        let coordinator = CoordinatorMetrics::new(&mut book);
        let successes = Successes::new(&mut book);
        let money = MoneyMetrics::new(&mut book);
        let told = ToldMetrics::new(&mut book);
        Self {
            table: book.table(),
            registry: book.registry,
            at_scrape: Mutex::default(),
            process,
            clients,
            produce,
            fetch,
            store,
            coordinator,
            successes,
            money,
            told,
            topics: TopicTable::default(),
        }
    }
}

impl Metrics {
    /// Says whose figures they are.
    pub fn identify(&self, replica: &str, zone: &str) {
        self.process.identify(replica, zone);
    }

    /// The configuration was read again.
    pub fn reloaded(&self, outcome: ReloadOutcome) {
        self.process.reloaded(outcome);
    }

    /// Whether the file says something that counts after a restart only.
    pub fn restart_needed(&self, is_needed: bool) {
        self.process.restart_needed(is_needed);
    }

    /// Has this done before each scrape.
    pub fn at_scrape(&self, refresh: impl Fn() + Send + 'static) {
        let mut all = self.at_scrape.lock();
        all.push(AtScrape(Box::new(refresh)));
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        self.process.refresh();
        self.successes.refresh();
        for refresh in self.at_scrape.lock().iter() {
            (refresh.0)();
        }
        let mut out = String::new();
        // Writing to a string fails only if a metric cannot be formatted; what there is will do.
        let _partial = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }

    /// The table of all metrics, in Markdown.
    pub fn table(&self) -> &str {
        &self.table
    }
}

/// The text of `docs/metrics.md`.
pub fn reference() -> String {
    let head = include_str!("reference-head.md");
    let tail = include_str!("reference-tail.md");
    format!("{head}\n{}\n{tail}", Metrics::default().table())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_metrics_is_what_is_registered() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference(), "{path} is out of date; UPDATE_DOCS=1 rewrites it");
    }

    #[test]
    fn every_series_that_is_shown_is_listed() {
        let metrics = Metrics::default();
        metrics.clients.request("Produce", EndpointKind::diskless);
        metrics.store.ended(StoreVerb::put, StoreOutcome::ok, None);
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
    fn what_never_went_well_has_no_age() {
        let metrics = Metrics::default();
        let row = "odradek_last_success_age_seconds{of=\"put\"} ";
        assert!(metrics.text().contains(&format!("{row}-1")));
        metrics.successes.note(Success::put);
        assert!(metrics.text().contains(&format!("{row}0.")));
    }
}
