//! Membership of the zone as last reported, and the owner of each object by rendezvous hashing.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::auth::PeerKey;
use crate::coordinator::{Member, Membership};
use crate::log::hash::rendezvous_score;
use crate::log::ids::ObjectId;

/// Time for which the circuit breaker of a failed peer stays open.
const COOL_DOWN: Duration = Duration::from_secs(5);

/// Identifies a process: a peer that has restarted is another process.
type ProcessKey = (u64, u32);

/// The members that own objects of a zone.
#[derive(Debug)]
pub struct PeerRing {
    local: Member,
    state: RwLock<Option<RingState>>,
    /// End of the cool-down of each process whose circuit breaker is open.
    open_circuits: Mutex<HashMap<ProcessKey, Instant>>,
    /// When the last renewal of the local lease to which the coordinator responded was sent.
    renewed_at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct RingState {
    members: Vec<Member>,
    key: PeerKey,
    valid_until: Instant,
}

/// The owner of an object: the replica that reads it from the store for its zone.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// This replica, or unknown.
    Local,
    /// A peer whose circuit breaker is open.
    CircuitOpen,
    /// A peer.
    Peer(Peer),
}

/// A peer and how to reach it.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) key: PeerKey,
    process: ProcessKey,
}

impl Peer {
    fn of(member: &Member, key: &PeerKey) -> Option<Self> {
        let process = (member.incarnation, member.process_id);
        Some(Self { address: member.peer.clone()?, key: key.clone(), process })
    }
}

impl PeerRing {
    /// Creates a ring without known members.
    pub fn new(local: Member) -> Self {
        let (state, open_circuits) = (RwLock::default(), Mutex::default());
        Self { local, state, open_circuits, renewed_at: Mutex::default() }
    }

    /// Returns this replica.
    pub fn local(&self) -> &Member {
        &self.local
    }

    /// Replaces the membership. It is valid until `valid_until` unless it is replaced before: a
    /// short outage of the coordinator does not disable the zone cache.
    pub fn update_membership(&self, membership: Membership, valid_until: Instant) {
        let key = PeerKey::new(&membership.secret);
        let members = membership.members;
        *self.state.write() = Some(RingState { members, key, valid_until });
    }

    /// Records that the coordinator responded to a renewal that was sent at `at`.
    pub fn renewed(&self, at: Instant) {
        *self.renewed_at.lock() = Some(at);
    }

    /// Returns the time since the last such renewal was sent.
    pub(super) fn renewal_age(&self) -> Option<Duration> {
        self.renewed_at.lock().map(|at| at.elapsed())
    }

    /// Returns the peers that may host the nodes of the local zone, also of an expired membership.
    pub(super) fn last_known_hosts(&self) -> Vec<Peer> {
        let state = self.state.read();
        let Some(state) = &*state else { return Vec::new() };
        let is_host =
            |m: &&Member| m.zone == self.local.zone && m.hosts() && m.replica != self.local.replica;
        let hosts = state.members.iter().filter(is_host);
        hosts.filter_map(|member| Peer::of(member, &state.key)).collect()
    }

    /// Returns the members of all zones, by name; none if the membership has expired.
    pub fn members(&self) -> Vec<Member> {
        self.with_valid_state(|state| state.members.clone()).unwrap_or_default()
    }

    /// Returns the replicas' shared key, `None` before the first membership. It outlives the
    /// membership.
    pub(super) fn key(&self) -> Option<PeerKey> {
        self.state.read().as_ref().map(|state| state.key.clone())
    }

    /// Returns the owner of an object: the process that wrote it and has it in memory, if it is
    /// alive in this zone; else the member with the highest score.
    pub(super) fn owner(&self, object: ObjectId) -> Owner {
        let peer = self.with_valid_state(|state| {
            let is_candidate = |m: &&Member| m.zone == self.local.zone && m.peer.is_some();
            let candidates = || state.members.iter().filter(is_candidate);
            let key = object.to_bytes();
            let score = |m: &Member| rendezvous_score(m.replica.as_bytes(), &key);
            let by_score = || candidates().max_by_key(|m| (score(m), &m.replica));
            let owner = candidates().find(|m| m.wrote(object)).or_else(by_score)?;
            if owner.replica == self.local.replica {
                return None;
            }
            Peer::of(owner, &state.key)
        });
        match peer.flatten() {
            None => Owner::Local,
            Some(peer) if self.is_circuit_open(&peer) => Owner::CircuitOpen,
            Some(peer) => Owner::Peer(peer),
        }
    }

    /// Opens the circuit breaker of a failed peer for the cool-down.
    pub(super) fn open_circuit(&self, peer: &Peer) {
        let now = Instant::now();
        let mut open_circuits = self.open_circuits.lock();
        open_circuits.retain(|_, until| *until > now);
        open_circuits.insert(peer.process, now + COOL_DOWN);
    }

    fn is_circuit_open(&self, peer: &Peer) -> bool {
        let open_circuits = self.open_circuits.lock();
        open_circuits.get(&peer.process).is_some_and(|until| *until > Instant::now())
    }

    fn with_valid_state<T>(&self, read: impl FnOnce(&RingState) -> T) -> Option<T> {
        let state = self.state.read();
        state.as_ref().filter(|state| state.valid_until > Instant::now()).map(read)
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

    fn owner(ring: &PeerRing, object: ObjectId) -> String {
        match ring.owner(object) {
            Owner::Peer(peer) => peer.address,
            Owner::Local => "local".to_owned(),
            Owner::CircuitOpen => "circuit open".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn owner_is_the_writer_else_the_member_with_the_highest_score() {
        let without_port = Member { peer: None, ..member("without-port", 7, 0) };
        let members = vec![
            member("a", 1, 0),
            member("b", 2, 0),
            member("c", 3, 0),
            member("other-zone", 4, 1),
            without_port,
        ];
        let rings = members[..3].iter().map(|local| PeerRing::new(local.clone()));
        let rings = rings.collect::<Vec<_>>();
        assert_eq!(owner(&rings[0], object(2, 0)), "local", "no membership yet");
        let ttl = Duration::from_secs(10);
        for ring in &rings {
            let membership = Membership { members: members.clone(), ..Membership::default() };
            ring.update_membership(membership, Instant::now() + ttl);
        }
        assert_eq!(owner(&rings[0], object(2, 0)), "b:1");
        assert_eq!(owner(&rings[1], object(2, 0)), "local", "b wrote it");
        let mut shares = HashMap::new();
        for sequence in 0..3_000 {
            // Written in another zone, by a member without a port, and by a process that has ended.
            let object = object([4, 7, 99][sequence as usize % 3], sequence);
            let names = rings.iter().map(|ring| match owner(ring, object).as_str() {
                "local" => format!("{}:1", ring.local.replica),
                other => other.to_owned(),
            });
            let names = names.collect::<Vec<_>>();
            assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
            *shares.entry(names[0].clone()).or_insert(0) += 1;
        }
        assert!(shares.len() == 3 && shares.values().all(|share| *share > 800), "{shares:?}");

        let Owner::Peer(b) = rings[0].owner(object(2, 0)) else { panic!("b wrote it") };
        rings[0].open_circuit(&b);
        assert_eq!(owner(&rings[0], object(2, 1)), "circuit open");
        tokio::time::advance(COOL_DOWN).await;
        assert_eq!(owner(&rings[0], object(2, 1)), "b:1");
        tokio::time::advance(ttl - COOL_DOWN).await;
        assert_eq!(owner(&rings[0], object(2, 1)), "local", "the membership has expired");
        assert!(rings[0].members().is_empty() && rings[0].key().is_some());
    }
}
