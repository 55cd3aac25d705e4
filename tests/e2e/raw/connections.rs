//! Clients that connect and then send nothing, too little or too slowly: the connections of others
//! do not notice.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::messages::{
    ApiVersionsRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Encodable as _, Request as _};

use super::Topic;
use super::batch::Batch;
use super::client::{Client, Received, frame};
use super::requests::{LATEST, append, fetch, list_offsets, metadata, produce};
use super::zone_cache;
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica, ReplicaConfig, kafka_servers};

/// The longest time that an append may take beside hostile clients.
const GAP_MAX: Duration = Duration::from_secs(5);

/// Starts a replica with more lines in the section `listeners`.
pub(crate) fn start_with(listeners: &str) -> Replica {
    let mut replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    let path = replica.dir().join("odradek.yaml");
    let text = fs::read_to_string(&path).expect("it is there");
    fs::write(&path, text.replace("listeners:\n", &format!("listeners:\n  {listeners}\n")))
        .expect("the directory is writable");
    replica.restart();
    replica
}

fn admin(replica: &Replica) -> u16 {
    u16::try_from(replica.ports().start + 1).expect("a port")
}

fn topics(replica: &Replica, stem: &str) -> [Topic; 2] {
    [format!("{DISKLESS_PREFIX}{stem}"), format!("classic-{stem}")]
        .map(|stem| Topic::create(replica, &Testbed::get().unique(&stem), 1, &[]))
}

/// Appends to both topics for some seconds, each time over a new connection and over an old one.
fn assert_served(replica: &Replica, topics: &[Topic; 2]) {
    let values = ["x".repeat(1 << 10), "x".repeat(100 << 10)];
    let mut old = topics.each_ref().map(|topic| Client::connect(&topic.address(replica, 0)));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        for ((topic, client), value) in topics.iter().zip(&mut old).zip(&values) {
            for value in [value, "short"] {
                let (sent, records) = (Instant::now(), Batch::of(&[value]).bytes());
                append(client, topic.partition(0), records.clone());
                append(
                    &mut Client::connect(&topic.address(replica, 0)),
                    topic.partition(0),
                    records,
                );
                assert!(sent.elapsed() < GAP_MAX, "{} after {:?}", topic.name, sent.elapsed());
            }
        }
    }
}

#[test]
fn announced_frames_that_never_arrive_delay_no_producer() {
    let replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    let topics = topics(&replica, "announced");
    let announce = |topic: &Topic| {
        let mut socket = TcpStream::connect(topic.address(&replica, 0)).expect("it listens");
        socket.write_all(&[4, 0, 0, 0]).expect("it reads");
        socket
    };
    let _silent: Vec<_> = topics.iter().flat_map(|t| [0; 4].map(|_| announce(t))).collect();
    std::thread::sleep(Duration::from_millis(300));
    assert_served(&replica, &topics);
}

#[test]
fn frames_that_stop_arriving_delay_no_producer() {
    let replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    let topics = topics(&replica, "stalled");
    // Admitted, and a part of the frame arrives.
    let stall = |topic: &Topic| {
        let mut client = Client::connect(&topic.address(&replica, 0));
        client.call::<MetadataRequest>(&metadata(&[&topic.name]), 12);
        append(&mut client, topic.partition(0), Batch::of(&["first"]).bytes());
        client.send_bytes(&[4, 0, 0, 0]);
        client.send_bytes(&vec![0; 200 << 10]);
        client
    };
    let mut stalled: Vec<_> = topics.iter().flat_map(|t| [0; 12].map(|_| stall(t))).collect();
    let began = Instant::now();
    assert_served(&replica, &topics);
    for client in &mut stalled {
        let received = client.receive_within(Duration::from_secs(25));
        assert!(matches!(received, Received::Closed), "{received:?}");
    }
    assert!(began.elapsed() > Duration::from_secs(10), "a short pause closes no connection");
}

#[test]
fn first_request_of_a_connection_may_be_large() {
    let replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    for topic in topics(&replica, "large") {
        let mut client = Client::connect(&topic.address(&replica, 0));
        let records = Batch::of(&[&"x".repeat(900 << 10)]).bytes();
        assert_eq!(append(&mut client, topic.partition(0), records), 0);
    }
}

