//! Properties of the topology that hold whichever members join and leave.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::log::ids::TopicId;

fn member(name: &str, zone: u16, nodes: u16) -> Member {
    Member {
        replica: name.to_owned(),
        incarnation: 1,
        process_id: 1,
        zone,
        zone_name: format!("zone-{zone}"),
        peer: None,
        advertised_host: format!("{name}.example"),
        node_ports: 9300,
        broker_ports: 9100,
        nodes,
        version: String::new(),
        settings: 0,
    }
}

/// Builds a membership from zones: number of nodes, live members, and whether the zone ever had a
/// member.
fn membership(zones: &[(u16, Vec<String>, bool)]) -> Membership {
    let mut members = Vec::new();
    let mut records = Vec::new();
    for (index, (nodes, names, was_there)) in (0..).zip(zones) {
        members.extend(names.iter().map(|name| member(name, index, *nodes)));
        let last = names.first().cloned().or_else(|| was_there.then(|| format!("late-{index}")));
        let last = last.map(|name| member(&name, index, *nodes));
        let nodes = if last.is_some() { *nodes } else { 0 };
        records.push(ZoneRecord { name: format!("zone-{index}"), nodes, last });
    }
    members.sort_by(|a, b| a.replica.cmp(&b.replica));
    Membership { members, zones: records, ..Membership::default() }
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let names = proptest::collection::btree_set("[a-z][a-z0-9-]{0,12}", 0..5);
    let zone = (1_u16..=64, names, any::<bool>());
    proptest::collection::vec(zone, 1..5).prop_map(|zones| {
        // A name belongs to one replica of one zone.
        let unique = |(index, (nodes, names, there)): (usize, (u16, _, bool))| {
            let names: std::collections::BTreeSet<String> = names;
            (nodes, names.iter().map(|name| format!("{name}-{index}")).collect(), there)
        };
        membership(&zones.into_iter().enumerate().map(unique).collect::<Vec<_>>())
    })
}

fn by_id(map: &NodeTopology) -> BTreeMap<i32, Address> {
    map.nodes().map(|node| (node.id, node.address.clone())).collect()
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([7; 16]), partition: index }
}

proptest! {
    #[test]
    fn every_node_of_a_known_zone_has_an_address(membership in any_membership()) {
        let map = NodeTopology::of(&membership);
        for (index, zone) in (0..).zip(&membership.zones) {
            prop_assert_eq!(map.node_count(index), zone.nodes);
            let hosts: Vec<_> = map.live_members(index).iter().chain(&zone.last).collect();
            for k in 0..zone.nodes {
                let address = &by_id(&map)[&node_id(index, k)];
                prop_assert_eq!(address.port, 9300 + k);
                prop_assert!(hosts.iter().any(|m| m.advertised_host == address.host));
            }
        }
    }

    #[test]
    fn departed_member_moves_only_its_own_nodes(membership in any_membership(), which: usize) {
        prop_assume!(!membership.members.is_empty());
        let before = by_id(&NodeTopology::of(&membership));
        let mut after = membership.clone();
        let gone = after.members.remove(which % membership.members.len());
        let after = by_id(&NodeTopology::of(&after));
        prop_assert!(before.keys().eq(after.keys()), "a node vanished");
        for (id, was) in &before {
            let moved = was != &after[id];
            prop_assert!(!moved || was.host == gone.advertised_host, "{} moved", id);
        }
    }

    #[test]
    fn replicas_of_all_zones_agree(membership in any_membership(), index in 0..1000_i32) {
        let mut shuffled = membership.clone();
        shuffled.members.reverse();
        let (one, other) = (NodeTopology::of(&membership), NodeTopology::of(&shuffled));
        prop_assert_eq!(by_id(&one), by_id(&other));
        let zones = 0..membership.zones.len() as u16;
        let mut seen = zones.clone().map(|zone| one.replicas(zone, partition(index)));
        let first = seen.next().unwrap_or_default();
        for (zone, replicas) in (1..).zip(seen) {
            prop_assert_eq!(replicas.first().copied(), other.leader(zone, partition(index))
                .or_else(|| other.replicas(zone, partition(index)).first().copied()));
            let sorted = |mut ids: Vec<i32>| { ids.sort_unstable(); ids };
            prop_assert_eq!(sorted(replicas), sorted(first.clone()), "the same in all zones");
        }
        for zone in zones {
            // If there are nodes, every zone has leaders.
            let leads = one.leader(one.leader_zone(zone), partition(index));
            prop_assert_eq!(leads.is_some(), one.nodes().next().is_some());
        }
    }
}

