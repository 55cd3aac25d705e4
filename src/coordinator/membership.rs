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
    pub replica_tag: u32,
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
}

impl Member {
    /// Whether this process wrote the object, so that it may have it in memory still.
    pub fn wrote(&self, object: ObjectId) -> bool {
        (self.incarnation, self.replica_tag) == (object.incarnation, object.replica)
    }

    /// Of two processes of one name, the greater one is taken for the newer one.
    fn process(&self) -> (u64, u32) {
        (self.incarnation, self.replica_tag)
    }
}

/// Everyone who is there, and what only they know.
#[derive(Clone, PartialEq, Eq)]
pub struct Membership {
    /// The members of all zones whose leases hold, by name.
    pub members: Vec<Member>,
    /// Drawn once in the life of the metadata; replicas know each other by it.
    pub secret: [u8; 32],
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("members", &self.members).finish_non_exhaustive()
    }
}

/// The reference model of leases; its time is that of the runtime.
#[derive(Debug)]
pub(super) struct Leases {
    secret: Secret,
    by_name: BTreeMap<String, (Member, Instant)>,
}

struct Secret([u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Leases {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret: Secret(secret), by_name: BTreeMap::new() }
    }

    pub(super) fn renew(&mut self, member: &Member, ttl: Duration) -> Membership {
        let now = Instant::now();
        self.by_name.retain(|_, (_, until)| *until > now);
        let held = self.by_name.get(&member.replica);
        // The process that was replaced neither comes back nor takes its successor along.
        if held.is_none_or(|(held, _)| held.process() <= member.process()) {
            if ttl.is_zero() {
                self.by_name.remove(&member.replica);
            } else {
                let until = now + ttl.min(LEASE_MAX);
                self.by_name.insert(member.replica.clone(), (member.clone(), until));
            }
        }
        let members = self.by_name.values().map(|(member, _)| member.clone()).collect();
        Membership { members, secret: self.secret.0 }
    }
}
