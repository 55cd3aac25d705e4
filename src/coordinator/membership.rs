//! Membership: replicas have leases, in the coordinator's time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::log::ids::{ObjectId, ProcessIdentity};

/// The longest lease; longer ones are shortened to it. It bounds the effect of a dead replica, or of
/// a clock that jumped.
pub const LEASE_MAX: Duration = Duration::from_secs(60);

/// One replica, as it describes itself to the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its name, unique among the running replicas of the cluster.
    pub replica: String,
    /// The incarnation of the objects that it writes.
    pub incarnation: u64,
    /// The process id of the objects that it writes.
    pub process_id: u32,
    /// The permanent index of its zone.
    pub zone: u16,
    /// The name of its zone.
    pub zone_name: String,
    /// `host:port` at which other replicas request objects from it; `None` if it serves none.
    pub peer: Option<String>,
    /// The host that its clients connect to.
    pub advertised_host: String,
    /// The port of its diskless node 0; node `k` has this port plus `k`.
    pub node_ports: u16,
    /// The port of its endpoint of broker 0; broker `n` has this port plus `n`.
    pub broker_ports: u16,
    /// The number of diskless nodes that it requests for its zone; 0 if it hosts none, as a replica
    /// without a writer, or if its version does not report the number.
    pub nodes: u16,
    /// The version of its program; empty if that version does not report it.
    pub version: String,
    /// A digest of the settings that must be equal on all replicas; 0 if its version does not
    /// report it.
    pub settings: u64,
}

/// The permanent record of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    /// Its name.
    pub name: String,
    /// The greatest number of diskless nodes that a replica of the zone requested; 0 if none did.
    pub nodes: u16,
    /// The member with nodes that renewed last: the nodes have its address while the zone has no
    /// members.
    pub last: Option<Member>,
}

impl Member {
    /// Returns whether the zone's diskless nodes may be assigned to this replica.
    pub fn hosts(&self) -> bool {
        self.nodes > 0
    }

    /// Returns whether this process wrote the object, and so may have it in memory.
    pub fn wrote(&self, object: ObjectId) -> bool {
        (self.incarnation, self.process_id) == (object.incarnation, object.process_id)
    }

    /// Returns the process. Of two processes of one name, the greater one counts as the newer one.
    pub fn process(&self) -> ProcessIdentity {
        ProcessIdentity { incarnation: self.incarnation, process_id: self.process_id }
    }
}

/// The members and zones of a cluster, and the secret of the members.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// The members of all zones with a valid lease, by name.
    pub members: Vec<Member>,
    /// All zones, by index.
    pub zones: Vec<ZoneRecord>,
    /// The processes that run: those that renewed, whether they have a lease or not, and whose time
    /// is not over. It has that of every member, also of one whose record this program cannot read.
    pub processes: BTreeSet<ProcessIdentity>,
    /// The number of members whose records this program cannot read, because theirs is newer.
    pub unreadable_members: usize,
    /// A random secret, drawn once for the metadata, by which replicas authenticate to each other.
    pub secret: [u8; 32],
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("members", &self.members)
            .field("zones", &self.zones)
            .field("processes", &self.processes)
            .field("unreadable_members", &self.unreadable_members)
            .finish_non_exhaustive()
    }
}

/// The reference model of leases, in the time of the Tokio runtime.
#[derive(Debug)]
pub(super) struct Leases {
    secret: Secret,
    by_name: BTreeMap<String, (Member, Instant)>,
    /// Until when each process counts as running.
    processes: BTreeMap<ProcessIdentity, Instant>,
    /// By the zone's index: the number of nodes, and the member that renewed last.
    zones: BTreeMap<u16, (u16, Option<Member>)>,
}

struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Leases {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        let (by_name, processes, zones) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { secret: Secret(secret), by_name, processes, zones }
    }

    /// Returns the number of nodes that were requested for the zone.
    pub(super) fn nodes(&self, zone: u16) -> u16 {
        self.zones.get(&zone).map_or(0, |(nodes, _)| *nodes)
    }

    /// Raises the number of nodes of the zone to at least `nodes`.
    pub(super) fn raise_nodes(&mut self, zone: u16, nodes: u16) {
        let current = &mut self.zones.entry(zone).or_default().0;
        *current = nodes.max(*current);
    }

    /// Implements [`super::Coordinator::renew`]; `zones` are the names of all zones, by index.
    pub(super) fn renew(&mut self, member: &Member, ttl: Duration, zones: &[String]) -> Membership {
        let now = Instant::now();
        self.by_name.retain(|_, (_, lease_end)| *lease_end > now);
        self.processes.retain(|_, end| *end > now);
        if !ttl.is_zero() {
            let end = self.processes.entry(member.process()).or_insert(now);
            *end = (now + ttl.min(LEASE_MAX)).max(*end);
        } else if !member.hosts() {
            self.processes.remove(&member.process());
        }
        let held = self.by_name.get(&member.replica);
        // A replaced process neither takes the lease again nor ends its successor's.
        if member.hosts() && held.is_none_or(|(held, _)| held.process() <= member.process()) {
            if ttl.is_zero() {
                self.by_name.remove(&member.replica);
            } else {
                let lease_end = now + ttl.min(LEASE_MAX);
                self.by_name.insert(member.replica.clone(), (member.clone(), lease_end));
                self.raise_nodes(member.zone, member.nodes);
                self.zones.entry(member.zone).or_default().1 = Some(member.clone());
            }
        }
        let members = self.by_name.values().map(|(member, _)| member.clone()).collect();
        let record = |(index, name): (u16, &String)| {
            let (nodes, last) = self.zones.get(&index).cloned().unwrap_or_default();
            ZoneRecord { name: name.clone(), nodes, last }
        };
        let zones = (0..).zip(zones).map(record).collect();
        let of_members = self.by_name.values().map(|(member, _)| member.process());
        let processes = self.processes.keys().copied().chain(of_members).collect();
        Membership { members, zones, processes, unreadable_members: 0, secret: self.secret.0 }
    }
}
