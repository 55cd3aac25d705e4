//! What all connections share.

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
use crate::proxy::client_telemetry::ClientTelemetry;
use crate::proxy::fetch_sessions::FetchSessions;
use crate::proxy::routing::client_zone::ClientZoneRules;
use crate::proxy::routing::topology::SharedTopology;
use crate::proxy::topics::Topics;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::proxy::validation::RecordValidator;

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
    pub client_zones: ClientZoneRules,
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
    pub cluster: Arc<KafkaCluster>,
    /// The diskless nodes of all zones.
    pub topology: Arc<SharedTopology>,
    /// The topics and their kinds.
    pub topics: Arc<Topics>,
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
    pub validation: RecordValidator,
    /// The fetch path.
    pub fetcher: Fetcher,
    /// The offset lookups.
    pub lookup: OffsetLookup,
    /// Fetch sessions of the diskless nodes.
    pub fetch_sessions: FetchSessions,
    /// Wall-clock time.
    pub clock: Arc<dyn WallClock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What clients tell of themselves, where they are asked.
    pub telemetry: Option<Arc<ClientTelemetry>>,
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

impl ProxySettings {
    /// The port at which clients reach broker `id` here, where `nodes` diskless nodes are; `None`
    /// when it would not exist or would be one of another listener.
    pub fn broker_port(&self, id: i32, nodes: u16) -> Option<u16> {
        let port = u16::try_from(i32::from(self.broker_ports).checked_add(id)?).ok()?;
        let nodes = self.node_ports..self.node_ports.saturating_add(nodes);
        let starts = port == self.bootstrap_port
            || self.client_zones.ports.iter().any(|(other, _)| *other == port);
        (id >= 0 && port != 0 && !starts && !nodes.contains(&port)).then_some(port)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn broker_ports_never_collide_with_other_listeners() {
        let ports = vec![(9_107, Arc::from("b"))];
        let settings = ProxySettings {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertised_host: "h".to_owned(),
            bootstrap_port: 9092,
            broker_ports: 9100,
            node_ports: 9300,
            zone: "a".to_owned(),
            client_zones: ClientZoneRules { ports, ..ClientZoneRules::default() },
            frame_bytes_max: 1 << 20,
            connection_bytes_max: 1 << 20,
            response_bytes_max: 1 << 20,
            store_name: "memory:".to_owned(),
        };
        assert_eq!(settings.broker_port(1, 4), Some(9101));
        assert_eq!(settings.broker_port(7, 4), None, "clients of zone b start at 9107");
        assert_eq!(settings.broker_port(200, 4), None, "9300 is a diskless node");
        assert_eq!(settings.broker_port(200, 0), Some(9300), "where there are none");
        assert_eq!(settings.broker_port(204, 4), Some(9304));
        assert_eq!(settings.broker_port(-1, 4), None);
        assert_eq!(settings.broker_port(60_000, 4), None);
    }
}
