//! Metrics of clients: connections, requests, zones and memory.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{
    ApiKind, CrossZoneLabels, Direction, EndpointKind, EndpointLabels, ErrorLabels, Expiry,
    ExpiryLabels, MemoryPool, MemoryPoolLabels, Refusal, RefusalLabels, RequestLabels, TrafficPath,
    ZoneLabels, ZoneResolutionLabels, ZoneResolutionOutcome,
};
use super::registry::MetricRegistry;

type WholeGauge = Gauge<i64, AtomicI64>;

/// Metrics of clients.
#[derive(Debug)]
pub struct ClientMetrics {
    requests: Family<RequestLabels, Counter>,
    partition_errors: Family<ErrorLabels, Counter>,
    connections: Family<EndpointLabels, WholeGauge>,
    connections_opened: Family<EndpointLabels, Counter>,
    connections_refused: Family<RefusalLabels, Counter>,
    /// The maximum number of open client connections.
    pub connections_max: WholeGauge,
    connections_expired: Family<ExpiryLabels, Counter>,
    zone_resolutions: Family<ZoneResolutionLabels, Counter>,
    cross_zone_bytes: Family<CrossZoneLabels, Counter>,
    members: Family<ZoneLabels, WholeGauge>,
    memory_pool_limit: Family<MemoryPoolLabels, WholeGauge>,
    memory_pool_used: Family<MemoryPoolLabels, WholeGauge>,
    /// Requests that waited for memory before they were read.
    pub memory_pool_waits: Counter,
    /// Events that the audit log lost.
    pub audit_events_suppressed: Counter,
    /// Diskless topics in the cache.
    pub diskless_topics: WholeGauge,
    /// Diskless topics whose placeholder on the brokers contains records.
    pub placeholders_with_records: WholeGauge,
}

fn connections_refused(registry: &mut MetricRegistry) -> Family<RefusalLabels, Counter> {
    registry.counter_family(
        "connections_refused",
        "reason",
        "Client connections closed before anything was read from them",
    )
}

fn connections_max(registry: &mut MetricRegistry) -> WholeGauge {
    registry.gauge(
        "connections_max",
        "Maximum number of open client connections (`listeners.maxConnections`, or less if the limit \
         on open files allows less)",
    )
}

