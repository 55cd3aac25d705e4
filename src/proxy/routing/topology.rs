//! The topology: which replica of which zone hosts each diskless node (ADR 0013).
//!
//! It depends only on the membership in the coordinator, so every replica of every zone advertises
//! the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use parking_lot::{Mutex, RwLock};

use super::node_ids::{NODES_PER_ZONE_MAX, leader_index, node_id};
use crate::coordinator::{Member, Membership, ZoneRecord};
use crate::log::hash::rendezvous_score;
use crate::log::ids::TopicPartition;
use crate::proxy::endpoint::broker_port;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The host, as advertised by its replica.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A diskless node as advertised to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisklessNode<'a> {
    /// The node id, which never changes.
    pub id: i32,
    /// The current address.
    pub address: &'a Address,
    /// The name of the zone.
    pub rack: &'a str,
}

/// Every diskless node of every zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTopology {
    /// By zone index.
    zones: Vec<ZoneNodes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ZoneNodes {
    name: String,
    /// The live members that host nodes.
    live_members: Vec<Member>,
    /// By node; empty until the zone has had a member.
    addresses: Vec<Address>,
    /// The name of the replica that hosts each node.
    hosts: Vec<String>,
}

impl NodeTopology {
    /// Computes the topology of a membership. The nodes of a zone are spread over its live hosts.
    /// Without a live host they stay at the address of the last one.
    pub fn of(membership: &Membership) -> Self {
        let zone = |(index, record): (u16, &ZoneRecord)| {
            let here = |member: &&Member| member.zone == index && member.hosts();
            let live_members: Vec<_> = membership.members.iter().filter(here).cloned().collect();
            let hosts =
                if live_members.is_empty() { record.last.as_slice() } else { &live_members };
            let place = |k| {
                let id = node_id(index, k);
                let host = hosts.iter().max_by_key(|m| (score(&m.replica, id), &m.replica))?;
                let port = host.node_ports.saturating_add(k);
                Some((Address { host: host.advertised_host.clone(), port }, host.replica.clone()))
            };
            let nodes = (0..record.nodes.min(NODES_PER_ZONE_MAX)).map_while(place);
            let (addresses, hosts) = nodes.unzip();
            ZoneNodes { name: record.name.clone(), live_members, addresses, hosts }
        };
        Self { zones: (0..).zip(&membership.zones).map(zone).collect() }
    }

    /// Returns all nodes in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = DisklessNode<'_>> {
        (0..).zip(&self.zones).flat_map(|(index, zone)| {
            let node = move |(k, address)| DisklessNode {
                id: node_id(index, k),
                address,
                rack: &zone.name,
            };
            (0..).zip(&zone.addresses).map(node)
        })
    }

    /// Returns the nodes of a zone: id, name of the hosting replica, address.
    pub fn nodes_of_zone(&self, zone: u16) -> impl Iterator<Item = (i32, &str, &Address)> {
        self.zones.get(usize::from(zone)).into_iter().flat_map(move |nodes| {
            let hosted = nodes.hosts.iter().zip(&nodes.addresses);
            (0..).zip(hosted).map(move |(k, (host, at))| (node_id(zone, k), host.as_str(), at))
        })
    }

    /// Returns the index of the zone with this name.
    pub fn zone_index(&self, name: &str) -> Option<u16> {
        self.zone_names()
            .position(|known| known == name)
            .and_then(|index| u16::try_from(index).ok())
    }

    /// Returns the names of all zones in the order of their indexes.
    pub fn zone_names(&self) -> impl Iterator<Item = &str> {
        self.zones.iter().map(|zone| zone.name.as_str())
    }

    /// Returns the number of nodes of a zone.
    pub fn node_count(&self, zone: u16) -> u16 {
        self.zones.get(usize::from(zone)).map_or(0, |zone| zone.addresses.len() as u16)
    }

    /// Returns the live members of a zone that host nodes, in the order of their names.
    pub fn live_members(&self, zone: u16) -> &[Member] {
        self.zones.get(usize::from(zone)).map_or(&[], |zone| &zone.live_members)
    }

    /// Returns the zone whose nodes lead for clients of this zone: the zone itself if it has a live
    /// member, else the first zone that has one. Every node serves every partition, so clients of a
    /// zone without members use the nodes of another zone.
    pub fn leader_zone(&self, zone: u16) -> u16 {
        let lives = |zone: &u16| !self.live_members(*zone).is_empty();
        let all = || 0..self.zones.len() as u16;
        let any = || all().find(lives).or_else(|| all().find(|zone| self.node_count(*zone) > 0));
        Some(zone).filter(lives).or_else(any).unwrap_or(zone)
    }

    /// Returns the id of the node that leads a partition for clients of a zone; `None` if the zone has
    /// no nodes.
    pub fn leader(&self, zone: u16, partition: TopicPartition) -> Option<i32> {
        Some(node_id(zone, leader_index(partition, self.node_count(zone))?))
    }

    /// Returns the id of the node that leads a partition in each zone with nodes, beginning with
    /// `zone`.
    pub fn replicas(&self, zone: u16, partition: TopicPartition) -> Vec<i32> {
        let others = (0..self.zones.len() as u16).filter(|other| *other != zone);
        std::iter::once(zone).chain(others).filter_map(|z| self.leader(z, partition)).collect()
    }

    /// Returns the address at which a live replica of a zone forwards to a broker. Brokers are spread
    /// over the replicas.
    pub fn broker_address(&self, zone: u16, id: i32) -> Option<Address> {
        let port = |member: &Member| {
            let base = Some(member.broker_ports).filter(|port| *port > 0)?;
            broker_port(base, member.node_ports, id)
        };
        let able =
            self.live_members(zone).iter().filter_map(|member| Some((member, port(member)?)));
        let (member, port) = able.max_by_key(|(m, _)| (score(&m.replica, id), &m.replica))?;
        Some(Address { host: member.advertised_host.clone(), port })
    }
}

