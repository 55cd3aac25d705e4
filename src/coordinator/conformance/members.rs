//! Leases: which members are returned, and for how long.

use std::collections::BTreeSet;
use std::slice::from_ref as just;

use super::*;
use crate::coordinator::{Member, Membership, ZoneRecord};
use crate::log::ids::ProcessIdentity;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(800);

fn member(replica: &str, incarnation: u64, zone: u16) -> Member {
    Member {
        replica: replica.to_owned(),
        incarnation,
        process_id: 0xffff_fff0,
        zone,
        zone_name: format!("zone-{zone}"),
        peer: (zone == 0).then(|| format!("{replica}.example:8190")),
        advertised_host: "naïve.example".to_owned(),
        node_ports: 65_000,
        broker_ports: 64_000,
        nodes: 4,
        version: "1.2.3".to_owned(),
        settings: 3,
    }
}

/// A zone has the greatest requested number of nodes and the member that renewed last; a member
/// without nodes changes neither.
async fn check_zones(harness: &dyn Harness) {
    let subject = harness.subject();
    let renew = async |member: &Member, ttl| -> Vec<ZoneRecord> {
        let zones = subject.renew(member, ttl).await.expect("renew").zones;
        let names = zones.iter().map(|zone| zone.name.as_str());
        assert!(names.eq(["zone-a", "zone-b"]), "{zones:?}");
        zones
    };
    let requesting = |replica, nodes| Member { nodes, ..member(replica, 1, 1) };
    let guest = requesting("guest", 0);
    assert_eq!(
        renew(&guest, LONG).await[1],
        ZoneRecord { name: "zone-b".into(), nodes: 0, last: None }
    );
    for (replica, requested, expected) in [("d", 3, 3), ("e", 5, 5), ("d", 2, 5), ("f", 1, 5)] {
        let member = requesting(replica, requested);
        let zone = renew(&member, LONG).await.remove(1);
        assert_eq!((zone.nodes, zone.last), (expected, Some(member)));
    }
    // A member without nodes has no lease and does not change those of others.
    let membership = subject.renew(&guest, LONG).await.expect("renew");
    assert!(
        membership.members.iter().map(|m| m.replica.as_str()).eq(["d", "e", "f"]),
        "{membership:?}"
    );
    subject
        .renew(&Member { incarnation: 9, ..requesting("d", 0) }, Duration::ZERO)
        .await
        .expect("renew");
    // All members left. The last member stays; ending a lease does not change it.
    for replica in ["f", "e", "d"] {
        let before = subject.renew(&guest, LONG).await.expect("renew").members;
        assert!(before.iter().any(|m| m.replica == replica), "{replica} left early");
        renew(&requesting(replica, 6), Duration::ZERO).await;
    }
    let membership = subject.renew(&guest, LONG).await.expect("renew");
    assert_eq!((membership.members.len(), membership.zones[1].nodes), (0, 5));
    assert_eq!(membership.zones[1].last, Some(requesting("f", 1)));
}

/// Every process that renews runs: with a lease or not, and also beside one of the same name.
async fn check_processes(harness: &dyn Harness) {
    let subject = harness.subject();
    let renew =
        async |member: &Member, ttl| subject.renew(member, ttl).await.expect("renew").processes;
    let of = |members: &[&Member]| members.iter().map(|member| member.process()).collect();
    let observer = Member { nodes: 0, ..member("guest", 1, 0) };
    let before = renew(&observer, Duration::ZERO).await;
    let (older, newer) = (member("p", 21, 0), member("p", 22, 0));
    let guest = Member { nodes: 0, ..member("q", 23, 0) };
    let running = async |expected: BTreeSet<ProcessIdentity>| {
        let mut found = renew(&observer, Duration::ZERO).await;
        found.retain(|process| !before.contains(process));
        assert_eq!(found, expected);
    };
    for process in [&newer, &older, &guest] {
        assert!(renew(process, LONG).await.contains(&process.process()));
    }
    // A shorter time does not shorten the one that it has.
    renew(&Member { nodes: 0, ..older.clone() }, SHORT / 8).await;
    tokio::time::sleep(SHORT / 4).await;
    running(of(&[&older, &newer, &guest])).await;
    // One that has left still runs, until it says otherwise.
    renew(&newer, Duration::ZERO).await;
    running(of(&[&older, &newer, &guest])).await;
    let newer = Member { nodes: 0, ..newer };
    renew(&newer, Duration::ZERO).await;
    running(of(&[&older, &guest])).await;
    renew(&newer, SHORT).await;
    running(of(&[&older, &newer, &guest])).await;
    let start = tokio::time::Instant::now();
    while renew(&guest, LONG).await.contains(&newer.process()) {
        assert!(start.elapsed() < EVENT_TIMEOUT, "it never ends");
        tokio::time::sleep(SHORT / 8).await;
    }
    assert!(start.elapsed() > SHORT / 2, "it ended early");
    renew(&guest, Duration::ZERO).await;
    running(of(&[&older])).await;
    renew(&Member { nodes: 0, ..older }, Duration::ZERO).await;
    running(of(&[])).await;
}

pub(super) async fn check(harness: &dyn Harness) {
    let subject = harness.subject();
    check_zones(harness).await;
    check_processes(harness).await;
    let renew = async |member: &Member, ttl| -> Membership {
        subject.renew(member, ttl).await.expect("renew")
    };
    // Members of two zones, ordered by name.
    let (a, b) = (member("a", 1 << 40, 0), member("b", u64::MAX, 1));
    assert_eq!(renew(&b, LONG).await.members, just(&b));
    let both = renew(&a, LONG).await;
    assert_eq!(both.members, [a.clone(), b.clone()]);
    assert_eq!(renew(&b, LONG).await, both, "a renewal changes nothing, and the secret neither");

    // A newer process of the same name; the older one neither takes the lease again nor ends it.
    let newer = Member { peer: None, ..member("a", (1 << 40) + 1, 0) };
    assert_eq!(renew(&newer, LONG).await.members, [newer.clone(), b.clone()]);
    assert_eq!(renew(&a, LONG).await.members, [newer.clone(), b.clone()]);
    assert_eq!(renew(&a, Duration::ZERO).await.members, [newer.clone(), b.clone()]);
    let greater = Member { process_id: u32::MAX, ..newer.clone() };
    assert_eq!(renew(&greater, LONG).await.members, [greater.clone(), b.clone()]);

    // A member that leaves is removed at once, also a second time, and may come back.
    assert_eq!(renew(&greater, Duration::ZERO).await.members, just(&b));
    assert_eq!(renew(&greater, Duration::ZERO).await.members, just(&b));
    assert_eq!(renew(&a, LONG).await.members, [a.clone(), b.clone()]);
    renew(&a, Duration::ZERO).await;

    // A member that renews in time stays; one that does not is removed.
    let c = member("c", 7, 0);
    assert_eq!(renew(&c, SHORT).await.members, [b.clone(), c.clone()]);
    let start = tokio::time::Instant::now();
    while start.elapsed() < SHORT * 2 {
        tokio::time::sleep(SHORT / 8).await;
        assert_eq!(renew(&c, SHORT).await.members, [b.clone(), c.clone()]);
    }
    renew(&c, SHORT).await;
    let start = tokio::time::Instant::now();
    while renew(&b, LONG).await.members.contains(&c) {
        assert!(start.elapsed() < EVENT_TIMEOUT, "its lease never ends");
        tokio::time::sleep(SHORT / 8).await;
    }
    assert!(start.elapsed() > SHORT / 2, "its lease ended early");
    assert_eq!(renew(&b, Duration::ZERO).await.members, []);
}
