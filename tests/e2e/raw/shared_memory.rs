//! Memory that connections share: no client takes that of others by letting requests wait.

use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, JoinGroupRequest, OffsetCommitRequest,
};
use kafka_protocol::protocol::Request as _;

use super::Topic;
use super::batch::Batch;
use super::client::Client;
use super::hostile_clients::{memory_of, own_topic};
use super::lifecycle::LIMIT;
use super::requests::{append, fetch, fetch_of, fetch_partition, produce, produced, text};
use super::zone_cache;
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::replica::{Backends, Replica};
use testbed::slow_s3::SlowS3;

const MIB: usize = 1 << 20;

/// Joins a group twice over one connection; the broker waits for the first member to join again.
fn wait_in_group(replica: &Replica, address: &str) -> Client {
    for n in 0..40 {
        let group = Testbed::get().unique(&format!("waiting-{n}"));
        let find = FindCoordinatorRequest::default().with_key(text(&group));
        let mut bootstrap = Client::connect(&replica.bootstrap());
        wait_until("a coordinator", LIMIT, || bootstrap.call(&find, 3).error_code == 0);
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let join = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_session_timeout_ms(120_000)
            .with_rebalance_timeout_ms(120_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        // The node's connection may lead to another broker than the coordinator.
        let mut client = Client::connect(address);
        client.send(&join, 3);
        let response = client.receive_frame(JoinGroupRequest::KEY, 3);
        // After the correlation id and the throttle time.
        if response[8..10] == [0, 0] {
            client.send(&join, 3);
            return client;
        }
    }
    panic!("no connection led to a coordinator");
}

#[test]
fn frames_behind_a_waiting_request_stop_no_producer() {
    let extra = "flush: {interval: 20ms}\nmemory: {requests: 64MiB}\n";
    let replica = Replica::start(Backends::Embedded, extra);
    let topic = own_topic(&replica, "behind-waiting", 1);
    let address = topic.address(&replica, 0);
    let mut client = Client::connect(&address);
    append(&mut client, topic.partition(0), Batch::of(&["first"]).bytes());
    // A broker reads nothing behind a request that waits.
    let senders: Vec<_> = (0..4)
        .map(|_| wait_in_group(&replica, &address))
        .map(|mut client| {
            thread::spawn(move || {
                client.limit_writes(Duration::from_secs(5));
                let body = vec![0; 60 * MIB];
                client.try_send_body(OffsetCommitRequest::KEY, 2, &body);
                client
            })
        })
        .collect();
    let _waiting: Vec<_> = senders.into_iter().map(|s| s.join().expect("it stops")).collect();
    let records = Batch::of(&[&"x".repeat(900 << 10)]).bytes();
    for _ in 0..5 {
        for client in [&mut client, &mut Client::connect(&address)] {
            let sent = Instant::now();
            append(client, topic.partition(0), records.clone());
            assert!(sent.elapsed() < Duration::from_secs(5), "after {:?}", sent.elapsed());
        }
    }
}

/// Returns the bytes that a memory pool holds.
fn held(replica: &Replica, pool: &str) -> usize {
    let admin = u16::try_from(replica.ports().start + 1).expect("a port");
    let metrics = zone_cache::get(admin, "/metrics");
    let name = format!("odradek_memory_pool_used_bytes{{pool=\"{pool}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{pool}: {metrics}"))
}

