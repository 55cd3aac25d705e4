//! What must hold of the map, whoever comes and goes.

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

/// Zones of so many nodes; of each zone, who lives and whether somebody was ever there.
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
    Membership { members, zones: records, secret: [0; 32] }
}

fn any_membership() -> impl Strategy<Value = Membership> {
    let names = proptest::collection::btree_set("[a-z][a-z0-9-]{0,12}", 0..5);
    let zone = (1_u16..=64, names, any::<bool>());
    proptest::collection::vec(zone, 1..5).prop_map(|zones| {
        // A name is one replica's, of one zone.
        let unique = |(index, (nodes, names, there)): (usize, (u16, _, bool))| {
            let names: std::collections::BTreeSet<String> = names;
            (nodes, names.iter().map(|name| format!("{name}-{index}")).collect(), there)
        };
        membership(&zones.into_iter().enumerate().map(unique).collect::<Vec<_>>())
    })
}

fn by_id(map: &NodeMap) -> BTreeMap<i32, Address> {
    map.nodes().map(|node| (node.id, node.address.clone())).collect()
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([7; 16]), partition: index }
}

proptest! {
    #[test]
    fn every_node_of_a_zone_that_was_ever_there_has_an_address(heard in any_membership()) {
        let map = NodeMap::of(&heard);
        for (index, zone) in (0..).zip(&heard.zones) {
            prop_assert_eq!(map.count(index), zone.nodes);
            let hosts: Vec<_> = map.live(index).iter().chain(&zone.last).collect();
            for k in 0..zone.nodes {
                let address = &by_id(&map)[&node_id(index, k)];
                prop_assert_eq!(address.port, 9300 + k);
                prop_assert!(hosts.iter().any(|m| m.advertised_host == address.host));
            }
        }
    }

    #[test]
    fn one_member_leaving_moves_only_its_nodes(heard in any_membership(), which: usize) {
        prop_assume!(!heard.members.is_empty());
        let before = by_id(&NodeMap::of(&heard));
        let mut after = heard.clone();
        let gone = after.members.remove(which % heard.members.len());
        let after = by_id(&NodeMap::of(&after));
        prop_assert!(before.keys().eq(after.keys()), "a node vanished");
        for (id, was) in &before {
            let moved = was != &after[id];
            prop_assert!(!moved || was.host == gone.advertised_host, "{} moved", id);
        }
    }

    #[test]
    fn replicas_of_all_zones_agree(heard in any_membership(), index in 0..1000_i32) {
        let mut shuffled = heard.clone();
        shuffled.members.reverse();
        let (one, other) = (NodeMap::of(&heard), NodeMap::of(&shuffled));
        prop_assert_eq!(by_id(&one), by_id(&other));
        let zones = 0..heard.zones.len() as u16;
        let mut seen = zones.clone().map(|zone| one.replicas(zone, partition(index)));
        let first = seen.next().unwrap_or_default();
        for (zone, replicas) in (1..).zip(seen) {
            prop_assert_eq!(replicas.first().copied(), other.leader(zone, partition(index))
                .or_else(|| other.replicas(zone, partition(index)).first().copied()));
            let sorted = |mut ids: Vec<i32>| { ids.sort_unstable(); ids };
            prop_assert_eq!(sorted(replicas), sorted(first.clone()), "the same in all zones");
        }
        for zone in zones {
            // Whoever has nodes at all can be led to some.
            let leads = one.leader(one.leading_zone(zone), partition(index));
            prop_assert_eq!(leads.is_some(), one.nodes().next().is_some());
        }
    }
}

/// Replicas of several versions serve side by side: whatever is changed, this must not.
#[test]
fn nodes_stay_where_other_versions_see_them() {
    let names = ["odradek-0", "odradek-1", "odradek-2"].map(str::to_owned).to_vec();
    let map = NodeMap::of(&membership(&[(8, names.clone(), true), (4, names, true)]));
    let hosts = |zone: u16, nodes: u16| -> Vec<String> {
        let of = |k| by_id(&map)[&node_id(zone, k)].host.clone();
        (0..nodes).map(|k| of(k).chars().filter(char::is_ascii_digit).collect()).collect()
    };
    assert_eq!(hosts(0, 8).concat(), GOLDEN.0);
    assert_eq!(hosts(1, 4).concat(), GOLDEN.1);
    let brokers: String = (0..8).map(|id| map.broker(0, id).unwrap().host).collect();
    let digits: String = brokers.chars().filter(char::is_ascii_digit).collect();
    assert_eq!(digits, GOLDEN.2);
}

const GOLDEN: (&str, &str, &str) = ("22100222", "0001", "02102200");

#[test]
fn a_dead_zone_is_led_elsewhere_and_keeps_its_addresses() {
    let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
    let zones = [(4, names(&[]), true), (4, names(&["b"]), true), (4, names(&[]), false)];
    let map = NodeMap::of(&membership(&zones));
    assert_eq!([0, 1, 2].map(|zone| map.leading_zone(zone)), [1, 1, 1]);
    assert_eq!(by_id(&map)[&node_id(0, 3)], Address { host: "late-0.example".into(), port: 9303 });
    assert_eq!(map.broker(0, 1), None, "nobody lives there");
    assert_eq!(map.broker(1, 7).unwrap(), Address { host: "b.example".into(), port: 9107 });
    assert_eq!(map.broker(1, 60_000), None);
    assert_eq!((map.zone_named("zone-1"), map.zone_named("zone")), (Some(1), None));
    assert_eq!(map.replicas(1, partition(3)).len(), 2, "a zone without nodes is left out");
}

#[test]
fn who_leaves_is_in_no_map() {
    let both = ["a", "b"].map(str::to_owned).to_vec();
    let nodes = Nodes::new(&member("a", 0, 4));
    nodes.hear(membership(&[(4, both.clone(), true)]));
    assert!(!nodes.is_succeeded());
    let hosts = |nodes: &Nodes| {
        nodes.map().nodes().map(|node| node.address.host.clone()).collect::<Vec<_>>()
    };
    nodes.leave();
    assert!(nodes.is_succeeded() && hosts(&nodes) == ["b.example"; 4]);
    nodes.hear(membership(&[(4, both, true)]));
    assert!(nodes.is_succeeded() && hosts(&nodes) == ["b.example"; 4], "an older answer came late");
    nodes.hear(membership(&[(4, vec!["a".to_owned()], true)]));
    assert!(!nodes.is_succeeded() && hosts(&nodes) == ["a.example"; 4], "it was alone");
}
