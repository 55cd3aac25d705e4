//! Who is there: replicas hold leases, in the coordinator's own time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::log::ids::ObjectId;

/// The longest lease: a longer one is cut to this. It bounds what a replica that died, or a clock
/// that jumped, can leave behind.
pub const LEASE_MAX: Duration = Duration::from_secs(60);

/// One replica, as it tells the others of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its name, unique among all of the cluster while it lives.
    pub replica: String,
    /// The incarnation of the objects that it writes.
    pub incarnation: u64,
    /// The replica tag of the objects that it writes.
    pub process_id: u32,
    /// The permanent index of its zone.
    pub zone: u16,
    /// The name of its zone.
    pub zone_name: String,
    /// `host:port` at which other replicas ask it for objects; `None` when it cannot be asked.
    pub peer: Option<String>,
    /// The host that its clients are told to connect to.
    pub advertised_host: String,
    /// Its diskless node `k` is at this port plus `k`.
    pub node_ports: u16,
    /// Its endpoint of broker `n` is at this port plus `n`.
    pub broker_ports: u16,
    /// How many diskless nodes it wants its zone to have; 0 for one that hosts none, as a replica
    /// without a writer does and one of an older version does not say.
    pub nodes: u16,
    /// The version of its program; empty where an older one does not say.
    pub version: String,
    /// A digest of the settings in which all replicas must agree; 0 where an older one does not
    /// say.
    pub settings: u64,
}

/// What is remembered of a zone for ever, whoever comes and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    /// Its name.
    pub name: String,
    /// The greatest number of diskless nodes that a replica of the zone ever asked for; 0 while
    /// none did.
    pub nodes: u16,
    /// Who renewed last of those that host the zone's nodes: where they are while nobody lives.
    pub last: Option<Member>,
}

impl Member {
    /// Whether the zone's diskless nodes may be placed here.
    pub fn hosts(&self) -> bool {
        self.nodes > 0
    }

    /// Whether this process wrote the object, so that it may have it in memory still.
    pub fn wrote(&self, object: ObjectId) -> bool {
        (self.incarnation, self.process_id) == (object.incarnation, object.process_id)
    }

    /// Of two processes of one name, the greater one is taken for the newer one.
    fn process(&self) -> (u64, u32) {
        (self.incarnation, self.process_id)
    }
}

/// Everyone who is there, and what only they know.
#[derive(Clone, PartialEq, Eq)]
pub struct Membership {
    /// The members of all zones whose leases hold, by name.
    pub members: Vec<Member>,
    /// Every zone ever seen, by index.
    pub zones: Vec<ZoneRecord>,
    /// Drawn once in the life of the metadata; replicas know each other by it.
    pub secret: [u8; 32],
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("members", &self.members)
            .field("zones", &self.zones)
            .finish_non_exhaustive()
    }
}

/// The reference model of leases; its time is that of the runtime.
#[derive(Debug)]
pub(super) struct Leases {
    secret: Secret,
    by_name: BTreeMap<String, (Member, Instant)>,
    /// By the zone's index: how many nodes were asked for, and who renewed last.
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
        Self { secret: Secret(secret), by_name: BTreeMap::new(), zones: BTreeMap::new() }
    }

    /// How many nodes the zone has, as far as anybody asked for them.
    pub(super) fn nodes(&self, zone: u16) -> u16 {
        self.zones.get(&zone).map_or(0, |(nodes, _)| *nodes)
    }

    /// The zone has at least so many nodes.
    pub(super) fn raise_nodes(&mut self, zone: u16, nodes: u16) {
        let known = &mut self.zones.entry(zone).or_default().0;
        *known = nodes.max(*known);
    }

    /// `zones` are the names of all zones, by index.
    pub(super) fn renew(&mut self, member: &Member, ttl: Duration, zones: &[String]) -> Membership {
        let now = Instant::now();
        self.by_name.retain(|_, (_, until)| *until > now);
        let held = self.by_name.get(&member.replica);
        // The process that was replaced neither comes back nor takes its successor along.
        if member.hosts() && held.is_none_or(|(held, _)| held.process() <= member.process()) {
            if ttl.is_zero() {
                self.by_name.remove(&member.replica);
            } else {
                let until = now + ttl.min(LEASE_MAX);
                self.by_name.insert(member.replica.clone(), (member.clone(), until));
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
        Membership { members, zones, secret: self.secret.0 }
    }
}