/// Returns the score of a replica as the host of a node or broker endpoint: the one with the
/// greatest score hosts it.
fn score(replica: &str, id: i32) -> u64 {
    rendezvous_score(replica.as_bytes(), &id.to_be_bytes())
}

/// The current topology, and the state of this replica in it.
#[derive(Debug)]
pub struct SharedTopology {
    replica: String,
    zone: u16,
    membership: Mutex<Membership>,
    map: RwLock<Arc<NodeTopology>>,
    left: AtomicBool,
    cut_off: AtomicBool,
    open_nodes: AtomicU16,
}

impl SharedTopology {
    /// Creates an empty topology.
    pub fn new(me: &Member) -> Self {
        let empty = Membership::default();
        Self {
            replica: me.replica.clone(),
            zone: me.zone,
            membership: Mutex::new(empty),
            map: RwLock::default(),
            left: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            open_nodes: AtomicU16::new(0),
        }
    }

    /// Returns the current topology.
    pub fn current(&self) -> Arc<NodeTopology> {
        Arc::clone(&self.map.read())
    }

    /// Returns the index of this replica's zone.
    pub fn zone(&self) -> u16 {
        self.zone
    }

    /// Replaces the membership.
    pub fn update(&self, membership: Membership) {
        *self.membership.lock() = membership;
        self.rebuild();
    }

    /// Removes this replica from the topology, also from later memberships.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
        self.rebuild();
    }

    /// Sets whether this replica cannot reach the coordinator. Until it can again, its nodes are
    /// advertised at the other members of its zone, if the last known membership has any.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        if self.cut_off.swap(is_cut_off, Ordering::AcqRel) != is_cut_off {
            self.rebuild();
        }
    }

    /// Returns whether this replica cannot reach the coordinator and other members of its zone may.
    pub fn is_superseded(&self) -> bool {
        let is_other = |member: &Member| member.replica != self.replica;
        self.cut_off.load(Ordering::Acquire)
            && self.current().live_members(self.zone).iter().any(is_other)
    }

    /// Returns whether this replica leaves and other members of its zone take over its nodes.
    pub fn has_successor(&self) -> bool {
        self.left.load(Ordering::Acquire) && !self.current().live_members(self.zone).is_empty()
    }

    /// Returns whether other replicas may take over the nodes of this one, which leaves: also those
    /// whose member records this program cannot read.
    pub fn may_have_successor(&self) -> bool {
        self.has_successor() || self.membership.lock().unreadable_members > 0
    }

    /// Sets the number of open ports of diskless nodes on this replica.
    pub fn set_open_node_count(&self, nodes: u16) {
        self.open_nodes.store(nodes, Ordering::Release);
    }

    /// Returns the number of open ports of diskless nodes on this replica.
    pub fn open_node_count(&self) -> u16 {
        self.open_nodes.load(Ordering::Acquire)
    }

    fn rebuild(&self) {
        let mut membership = self.membership.lock();
        if self.left.load(Ordering::Acquire) {
            membership.members.retain(|member| member.replica != self.replica);
        }
        let is_other = |member: &Member| member.replica != self.replica;
        let can_succeed =
            |member: &Member| member.zone == self.zone && member.hosts() && is_other(member);
        let mut effective = membership.clone();
        if self.cut_off.load(Ordering::Acquire) && membership.members.iter().any(can_succeed) {
            effective.members.retain(is_other);
        }
        *self.map.write() = Arc::new(NodeTopology::of(&effective));
    }
}

#[cfg(test)]
mod tests;
