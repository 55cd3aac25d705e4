//! Where one client is sent: the nodes that lead for it, and the way to brokers.

use std::sync::Arc;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;

use super::client_zone::ClientZone;
use super::topology::{Address, NodeTopology};
use crate::log::ids::TopicPartition;
use crate::proxy::context::Proxy;

/// The directions for a client in one place, as long as one answer takes.
#[derive(Debug)]
pub(crate) struct Router {
    proxy: Arc<Proxy>,
    topology: Arc<NodeTopology>,
    /// Its nodes lead.
    leader_zone: u16,
    /// The zone whose replicas lead to brokers; `None`: this replica does.
    broker_zone: Option<u16>,
}

impl Router {
    /// A client of another zone in which somebody lives is sent there; anybody else stays here,
    /// unless this replica leaves and others of its zone stay.
    pub(crate) fn new(
        proxy: &Arc<Proxy>,
        topology: Arc<NodeTopology>,
        client_zone: ClientZone,
    ) -> Self {
        let own = proxy.topology.zone();
        let remote = client_zone
            .zone
            .filter(|zone| *zone != own && !topology.live_members(*zone).is_empty());
        let successor = proxy.topology.has_successor().then_some(own);
        let leader_zone = topology.leader_zone(remote.unwrap_or(own));
        Self { proxy: Arc::clone(proxy), topology, leader_zone, broker_zone: remote.or(successor) }
    }

    /// All diskless nodes.
    pub(crate) fn topology(&self) -> &NodeTopology {
        &self.topology
    }

    /// The node that leads a partition for this client; `None` while there is no node at all.
    pub(crate) fn leader(&self, partition: TopicPartition) -> Option<BrokerId> {
        self.topology.leader(self.leader_zone, partition).map(BrokerId)
    }

    /// The node that leads the partition in each zone, this client's first.
    pub(crate) fn replicas(&self, partition: TopicPartition) -> Vec<BrokerId> {
        self.topology.replicas(self.leader_zone, partition).into_iter().map(BrokerId).collect()
    }

    /// Where this client reaches a broker; `None` where it cannot.
    pub(crate) fn broker_address(&self, id: BrokerId) -> Option<Address> {
        let remote = self.broker_zone.and_then(|zone| self.topology.broker_address(zone, id.0));
        remote.or_else(|| {
            let port = self.proxy.broker_port(id.0)?;
            Some(Address { host: self.proxy.settings.advertised_host.clone(), port })
        })
    }

    /// Puts where a broker is reached in place of where it says it is. One without a port of ours
    /// (−1 for "none") keeps what it has only if that leads nowhere.
    pub(crate) fn rewrite_address(&self, id: BrokerId, host: &mut StrBytes, port: &mut i32) {
        match self.broker_address(id) {
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
