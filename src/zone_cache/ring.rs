//! Who is in the zone, as last heard, and who of them is asked for an object.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::auth::PeerKey;
use crate::coordinator::{Member, Membership};
use crate::log::hash::rendezvous_score;
use crate::log::ids::ObjectId;

/// How long a peer that failed is left alone.
const REST: Duration = Duration::from_secs(5);

/// The members as this replica last heard of them.
#[derive(Debug)]
pub struct PeerRing {
    local: Member,
    state: RwLock<Option<RingState>>,
    /// Until when peers are left alone, by process: one that came back is another one.
    open_circuits: Mutex<HashMap<(u64, u32), Instant>>,
}

#[derive(Debug)]
struct RingState {
    members: Vec<Member>,
    key: PeerKey,
    until: Instant,
}

/// Who is asked for an object.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// Nobody: it is this replica's to read it from the store, or none is known.
    Local,
    /// A peer, which failed lately.
    CircuitOpen,
    /// A peer.
    Peer(Peer),
}

/// A peer and how it is asked.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) key: PeerKey,
    process: (u64, u32),
}

impl PeerRing {
    /// A zone in which nobody is known yet.
    pub fn new(local: Member) -> Self {
        Self { local, state: RwLock::default(), open_circuits: Mutex::default() }
    }

    /// This replica, as it tells others of itself.
    pub fn local(&self) -> &Member {
        &self.local
    }

    /// Takes in what the coordinator said. It is believed until `until`, should nothing newer be
    /// heard: a coordinator that is away for a moment ends no cache.
    pub fn update_membership(&self, membership: Membership, until: Instant) {
        let key = PeerKey::new(&membership.secret);
        let state = RingState { members: membership.members, key, until };
        *self.state.write() = Some(state);
    }

    /// Everyone in all zones, by name; nobody when the last news are too old.
    pub fn members(&self) -> Vec<Member> {
        self.with_state(|state| state.members.clone()).unwrap_or_default()
    }

    /// By which the replicas know each other; it outlives the list. `None` before the first news.
    pub(super) fn key(&self) -> Option<PeerKey> {
        let state = self.state.read();
        state.as_ref().map(|state| state.key.clone())
    }

    /// Its writer, which has it in memory, if it is alive in this zone; else whom the zone's
    /// members agree upon without asking.
    pub(super) fn owner(&self, object: ObjectId) -> Owner {
        let peer = self.with_state(|state| {
            let here = |m: &&Member| m.zone == self.local.zone && m.peer.is_some();
            let writer = state.members.iter().filter(here).find(|m| m.wrote(object));
            let ranked = || {
                let members = state.members.iter().filter(here);
                let key = object.to_bytes();
                members.max_by_key(|m| (rendezvous_score(m.replica.as_bytes(), &key), &m.replica))
            };
            let owner =
                writer.or_else(ranked).filter(|owner| owner.replica != self.local.replica)?;
            Some(Peer {
                address: owner.peer.clone()?,
                key: state.key.clone(),
                process: (owner.incarnation, owner.process_id),
            })
        });
        match peer.flatten() {
            None => Owner::Local,
            Some(peer) if self.is_circuit_open(&peer) => Owner::CircuitOpen,
            Some(peer) => Owner::Peer(peer),
        }
    }

    /// Leaves a peer alone for a while.
    pub(super) fn open_circuit(&self, peer: &Peer) {
        let now = Instant::now();
        let mut open_circuits = self.open_circuits.lock();
        open_circuits.retain(|_, until| *until > now);
        open_circuits.insert(peer.process, now + REST);
    }

    fn is_circuit_open(&self, peer: &Peer) -> bool {
        let open_circuits = self.open_circuits.lock();
        open_circuits.get(&peer.process).is_some_and(|until| *until > Instant::now())
    }

    fn with_state<T>(&self, read: impl FnOnce(&RingState) -> T) -> Option<T> {
        let state = self.state.read();
        state.as_ref().filter(|state| state.until > Instant::now()).map(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, incarnation: u64, zone: u16) -> Member {
        Member {
            replica: name.to_owned(),
            incarnation,
            process_id: 1,
            zone,
            zone_name: "z".to_owned(),
            peer: Some(format!("{name}:1")),
            advertised_host: "h".to_owned(),
            node_ports: 1,
            broker_ports: 2,
            nodes: 4,
            version: String::new(),
            settings: 0,
        }
    }

    fn object(incarnation: u64, sequence: u32) -> ObjectId {
        ObjectId { incarnation, process_id: 1, sequence }
    }

    fn asked(zone: &PeerRing, object: ObjectId) -> String {
        match zone.owner(object) {
            Owner::Peer(peer) => peer.address,
            Owner::Local => "nobody".to_owned(),
            Owner::CircuitOpen => "resting".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_writer_is_asked_first_then_whom_all_agree_upon() {
        let deaf = Member { peer: None, ..member("deaf", 7, 0) };
        let members = vec![
            member("a", 1, 0),
            member("b", 2, 0),
            member("c", 3, 0),
            member("far", 4, 1),
            deaf,
        ];
        let zones =
            members[..3].iter().map(|local| PeerRing::new(local.clone())).collect::<Vec<_>>();
        assert_eq!(asked(&zones[0], object(2, 0)), "nobody", "nothing was heard yet");
        let ttl = Duration::from_secs(10);
        for zone in &zones {
            let membership =
                Membership { members: members.clone(), zones: Vec::new(), secret: [0; 32] };
            zone.update_membership(membership, Instant::now() + ttl);
        }
        assert_eq!(asked(&zones[0], object(2, 0)), "b:1");
        assert_eq!(asked(&zones[1], object(2, 0)), "nobody", "it is its own");
        let mut shares = HashMap::new();
        for sequence in 0..3_000 {
            // Of another zone, of one that cannot be asked, of one that is gone.
            let object = object([4, 7, 99][sequence as usize % 3], sequence);
            let names = zones.iter().map(|zone| match asked(zone, object).as_str() {
                "nobody" => format!("{}:1", zone.local.replica),
                other => other.to_owned(),
            });
            let names = names.collect::<Vec<_>>();
            assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
            *shares.entry(names[0].clone()).or_insert(0) += 1;
        }
        assert!(shares.len() == 3 && shares.values().all(|share| *share > 800), "{shares:?}");

        let Owner::Peer(b) = zones[0].owner(object(2, 0)) else { panic!("it is b's") };
        zones[0].open_circuit(&b);
        assert_eq!(asked(&zones[0], object(2, 1)), "resting");
        tokio::time::advance(REST).await;
        assert_eq!(asked(&zones[0], object(2, 1)), "b:1");
        tokio::time::advance(ttl - REST).await;
        assert_eq!(asked(&zones[0], object(2, 1)), "nobody", "the news are too old");
        assert!(zones[0].members().is_empty() && zones[0].key().is_some());
    }
}
