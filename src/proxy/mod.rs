//! Where Kafka's semantics meet connections.
//!
//! [`apis`] is the one table of what happens to which API; [`session`] pumps one client
//! connection; `handlers` hold one API family each; [`topics`] knows every topic's kind.

pub mod advertise;
pub mod apis;
pub mod authorization;
pub mod client_telemetry;
pub mod client_zone;
pub mod cluster;
pub mod connection;
pub mod differences;
pub mod error_code;
pub mod fetch_sessions;
pub mod handlers;
pub mod listener;
pub mod response;
pub mod router;
pub mod sasl;
pub mod topics;
pub mod topology;
pub mod upstream;
pub mod validation;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::WallClock;
use crate::coordinator::Coordinator;
use crate::engine::fetch::Fetcher;
use crate::engine::list_offsets::OffsetLookup;
use crate::engine::memory::MemoryLimiter;
use crate::engine::produce::{ConnectionId, Producer};
use crate::metrics::Metrics;

/// Numbers and names of the proxy that an operator gives.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// The address that every listener binds.
    pub bind: IpAddr,
    /// The host that clients are told.
    pub advertised_host: String,
    /// Every client starts here.
    pub bootstrap_port: u16,
    /// Broker `n` is reached at this port + `n`.
    pub broker_ports: u16,
    /// Diskless node `k` of this zone is reached at this port + `k`.
    pub node_ports: u16,
    /// The zone's name: the rack of its diskless nodes.
    pub zone: String,
    /// In which zones clients are.
    pub client_zones: client_zone::ClientZoneRules,
    /// What one connection may take of a budget, in bytes.
    pub connection_bytes_max: usize,
    /// What one connection may take of the memory for answers to fetches, in bytes.
    pub response_bytes_max: usize,
    /// The largest frame that is read, as `socket.request.max.bytes` of a broker.
    pub frame_bytes_max: usize,
    /// What DescribeLogDirs calls the place where diskless records lie.
    pub store_name: String,
}

/// What all connections share.
#[derive(Debug)]
pub struct Proxy {
    /// The operator's numbers.
    pub settings: ProxySettings,
    /// The brokers.
    pub cluster: Arc<cluster::KafkaCluster>,
    /// The diskless nodes of all zones.
    pub topology: Arc<topology::SharedTopology>,
    /// The topics and their kinds.
    pub topics: Arc<topics::TopicRegistry>,
    /// The batch coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// Memory for what is produced to diskless nodes.
    pub produce_memory: Arc<MemoryLimiter>,
    /// Memory for answers to fetches.
    pub fetch_memory: Arc<MemoryLimiter>,
    /// Memory for large frames on their way to brokers.
    pub classic_memory: Arc<MemoryLimiter>,
    /// The produce path.
    pub producer: Producer,
    /// The check of produced records.
    pub validation: validation::RecordValidator,
    /// The fetch path.
    pub fetcher: Fetcher,
    /// The offset lookups.
    pub lookup: OffsetLookup,
    /// Fetch sessions of the diskless nodes.
    pub fetch_sessions: fetch_sessions::FetchSessions,
    /// Wall-clock time.
    pub clock: Arc<dyn WallClock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What clients tell of themselves, where they are asked.
    pub telemetry: Option<Arc<client_telemetry::ClientTelemetry>>,
    /// The next connection's number.
    pub last_connection_id: AtomicU64,
}

impl Proxy {
    /// A number for a connection, never given before.
    pub fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.last_connection_id.fetch_add(1, Ordering::Relaxed))
    }

    /// The port at which clients reach broker `id` here, if they can.
    pub fn broker_port(&self, id: i32) -> Option<u16> {
        self.settings.broker_port(id, self.topology.open_node_count())
    }
}
