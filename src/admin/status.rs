//! The data of the console, as JSON: `GET /status.json`.

use serde::{Deserialize, Serialize};

/// All data of the console. Rates are per second over the last minute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The version of this build.
    pub version: String,
    /// The current time, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// Start time of the process, in milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// The name of the replica.
    pub replica: String,
    /// The zone of the replica.
    pub zone: String,
    /// `starting`, `ready`, `draining` or `metadata_lost`.
    pub state: String,
    /// Reason and remedy, if the state is not normal.
    pub detail: Option<String>,
    /// The Kafka cluster.
    pub cluster: ClusterStatus,
    /// All zones that have ever had a replica.
    pub zones: Vec<ZoneStatus>,
    /// Open client connections.
    pub connections: i64,
    /// Traffic of diskless topics.
    pub rates: TrafficRates,
    /// Stages of produce requests in the last minute.
    pub produce_stages: Vec<StageLatency>,
    /// Stages of fetches in the last minute.
    pub fetch_stages: Vec<StageLatency>,
    /// The object store in the last minute.
    pub store: BackendStatus,
    /// The coordinator in the last minute.
    pub coordinator: BackendStatus,
    /// Costs since the start.
    pub cost: CostStatus,
    /// Diskless topics, by name.
    pub topics: Vec<TopicStatus>,
}

/// The Kafka cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster id.
    pub id: String,
    /// The name of this installation.
    pub name: String,
    /// Number of brokers.
    pub brokers: usize,
}

/// An availability zone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ZoneStatus {
    /// The name.
    pub zone: String,
    /// Replicas with a valid lease.
    pub replicas: Vec<String>,
    /// Diskless nodes of the zone.
    pub nodes: Vec<NodeStatus>,
}

/// A diskless node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The broker id that clients see.
    pub id: i32,
    /// The replica that hosts it.
    pub host: String,
    /// The host that clients connect to.
    pub address: String,
    /// The port that clients connect to.
    pub port: u16,
}

/// Traffic per second, over the last minute.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TrafficRates {
    /// Bytes of batches written.
    pub produce_bytes: f64,
    /// Bytes of batches fetched.
    pub fetch_bytes: f64,
    /// Produce requests to diskless nodes.
    pub produce_requests: f64,
    /// Fetch requests to diskless nodes.
    pub fetch_requests: f64,
    /// Bytes between diskless nodes and clients of other zones.
    pub cross_zone_bytes: f64,
}

/// The latency of a stage of requests.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StageLatency {
    /// The name.
    pub stage: String,
    /// Mean in milliseconds, or `None` if there were no requests.
    pub mean_ms: Option<f64>,
    /// Median, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99th percentile, in milliseconds.
    pub p99_ms: Option<f64>,
    /// Number of requests.
    pub count: u64,
}

/// The state of the object store or the coordinator.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BackendStatus {
    /// The URL, without secrets.
    pub url: String,
    /// True if the metadata is lost.
    pub metadata_lost: bool,
    /// Seconds since the last successful call.
    pub last_success_age_seconds: Option<f64>,
    /// Failed calls in the last minute.
    pub errors_last_minute: u64,
    /// Calls in the last minute.
    pub calls: Vec<CallStats>,
}

/// Calls of one operation with one outcome.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CallStats {
    /// The operation.
    pub operation: String,
    /// The outcome.
    pub outcome: String,
    /// Number of requests.
    pub count: u64,
    /// Median of all calls of the operation, in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99th percentile of all calls of the operation, in milliseconds.
    pub p99_ms: Option<f64>,
}

/// Costs of this replica since its start, in dollars.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CostStatus {
    /// Start time, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Dollars saved; negative if more was spent than the baseline.
    pub saved_dollars: f64,
    /// Cost on replicated Kafka, by item.
    pub baseline_dollars: Vec<CostItem>,
    /// Dollars spent, by item.
    pub spent_dollars: SpentDollars,
    /// Dollars saved per month at the rate of the last minute.
    pub saved_dollars_per_month: Option<f64>,
    /// Costs by zone; contains the zone of this replica only.
    pub zones: Vec<ZoneCost>,
    /// Requests of the object store until now, from which `spent_dollars` is calculated.
    pub requests: StoreRequests,
    /// Advice on a cheaper configuration.
    pub advice: Option<String>,
}

/// An item of the baseline.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CostItem {
    /// The name.
    pub item: String,
    /// The cost, in dollars.
    pub dollars: f64,
}

/// Dollars spent, by item.
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
    /// Traffic with clients of other zones.
    pub cross_zone: f64,
}

/// Costs of a zone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ZoneCost {
    /// The zone.
    pub zone: String,
    /// Dollars saved.
    pub saved_dollars: f64,
    /// Dollars spent.
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
    /// The name.
    pub name: String,
    /// Number of partitions.
    pub partitions: usize,
    /// Bytes written per second.
    pub produce_bytes: f64,
    /// Bytes fetched per second.
    pub fetch_bytes: f64,
    /// Bytes of the topic's records in object storage, or `None` if not queried yet.
    pub bytes: Option<u64>,
    /// Objects written by this replica that contain records of the topic.
    pub objects: u64,
    /// Records by which this replica's tail index lags behind the coordinator.
    pub tail_lag_records: Option<u64>,
    /// Bytes written through this replica since its start.
    pub produced_bytes: u64,
    /// Bytes fetched through this replica since its start.
    pub fetched_bytes: u64,
    /// Dollars saved.
    pub saved_dollars: f64,
    /// Dollars spent.
    pub spent_dollars: f64,
    /// Advice on a cheaper configuration.
    pub advice: Option<String>,
}
