//! Counts what a connection sends into another zone, or takes from there.

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::metrics::counter::Counter;

use super::Endpoint;
use crate::metrics::{ApiKind, Border, Direction, Metrics};
use crate::proxy::Proxy;

/// A client's side of a connection. The reader finds out where the client is; what the writer
/// sends is counted from then on.
#[derive(Debug)]
pub(super) struct Crossing {
    is_elsewhere: AtomicBool,
    produce: Both,
    fetch: Both,
    other: Both,
}

#[derive(Debug)]
struct Both {
    received: Counter,
    sent: Counter,
}

impl Crossing {
    pub(super) fn new(metrics: &Metrics, endpoint: Endpoint) -> Self {
        let border = match endpoint {
            Endpoint::Node(_) => Border::diskless,
            Endpoint::Bootstrap | Endpoint::Broker(_) => Border::classic,
        };
        let both = |api| Both {
            received: metrics.clients.crossing(border, api, Direction::received),
            sent: metrics.clients.crossing(border, api, Direction::sent),
        };
        Self {
            is_elsewhere: AtomicBool::new(false),
            produce: both(ApiKind::produce),
            fetch: both(ApiKind::fetch),
            other: both(ApiKind::other),
        }
    }

    /// A frame came from a client that is elsewhere, or not.
    pub(super) fn received(&self, api_key: i16, is_elsewhere: bool, bytes: usize) {
        self.is_elsewhere.store(is_elsewhere, Ordering::Relaxed);
        if is_elsewhere {
            self.of(api_key).received.inc_by(bytes as u64);
        }
    }

    /// Bytes of an answer go to the client.
    pub(super) fn sent(&self, api_key: i16, bytes: usize) {
        if self.is_elsewhere.load(Ordering::Relaxed) {
            self.of(api_key).sent.inc_by(bytes as u64);
        }
    }

    fn of(&self, api_key: i16) -> &Both {
        match api_key {
            0 => &self.produce,
            1 => &self.fetch,
            _ => &self.other,
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
        let counter =
            |direction| proxy.metrics.clients.crossing(Border::broker, ApiKind::any, direction);
        (counter(Direction::sent), counter(Direction::received))
    })
}
