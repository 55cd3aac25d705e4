//! A client is sent to its own zone, whichever way the zone is given.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use kafka_protocol::messages::{FindCoordinatorRequest, ProduceRequest};
use kafka_protocol::protocol::StrBytes;

use super::{
    A, B, Installation, brokers, crossed, hosted_by, metadata, metric, nodes_of, partitions,
    records_crossed, zone_of,
};
use crate::raw::batch::{Batch, read, stored_bytes};
use crate::raw::client::Client;
use crate::raw::requests::{append, fetch, fetched, produce, produced};
use crate::raw::{NODE_0, Topic};
use testbed::kafka::tool;
use testbed::ports::free_ports;
use testbed::process::{run, wait_until};
use testbed::replica::{DISKLESS_PREFIX, Replica};
use testbed::{Testbed, require};

struct TwoZones {
    at: Installation,
    a: Replica,
    b: Replica,
    /// The bootstrap port of `a` for clients of zone b.
    port: u16,
}

/// Two zones with one replica each, shared by tests that stop no replica.
fn two_zones() -> &'static TwoZones {
    static TWO: OnceLock<TwoZones> = OnceLock::new();
    TWO.get_or_init(|| {
        let (at, port) = (Installation::new(), free_ports(1));
        let clients = format!("clients: {{zones: [{{zone: {B}, port: {port}}}]}}\n");
        let a = at.replica(A, "a-0", 4, &clients);
        let b = at.replica(B, "b-0", 4, "");
        wait_until("both replicas are in the topology", Duration::from_secs(15), || {
            let seen = nodes_of(&a);
            seen.len() == 8 && seen == nodes_of(&b)
        });
        TwoZones { at, a, b, port }
    })
}

fn topic(partitions: i32) -> Topic {
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}placing"));
    let topic = Topic::create(&two_zones().a, &name, partitions, &[]);
    Topic::look_up(&two_zones().b, &name);
    topic
}

/// Asserts that a client gets leaders, brokers and group coordinators of a zone.
fn assert_sent_to(replica: &Replica, zone: i32, address: &str, id: &'static str, topic: &str) {
    for (leader, replicas, _) in partitions(address, id, topic) {
        assert_eq!((zone_of(leader), replicas[0]), (zone, leader), "{address} {id}");
    }
    let expected = [1, 2, 3].map(|id| replica.broker(id));
    let seen = brokers(&metadata(address, id));
    assert!(seen.values().map(|(at, _)| at).eq(&expected), "{address} {id}: {seen:?}");
    let group = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("g"));
    // The first group makes the brokers create an internal topic.
    let mut client = Client::named(address, id);
    let mut found = client.call(&group, 2);
    wait_until("a group coordinator is available", Duration::from_secs(60), || {
        found = client.call(&group, 2);
        found.error_code == 0
    });
    let found = format!("{}:{}", found.host.as_str(), found.port);
    assert!(expected.contains(&found), "{address} {id}: {found}");
}

#[test]
fn client_zone_is_resolved_by_client_id_port_and_address() {
    let TwoZones { at, a, b, port } = two_zones();
    let topic = topic(6);
    let outcome = |replica, outcome: &str| {
        let name = format!("odradek_client_zone_resolutions_total{{outcome=\"{outcome}\"}}");
        metric(replica, &name).unwrap_or(0)
    };
    let before = ["resolved", "unknown_zone", "unspecified"].map(|kind| outcome(a, kind));
    for id in
        ["app,diskless_az=zone-b", "inkless_az=zone-b-source-1", "ws_az=zone-b", "zone=zone-b"]
    {
        assert_sent_to(b, 1, &a.bootstrap(), id, &topic.name);
    }
    assert_sent_to(b, 1, &format!("127.0.0.1:{port}"), "raw", &topic.name);
    assert_sent_to(a, 0, &format!("127.0.0.1:{port}"), "zone=zone-a", &topic.name);
    assert_sent_to(a, 0, &a.bootstrap(), "zone=mars", &topic.name);
    assert_sent_to(a, 0, &a.bootstrap(), "raw", &topic.name);
    assert_sent_to(a, 0, &b.bootstrap(), "zone=zone-a", &topic.name);
    // At least two of each come from the requests above.
    let after = ["resolved", "unknown_zone", "unspecified"].map(|kind| outcome(a, kind));
    assert!((0..3).all(|kind| after[kind] >= before[kind] + 2), "{before:?} {after:?}");

    // By address. The replica's own zone is that of its clients only if nothing else is configured.
    let cidrs = format!("clients: {{zones: [{{zone: {B}, cidrs: [127.0.0.1/32]}}]}}\n");
    let a9 = at.replica(A, "a-9", 4, &cidrs);
    assert_sent_to(b, 1, &a9.bootstrap(), "raw", &topic.name);
    wait_until("its traffic is counted", Duration::from_secs(5), || {
        crossed(&a9, "client_classic", "other") > 0
    });
}

