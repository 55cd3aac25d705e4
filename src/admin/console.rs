//! The console: a page that shows the traffic of the last minute, zones and nodes, the state of the
//! backends, and costs; `/status.json` contains the same data.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::readiness::Readiness;
use super::render::{self, SnapshotDelta};
use super::snapshot::{MetricsSnapshot, SNAPSHOT_INTERVAL, SnapshotRing};
use super::status::Status;
use super::topic_sizes::TopicSizes;
use crate::clock::{SystemClock, WallClock};
use crate::config::{CoordinatorSettings, Settings};
use crate::cost::{CostModel, Usage};
use crate::logging::Logging;
use crate::metrics::{
    FetchStage, Metrics, MonitoredOperation, ProduceStage, StoreOperation, TopicSeries,
};
use crate::proxy::Proxy;
use crate::tasks;

/// The page. It requests nothing but `status.json`.
const HTML: &str = include_str!("console.html");
/// Maximum number of topics with series of their own.
const TOPIC_SERIES_MAX: usize = 200;

/// A response of the [`Console`].
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// The media type.
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// Collects what the page shows, from the start of the process to its end.
#[derive(Debug)]
pub struct Console {
    settings: Settings,
    per_topic: AtomicBool,
    logging: Option<Logging>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    /// Set when the start is complete.
    proxy: OnceLock<Arc<Proxy>>,
    sizes: Arc<TopicSizes>,
    started: Instant,
    started_ms: i64,
    history: Mutex<CostHistory>,
}

#[derive(Debug)]
struct CostHistory {
    snapshots: SnapshotRing,
    cost_model: CostModel,
}

impl Console {
    /// Starts the console: it takes a snapshot of the metrics every [`SNAPSHOT_INTERVAL`].
    pub fn start(
        settings: &Settings,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        logging: Option<Logging>,
    ) -> Arc<Self> {
        let history = CostHistory {
            snapshots: SnapshotRing::default(),
            cost_model: CostModel::new(settings.costs),
        };
        let console = Arc::new(Self {
            settings: settings.clone(),
            per_topic: AtomicBool::new(settings.metrics.per_topic),
            logging,
            metrics: Arc::clone(&metrics),
            readiness,
            proxy: OnceLock::new(),
            sizes: Arc::default(),
            started: Instant::now(),
            started_ms: SystemClock.now_ms(),
            history: Mutex::new(history),
        });
        let shown: Weak<Self> = Arc::downgrade(&console);
        metrics.on_scrape(move || {
            if let Some(console) = shown.upgrade() {
                console.export_cost_metrics();
            }
        });
        let ticking = Arc::clone(&console);
        tasks::spawn_critical("console", async move {
            loop {
                let snapshot = ticking.record(&mut ticking.history());
                ticking.history().snapshots.push(snapshot);
                tokio::time::sleep(SNAPSHOT_INTERVAL).await;
            }
        });
        console
    }

    /// Applies a changed configuration.
    pub fn apply_settings(&self, settings: &Settings) {
        self.per_topic.store(settings.metrics.per_topic, Ordering::Relaxed);
        let mut history = self.history();
        // Traffic until now is charged at the old prices.
        let _snapshot = self.record(&mut history);
        history.cost_model.set_pricing(settings.costs);
    }

    /// Sets the proxy when the start is complete; topics and zones are shown from then on.
    pub fn set_proxy(&self, proxy: Arc<Proxy>) {
        let _once = self.proxy.set(proxy);
    }

    fn usage(&self) -> Usage {
        let store = &self.metrics.store;
        Usage {
            puts: store.total(StoreOperation::put),
            gets: store.total(StoreOperation::get) + store.total(StoreOperation::head),
            lists: store.total(StoreOperation::list),
            stored_bytes: self.metrics.produce.objects_written_bytes.get(),
            cross_zone_bytes: self.metrics.clients.diskless_cross_zone_bytes(),
        }
    }

    /// Charges the traffic since the last call to the cost model, and takes a snapshot.
    fn record(&self, history: &mut CostHistory) -> MetricsSnapshot {
        let zones = self.proxy.get().map_or(1, |proxy| {
            let map = proxy.topology.current();
            let is_live = |zone: &usize| !map.live_members(*zone as u16).is_empty();
            (0..map.zone_names().count()).filter(is_live).count().max(1)
        });
        let counts = self.metrics.topics.read();
        let now = self.started.elapsed();
        history.cost_model.record(now, u32::try_from(zones).unwrap_or(1), self.usage(), &counts);
        MetricsSnapshot::take(&self.metrics, now, *history.cost_model.report())
    }

