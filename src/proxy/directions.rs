//! Where one client is sent: the nodes that lead for it, and the way to brokers.

use std::sync::Arc;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;

use super::Proxy;
use super::nodes::{Address, NodeMap};
use super::placement::Place;
use crate::log::ids::TopicPartition;

/// The directions for a client in one place, as long as one answer takes.
#[derive(Debug)]
pub(crate) struct Directions {
    proxy: Arc<Proxy>,
    map: Arc<NodeMap>,
    /// Its nodes lead.
    leading: u16,
    /// The zone whose replicas lead to brokers; `None`: this replica does.
    brokers: Option<u16>,
}

impl Directions {
    /// A client of another zone in which somebody lives is sent there; anybody else stays here,
    /// unless this replica leaves and others of its zone stay.
    pub(crate) fn new(proxy: &Arc<Proxy>, map: Arc<NodeMap>, place: Place) -> Self {
        let own = proxy.nodes.zone();
        let elsewhere = place.zone.filter(|zone| *zone != own && !map.live(*zone).is_empty());
        let succeeded = proxy.nodes.is_succeeded().then_some(own);
        let leading = map.leading_zone(elsewhere.unwrap_or(own));
        Self { proxy: Arc::clone(proxy), map, leading, brokers: elsewhere.or(succeeded) }
    }

    /// All diskless nodes.
    pub(crate) fn map(&self) -> &NodeMap {
        &self.map
    }

    /// The node that leads a partition for this client; `None` while there is no node at all.
    pub(crate) fn leader(&self, partition: TopicPartition) -> Option<BrokerId> {
        self.map.leader(self.leading, partition).map(BrokerId)
    }

    /// The node that leads the partition in each zone, this client's first.
    pub(crate) fn replicas(&self, partition: TopicPartition) -> Vec<BrokerId> {
        self.map.replicas(self.leading, partition).into_iter().map(BrokerId).collect()
    }

    /// Where this client reaches a broker; `None` where it cannot.
    pub(crate) fn broker(&self, id: BrokerId) -> Option<Address> {
        let elsewhere = self.brokers.and_then(|zone| self.map.broker(zone, id.0));
        elsewhere.or_else(|| {
            let port = self.proxy.broker_port(id.0)?;
            Some(Address { host: self.proxy.settings.advertised_host.clone(), port })
        })
    }

    /// Puts where a broker is reached in place of where it says it is. One without a port of ours
    /// (−1 for "none") keeps what it has only if that leads nowhere.
    pub(crate) fn rewrite(&self, id: BrokerId, host: &mut StrBytes, port: &mut i32) {
        match self.broker(id) {
            Some(address) => {
                *host = StrBytes::from_string(address.host);
                *port = i32::from(address.port);
            }
            None => {
                *host = StrBytes::default();
                *port = -1;
            }
        }
    }
}
