//! Counters, in Prometheus' text format. One struct, handed down; nothing is process-wide.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
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
    connections: Gauge<i64, AtomicI64>,
    /// Objects written.
    pub objects: Counter,
    /// Bytes of objects written.
    pub object_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("odradek");
        let requests = Family::default();
        registry.register("requests", "Requests by API and kind of endpoint", requests.clone());
        let connections = Gauge::default();
        registry.register("connections", "Client connections open", connections.clone());
        let objects = Counter::default();
        registry.register("objects_put", "WAL objects written", objects.clone());
        let object_bytes = Counter::default();
        registry.register("objects_put_bytes", "Bytes of WAL objects", object_bytes.clone());
        Self { registry, requests, connections, objects, object_bytes }
    }
}

impl Metrics {
    /// Counts a request.
    pub fn request(&self, api: &'static str, endpoint: EndpointKind) {
        self.requests.get_or_create(&RequestLabels { api, endpoint }).inc();
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