    /// Sets the metrics of costs to the current state of the cost model.
    fn export_cost_metrics(&self) {
        let mut history = self.history();
        let _snapshot = self.record(&mut history);
        let report = history.cost_model.report();
        self.metrics.cost.show(&report.baseline_items(), &report.spent_items());
        if !self.per_topic.load(Ordering::Relaxed) {
            self.metrics.cost.show_topics(&[]);
            return;
        }
        let Some(proxy) = self.proxy.get() else { return };
        let row = |topic: &Arc<crate::proxy::topics::Topic>| {
            let report = history.cost_model.topics().get(&topic.id)?;
            let (saved, spent) = (report.saved(), report.spent());
            Some(TopicSeries { name: topic.name.clone(), counts: report.counts, saved, spent })
        };
        let mut rows: Vec<TopicSeries> =
            proxy.topics.registry.diskless().iter().filter_map(row).collect();
        let busy = |row: &TopicSeries| row.counts.produced_bytes + row.counts.fetched_bytes;
        rows.sort_by_key(|row| std::cmp::Reverse(busy(row)));
        rows.truncate(TOPIC_SERIES_MAX);
        self.metrics.cost.show_topics(&rows);
    }

    /// Returns what the page shows now.
    pub fn status(&self) -> Status {
        let mut history = self.history();
        let now = self.record(&mut history);
        let before = history.snapshots.minute_ago().unwrap_or(&now);
        let between = SnapshotDelta { before, now: &now };
        let (state, detail) = self.readiness.state();
        let settings = &self.settings;
        let coordinator = match &settings.coordinator {
            CoordinatorSettings::Embedded => "embedded".to_owned(),
            CoordinatorSettings::Redis { url, .. } => url.to_string(),
        };
        let ages = &self.metrics.last_successes;
        let store_url = settings.objects_url().to_string();
        let store_operations = [MonitoredOperation::store_put, MonitoredOperation::store_get];
        let not_errors = ["ok", "not_found", "exists", "cancelled"];
        let mut cost = between.cost(&history.cost_model, self.usage(), &settings.zone);
        cost.since_ms = self.started_ms;
        let mut status = Status {
            version: crate::VERSION.to_owned(),
            now_ms: SystemClock.now_ms(),
            started_ms: self.started_ms,
            replica: settings.replica.clone(),
            zone: settings.zone.clone(),
            state: state.to_owned(),
            detail,
            connections: self.metrics.clients.connections(),
            rates: between.rates(),
            produce_stages: between.produce_stages(ProduceStage::ALL.iter().map(|s| s.name())),
            fetch_stages: between.fetch_stages(FetchStage::ALL.iter().map(|s| s.name())),
            store: render::backend(
                store_url,
                false,
                ages,
                &store_operations,
                between.store(),
                &not_errors,
            ),
            coordinator: render::backend(
                coordinator,
                self.readiness.is_metadata_lost(),
                ages,
                &[MonitoredOperation::coordinator_request],
                between.coordinator(),
                &["ok", "cancelled"],
            ),
            cost,
            ..Status::default()
        };
        if let Some(proxy) = self.proxy.get() {
            self.sizes.refresh(proxy);
            status.cluster = render::cluster(proxy, &settings.cluster);
            status.zones = render::zones(proxy);
            status.topics = between.topics(proxy, &history.cost_model, &self.sizes.cached());
        }
        status
    }

    fn history(&self) -> MutexGuard<'_, CostHistory> {
        self.history.lock()
    }
}

impl Console {
    /// Returns the page at a path, or `None` if the path is unknown.
    pub(super) fn page(&self, path: &str) -> Option<Page> {
        match path {
            "/" => Some(Page { content_type: "text/html; charset=utf-8", body: HTML.to_owned() }),
            "/status.json" => {
                let body = serde_json::to_string(&self.status()).ok()?;
                Some(Page { content_type: "application/json", body })
            }
            "/log" => {
                let body = format!("{}\n", self.logging.as_ref()?.level());
                Some(Page { content_type: "text/plain; charset=utf-8", body })
            }
            _ => None,
        }
    }

    /// Sets the value at a path, or returns `None` if the path cannot be set.
    pub(super) fn put(&self, path: &str, body: &str) -> Option<Result<(), String>> {
        let logging = self.logging.as_ref().filter(|_| path == "/log")?;
        let set = logging.set_level(body);
        if set.is_ok() {
            tracing::info!(level = logging.level(), "log level changed");
        }
        Some(set)
    }
}
