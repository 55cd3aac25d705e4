//! Clients that send what no well-behaved client sends: none takes a replica from the others.

use std::fs;
use std::time::{Duration, Instant};

use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, FetchResponse, MetadataRequest,
};

use super::client::Client;
use super::lifecycle::LIMIT;
use super::requests::{self, fetch, fetch_of, fetch_partition, metadata, topic_name};
use super::{Topic, brokers};
use testbed::Testbed;
use testbed::kafka::Kafka;
use testbed::process::{run, wait_until};
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};

const UNKNOWN_TOPIC: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;

fn own_replica() -> Replica {
    Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n")
}

pub(super) fn own_topic(replica: &Replica, stem: &str, partitions: i32) -> Topic {
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}{stem}"));
    Topic::create(replica, &name, partitions, &[])
}

/// Returns a figure of `/proc/PID/status` in bytes.
pub(super) fn memory_of(replica: &Replica, figure: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", replica.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(figure)).expect("the figure");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") << 10
}

/// A fetch of many partitions of one topic, by a name that no topic can have.
fn fetch_by_long_name(name_bytes: usize, partitions: i32) -> FetchRequest {
    let topic = FetchTopic::default()
        .with_topic(topic_name(&"n".repeat(name_bytes)))
        .with_partitions((0..partitions).map(|p| fetch_partition(p, 0)).collect());
    FetchRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

#[test]
fn long_topic_name_takes_no_memory_for_each_partition() {
    let replica = own_replica();
    let topic = own_topic(&replica, "beside-long-names", 1);
    for (name_bytes, partitions, epoch) in [(32_767, 10_000, 0), (250, 30_000, -1)] {
        let mut client = Client::connect(&topic.address(&replica, 0));
        let before = memory_of(&replica, "VmRSS");
        let began = Instant::now();
        let request = fetch_by_long_name(name_bytes, partitions).with_session_epoch(epoch);
        let response = client.call(&request, 12);
        let took = began.elapsed();
        let peak = memory_of(&replica, "VmHWM").saturating_sub(before);
        let rows: Vec<_> = response.responses.iter().flat_map(|t| &t.partitions).collect();
        assert_eq!(rows.len(), partitions as usize);
        assert!(rows.iter().all(|row| row.error_code == UNKNOWN_TOPIC));
        assert!(peak < 64 << 20, "{peak} bytes for a name of {name_bytes}");
        assert!(took < Duration::from_secs(2), "{took:?} for a name of {name_bytes}");
    }
}

/// Kafka's strings have at most 32,767 bytes.
#[test]
fn string_that_is_none_closes_the_connection_as_at_a_broker() {
    let replica = own_replica();
    let topic = own_topic(&replica, "beside-longer-names", 1);
    let before = memory_of(&replica, "VmRSS");
    for address in [topic.address(&replica, 0), replica.broker(1), brokers()[0].clone()] {
        for partitions in [1_000, 4_000] {
            let mut client = Client::connect(&address);
            client.send(&fetch_by_long_name(1 << 20, partitions), 12);
            assert!(client.is_closed(), "{address}");
        }
    }
    let peak = memory_of(&replica, "VmHWM").saturating_sub(before);
    assert!(peak < 64 << 20, "{peak} bytes");
}

/// Returns the number of connections to a local port whose client has closed them.
fn half_closed(port: &str) -> usize {
    let port: u16 = port.parse().expect("a port");
    let suffix = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").expect("the connections");
    let is_half_closed = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|local| local.ends_with(&suffix)) && columns.nth(1) == Some("08")
    };
    table.lines().filter(is_half_closed).count()
}

#[test]
fn departed_client_is_noticed_while_its_requests_wait() {
    let replica = own_replica();
    let topic = own_topic(&replica, "departed", 1);
    leave_while_fetches_wait(&replica, &topic);
}

/// Here a broker waits.
#[test]
fn departed_client_of_classic_topic_is_noticed() {
    let replica = own_replica();
    let topic = Topic::create(&replica, &Testbed::get().unique("classic-departed"), 1, &[]);
    leave_while_fetches_wait(&replica, &topic);
}