#[test]
fn idle_connections_are_closed_on_every_port_and_active_ones_are_not() {
    let replica = start_with("idleTimeout: 4s");
    let [diskless, classic] = topics(&replica, "idle");
    let ports = [replica.bootstrap(), classic.address(&replica, 0), diskless.address(&replica, 0)];
    let mut idle = Vec::new();
    for (port, topic) in ports.iter().zip([&classic, &classic, &diskless]) {
        for sent in 0..4 {
            let mut client = Client::connect(port);
            match sent {
                0 => {}
                1 => drop(client.call::<ApiVersionsRequest>(&ApiVersionsRequest::default(), 2)),
                2 => drop(client.call::<MetadataRequest>(&metadata(&[&topic.name]), 12)),
                _ => {
                    let request = list_offsets(topic.partition(0), LATEST);
                    drop(client.call::<ListOffsetsRequest>(&request, 7));
                }
            }
            idle.push((port, sent, client));
        }
    }
    let mut active = Client::connect(&ports[2]);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        append(&mut active, diskless.partition(0), Batch::of(&["x"]).bytes());
        std::thread::sleep(Duration::from_millis(500));
    }
    for (port, sent, client) in &mut idle {
        let received = client.receive_within(Duration::from_secs(1));
        assert!(matches!(received, Received::Closed), "{port} after {sent}: {received:?}");
    }
}

/// Starts a replica whose process may open `soft` files, and `hard` if it raises its limit.
fn start_with_files(soft: u32, hard: u32) -> Replica {
    let testbed = Testbed::get();
    let name = testbed.unique("files");
    let dir = testbed.test_dir(&name);
    let binary = dir.join("limited");
    let serve = testbed::program("odradek");
    let script =
        format!("#!/bin/sh\nexec prlimit --nofile={soft}:{hard} {} \"$@\"\n", serve.display());
    fs::write(&binary, script).expect("the directory is writable");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("it is ours");
    Replica::launch(ReplicaConfig {
        binary,
        name: name.clone(),
        port: None,
        zone: "zone-1".to_owned(),
        replica: name.clone(),
        kafka: kafka_servers(testbed.kafka(), ""),
        yaml: format!(
            "cluster: {name}\ndiskless: {{topics: [{{match: \"{DISKLESS_PREFIX}*\"}}]}}\n\
             flush: {{interval: 20ms}}\nstore: \"file://{}\"\ncoordinator: embedded\n",
            dir.join("store").display()
        ),
        data_bytes_max: None,
        dir,
    })
}

/// Opens connections that send one ApiVersions request and stay; returns those that were served.
fn connect_and_stay(address: &str, connections: usize) -> Vec<Client> {
    let ask = |_| {
        let mut client = Client::connect(address);
        let sent = client.try_send(&ApiVersionsRequest::default(), 2);
        (sent && client.frame_within(Duration::from_secs(10)).is_some()).then_some(client)
    };
    (0..connections).filter_map(ask).collect()
}

#[test]
fn limit_on_open_files_is_raised_at_start() {
    let replica = start_with_files(256, 2_048);
    // With the soft limit, 96 are possible.
    let served = connect_and_stay(&replica.bootstrap(), 300);
    assert_eq!(served.len(), 300);
    let allowed = "odradek_connections_max 768";
    let metrics = zone_cache::get(admin(&replica), "/metrics");
    assert!(metrics.lines().any(|line| line == allowed), "{metrics}");
}

#[test]
fn connections_above_the_limit_are_closed_at_once_and_the_others_are_served() {
    // 1024 less a quarter, two for each connection.
    const MAX: usize = 384;
    let replica = start_with_files(1_024, 1_024);
    let topics = topics(&replica, "many");
    let began = Instant::now();
    // Without announced clients, one address may have all of them.
    let served = connect_and_stay(&replica.bootstrap(), MAX + 20);
    assert!((MAX - 40..=MAX).contains(&served.len()), "{}", served.len());
    assert!(began.elapsed() < Duration::from_secs(20), "refused after {:?}", began.elapsed());
    let metrics = zone_cache::get(admin(&replica), "/metrics");
    let refused = |reason: &str| {
        let name = format!("odradek_connections_refused_total{{reason=\"{reason}\"}} ");
        metrics.lines().any(|line| line.strip_prefix(&name).is_some_and(|count| count != "0"))
    };
    assert!(refused("total_limit"), "{metrics}");
    let logged = |text: &str| replica.log().lines().filter(|line| line.contains(text)).count();
    assert_eq!(logged("cannot accept a connection"), 0, "{}", replica.log());
    drop(served);
    wait_until("room for producers", GAP_MAX, || {
        !connect_and_stay(&replica.bootstrap(), 1).is_empty()
    });
    assert_served(&replica, &topics);
}

/// Returns a header that announces a client.
fn announcing(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([127, 0, 0, 1, 0x30, 0x39, 0x23, 0x84]);
    header
}

