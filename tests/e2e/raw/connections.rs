//! Clients that connect and then send nothing, too little or too slowly: the connections of others
//! do not notice.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{ApiVersionsRequest, ListOffsetsRequest, MetadataRequest};

use super::Topic;
use super::batch::Batch;
use super::client::{Client, Received};
use super::requests::{LATEST, append, list_offsets, metadata};
use testbed::Testbed;
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};

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
    assert!(began.elapsed() > Duration::from_secs(10), "a pause is no stall");
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