fn leave_while_fetches_wait(replica: &Replica, topic: &Topic) {
    let address = topic.address(replica, 0);
    let at = topic.partition(0);
    let endless = fetch(at, 11, 0).with_max_wait_ms(i32::MAX);
    for _ in 0..50 {
        let mut client = Client::connect(&address);
        for _ in 0..70 {
            client.send(&endless, 11);
        }
    }
    let port = address.rsplit(':').next().expect("a port");
    wait_until("the connections are closed", Duration::from_secs(20), || half_closed(port) == 0);
}

#[test]
fn sessions_of_many_clients_do_not_evict_each_other() {
    let replica = own_replica();
    let topic = own_topic(&replica, "sessions", 6);
    let at = topic.partition(0);
    let all: Vec<FetchPartition> = (0..6).map(|p| fetch_partition(p, 0)).collect();
    let open = fetch_of(at, 12, all).with_session_epoch(0);
    let mut clients: Vec<_> = (0..1_100)
        .map(|_| {
            let mut client = Client::connect(&topic.address(&replica, 0));
            let response: FetchResponse = client.call(&open, 12);
            assert_eq!(response.error_code, 0);
            (client, response.session_id)
        })
        .collect();
    let with_session = clients.iter().filter(|(_, id)| *id != 0).count();
    assert_eq!(with_session, clients.len());
    let mut ended = 0;
    for epoch in 1..4 {
        for (client, id) in &mut clients {
            let mut request = fetch(at, 12, 0).with_session_id(*id).with_session_epoch(epoch);
            request.topics.clear();
            ended += usize::from(client.call(&request, 12).error_code != 0);
        }
    }
    assert_eq!(ended, 0, "of {} incremental fetches", 3 * clients.len());
}

/// Creates a topic at a broker, on one broker alone.
fn create_at(broker: &str, name: &str, on: i32) {
    let mut request = requests::create(name, -1, &[]);
    let assignment = CreatableReplicaAssignment::default()
        .with_partition_index(0)
        .with_broker_ids(vec![BrokerId(on)]);
    request.topics[0].replication_factor = -1;
    request.topics[0].assignments = vec![assignment];
    let response = Client::connect(broker).call::<CreateTopicsRequest>(&request, 7);
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

/// A topic whose only broker is down cannot be found empty, so it is neither classic nor diskless.
#[test]
fn undecided_topic_delays_metadata_of_no_other() {
    let kafka = Kafka::start(&Testbed::get().test_dir("lost-kafka"), 2);
    let broker = kafka.bootstrap().split(',').next().expect("a broker").to_owned();
    let lost = Testbed::get().unique(&format!("{DISKLESS_PREFIX}lost"));
    let present = Testbed::get().unique("classic-present");
    create_at(&broker, &lost, 2);
    create_at(&broker, &present, 1);
    run(std::process::Command::new("kill").args(["-9", &kafka.ids()[1].to_string()]));
    wait_until("the topic has no leader", LIMIT, || {
        let response = Client::connect(&broker).call(&metadata(&[&lost]), 12);
        response.topics[0].partitions.iter().all(|p| p.leader_id.0 < 0)
    });
    let replica = Replica::start_before(&kafka, "", Backends::Embedded, "");
    let ask = || {
        let mut client = Client::connect(&replica.bootstrap());
        let began = Instant::now();
        let response = client.call(&MetadataRequest::default().with_topics(None), 12);
        let took = began.elapsed();
        let code_of = |name: &str| {
            let named = |topic: &_| requests::is_named(topic, name);
            response.topics.iter().find(|topic| named(topic)).map(|topic| topic.error_code)
        };
        assert_eq!((code_of(&present), code_of(&lost)), (Some(0), Some(LEADER_NOT_AVAILABLE)));
        took
    };
    // The second round comes after a failed decision is no longer remembered.
    for _ in 0..2 {
        let slowest = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
            clients.into_iter().map(|client| client.join().expect("an answer")).max()
        });
        let slowest = slowest.expect("20 clients");
        assert!(slowest < Duration::from_millis(1500), "{slowest:?}");
        std::thread::sleep(Duration::from_secs(6));
    }
}
