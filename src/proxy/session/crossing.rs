//! Counts what a connection sends into another zone, or takes from there.

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;

use super::Endpoint;
use crate::metrics::{Direction, Metrics, Traffic};
use crate::proxy::Proxy;

/// A client's side of a connection. The reader finds out where the client is; what the writer
/// sends is counted from then on.
#[derive(Debug)]
pub(super) struct Crossing {
    is_elsewhere: AtomicBool,
    received: Counter,
    sent: Counter,
}

impl Crossing {
    pub(super) fn new(metrics: &Metrics, endpoint: Endpoint) -> Self {
        let traffic = match endpoint {
            Endpoint::Node(_) => Traffic::diskless,
            Endpoint::Bootstrap | Endpoint::Broker(_) => Traffic::classic,
        };
        Self {
            is_elsewhere: AtomicBool::new(false),
            received: metrics.crossing(traffic, Direction::received),
            sent: metrics.crossing(traffic, Direction::sent),
        }
    }

    /// A frame came from a client that is elsewhere, or not.
    pub(super) fn received(&self, is_elsewhere: bool, bytes: usize) {
        self.is_elsewhere.store(is_elsewhere, Ordering::Relaxed);
        if is_elsewhere {
            self.received.inc_by(bytes as u64);
        }
    }

    /// Bytes went to the client.
    pub(super) fn sent(&self, bytes: usize) {
        if self.is_elsewhere.load(Ordering::Relaxed) {
            self.sent.inc_by(bytes as u64);
        }
    }
}

/// The counters of what crosses zones on the way to a broker and back; `None` where nothing does,
/// as far as the broker's rack says.
pub(super) fn to_broker(proxy: &Proxy, address: &str) -> Option<(Counter, Counter)> {
    let view = proxy.cluster.view();
    let broker = view.brokers.values().find(|broker| broker.address() == address)?;
    let rack = broker.rack.as_ref()?;
    (*rack != proxy.settings.zone).then(|| {
        let counter = |direction| proxy.metrics.crossing(Traffic::broker, direction);
        (counter(Direction::sent), counter(Direction::received))
    })
}