#[test]
fn consumer_is_sent_to_its_rack() {
    let TwoZones { a, b, .. } = two_zones();
    let topic = topic(1);
    let mut client = Client::connect(&topic.address(a, 0));
    let batch = Batch::of(&["near", "far"]).bytes();
    append(&mut client, topic.partition(0), batch.clone());
    let whole = [(0, stored_bytes(&batch))];
    let there = partitions(&b.bootstrap(), "raw", &topic.name)[0].0;
    for version in [10, 11, 12] {
        for (rack, sent) in
            [("zone-b", version >= 11), ("zone-a", false), ("mars", false), ("", false)]
        {
            let rack_id = StrBytes::from_static_str(rack);
            let asked = fetch(topic.partition(0), version, 0);
            let asked = if version >= 11 { asked.with_rack_id(rack_id) } else { asked };
            let response = client.call(&asked, version);
            let row = fetched(&response);
            let records = row.records.as_ref().expect("never null");
            let preferred = row.preferred_read_replica.0;
            assert_eq!((row.error_code, preferred), (0, if sent { there } else { -1 }), "{rack}");
            assert_eq!(read(records), if sent { &[][..] } else { &whole }, "{rack}");
            assert_eq!(row.high_watermark, 2);
        }
    }
    // That zone returns the records; an offset that is out of range is not redirected.
    let mut client = Client::connect(&b.node(u16::try_from(there - NODE_0 - 64).expect("a node")));
    let rack = StrBytes::from_static_str("zone-b");
    let asked = fetch(topic.partition(0), 12, 0).with_rack_id(rack.clone());
    let response = client.call(&asked, 12);
    assert_eq!(read(fetched(&response).records.as_ref().expect("some")), whole);
    let mut client = Client::connect(&topic.address(a, 0));
    let response = client.call(&fetch(topic.partition(0), 12, 99).with_rack_id(rack), 12);
    let row = fetched(&response);
    assert_eq!((row.error_code, row.preferred_read_replica.0), (1, -1));
}

/// Fetches that were answered by a replica's diskless nodes.
fn fetches(replica: &Replica) -> u64 {
    metric(replica, "odradek_requests_total{api=\"Fetch\",endpoint=\"diskless\"}").unwrap_or(0)
}

#[test]
fn stock_consumers_read_from_their_rack() {
    require("kcat".as_ref());
    let TwoZones { a, b, .. } = two_zones();
    let topic = topic(1);
    let mut client = Client::connect(&topic.address(a, 0));
    append(&mut client, topic.partition(0), Batch::of(&["one", "two"]).bytes());
    let before = fetches(b);
    let (bootstrap, name) = (a.bootstrap(), topic.name.as_str());
    let java = ["--bootstrap-server", &bootstrap, "--topic", name, "--from-beginning"];
    let rack = ["--command-property", "client.rack=zone-b"];
    let rest = ["--max-messages", "2", "--timeout-ms", "60000"];
    let read = tool("kafka-console-consumer", &[&java[..], &rack, &rest].concat());
    assert_eq!(read, "one\ntwo\n");
    assert!(fetches(b) > before, "it read from zone a");

    let before = fetches(b);
    let mut kcat = Command::new("timeout");
    kcat.args(["60", "kcat", "-b", &bootstrap, "-t", name, "-C", "-q", "-e", "-o", "beginning"]);
    assert_eq!(run(kcat.args(["-X", "client.rack=zone-b"])), "one\ntwo\n");
    assert!(fetches(b) > before, "it read from zone a");
}

#[test]
fn sidecar_advertises_zone_nodes_and_writes_nothing() {
    let TwoZones { at, a, b, .. } = two_zones();
    let sidecar = at.sidecar(B, "pod-1");
    let topic = topic(3);
    Topic::look_up(&sidecar, &topic.name);
    assert_eq!(hosted_by(&nodes_of(&sidecar), &sidecar), Vec::<i32>::new());
    // Another test of this installation starts and stops a replica that hosts nodes.
    wait_until("the sidecar advertises the nodes of the zones", Duration::from_secs(30), || {
        let map = nodes_of(&sidecar);
        !map.is_empty() && hosted_by(&map, &sidecar).is_empty() && map == nodes_of(a)
    });
    for k in 0..4 {
        TcpStream::connect(sidecar.node(k)).expect_err("it hosts no nodes");
    }
    for (leader, ..) in partitions(&sidecar.bootstrap(), "raw", &topic.name) {
        assert_eq!(zone_of(leader), 1);
    }
    let seen = brokers(&metadata(&sidecar.bootstrap(), "raw"));
    let expected = [1, 2, 3].map(|id| sidecar.broker(id));
    assert!(
        seen.values().map(|(at, _)| at).eq(&expected),
        "brokers are reached through the sidecar"
    );

    // A stock client that bootstraps there produces to and consumes from both types of topics.
    let classic = Testbed::get().unique("classic-zones");
    let bootstrap = sidecar.bootstrap();
    let config = sidecar.dir().join("client.properties").display().to_string();
    fs::write(&config, "client.id=app,zone=zone-b\n").expect("the directory is writable");
    let told = ["--command-config", &config];
    Topic::create(&sidecar, &classic, 1, &[]);
    for name in [&topic.name, &classic] {
        let on = ["--bootstrap-server", bootstrap.as_str(), "--topic", name];
        let load = ["--num-records", "100", "--record-size", "64", "--throughput", "-1"];
        tool("kafka-producer-perf-test", &[&on[..], &load, &told].concat());
        let rest = ["--from-beginning", "--max-messages", "100", "--timeout-ms", "60000"];
        let read = tool("kafka-console-consumer", &[&on[..], &rest, &told].concat());
        assert_eq!(read.lines().count(), 100, "{name}");
    }
    assert!(fetches(b) > 0 && fetches(&sidecar) == 0);
    assert_eq!(metric(&sidecar, "odradek_objects_written_total"), Some(0));
    assert_eq!([a, b, &sidecar].map(records_crossed), [0; 3]);

    // A misrouted produce to the sidecar is rejected.
    let records = Batch::of(&["lost"]).bytes();
    let asked: ProduceRequest = produce(topic.partition(0), 9, -1, records);
    let response = Client::connect(&sidecar.broker(1)).call(&asked, 9);
    assert_eq!(produced(&response).error_code, 6, "NOT_LEADER_OR_FOLLOWER");
}
