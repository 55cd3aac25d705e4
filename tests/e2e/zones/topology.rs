//! All replicas advertise the same topology, and its changes are minimal.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{A, B, Installation, NodeAddresses, STRIDE, hosted_by, nodes_of, partitions, zone_of};
use crate::raw::{NODE_0, Topic};
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::redis_proxy::Mode;
use testbed::replica::{DISKLESS_PREFIX, Replica};

/// The time in which all replicas must have noticed a failure.
const NOTICED: Duration = Duration::from_secs(15);
/// Longer than any lease, so that all leases expire.
const OUTAGE: Duration = Duration::from_secs(9);

fn agree(replicas: &[&Replica], done: impl Fn(&NodeAddresses) -> bool) -> NodeAddresses {
    let mut seen = NodeAddresses::new();
    wait_until("all replicas advertise the same topology", NOTICED, || {
        seen = nodes_of(replicas[0]);
        done(&seen) && replicas[1..].iter().all(|replica| nodes_of(replica) == seen)
    });
    seen
}

fn ids(zones: &[i32]) -> Vec<i32> {
    let of = |(zone, nodes): (i32, &i32)| {
        (0..*nodes).map(move |k| NODE_0 + zone * STRIDE + k).collect::<Vec<_>>()
    };
    (0..).zip(zones).flat_map(of).collect()
}

#[test]
fn all_replicas_agree_on_topology_and_changes_are_minimal() {
    let at = Installation::new();
    let a0 = at.replica(A, "a-0", 3, "");
    let b0 = at.replica(B, "b-0", 4, "");
    let a1 = at.replica(A, "a-1", 2, "");
    let b1 = at.replica(B, "b-1", 4, "");
    let sidecar = at.sidecar(A, "pod-7");
    let mut all = vec![&a0, &a1, &b0, &b1, &sidecar];

    // A zone has the maximum number of nodes that a replica requested, each at its advertised address.
    let map = agree(&all, |map| map.keys().copied().eq(ids(&[3, 4])));
    assert!(a1.log().contains("diskless.nodesPerZone is 2 here, but zone zone-a has 3 nodes"));
    for (id, (address, rack)) in &map {
        assert_eq!(rack, [A, B][usize::from(zone_of(*id) > 0)]);
        TcpStream::connect(address).unwrap_or_else(|e| panic!("{id} at {address}: {e}"));
    }
    let hosts = [&a0, &a1, &b0, &b1].map(|replica| hosted_by(&map, replica));
    assert_eq!(hosts.concat().len(), 7, "{map:?}");
    assert!(hosts.iter().all(|hosted_by| !hosted_by.is_empty()), "{map:?}");
    zone_leads_its_own_clients(&a0, &b0, &sidecar);

    // A replica that requests more nodes raises the number for all of its zone.
    let b2 = at.replica(B, "b-2", 6, "");
    all.push(&b2);
    let map = agree(&all, |map| map.keys().copied().eq(ids(&[3, 6])));
    for k in 0..6 {
        TcpStream::connect(b0.node(k)).expect("the port is opened for the new node");
    }
    topology_survives_redis_outage(&at, &all, &map);
    only_nodes_of_failed_replica_move(at, [a0, a1, sidecar], [b0, b1, b2], &map);
}

/// Asserts that leaders are nodes of the own zone, and that replicas are the same in all zones.
fn zone_leads_its_own_clients(a: &Replica, b: &Replica, sidecar: &Replica) {
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}zones"));
    Topic::create(a, &name, 12, &[]);
    Topic::look_up(b, &name);
    let seen = |replica: &Replica| partitions(&replica.bootstrap(), "raw", &name);
    assert_eq!(seen(sidecar), seen(a), "a sidecar advertises the leaders of its zone");
    for ((in_a, replicas_a, isr_a), (in_b, replicas_b, isr_b)) in seen(a).into_iter().zip(seen(b)) {
        assert_eq!((zone_of(in_a), zone_of(in_b)), (0, 1));
        assert_eq!((&replicas_a, &replicas_b), (&vec![in_a, in_b], &vec![in_b, in_a]));
        assert_eq!((isr_a, isr_b), (replicas_a, replicas_b));
    }
}

/// An outage of Redis for all replicas changes nothing, at its beginning, during it and at its end.
fn topology_survives_redis_outage(at: &Installation, all: &[&Replica], map: &NodeAddresses) {
    for mode in [Mode::Refuse, Mode::Pass] {
        at.redis.set(mode);
        let begun = Instant::now();
        while begun.elapsed() < OUTAGE {
            for replica in all {
                assert_eq!(nodes_of(replica), *map, "{mode:?} {:?}", begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn only_nodes_of_failed_replica_move(
    at: Installation,
    a: [Replica; 3],
    b: [Replica; 3],
    map: &NodeAddresses,
) {
    let ([a0, a1, sidecar], [mut b0, mut b1, mut b2]) = (a, b);
    let orphans = hosted_by(map, &b1);
    assert!(!orphans.is_empty(), "{map:?}");
    b1.kill9();
    let left = [&a0, &a1, &sidecar, &b0, &b2];
    let after = agree(&left, |seen| hosted_by(seen, &b1).is_empty());
    for (id, was) in map {
        let is = &after[id];
        assert_eq!(was != is, orphans.contains(id), "{id}: {was:?} {is:?}");
    }
    assert!(after.keys().eq(map.keys()));

    // After the other failures the zone keeps its nodes at the last member, also for a later replica.
    b0.kill9();
    b2.kill9();
    let left = [&a0, &a1, &sidecar];
    let all_at = |seen: &NodeAddresses, replica: &Replica| hosted_by(seen, replica).len() == 6;
    let dead = agree(&left, |seen| all_at(seen, &b0) || all_at(seen, &b2));
    assert!(dead.keys().eq(map.keys()));
    let a2 = at.replica(A, "a-2", 3, "");
    let late = agree(&[&a2, &a0, &a1, &sidecar], |seen| !hosted_by(seen, &a2).is_empty());
    let of_b = |seen: &NodeAddresses| {
        let of_b = seen.iter().filter(|(id, _)| zone_of(**id) == 1);
        of_b.map(|(id, place)| (*id, place.clone())).collect::<NodeAddresses>()
    };
    assert_eq!(of_b(&late), of_b(&dead));
}