impl ClientMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        Self {
            requests: registry.counter_family(
                "requests",
                "api, endpoint",
                "Requests, by API and type of endpoint",
            ),
            partition_errors: registry.counter_family(
                "partition_errors",
                "api, code",
                "Partitions of diskless topics whose response is an error, by Kafka's error code",
            ),
            connections: registry.gauge_family(
                "connections",
                "endpoint",
                "Open client connections",
            ),
            connections_opened: registry.counter_family(
                "connections_opened",
                "endpoint",
                "Client connections opened",
            ),
            connections_refused: connections_refused(registry),
            connections_max: connections_max(registry),
            connections_expired: registry.counter_family(
                "connections_expired",
                "limit",
                "Client connections closed because they exceeded a time limit",
            ),
            zone_resolutions: registry.counter_family(
                "client_zone_resolutions",
                "outcome",
                "Metadata requests, by how the client's zone was resolved",
            ),
            cross_zone_bytes: registry.counter_family(
                "cross_zone_bytes",
                "path, api, direction",
                "Bytes between this replica and clients or brokers of other zones",
            ),
            members: registry.gauge_family(
                "members",
                "zone",
                "Replicas with a valid lease, by the last membership update",
            ),
            memory_pool_limit: registry.gauge_family(
                "memory_pool_limit_bytes",
                "pool",
                "Memory limit of the pool, in bytes",
            ),
            memory_pool_used: registry.gauge_family(
                "memory_pool_used_bytes",
                "pool",
                "Memory in use, in bytes",
            ),
            memory_pool_waits: registry.counter(
                "memory_pool_waits",
                "Requests that waited for memory before they were read (`memory.requests`, `memory.connection`)",
            ),
            audit_events_suppressed: registry.counter(
                "audit_events_suppressed",
                "Events that the audit log lost: there were too many, or its stream was too slow",
            ),
            diskless_topics: registry.gauge("diskless_topics", "Diskless topics in the topic cache"),
            placeholders_with_records: registry.gauge(
                "placeholders_with_records",
                "Diskless topics whose placeholder on the brokers contains records: a client wrote \
                 to the brokers directly, and consumers of the diskless topic do not see these records",
            ),
        }
    }

    /// Counts a request.
    pub fn request(&self, api: &'static str, endpoint: EndpointKind) {
        self.requests.get_or_create(&RequestLabels { api, endpoint }).inc();
    }

    /// Counts a partition whose response is an error.
    pub fn partition_error(&self, api: ApiKind, code: i16) {
        self.partition_errors.get_or_create(&ErrorLabels { api, code: code.into() }).inc();
    }

    /// Counts a resolution of a client's zone.
    pub fn zone_resolution(&self, outcome: ZoneResolutionOutcome) {
        self.zone_resolutions.get_or_create(&ZoneResolutionLabels { outcome }).inc();
    }

    /// Returns the counter of bytes between zones.
    pub fn cross_zone_bytes(
        &self,
        path: TrafficPath,
        api: ApiKind,
        direction: Direction,
    ) -> Counter {
        self.cross_zone_bytes.get_or_create_owned(&CrossZoneLabels { path, api, direction })
    }

    /// Returns the total bytes between diskless nodes and clients of other zones.
    pub fn diskless_cross_zone_bytes(&self) -> u64 {
        let apis = [ApiKind::produce, ApiKind::fetch, ApiKind::other];
        let bytes = |api, direction| {
            self.cross_zone_bytes(TrafficPath::client_diskless, api, direction).get()
        };
        apis.iter().map(|api| bytes(*api, Direction::received) + bytes(*api, Direction::sent)).sum()
    }

    /// Sets the number of live replicas of a zone.
    pub fn members(&self, zone: &str, members: usize) {
        let gauge = self.members.get_or_create_owned(&ZoneLabels { zone: zone.to_owned() });
        gauge.set(i64::try_from(members).unwrap_or(i64::MAX));
    }

    /// Counts an opened connection.
    pub fn connection_opened(&self, endpoint: EndpointKind) {
        self.connections.get_or_create(&EndpointLabels { endpoint }).inc();
        self.connections_opened.get_or_create(&EndpointLabels { endpoint }).inc();
    }

    /// Counts a closed connection.
    pub fn connection_closed(&self, endpoint: EndpointKind) {
        self.connections.get_or_create(&EndpointLabels { endpoint }).dec();
    }

    /// Returns the counter of connections that were closed before anything was read from them.
    pub fn connections_refused(&self, reason: Refusal) -> Counter {
        self.connections_refused.get_or_create_owned(&RefusalLabels { reason })
    }

    /// Counts a connection that exceeded a limit on time.
    pub fn connection_expired(&self, limit: Expiry) {
        self.connections_expired.get_or_create(&ExpiryLabels { limit }).inc();
    }

    /// Returns the number of open client connections.
    pub fn connections(&self) -> i64 {
        let open = |endpoint: &EndpointKind| {
            self.connections.get_or_create(&EndpointLabels { endpoint: *endpoint }).get()
        };
        EndpointKind::ALL.iter().map(open).sum()
    }

    /// Returns the total requests of one API to diskless nodes.
    pub fn requests_to_nodes(&self, api: &'static str) -> u64 {
        let endpoint = EndpointKind::diskless;
        // `get` does not create a series.
        self.requests.get(&RequestLabels { api, endpoint }).map_or(0, |requests| requests.get())
    }

    /// Returns the gauges of a memory pool: its limit and its use.
    pub fn memory_pool(&self, pool: MemoryPool) -> (WholeGauge, WholeGauge) {
        let labels = MemoryPoolLabels { pool };
        (
            self.memory_pool_limit.get_or_create_owned(&labels),
            self.memory_pool_used.get_or_create_owned(&labels),
        )
    }
}
