//! The page at the admin port, and the books behind it: what happened in the last minute, what is
//! where, and what it costs.

mod compose;
mod minute;
mod sizes;
pub mod status;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use compose::Between;
use minute::{Ring, Snapshot, TICK};
use sizes::Sizes;
use status::Status;

use crate::admin::{Page, Pages, Readiness};
use crate::clock::{SystemClock, WallClock};
use crate::config::{CoordinatorSettings, Settings};
use crate::costs::{Ledger, Traffic};
use crate::logging::Logging;
use crate::metrics::{FetchStage, Metrics, ProduceStage, StoreVerb, Success, TopicRow};
use crate::proxy::Proxy;
use crate::tasks;

/// The page itself; it asks for nothing but `status.json`.
const HTML: &str = include_str!("console.html");
/// Topics with series of their own.
const TOPIC_SERIES_MAX: usize = 200;

/// The page, for as long as the process lives.
#[derive(Debug)]
pub struct Console {
    settings: Settings,
    per_topic: AtomicBool,
    logging: Option<Logging>,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    /// From the end of the start on.
    proxy: OnceLock<Arc<Proxy>>,
    sizes: Arc<Sizes>,
    begun: Instant,
    started_ms: i64,
    books: Mutex<Books>,
}

#[derive(Debug)]
struct Books {
    ring: Ring,
    ledger: Ledger,
}

impl Console {
    /// Begins to take note.
    pub fn start(
        settings: &Settings,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        logging: Option<Logging>,
    ) -> Arc<Self> {
        let books = Books { ring: Ring::default(), ledger: Ledger::new(settings.costs) };
        let console = Arc::new(Self {
            settings: settings.clone(),
            per_topic: AtomicBool::new(settings.metrics.per_topic),
            logging,
            metrics: Arc::clone(&metrics),
            readiness,
            proxy: OnceLock::new(),
            sizes: Arc::default(),
            begun: Instant::now(),
            started_ms: SystemClock.now_ms(),
            books: Mutex::new(books),
        });
        let shown: Weak<Self> = Arc::downgrade(&console);
        metrics.at_scrape(move || {
            if let Some(console) = shown.upgrade() {
                console.show();
            }
        });
        let ticking = Arc::clone(&console);
        tasks::spawn_critical("console", async move {
            loop {
                let snapshot = ticking.enter(&mut ticking.books());
                ticking.books().ring.push(snapshot);
                tokio::time::sleep(TICK).await;
            }
        });
        console
    }

    /// The file says something else now.
    pub fn follow(&self, settings: &Settings) {
        self.per_topic.store(settings.metrics.per_topic, Ordering::Relaxed);
        let mut books = self.books();
        // What happened until now happened at the old prices.
        let _snapshot = self.enter(&mut books);
        books.ledger.set_book(settings.costs);
    }

    /// The start is over.
    pub fn attach(&self, proxy: Arc<Proxy>) {
        let _once = self.proxy.set(proxy);
    }

    fn traffic(&self) -> Traffic {
        let store = &self.metrics.store;
        Traffic {
            puts: store.total(StoreVerb::put),
            gets: store.total(StoreVerb::get) + store.total(StoreVerb::head),
            lists: store.total(StoreVerb::list),
            stored_bytes: self.metrics.produce.object_bytes.get(),
            crossed_bytes: self.metrics.clients.crossed(),
        }
    }

    /// Brings the books up to date.
    fn enter(&self, books: &mut Books) -> Snapshot {
        let zones = self.proxy.get().map_or(1, |proxy| {
            let map = proxy.topology.current();
            let lives = |zone: &usize| !map.live_members(*zone as u16).is_empty();
            (0..map.zone_names().count()).filter(lives).count().max(1)
        });
        let counts = self.metrics.topics.read();
        let now = self.begun.elapsed();
        books.ledger.enter(now, u32::try_from(zones).unwrap_or(1), self.traffic(), &counts);
        Snapshot::take(&self.metrics, now, *books.ledger.bill())
    }

    /// Shows the books to Prometheus.
    fn show(&self) {
        let mut books = self.books();
        let _snapshot = self.enter(&mut books);
        let bill = books.ledger.bill();
        self.metrics.money.show(&bill.classic_items(), &bill.spent_items());
        if !self.per_topic.load(Ordering::Relaxed) {
            self.metrics.money.show_topics(&[]);
            return;
        }
        let Some(proxy) = self.proxy.get() else { return };
        let row = |topic: &Arc<crate::proxy::topics::Topic>| {
            let bill = books.ledger.topics().get(&topic.id)?;
            let (saved, spent) = (bill.saved(), bill.spent());
            Some(TopicRow { name: topic.name.clone(), counts: bill.counts, saved, spent })
        };
        let mut rows: Vec<TopicRow> = proxy.topics.diskless().iter().filter_map(row).collect();
        let busy = |row: &TopicRow| row.counts.produced_bytes + row.counts.fetched_bytes;
        rows.sort_by_key(|row| std::cmp::Reverse(busy(row)));
        rows.truncate(TOPIC_SERIES_MAX);
        self.metrics.money.show_topics(&rows);
    }

    /// What there is to show now.
    pub fn status(&self) -> Status {
        let mut books = self.books();
        let now = self.enter(&mut books);
        let before = books.ring.minute_ago().unwrap_or(&now);
        let between = Between { before, now: &now };
        let (state, detail) = self.readiness.state();
        let settings = &self.settings;
        let coordinator = match &settings.coordinator {
            CoordinatorSettings::Embedded => "embedded".to_owned(),
            CoordinatorSettings::Redis { url, .. } => url.to_string(),
        };
        let ages = &self.metrics.successes;
        let store_url = settings.objects_url().to_string();
        let of_store = [Success::put, Success::get];
        let fine = ["ok", "not_found", "exists", "abandoned"];
        let mut money = between.money(&books.ledger, self.traffic(), &settings.zone);
        money.since_ms = self.started_ms;
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
            store: compose::backend(store_url, false, ages, &of_store, between.store(), &fine),
            coordinator: compose::backend(
                coordinator,
                self.readiness.is_lost(),
                ages,
                &[Success::coordinator],
                between.coordinator(),
                &["ok", "abandoned"],
            ),
            money,
            ..Status::default()
        };
        if let Some(proxy) = self.proxy.get() {
            self.sizes.refresh(proxy);
            status.cluster = compose::cluster(proxy, &settings.cluster);
            status.zones = compose::zones(proxy);
            status.topics = between.topics(proxy, &books.ledger, &self.sizes.known());
        }
        status
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock()
    }
}

#[async_trait]
impl Pages for Console {
    async fn page(&self, path: &str) -> Option<Page> {
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

    async fn put(&self, path: &str, body: &str) -> Option<Result<(), String>> {
        let logging = self.logging.as_ref().filter(|_| path == "/log")?;
        let set = logging.set_level(body);
        if set.is_ok() {
            tracing::info!(level = logging.level(), "the level of logs was set");
        }
        Some(set)
    }
}
