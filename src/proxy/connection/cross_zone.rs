//! Counts what a connection sends into another zone, or takes from there.

use std::sync::atomic::{AtomicBool, Ordering};

use kafka_protocol::messages::ApiKey;
use prometheus_client::metrics::counter::Counter;

use crate::metrics::{ApiKind, Direction, Metrics, TrafficPath};
use crate::proxy::endpoint::Endpoint;

/// A client's side of a connection. The reader finds out where the client is; what the writer
/// sends is counted from then on.
#[derive(Debug)]
pub(super) struct CrossZoneTraffic {
    is_remote: AtomicBool,
    produce: ByteCounters,
    fetch: ByteCounters,
    other: ByteCounters,
}

#[derive(Debug)]
struct ByteCounters {
    received: Counter,
    sent: Counter,
}

impl CrossZoneTraffic {
    pub(super) fn new(metrics: &Metrics, endpoint: Endpoint) -> Self {
        let path = match endpoint {
            Endpoint::Node(_) => TrafficPath::client_diskless,
            Endpoint::Bootstrap | Endpoint::Broker(_) => TrafficPath::client_classic,
        };
        let counters = |api| ByteCounters {
            received: metrics.clients.cross_zone_bytes(path, api, Direction::received),
            sent: metrics.clients.cross_zone_bytes(path, api, Direction::sent),
        };
        Self {
            is_remote: AtomicBool::new(false),
            produce: counters(ApiKind::produce),
            fetch: counters(ApiKind::fetch),
            other: counters(ApiKind::other),
        }
    }

    /// A frame came from a client that is elsewhere, or not.
    pub(super) fn received(&self, api_key: i16, is_remote: bool, bytes: usize) {
        self.is_remote.store(is_remote, Ordering::Relaxed);
        if is_remote {
            self.of(api_key).received.inc_by(bytes as u64);
        }
    }

    /// Bytes of an answer go to the client.
    pub(super) fn sent(&self, api_key: i16, bytes: usize) {
        if self.is_remote.load(Ordering::Relaxed) {
            self.of(api_key).sent.inc_by(bytes as u64);
        }
    }

    fn of(&self, api_key: i16) -> &ByteCounters {
        match ApiKey::try_from(api_key) {
            Ok(ApiKey::Produce) => &self.produce,
            Ok(ApiKey::Fetch) => &self.fetch,
            _ => &self.other,
        }
    }
}
