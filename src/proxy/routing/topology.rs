//! The map of diskless nodes: which replica of which zone answers for each of them
//! (`docs/adr/0013-the-node-map.md`).
//!
//! It follows from what the coordinator says of members and zones and from nothing else, so that
//! every replica of every zone hands out the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use parking_lot::{Mutex, RwLock};

use super::node_ids::{NODES_PER_ZONE_MAX, leader_index, node_id};
use crate::coordinator::{Member, Membership, ZoneRecord};
use crate::log::hash::rendezvous_score;
use crate::log::ids::TopicPartition;

/// Where clients reach something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The host, as its replica advertises it.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A diskless node as clients are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisklessNode<'a> {
    /// Its id, for ever.
    pub id: i32,
    /// Where it is now.
    pub address: &'a Address,
    /// The name of its zone.
    pub rack: &'a str,
}

/// Every diskless node of every zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeTopology {
    /// By the zone's index.
    zones: Vec<ZoneNodes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ZoneNodes {
    name: String,
    /// Those that host nodes and live.
    live_members: Vec<Member>,
    /// By node; empty while nobody was ever there.
    addresses: Vec<Address>,
    /// The replica that hosts each of them.
    hosts: Vec<String>,
}

impl NodeTopology {
    /// The map of a membership. A zone's nodes are spread over its live hosts; while there is
    /// none, they stay where its last one was.
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

    /// All nodes, by id.
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

    /// The nodes of a zone: id, the replica that hosts it, and where it is.
    pub fn nodes_of_zone(&self, zone: u16) -> impl Iterator<Item = (i32, &str, &Address)> {
        self.zones.get(usize::from(zone)).into_iter().flat_map(move |nodes| {
            let hosted = nodes.hosts.iter().zip(&nodes.addresses);
            (0..).zip(hosted).map(move |(k, (host, at))| (node_id(zone, k), host.as_str(), at))
        })
    }

    /// The index of a zone.
    pub fn zone_index(&self, name: &str) -> Option<u16> {
        self.zone_names()
            .position(|known| known == name)
            .and_then(|index| u16::try_from(index).ok())
    }

    /// The names of all zones, by index.
    pub fn zone_names(&self) -> impl Iterator<Item = &str> {
        self.zones.iter().map(|zone| zone.name.as_str())
    }

    /// How many nodes a zone has.
    pub fn node_count(&self, zone: u16) -> u16 {
        self.zones.get(usize::from(zone)).map_or(0, |zone| zone.addresses.len() as u16)
    }

    /// The replicas of a zone that live and host its nodes, by name.
    pub fn live_members(&self, zone: u16) -> &[Member] {
        self.zones.get(usize::from(zone)).map_or(&[], |zone| &zone.live_members)
    }

    /// The zone whose nodes lead for clients of this one: itself while somebody lives there, else
    /// the first zone in which somebody does. Every node serves every partition, so a zone that
    /// is dead costs its clients the way to another one.
    pub fn leader_zone(&self, zone: u16) -> u16 {
        let lives = |zone: &u16| !self.live_members(*zone).is_empty();
        let all = || 0..self.zones.len() as u16;
        let any = || all().find(lives).or_else(|| all().find(|zone| self.node_count(*zone) > 0));
        Some(zone).filter(lives).or_else(any).unwrap_or(zone)
    }

    /// The node that leads a partition for clients of a zone; `None` while the zone has none.
    pub fn leader(&self, zone: u16, partition: TopicPartition) -> Option<i32> {
        Some(node_id(zone, leader_index(partition, self.node_count(zone))?))
    }

    /// The node that leads the partition in each zone that has nodes, `zone`'s first.
    pub fn replicas(&self, zone: u16, partition: TopicPartition) -> Vec<i32> {
        let others = (0..self.zones.len() as u16).filter(|other| *other != zone);
        std::iter::once(zone).chain(others).filter_map(|z| self.leader(z, partition)).collect()
    }

    /// Where a live replica of a zone leads to a broker; brokers are spread over the replicas.
    pub fn broker_address(&self, zone: u16, id: i32) -> Option<Address> {
        let port = |member: &Member| {
            let base = Some(member.broker_ports).filter(|port| *port > 0)?;
            u16::try_from(i32::from(base).checked_add(id)?).ok().filter(|_| id >= 0)
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

/// The map as this replica last heard of it, and this replica's place in it.
#[derive(Debug)]
pub struct SharedTopology {
    replica: String,
    zone: u16,
    membership: Mutex<Membership>,
    map: RwLock<Arc<NodeTopology>>,
    left: AtomicBool,
    open_nodes: AtomicU16,
}

impl SharedTopology {
    /// Knows of nobody yet.
    pub fn new(me: &Member) -> Self {
        let nobody = Membership { members: Vec::new(), zones: Vec::new(), secret: [0; 32] };
        Self {
            replica: me.replica.clone(),
            zone: me.zone,
            membership: Mutex::new(nobody),
            map: RwLock::default(),
            left: AtomicBool::new(false),
            open_nodes: AtomicU16::new(0),
        }
    }

    /// The latest map.
    pub fn current(&self) -> Arc<NodeTopology> {
        Arc::clone(&self.map.read())
    }

    /// The index of this replica's zone.
    pub fn zone(&self) -> u16 {
        self.zone
    }

    /// From now on the map is that of this membership, for as long as nothing newer is heard.
    pub fn update(&self, membership: Membership) {
        *self.membership.lock() = membership;
        self.rebuild();
    }

    /// From now on this replica is in no map, whatever is heard.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
        self.rebuild();
    }

    /// Whether this replica leaves and others of its zone take over.
    pub fn has_successor(&self) -> bool {
        self.left.load(Ordering::Acquire) && !self.current().live_members(self.zone).is_empty()
    }

    /// So many ports of diskless nodes are open here.
    pub fn set_open_node_count(&self, nodes: u16) {
        self.open_nodes.store(nodes, Ordering::Release);
    }

    /// How many ports of diskless nodes are open here.
    pub fn open_node_count(&self) -> u16 {
        self.open_nodes.load(Ordering::Acquire)
    }

    fn rebuild(&self) {
        let mut membership = self.membership.lock();
        if self.left.load(Ordering::Acquire) {
            membership.members.retain(|member| member.replica != self.replica);
        }
        *self.map.write() = Arc::new(NodeTopology::of(&membership));
    }
}

#[cfg(test)]
mod tests;
