//! What the page shows, as JSON: `GET /status.json`.

use serde::{Deserialize, Serialize};

/// All of it. Rates are per second over the last minute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Of this build.
    pub version: String,
    /// Now, in milliseconds of Unix time.
    pub now_ms: i64,
    /// When the process started.
    pub started_ms: i64,
    /// The replica's name.
    pub replica: String,
    /// Its zone.
    pub zone: String,
    /// `starting`, `ready`, `draining` or `metadata_lost`.
    pub state: String,
    /// What an operator is to know of it.
    pub detail: Option<String>,
    /// The Kafka cluster behind.
    pub cluster: ClusterStatus,
    /// Every zone there ever was.
    pub zones: Vec<ZoneStatus>,
    /// Client connections that are open.
    pub connections: i64,
    /// Traffic of diskless topics.
    pub rates: TrafficRates,
    /// Where the time of produces went in the last minute.
    pub produce_stages: Vec<StageLatency>,
    /// Where that of fetches went.
    pub fetch_stages: Vec<StageLatency>,
    /// The object store in the last minute.
    pub store: BackendStatus,
    /// The coordinator in the last minute.
    pub coordinator: BackendStatus,
    /// Since the start.
    pub cost: CostStatus,
    /// Diskless topics, by name.
    pub topics: Vec<TopicStatus>,
}

/// The Kafka cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its id.
    pub id: String,
    /// The name of this installation.
    pub name: String,
    /// How many brokers it has.
    pub brokers: usize,
}

/// A zone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ZoneStatus {
    /// Its name.
    pub zone: String,
    /// The replicas whose leases hold.
    pub replicas: Vec<String>,
    /// Its diskless nodes.
    pub nodes: Vec<NodeStatus>,
}

/// A diskless node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id, as clients see it.
    pub id: i32,
    /// The replica that hosts it.
    pub host: String,
    /// Where clients reach it.
    pub address: String,
    /// The port there.
    pub port: u16,
}

/// Per second, over the last minute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TrafficRates {
    /// Bytes of batches written.
    pub produce_bytes: f64,
    /// Bytes of batches read.
    pub fetch_bytes: f64,
    /// Produce requests to diskless nodes.
    pub produce_requests: f64,
    /// Fetch requests to diskless nodes.
    pub fetch_requests: f64,
    /// Bytes between diskless nodes and clients of other zones.
    pub cross_zone_bytes: f64,
}

/// A stage of requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StageLatency {
    /// Its name.
    pub stage: String,
    /// Milliseconds on the average; `None` where nothing was.
    pub mean_ms: Option<f64>,
    /// What half of them stayed below.
    pub p50_ms: Option<f64>,
    /// What ninety-nine in a hundred stayed below.
    pub p99_ms: Option<f64>,
    /// How many.
    pub count: u64,
}

/// Something that is called.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Where it is; without secrets.
    pub url: String,
    /// Whether its metadata is lost.
    pub metadata_lost: bool,
    /// Seconds since a call last went well.
    pub last_success_age_seconds: Option<f64>,
    /// Calls of the last minute that did not go well.
    pub errors_last_minute: u64,
    /// Calls of the last minute.
    pub calls: Vec<CallStats>,
}

/// Calls that ended alike.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CallStats {
    /// The verb.
    pub operation: String,
    /// How they ended.
    pub outcome: String,
    /// How many.
    pub count: u64,
    /// Milliseconds that half of the verb's calls stayed below.
    pub p50_ms: Option<f64>,
    /// Milliseconds that ninety-nine in a hundred of them stayed below.
    pub p99_ms: Option<f64>,
}

/// Dollars of this replica since it started.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CostStatus {
    /// When it started.
    pub since_ms: i64,
    /// Saved; below 0 where more was spent.
    pub saved_dollars: f64,
    /// What replicated Kafka would have cost, by item.
    pub baseline_dollars: Vec<CostItem>,
    /// What was spent, by item.
    pub spent_dollars: SpentDollars,
    /// Saved in a month at the rate of the last minute.
    pub saved_dollars_per_month: Option<f64>,
    /// By zone: of this replica's own.
    pub zones: Vec<ZoneCost>,
    /// Requests of the object store until now: what `spent_dollars` is reckoned from.
    pub requests: StoreRequests,
    /// What would be cheaper.
    pub advice: Option<String>,
}

/// An item and its dollars.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CostItem {
    /// Its name.
    pub item: String,
    /// What it came to.
    pub dollars: f64,
}

/// Dollars spent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SpentDollars {
    /// PUTs.
    pub put: f64,
    /// GETs and HEADs.
    pub get: f64,
    /// LISTs.
    pub list: f64,
    /// Storage.
    pub storage: f64,
    /// Clients of other zones.
    pub cross_zone: f64,
}

/// A zone's dollars.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ZoneCost {
    /// The zone.
    pub zone: String,
    /// Saved.
    pub saved_dollars: f64,
    /// Spent.
    pub spent_dollars: f64,
}

/// Requests of the object store.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StoreRequests {
    /// PUTs.
    pub puts: u64,
    /// GETs and HEADs.
    pub gets: u64,
    /// LISTs.
    pub lists: u64,
    /// Bytes of objects written.
    pub stored_bytes: u64,
}

/// A diskless topic.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TopicStatus {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: usize,
    /// Bytes written in a second.
    pub produce_bytes: f64,
    /// Bytes read in a second.
    pub fetch_bytes: f64,
    /// Bytes of its records in object storage; `None` until somebody looked.
    pub bytes: Option<u64>,
    /// Objects of this replica that hold records of it.
    pub objects: u64,
    /// Records that this replica's tail index lags behind.
    pub tail_lag_records: Option<u64>,
    /// Bytes written through this replica since it started.
    pub produced_bytes: u64,
    /// Bytes read through this replica since it started.
    pub fetched_bytes: u64,
    /// Dollars saved.
    pub saved_dollars: f64,
    /// Dollars spent.
    pub spent_dollars: f64,
    /// What would be cheaper.
    pub advice: Option<String>,
}
