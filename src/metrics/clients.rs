//! Clients: their connections, their requests, their zones and the memory that they take.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::book::Book;
use super::labels::{
    ApiKind, Border, BudgetLabels, BudgetName, CrossingLabels, Direction, EndpointKind,
    EndpointLabels, ErrorLabels, PlacementLabels, PlacementOutcome, RequestLabels, ZoneLabels,
};

type WholeGauge = Gauge<i64, AtomicI64>;

/// Figures of clients.
#[derive(Debug)]
pub struct ClientMetrics {
    requests: Family<RequestLabels, Counter>,
    partition_errors: Family<ErrorLabels, Counter>,
    connections: Family<EndpointLabels, WholeGauge>,
    connections_opened: Family<EndpointLabels, Counter>,
    placements: Family<PlacementLabels, Counter>,
    crossings: Family<CrossingLabels, Counter>,
    members: Family<ZoneLabels, WholeGauge>,
    budget_bytes: Family<BudgetLabels, WholeGauge>,
    budget_used: Family<BudgetLabels, WholeGauge>,
    /// Requests whose reading waited for memory.
    pub budget_waits: Counter,
    /// Diskless topics that are known.
    pub diskless_topics: WholeGauge,
    /// Diskless topics whose placeholder on the brokers holds records.
    pub placeholders_written: WholeGauge,
}

impl ClientMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        Self {
            requests: book.counters(
                "requests",
                "api, endpoint",
                "Requests by API and kind of endpoint",
            ),
            partition_errors: book.counters(
                "partition_errors",
                "api, code",
                "Partitions of diskless topics answered with an error, by Kafka's error code",
            ),
            connections: book.gauges("connections", "endpoint", "Client connections open"),
            connections_opened: book.counters(
                "connections_opened",
                "endpoint",
                "Client connections that were opened",
            ),
            placements: book.counters(
                "placements",
                "outcome",
                "Requests for Metadata, by how the client's zone was found out",
            ),
            crossings: book.counters(
                "zone_crossing_bytes",
                "border, api, direction",
                "Bytes between this replica and what is known to be in another zone",
            ),
            members: book.gauges("members", "zone", "Replicas whose leases hold, as last heard"),
            budget_bytes: book.gauges(
                "budget_bytes",
                "budget",
                "Bytes of memory that requests may take in all",
            ),
            budget_used: book.gauges(
                "budget_used_bytes",
                "budget",
                "Bytes of that memory that are taken",
            ),
            budget_waits: book.counter(
                "budget_waits",
                "Requests whose reading waited for memory (`memory.requests`, `memory.connection`)",
            ),
            diskless_topics: book.gauge("diskless_topics", "Diskless topics that are known"),
            placeholders_written: book.gauge(
                "placeholders_written",
                "Diskless topics whose placeholder on the brokers holds records: somebody wrote to \
                 the brokers directly, and no consumer of the diskless topic sees it",
            ),
        }
    }

    /// Counts a request.
    pub fn request(&self, api: &'static str, endpoint: EndpointKind) {
        self.requests.get_or_create(&RequestLabels { api, endpoint }).inc();
    }

    /// Counts a partition that was answered with an error.
    pub fn partition_error(&self, api: ApiKind, code: i16) {
        self.partition_errors.get_or_create(&ErrorLabels { api, code: code.into() }).inc();
    }

    /// Counts a client that was placed in a zone, or not.
    pub fn placement(&self, outcome: PlacementOutcome) {
        self.placements.get_or_create(&PlacementLabels { outcome }).inc();
    }

    /// Counts bytes that cross zones.
    pub fn crossing(&self, border: Border, api: ApiKind, direction: Direction) -> Counter {
        self.crossings.get_or_create_owned(&CrossingLabels { border, api, direction })
    }

    /// Bytes between clients and diskless nodes that crossed zones until now.
    pub fn crossed(&self) -> u64 {
        let apis = [ApiKind::produce, ApiKind::fetch, ApiKind::other];
        let bytes = |api, direction| self.crossing(Border::diskless, api, direction).get();
        apis.iter().map(|api| bytes(*api, Direction::received) + bytes(*api, Direction::sent)).sum()
    }

    /// Notes how many replicas live in a zone.
    pub fn members(&self, zone: &str, members: usize) {
        let gauge = self.members.get_or_create_owned(&ZoneLabels { zone: zone.to_owned() });
        gauge.set(i64::try_from(members).unwrap_or(i64::MAX));
    }

    /// Counts a connection in.
    pub fn connection_opened(&self, endpoint: EndpointKind) {
        self.connections.get_or_create(&EndpointLabels { endpoint }).inc();
        self.connections_opened.get_or_create(&EndpointLabels { endpoint }).inc();
    }

    /// Counts a connection out.
    pub fn connection_closed(&self, endpoint: EndpointKind) {
        self.connections.get_or_create(&EndpointLabels { endpoint }).dec();
    }

    /// Client connections that are open.
    pub fn connections(&self) -> i64 {
        let open = |endpoint: &EndpointKind| {
            self.connections.get_or_create(&EndpointLabels { endpoint: *endpoint }).get()
        };
        EndpointKind::ALL.iter().map(open).sum()
    }

    /// Requests of one API to diskless nodes until now.
    pub fn requests_to_nodes(&self, api: &'static str) -> u64 {
        let endpoint = EndpointKind::diskless;
        // Looking makes no series.
        self.requests.get(&RequestLabels { api, endpoint }).map_or(0, |requests| requests.get())
    }

    /// The gauges of a budget: all of it, and what is taken.
    pub fn budget(&self, budget: BudgetName) -> (WholeGauge, WholeGauge) {
        let labels = BudgetLabels { budget };
        (
            self.budget_bytes.get_or_create_owned(&labels),
            self.budget_used.get_or_create_owned(&labels),
        )
    }
}
