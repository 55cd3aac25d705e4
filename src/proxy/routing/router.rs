//! The routes of one client: the nodes that lead partitions for it, and the addresses of brokers.

use std::sync::Arc;

use kafka_protocol::messages::BrokerId;
use kafka_protocol::protocol::StrBytes;

use super::client_zone::ClientZone;
use super::topology::{Address, NodeTopology};
use crate::log::ids::TopicPartition;
use crate::proxy::context::Proxy;

/// The routes for a client in a zone, for one response.
#[derive(Debug)]
pub(crate) struct Router {
    proxy: Arc<Proxy>,
    topology: Arc<NodeTopology>,
    /// The zone whose nodes lead.
    leader_zone: u16,
    /// The zone whose replicas forward to brokers; `None` if this replica does.
    broker_zone: Option<u16>,
}

impl Router {
    /// Sends a client of another zone with live members there. Other clients stay on this replica,
    /// unless it leaves and its zone has other members.
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

    /// Returns the topology.
    pub(crate) fn topology(&self) -> &NodeTopology {
        &self.topology
    }

    /// Returns the node that leads a partition for this client; `None` if there are no nodes.
    pub(crate) fn leader(&self, partition: TopicPartition) -> Option<BrokerId> {
        self.topology.leader(self.leader_zone, partition).map(BrokerId)
    }

    /// Returns the node that leads a partition in each zone, beginning with the client's.
    pub(crate) fn replicas(&self, partition: TopicPartition) -> Vec<BrokerId> {
        self.topology.replicas(self.leader_zone, partition).into_iter().map(BrokerId).collect()
    }

    /// Returns the address at which this client reaches a broker; `None` if it cannot.
    pub(crate) fn broker_address(&self, id: BrokerId) -> Option<Address> {
        let remote = self.broker_zone.and_then(|zone| self.topology.broker_address(zone, id.0));
        remote.or_else(|| {
            let port = self.proxy.broker_port(id.0)?;
            Some(Address { host: self.proxy.settings.advertised_host.clone(), port })
        })
    }

    /// Replaces the address of a broker in a response by the one at which this client reaches it. The
    /// address of a broker that it cannot reach (or −1 for "none") becomes empty.
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