#[test]
fn load_balancer_announces_clients_and_limits_apply_to_them() {
    let lines = "proxyProtocolFrom: [127.0.0.1/32]\n  maxConnectionsPerAddress: 3";
    let replica = start_with(lines);
    let connect = |header: &[u8]| {
        let mut client = Client::connect(&replica.bootstrap());
        client.send_bytes(header);
        let sent = client.try_send(&ApiVersionsRequest::default(), 2);
        (sent && client.frame_within(Duration::from_secs(10)).is_some()).then_some(client)
    };
    for client in [[10, 0, 0, 1], [10, 0, 0, 2]] {
        let open: Vec<_> = (0..5).filter_map(|_| connect(&announcing(client))).collect();
        assert_eq!(open.len(), 3, "{client:?}");
    }
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    assert!(connect(local).is_some(), "a health check");
    let invalid: [&[u8]; 3] = [b"", b"PROXY TCP4 10.0.0.1 127.0.0.1 1 2\r\n", &[0xff; 40]];
    assert!(invalid.iter().all(|header| connect(header).is_none()));
    let logged = |text: &str| replica.log().lines().filter(|line| line.contains(text)).count();
    assert_eq!(logged("connections refused: too many of one address"), 1);
    // The doctor of the replica itself connects without a header, too.
    let metrics = zone_cache::get(admin(&replica), "/metrics");
    let name = "odradek_connections_refused_total{reason=\"proxy_header\"} ";
    let rejected = metrics.lines().find_map(|line| line.strip_prefix(name));
    assert!(rejected.is_some_and(|count| count.parse::<u32>().is_ok_and(|n| n >= 3)), "{metrics}");
    let refused = "odradek_connections_refused_total{reason=\"address_limit\"} 4";
    assert!(metrics.lines().any(|line| line == refused), "{metrics}");
}

/// A later response must not take the place of the one that the client waits for.
#[test]
fn half_closed_client_gets_no_response_out_of_order() {
    let replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    let [diskless, _] = topics(&replica, "half-closed");
    let mut client = Client::connect(&diskless.address(&replica, 0));
    append(&mut client, diskless.partition(0), Batch::of(&["x"]).bytes());
    client.send(&fetch(diskless.partition(0), 12, 1).with_max_wait_ms(20_000), 12);
    client.send(&ApiVersionsRequest::default(), 2);
    std::thread::sleep(Duration::from_millis(500));
    client.finish_sending();
    let received = client.receive_within(Duration::from_secs(10));
    assert!(matches!(received, Received::Closed), "{received:?}");
}

#[test]
fn announced_addresses_are_accepted_from_load_balancers_only() {
    let replica = start_with("proxyProtocolFrom: [10.0.0.0/8]");
    let mut client = Client::connect(&replica.bootstrap());
    client.send_bytes(&announcing([10, 0, 0, 1]));
    let received = client.receive_within(Duration::from_secs(5));
    assert!(matches!(received, Received::Closed), "{received:?}");
    wait_until("the reason in the log", GAP_MAX, || {
        replica.log().contains("listeners.proxyProtocolFrom")
    });
    assert!(!connect_and_stay(&replica.bootstrap(), 1).is_empty());
}

/// A producer that gets no responses (acks=0) and is in the middle of a frame when the time to log
/// in is over.
#[test]
fn frame_that_arrives_when_the_time_to_log_in_ends_is_served() {
    let replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    let topics = topics(&replica, "straddling");
    for topic in &topics {
        // Known topics need no question to the broker, which would admit the client.
        let mut other = Client::connect(&topic.address(&replica, 0));
        append(&mut other, topic.partition(0), Batch::of(&["of another"]).bytes());
    }
    let began = Instant::now();
    let mut clients = topics.map(|topic| {
        let mut client = Client::connect(&topic.address(&replica, 0));
        let first = produce(topic.partition(0), 9, 0, Batch::of(&["first"]).bytes());
        client.send(&first, 9);
        (topic, client)
    });
    std::thread::sleep(Duration::from_secs(26).saturating_sub(began.elapsed()));
    let halves = clients.each_mut().map(|(topic, client)| {
        let records = Batch::of(&[&"x".repeat(100 << 10)]).bytes();
        let mut body = BytesMut::new();
        produce(topic.partition(0), 9, 0, records).encode(&mut body, 9).expect("it is valid");
        let mut frame = frame(ProduceRequest::KEY, 9, 2, &body);
        client.send_bytes(&frame.split_to(50 << 10));
        frame
    });
    std::thread::sleep(Duration::from_secs(34).saturating_sub(began.elapsed()));
    for ((topic, client), rest) in clients.iter_mut().zip(halves) {
        client.send_bytes(&rest);
        assert_eq!(append(client, topic.partition(0), Batch::of(&["last"]).bytes()), 3);
    }
}