#[test]
fn first_requests_of_connections_wait_without_memory_of_logins() {
    let store = SlowS3::start(&["--put", "5/15"]);
    let extra = "flush: {interval: 20ms}\nmemory: {requests: 16MiB}\n";
    let replica = Replica::start_on(&store.yaml(), &Testbed::get().redis().yaml(), extra);
    let topic = own_topic(&replica, "outage", 1);
    let classic = Topic::create(&replica, &Testbed::get().unique("classic-outage"), 1, &[]);
    let mut known = Client::connect(&classic.address(&replica, 0));
    let first = produce(classic.partition(0), 9, -1, Batch::of(&["first"]).bytes());
    wait_until("the leader is ready", LIMIT, || produced(&known.call(&first, 9)).error_code == 0);
    let address = topic.address(&replica, 0);
    append(&mut Client::connect(&address), topic.partition(0), Batch::of(&["first"]).bytes());

    store.control("fault?operation=put&contains=/wal/&next=100000&hang-before=never");
    let records = Batch::of(&[&"x".repeat(300 << 10)]).bytes();
    let request = produce(topic.partition(0), 9, -1, records);
    let _producers: Vec<_> = (0..100)
        .map(|_| {
            let mut client = Client::connect(&address);
            client.limit_writes(Duration::from_secs(5));
            assert!(client.try_send(&request, 9), "the kernel takes it");
            client
        })
        .collect();
    wait_until("all memory for producers is held", LIMIT, || held(&replica, "requests") > 13 * MIB);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(held(&replica, "login"), 0);
    for _ in 0..5 {
        let sent = Instant::now();
        let mut client = Client::connect(&classic.address(&replica, 0));
        let records = Batch::of(&[&"x".repeat(200 << 10)]).bytes();
        append(&mut client, classic.partition(0), records);
        assert!(sent.elapsed() < Duration::from_secs(5), "after {:?}", sent.elapsed());
    }
    store.control("release");
}

/// A large request behind responses that the client does not read would hold memory for as long.
#[test]
fn large_request_does_not_wait_for_a_client_that_reads_nothing() {
    let replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    let topic = own_topic(&replica, "unread", 1);
    let at = topic.partition(0);
    let mut client = Client::connect(&topic.address(&replica, 0));
    let records = Batch::of(&[&"x".repeat(900 << 10)]).bytes();
    // More than the kernel buffers.
    for _ in 0..14 {
        append(&mut client, at, records.clone());
    }
    let all = fetch_of(at, 12, vec![fetch_partition(0, 0).with_partition_max_bytes(15 << 20)]);
    let large = fetch_of(at, 12, (0..1_800).map(|p| fetch_partition(p, 0)).collect());
    let mut unread = Client::connect(&topic.address(&replica, 0));
    unread.send(&all, 12);
    unread.send(&large, 12);
    wait_until("it waits", LIMIT, || held(&replica, "waiting") > 0);
    wait_until("the connection is closed", Duration::from_secs(45), || {
        held(&replica, "waiting") == 0
    });
    let sent = Instant::now();
    client.call(&large, 12);
    assert!(sent.elapsed() < Duration::from_secs(5), "after {:?}", sent.elapsed());
}

#[test]
fn fetches_that_wait_take_bounded_memory() {
    let replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    let topic = own_topic(&replica, "waiting", 1);
    let at = topic.partition(0);
    let mut client = Client::connect(&topic.address(&replica, 0));
    append(&mut client, at, Batch::of(&["first"]).bytes());
    let before = memory_of(&replica, "VmRSS");
    let address = topic.address(&replica, 0);
    let endless = fetch(at, 12, 1).with_max_wait_ms(60_000);
    let large = fetch_of(at, 12, (0..1_800).map(|p| fetch_partition(p, 0)).collect());
    let senders: Vec<_> = (0..30)
        .map(|_| {
            let (address, endless, large) = (address.clone(), endless.clone(), large.clone());
            thread::spawn(move || {
                let mut client = Client::connect(&address);
                client.limit_writes(Duration::from_secs(3));
                client.send(&endless, 12);
                for _ in 0..63 {
                    if !client.try_send(&large, 12) {
                        break;
                    }
                }
                client
            })
        })
        .collect();
    let _waiting: Vec<_> = senders.into_iter().map(|s| s.join().expect("it stops")).collect();
    thread::sleep(Duration::from_secs(2));
    let taken = memory_of(&replica, "VmHWM").saturating_sub(before);
    assert!(taken < 40 << 20, "{} MiB", taken >> 20);
    // One fetch is served beside them, also if it is large.
    let sent = Instant::now();
    let response = client.call(&large, 12);
    assert_eq!(response.responses[0].partitions.len(), 1_800);
    assert!(sent.elapsed() < Duration::from_secs(5), "after {:?}", sent.elapsed());
}
