//! Who is in the zone, as last heard, and who of them is asked for an object.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::auth::Key;
use crate::coordinator::{Member, Membership};
use crate::log::ids::ObjectId;

/// How long a peer that failed is left alone.
const REST: Duration = Duration::from_secs(5);

/// The members as this replica last heard of them.
#[derive(Debug)]
pub struct Zone {
    me: Member,
    heard: RwLock<Option<Heard>>,
    /// Until when peers are left alone, by process: one that came back is another one.
    resting: Mutex<HashMap<(u64, u32), Instant>>,
}

#[derive(Debug)]
struct Heard {
    members: Vec<Member>,
    key: Key,
    until: Instant,
}

/// Who is asked for an object.
#[derive(Clone, Debug)]
pub(super) enum Owner {
    /// Nobody: it is this replica's to read it from the store, or none is known.
    Nobody,
    /// A peer, which failed lately.
    Resting,
    /// A peer.
    Peer(Peer),
}

/// A peer and how it is asked.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) key: Key,
    process: (u64, u32),
}

impl Zone {
    /// A zone in which nobody is known yet.
    pub fn new(me: Member) -> Self {
        Self { me, heard: RwLock::default(), resting: Mutex::default() }
    }

    /// This replica, as it tells others of itself.
    pub fn me(&self) -> &Member {
        &self.me
    }

    /// Takes in what the coordinator said. It is believed until `until`, should nothing newer be
    /// heard: a coordinator that is away for a moment ends no cache.
    pub fn hear(&self, membership: Membership, until: Instant) {
        let key = Key::new(&membership.secret);
        let heard = Heard { members: membership.members, key, until };
        *self.heard.write() = Some(heard);
    }

    /// Everyone in all zones, by name; nobody when the last news are too old.
    pub fn members(&self) -> Vec<Member> {
        self.with_heard(|heard| heard.members.clone()).unwrap_or_default()
    }

    /// By which the replicas know each other; it outlives the list. `None` before the first news.
    pub(super) fn key(&self) -> Option<Key> {
        let heard = self.heard.read();
        heard.as_ref().map(|heard| heard.key.clone())
    }

    /// Its writer, which has it in memory, if it is alive in this zone; else whom the zone's
    /// members agree upon without asking.
    pub(super) fn owner(&self, object: ObjectId) -> Owner {
        let peer = self.with_heard(|heard| {
            let here = |m: &&Member| m.zone == self.me.zone && m.peer.is_some();
            let writer = heard.members.iter().filter(here).find(|m| m.wrote(object));
            let ranked = || {
                let members = heard.members.iter().filter(here);
                members.max_by_key(|m| (score(&m.replica, object), &m.replica))
            };
            let owner = writer.or_else(ranked).filter(|owner| owner.replica != self.me.replica)?;
            Some(Peer {
                address: owner.peer.clone()?,
                key: heard.key.clone(),
                process: (owner.incarnation, owner.process_id),
            })
        });
        match peer.flatten() {
            None => Owner::Nobody,
            Some(peer) if self.is_resting(&peer) => Owner::Resting,
            Some(peer) => Owner::Peer(peer),
        }
    }

    /// Leaves a peer alone for a while.
    pub(super) fn rest(&self, peer: &Peer) {
        let now = Instant::now();
        let mut resting = self.resting.lock();
        resting.retain(|_, until| *until > now);
        resting.insert(peer.process, now + REST);
    }

    fn is_resting(&self, peer: &Peer) -> bool {
        let resting = self.resting.lock();
        resting.get(&peer.process).is_some_and(|until| *until > Instant::now())
    }

    fn with_heard<T>(&self, read: impl FnOnce(&Heard) -> T) -> Option<T> {
        let heard = self.heard.read();
        heard.as_ref().filter(|heard| heard.until > Instant::now()).map(read)
    }
}

/// Rendezvous hashing: the member with the greatest score owns the object, so that when one
/// leaves only its own objects move. All replicas must agree: never change it lightly.
fn score(replica: &str, object: ObjectId) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = replica.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv);
    let hash = object.to_bytes().iter().fold(hash, fnv);
    // Neighbours differ in the last byte only: SplitMix64's finalizer spreads them.
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
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

    fn asked(zone: &Zone, object: ObjectId) -> String {
        match zone.owner(object) {
            Owner::Peer(peer) => peer.address,
            Owner::Nobody => "nobody".to_owned(),
            Owner::Resting => "resting".to_owned(),
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
        let zones = members[..3].iter().map(|me| Zone::new(me.clone())).collect::<Vec<_>>();
        assert_eq!(asked(&zones[0], object(2, 0)), "nobody", "nothing was heard yet");
        let ttl = Duration::from_secs(10);
        for zone in &zones {
            let membership =
                Membership { members: members.clone(), zones: Vec::new(), secret: [0; 32] };
            zone.hear(membership, Instant::now() + ttl);
        }
        assert_eq!(asked(&zones[0], object(2, 0)), "b:1");
        assert_eq!(asked(&zones[1], object(2, 0)), "nobody", "it is its own");
        let mut shares = HashMap::new();
        for sequence in 0..3_000 {
            // Of another zone, of one that cannot be asked, of one that is gone.
            let object = object([4, 7, 99][sequence as usize % 3], sequence);
            let names = zones.iter().map(|zone| match asked(zone, object).as_str() {
                "nobody" => format!("{}:1", zone.me.replica),
                other => other.to_owned(),
            });
            let names = names.collect::<Vec<_>>();
            assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
            *shares.entry(names[0].clone()).or_insert(0) += 1;
        }
        assert!(shares.len() == 3 && shares.values().all(|share| *share > 800), "{shares:?}");

        let Owner::Peer(b) = zones[0].owner(object(2, 0)) else { panic!("it is b's") };
        zones[0].rest(&b);
        assert_eq!(asked(&zones[0], object(2, 1)), "resting");
        tokio::time::advance(REST).await;
        assert_eq!(asked(&zones[0], object(2, 1)), "b:1");
        tokio::time::advance(ttl - REST).await;
        assert_eq!(asked(&zones[0], object(2, 1)), "nobody", "the news are too old");
        assert!(zones[0].members().is_empty() && zones[0].key().is_some());
    }
}