/// Replicas of different versions serve side by side, so the assignment must never change.
#[test]
fn node_assignment_is_stable_across_versions() {
    let names = ["odradek-0", "odradek-1", "odradek-2"].map(str::to_owned).to_vec();
    let map = NodeTopology::of(&membership(&[(8, names.clone(), true), (4, names, true)]));
    let hosts = |zone: u16, nodes: u16| -> Vec<String> {
        let of = |k| by_id(&map)[&node_id(zone, k)].host.clone();
        (0..nodes).map(|k| of(k).chars().filter(char::is_ascii_digit).collect()).collect()
    };
    assert_eq!(hosts(0, 8).concat(), GOLDEN.0);
    assert_eq!(hosts(1, 4).concat(), GOLDEN.1);
    let brokers: String = (0..8).map(|id| map.broker_address(0, id).unwrap().host).collect();
    let digits: String = brokers.chars().filter(char::is_ascii_digit).collect();
    assert_eq!(digits, GOLDEN.2);
}

const GOLDEN: (&str, &str, &str) = ("22111201", "2202", "20110000");

#[test]
fn zone_without_members_is_led_by_another_zone_and_keeps_its_addresses() {
    let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
    let zones = [(4, names(&[]), true), (4, names(&["b"]), true), (4, names(&[]), false)];
    let map = NodeTopology::of(&membership(&zones));
    assert_eq!([0, 1, 2].map(|zone| map.leader_zone(zone)), [1, 1, 1]);
    assert_eq!(by_id(&map)[&node_id(0, 3)], Address { host: "late-0.example".into(), port: 9303 });
    assert_eq!(map.broker_address(0, 1), None, "no live member");
    assert_eq!(map.broker_address(1, 7).unwrap(), Address { host: "b.example".into(), port: 9107 });
    assert_eq!(map.broker_address(1, 60_000), None);
    assert_eq!((map.zone_index("zone-1"), map.zone_index("zone")), (Some(1), None));
    assert_eq!(map.replicas(1, partition(3)).len(), 2, "a zone without nodes is left out");
}

#[test]
fn departed_member_is_removed_from_topology() {
    let both = ["a", "b"].map(str::to_owned).to_vec();
    let nodes = SharedTopology::new(&member("a", 0, 4));
    nodes.update(membership(&[(4, both.clone(), true)]));
    assert!(!nodes.has_successor());
    let hosts = |nodes: &SharedTopology| {
        nodes.current().nodes().map(|node| node.address.host.clone()).collect::<Vec<_>>()
    };
    nodes.leave();
    assert!(nodes.has_successor() && hosts(&nodes) == ["b.example"; 4]);
    nodes.update(membership(&[(4, both, true)]));
    assert!(nodes.has_successor() && hosts(&nodes) == ["b.example"; 4], "a late, older membership");
    nodes.update(membership(&[(4, vec!["a".to_owned()], true)]));
    assert!(!nodes.has_successor() && hosts(&nodes) == ["a.example"; 4], "it was the only member");
    assert!(!nodes.may_have_successor());
    nodes.update(Membership { unreadable_members: 1, ..membership(&[]) });
    assert!(nodes.may_have_successor(), "a newer program may have them");
}

/// Nodes never vanish: they are advertised at another member of the zone, or stay where they are.
#[test]
fn nodes_of_a_cut_off_replica_are_advertised_at_another_member() {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let nodes = SharedTopology::new(&member("a", 0, 4));
    nodes.update(membership(&[(4, names(&["a", "b"]), true)]));
    let hosts = |nodes: &SharedTopology| {
        nodes.current().nodes().map(|node| node.address.host.clone()).collect::<Vec<_>>()
    };
    let before = hosts(&nodes);
    assert!(!nodes.is_superseded() && before.iter().any(|host| host == "a.example"));
    nodes.set_cut_off(true);
    assert!(nodes.is_superseded() && hosts(&nodes) == ["b.example"; 4]);
    nodes.set_cut_off(false);
    assert!(!nodes.is_superseded() && hosts(&nodes) == before);
    nodes.update(membership(&[(4, names(&["a"]), true)]));
    nodes.set_cut_off(true);
    assert!(!nodes.is_superseded() && hosts(&nodes) == ["a.example"; 4], "the only member");
}
