//! The state that all connections share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::WallClock;
use crate::coordinator::Coordinator;
use crate::engine::fetch::Fetcher;
use crate::engine::list_offsets::OffsetLookup;
use crate::engine::memory::MemoryLimiter;
use crate::engine::produce::{ConnectionId, Producer};
use crate::metrics::Metrics;
use crate::proxy::audit::AuditLog;
use crate::proxy::classic_memory::ClassicMemory;
use crate::proxy::client_telemetry::ClientTelemetry;
use crate::proxy::endpoint::broker_port;
use crate::proxy::fetch_sessions::FetchSessions;
use crate::proxy::routing::client_zone::ClientZoneRules;
use crate::proxy::routing::topology::SharedTopology;
use crate::proxy::topics::Topics;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::proxy::validation::RecordValidator;

/// The limits of client connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The maximum number of connections to all ports together.
    pub total: usize,
    /// The maximum number of connections of one client address.
    pub per_address: usize,
}

/// The configuration of the proxy.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// The address that every listener binds.
    pub bind: IpAddr,
    /// The host that is advertised to clients.
    pub advertised_host: String,
    /// The port for bootstrapping clients.
    pub bootstrap_port: u16,
    /// The classic endpoint of broker `n` is this port + `n`.
    pub broker_ports: u16,
    /// The endpoint of diskless node `k` of this zone is this port + `k`.
    pub node_ports: u16,
    /// The zone's name, which is the rack of its diskless nodes.
    pub zone: String,
    /// The rules that determine the zones of clients.
    pub client_zones: ClientZoneRules,
    /// The quota of one connection for requests, in bytes.
    pub connection_bytes_max: usize,
    /// The quota of one connection for Fetch responses, in bytes.
    pub response_bytes_max: usize,
    /// The largest accepted frame in bytes, as `socket.request.max.bytes` of a broker.
    pub frame_bytes_max: usize,
    /// The networks of load balancers that announce clients with the PROXY protocol.
    pub proxy_protocol_from: Vec<IpNet>,
    /// The limits of client connections.
    pub connections: ConnectionLimits,
    /// Time after which a connection without traffic is closed.
    pub idle_timeout: Duration,
    /// The name of the store in DescribeLogDirs responses.
    pub store_name: String,
}

/// The state that all connections share.
#[derive(Debug)]
pub struct Proxy {
    /// The configuration.
    pub settings: ProxySettings,
    /// The brokers.
    pub cluster: Arc<KafkaCluster>,
    /// The diskless nodes of all zones.
    pub topology: Arc<SharedTopology>,
    /// The topics and their types.
    pub topics: Arc<Topics>,
    /// The batch coordinator.
    pub coordinator: Arc<dyn Coordinator>,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Memory for requests that produce to diskless nodes.
    pub produce_memory: Arc<MemoryLimiter>,
    /// Memory for Fetch responses.
    pub fetch_memory: Arc<MemoryLimiter>,
    /// Memory for requests to diskless nodes that wait for their responses.
    pub waiting_memory: Arc<MemoryLimiter>,
    /// Memory for large frames that are forwarded to brokers.
    pub classic_memory: Arc<ClassicMemory>,
    /// Memory for frames of clients that no broker has let in yet.
    pub login_memory: Arc<MemoryLimiter>,
    /// The produce path.
    pub producer: Producer,
    /// Validates produced records.
    pub validation: RecordValidator,
    /// The fetch path.
    pub fetcher: Fetcher,
    /// The offset lookups.
    pub lookup: OffsetLookup,
    /// Fetch sessions of the diskless nodes.
    pub fetch_sessions: Arc<FetchSessions>,
    /// Wall-clock time.
    pub clock: Arc<dyn WallClock>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Client telemetry (KIP-714), if enabled.
    pub telemetry: Option<Arc<ClientTelemetry>>,
    /// The next connection id.
    pub last_connection_id: AtomicU64,
}

impl Proxy {
    /// Returns a connection id that was never used before.
    pub fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.last_connection_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the port of the classic endpoint of broker `id` on this replica, if it has one.
    pub fn broker_port(&self, id: i32) -> Option<u16> {
        self.settings.broker_port(id, self.topology.open_node_count())
    }
}

impl ProxySettings {
    /// Returns the port of the classic endpoint of broker `id` on a replica with `nodes` open
    /// diskless nodes; `None` if it is out of range or belongs to another listener.
    pub fn broker_port(&self, id: i32, nodes: u16) -> Option<u16> {
        let port = broker_port(self.broker_ports, self.node_ports, id)?;
        let nodes = self.node_ports..self.node_ports.saturating_add(nodes);
        let starts = port == self.bootstrap_port
            || self.client_zones.ports.iter().any(|(other, _)| *other == port);
        (!starts && !nodes.contains(&port)).then_some(port)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn broker_ports_never_collide_with_other_listeners() {
        let ports = vec![(9_107, Arc::from("b"))];
        let mut settings = ProxySettings {
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
            proxy_protocol_from: Vec::new(),
            connections: ConnectionLimits { total: 10, per_address: 5 },
            idle_timeout: Duration::from_secs(600),
            store_name: "memory:".to_owned(),
        };
        assert_eq!(settings.broker_port(1, 4), Some(9101));
        assert_eq!(settings.broker_port(7, 4), None, "clients of zone b start at 9107");
        assert_eq!(settings.broker_port(200, 4), None, "9300 is a diskless node");
        assert_eq!(settings.broker_port(200, 0), None, "also while they are closed");
        assert_eq!(settings.broker_port(204, 4), None, "others may listen above them");
        assert_eq!(settings.broker_port(-1, 4), None);
        assert_eq!(settings.broker_port(60_000, 4), None);
        settings.node_ports = 0;
        assert_eq!(settings.broker_port(204, 0), Some(9304), "where there are no nodes");
        settings.node_ports = 9_050;
        assert_eq!(settings.broker_port(204, 4), Some(9304), "where nodes are below");
    }
}
