//! Counters, in Prometheus' text format. One struct, handed down; nothing is process-wide.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Which kind of endpoint a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum EndpointKind {
    /// The bootstrap port.
    bootstrap,
    /// The endpoint of a broker.
    classic,
    /// A diskless node.
    diskless,
}

/// How a client's zone was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum PlacementOutcome {
    /// It said, or the operator did.
    hit,
    /// It, or the operator, named a zone that there is not.
    miss,
    /// Nobody said anything.
    unaware,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlacementLabels {
    outcome: PlacementOutcome,
}

/// Where bytes crossed from one zone to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum Border {
    /// Between a client and a diskless node.
    diskless,
    /// Between a client and a classic endpoint or the bootstrap port.
    classic,
    /// Between this replica and a broker, for a client.
    broker,
}

/// What the bytes were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum ApiKind {
    /// Produce.
    produce,
    /// Fetch.
    fetch,
    /// Any other API.
    other,
    /// Not told apart: on the way to a broker and back.
    any,
}

/// Seen from this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum Direction {
    /// It came.
    received,
    /// It went.
    sent,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CrossingLabels {
    border: Border,
    api: ApiKind,
    direction: Direction,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ZoneLabels {
    zone: String,
}

/// What became of a question to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are label values")]
pub enum PeerOutcome {
    /// It answered.
    answered,
    /// It answered after the store had been asked as well.
    late,
    /// It was too slow: the store answered before it did, or its time was up.
    slow,
    /// It refused.
    refused,
    /// It could not be reached, or died amidst its answer.
    failed,
    /// Its answer was not what it should be.
    damaged,
    /// It was not asked, because it had failed lately.
    resting,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    outcome: PeerOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    api: &'static str,
    endpoint: EndpointKind,
}

/// All metrics of a replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    peer_requests: Family<PeerLabels, Counter>,
    placements: Family<PlacementLabels, Counter>,
    members: Family<ZoneLabels, Gauge<i64, AtomicI64>>,
    crossings: Family<CrossingLabels, Counter>,
    connections: Gauge<i64, AtomicI64>,
    /// Objects written.
    pub objects: Counter,
    /// Bytes of objects written.
    pub object_bytes: Counter,
    /// PUTs of objects begun: first ones, repetitions and hedges.
    pub puts: Counter,
    /// PUTs begun beside one that was late.
    pub hedges: Counter,
    /// Uploads that failed and were repeated.
    pub put_errors: Counter,
    /// Of these, the ones that the store refused because it has too much to do.
    pub put_slow_downs: Counter,
    /// How long objects took to become durable once they were sent, in seconds.
    pub put_seconds: Histogram,
    /// Commits that were repeated because their outcome was not known.
    pub commit_repeats: Counter,
    /// Requests whose reading waited for memory.
    pub budget_waits: Counter,
    /// Bytes of objects that peers gave.
    pub peer_bytes: Counter,
    /// GETs not made, because a peer answered.
    pub gets_saved: Counter,
    /// Requests to the peer port that were refused.
    pub peer_refusals: Counter,
    /// 1 while the metadata is lost.
    pub coordinator_lost: Gauge<i64, AtomicI64>,
    /// How often a Redis that began anew was settled.
    pub coordinator_settlements: Counter,
    /// Leases renewed, and with them the list of the zone's replicas.
    pub lease_renewals: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("odradek");
        let requests = Family::default();
        registry.register("requests", "Requests by API and kind of endpoint", requests.clone());
        let peer_requests = Family::default();
        let help = "Objects asked of peers, by what became of it";
        registry.register("peer_requests", help, peer_requests.clone());
        let placements = Family::default();
        let help = "Clients that asked for metadata, by how their zone was found out";
        registry.register("placements", help, placements.clone());
        let members = Family::default();
        registry.register("members", "Replicas whose leases hold, by zone", members.clone());
        let crossings = Family::default();
        let help = "Bytes between this replica and what is known to be in another zone";
        registry.register("zone_crossing_bytes", help, crossings.clone());
        let connections = Gauge::default();
        registry.register("connections", "Client connections open", connections.clone());
        let coordinator_lost: Gauge<i64, AtomicI64> = Gauge::default();
        let help = "1 while the batch coordinator's metadata is lost";
        registry.register("coordinator_lost", help, coordinator_lost.clone());
        let mut counter = |name, help| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let objects = counter("objects_put", "WAL objects written");
        let object_bytes = counter("objects_put_bytes", "Bytes of WAL objects");
        let puts = counter("puts", "PUTs of WAL objects begun, with repetitions and hedges");
        let hedges = counter("put_hedges", "PUTs begun beside one that was late");
        let put_errors = counter("put_errors", "Uploads that failed and were repeated");
        let put_slow_downs = counter("put_slow_downs", "Uploads that the store told to slow down");
        let commit_repeats = counter("commit_repeats", "Commits repeated, their outcome unknown");
        let budget_waits = counter("budget_waits", "Requests whose reading waited for memory");
        let peer_bytes = counter("peer_bytes", "Bytes of objects that peers gave");
        let gets_saved = counter("gets_saved", "GETs not made, because a peer answered");
        let peer_refusals = counter("peer_refusals", "Requests to the peer port refused");
        let lease_renewals = counter("lease_renewals", "Leases renewed at the coordinator");
        let help = "Lives of Redis in which the metadata was found to be whole";
        let coordinator_settlements = counter("coordinator_settlements", help);
        // 1 ms to 16 s.
        let put_seconds = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let help = "Seconds until an object sent was durable";
        registry.register("put_seconds", help, put_seconds.clone());
        Self {
            registry,
            requests,
            peer_requests,
            placements,
            members,
            crossings,
            connections,
            objects,
            object_bytes,
            puts,
            hedges,
            put_errors,
            put_slow_downs,
            put_seconds,
            commit_repeats,
            budget_waits,
            peer_bytes,
            gets_saved,
            peer_refusals,
            lease_renewals,
            coordinator_lost,
            coordinator_settlements,
        }
    }
}

impl Metrics {
    /// Counts a request.
    pub fn request(&self, api: &'static str, endpoint: EndpointKind) {
        self.requests.get_or_create(&RequestLabels { api, endpoint }).inc();
    }

    /// Counts a question to a peer.
    pub fn peer_request(&self, outcome: PeerOutcome) {
        self.peer_requests.get_or_create(&PeerLabels { outcome }).inc();
    }

    /// Counts a client that was placed in a zone, or not.
    pub fn placement(&self, outcome: PlacementOutcome) {
        self.placements.get_or_create(&PlacementLabels { outcome }).inc();
    }

    /// Counts bytes that cross zones.
    pub fn crossing(&self, border: Border, api: ApiKind, direction: Direction) -> Counter {
        self.crossings.get_or_create(&CrossingLabels { border, api, direction }).clone()
    }

    /// Notes how many replicas live in a zone.
    pub fn members(&self, zone: &str, members: usize) {
        let gauge = self.members.get_or_create(&ZoneLabels { zone: zone.to_owned() });
        gauge.set(i64::try_from(members).unwrap_or(i64::MAX));
    }

    /// Counts a connection in.
    pub fn connection_opened(&self) {
        self.connections.inc();
    }

    /// Counts a connection out.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string fails only if a metric cannot be formatted; what there is will do.
        let _partial = prometheus_client::encoding::text::encode(&mut out, &self.registry);
        out
    }
}
