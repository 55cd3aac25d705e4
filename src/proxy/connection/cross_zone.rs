//! Counts the bytes that a connection sends to and receives from clients in other zones.

use std::sync::atomic::{AtomicBool, Ordering};

use kafka_protocol::messages::ApiKey;
use prometheus_client::metrics::counter::Counter;

use crate::metrics::{ApiKind, Direction, Metrics, TrafficPath};
use crate::proxy::endpoint::Endpoint;

/// The cross-zone traffic of one connection. The read loop determines the client's zone; from then
/// on the bytes that the write loop sends are counted.
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

    /// Counts a received frame if the client is in another zone.
    pub(super) fn received(&self, api_key: i16, is_remote: bool, bytes: usize) {
        self.is_remote.store(is_remote, Ordering::Relaxed);
        if is_remote {
            self.of(api_key).received.inc_by(bytes as u64);
        }
    }

    /// Counts bytes sent to the client if it is in another zone.
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
