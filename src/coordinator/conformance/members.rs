//! Leases: who is said to be there, and for how long.

use std::slice::from_ref as just;

use super::*;
use crate::coordinator::{Member, Membership, ZoneRecord};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(800);

fn member(replica: &str, incarnation: u64, zone: u16) -> Member {
    Member {
        replica: replica.to_owned(),
        incarnation,
        process_id: 0xffff_fff0,
        zone,
        zone_name: format!("zone-{zone}"),
        peer: (zone == 0).then(|| format!("{replica}.example:9190")),
        advertised_host: "naïve.example".to_owned(),
        node_ports: 65_000,
        broker_ports: 64_000,
        nodes: 4,
        version: "1.2.3".to_owned(),
        settings: 3,
    }
}

/// A zone keeps the most that was asked for and who was there last; who hosts nothing changes
/// nothing.
async fn check_zones(harness: &dyn Harness) {
    let subject = harness.subject();
    let hear = async |member: &Member, ttl| -> Vec<ZoneRecord> {
        let zones = subject.renew(member, ttl).await.expect("a lease").zones;
        let names = zones.iter().map(|zone| zone.name.as_str());
        assert!(names.eq(["zone-a", "zone-b"]), "{zones:?}");
        zones
    };
    let asking = |replica, nodes| Member { nodes, ..member(replica, 1, 1) };
    let guest = asking("guest", 0);
    assert_eq!(
        hear(&guest, LONG).await[1],
        ZoneRecord { name: "zone-b".into(), nodes: 0, last: None }
    );
    for (replica, asked, holds) in [("d", 3, 3), ("e", 5, 5), ("d", 2, 5), ("f", 1, 5)] {
        let member = asking(replica, asked);
        let zone = hear(&member, LONG).await.remove(1);
        assert_eq!((zone.nodes, zone.last), (holds, Some(member)));
    }
    // It has no lease, takes none from others, and none of them leaves by it.
    let told = subject.renew(&guest, LONG).await.expect("an answer");
    assert!(told.members.iter().map(|m| m.replica.as_str()).eq(["d", "e", "f"]), "{told:?}");
    subject.renew(&Member { incarnation: 9, ..asking("d", 0) }, Duration::ZERO).await.expect("one");
    // Nobody is left; what was last seen stays, and was not there when it was only said farewell.
    for replica in ["f", "e", "d"] {
        let before = subject.renew(&guest, LONG).await.expect("an answer").members;
        assert!(before.iter().any(|m| m.replica == replica), "{replica} is gone early");
        hear(&asking(replica, 6), Duration::ZERO).await;
    }
    let told = subject.renew(&guest, LONG).await.expect("an answer");
    assert_eq!((told.members.len(), told.zones[1].nodes), (0, 5));
    assert_eq!(told.zones[1].last, Some(asking("f", 1)));
}

pub(super) async fn check(harness: &dyn Harness) {
    let subject = harness.subject();
    check_zones(harness).await;
    let renew = async |member: &Member, ttl| -> Membership {
        subject.renew(member, ttl).await.expect("a lease")
    };
    // Two zones in one list, by name, whoever came first.
    let (a, b) = (member("a", 1 << 40, 0), member("b", u64::MAX, 1));
    assert_eq!(renew(&b, LONG).await.members, just(&b));
    let both = renew(&a, LONG).await;
    assert_eq!(both.members, [a.clone(), b.clone()]);
    assert_eq!(renew(&b, LONG).await, both, "a renewal changes nothing, the secret least of all");

    // The same name from a newer process; the older one neither comes back nor ends its lease.
    let newer = Member { peer: None, ..member("a", (1 << 40) + 1, 0) };
    assert_eq!(renew(&newer, LONG).await.members, [newer.clone(), b.clone()]);
    assert_eq!(renew(&a, LONG).await.members, [newer.clone(), b.clone()]);
    assert_eq!(renew(&a, Duration::ZERO).await.members, [newer.clone(), b.clone()]);
    let tagged = Member { process_id: u32::MAX, ..newer.clone() };
    assert_eq!(renew(&tagged, LONG).await.members, [tagged.clone(), b.clone()]);

    // Whoever leaves is gone at once, also for a second time, and may come back.
    assert_eq!(renew(&tagged, Duration::ZERO).await.members, just(&b));
    assert_eq!(renew(&tagged, Duration::ZERO).await.members, just(&b));
    assert_eq!(renew(&a, LONG).await.members, [a.clone(), b.clone()]);
    renew(&a, Duration::ZERO).await;

    // Who renews in time stays; who does not is gone.
    let c = member("c", 7, 0);
    assert_eq!(renew(&c, SHORT).await.members, [b.clone(), c.clone()]);
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < SHORT * 2 {
        tokio::time::sleep(SHORT / 8).await;
        assert_eq!(renew(&c, SHORT).await.members, [b.clone(), c.clone()]);
    }
    renew(&c, SHORT).await;
    let begun = tokio::time::Instant::now();
    while renew(&b, LONG).await.members.contains(&c) {
        assert!(begun.elapsed() < EVENT_TIMEOUT, "its lease never ends");
        tokio::time::sleep(SHORT / 8).await;
    }
    assert!(begun.elapsed() > SHORT / 2, "its lease ended early");
    assert_eq!(renew(&b, Duration::ZERO).await.members, []);
}
