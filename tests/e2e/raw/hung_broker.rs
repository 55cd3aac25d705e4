//! A broker that stands still without closing its connections.

use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::MetadataRequest;

use super::Topic;
use super::batch::Batch;
use super::client::Client;
use super::requests::{append, metadata, produce};
use super::zone_cache;
use testbed::Testbed;
use testbed::kafka::Kafka;
use testbed::process::{run, wait_until};
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};

const MIB: usize = 1 << 20;
/// More than the memory of all forwarded requests, beyond what the kernel buffers.
const PRODUCERS: usize = 48;
const FRAMES: usize = 12;

fn signal(pid: u32, signal: &str) {
    run(std::process::Command::new("kill").args([signal, &pid.to_string()]));
}

/// Returns a topic of one partition once Metadata has its leader.
fn look_up(replica: &Replica, name: &str) -> Topic {
    let mut client = Client::connect(&replica.bootstrap());
    let mut led_by = -1;
    wait_until(name, Duration::from_secs(20), || {
        let topic = client.call::<MetadataRequest>(&metadata(&[name]), 12).topics.remove(0);
        led_by = topic.partitions.first().map_or(-1, |partition| partition.leader_id.0);
        topic.error_code == 0 && led_by >= 0
    });
    let leaders = [(0, led_by)].into_iter().collect();
    Topic { name: name.to_owned(), id: uuid::Uuid::nil(), leaders }
}

/// Returns a topic whose only partition is led by a broker.
fn topic_on(replica: &Replica, kafka: &Kafka, broker: i32) -> Topic {
    for _ in 0..40 {
        let name = Testbed::get().unique("classic-hung");
        testbed::kafka::create_topic(kafka.bootstrap(), &name, 1);
        let topic = look_up(replica, &name);
        if topic.leaders[&0] == broker {
            return topic;
        }
    }
    panic!("no topic on broker {broker}");
}

#[test]
fn producers_of_other_brokers_are_served_while_a_broker_hangs() {
    let dir = Testbed::get().test_dir("hung-broker");
    let kafka = Kafka::start(&dir, 2);
    let extra = "memory: {requests: 32MiB}\n";
    let replica = Replica::start_before(&kafka, "", Backends::Embedded, extra);
    let (alive, hung) = (topic_on(&replica, &kafka, 1), topic_on(&replica, &kafka, 2));
    // Both are known, and hold records.
    let mut client = Client::connect(&alive.address(&replica, 0));
    append(&mut client, alive.partition(0), Batch::of(&["first"]).bytes());
    let address = hung.address(&replica, 0);
    let connect = |_| {
        let mut client = Client::connect(&address);
        append(&mut client, hung.partition(0), Batch::of(&["first"]).bytes());
        client
    };
    let clients: Vec<_> = (0..PRODUCERS).map(connect).collect();

    let broker = kafka.ids()[1];
    signal(broker, "-STOP");
    let large = produce(hung.partition(0), 9, 1, Batch::of(&[&"x".repeat(MIB - 4_096)]).bytes());
    let producers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let large = large.clone();
            thread::spawn(move || {
                client.limit_writes(Duration::from_secs(5));
                while (0..FRAMES).all(|_| client.try_send(&large, 9)) {}
                client
            })
        })
        .collect();
    let blocked: Vec<_> = producers.into_iter().map(|p| p.join().expect("it stops")).collect();
    let records = Batch::of(&[&"x".repeat(200 << 10)]).bytes();
    for _ in 0..20 {
        let sent = Instant::now();
        append(&mut client, alive.partition(0), records.clone());
        assert!(sent.elapsed() < Duration::from_secs(3), "{:?}", sent.elapsed());
    }
    let admin = u16::try_from(replica.ports().start + 1).expect("a port");
    let open = format!("odradek_connections{{endpoint=\"classic\"}} {}", PRODUCERS + 1);
    let metrics = zone_cache::get(admin, "/metrics");
    assert!(metrics.lines().any(|line| line == open), "they wait: {metrics}");
    drop(blocked);
    signal(broker, "-CONT");
}

/// The longest wait of a diskless client while a broker hangs: another broker takes its place.
const DISKLESS_WAIT_MAX: Duration = Duration::from_secs(5);
/// Longer than permissions are valid, so that they are refreshed and expire meanwhile.
const HANGS_FOR: Duration = Duration::from_secs(36);
const DISKLESS_CLIENTS: usize = 4;

#[test]
fn diskless_clients_are_served_while_a_broker_hangs() {
    let dir = Testbed::get().test_dir("hung-broker-diskless");
    let kafka = Kafka::start(&dir, 2);
    let extra = "flush: {interval: 20ms}\n";
    let replica = Replica::start_before(&kafka, "", Backends::Embedded, extra);
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}hung"));
    testbed::kafka::create_topic(&replica.bootstrap(), &name, 1);
    let topic = look_up(&replica, &name);
    let address = topic.address(&replica, 0);
    let append_once = |client: &mut Client| {
        let sent = Instant::now();
        append(client, topic.partition(0), Batch::of(&["x"]).bytes());
        sent.elapsed()
    };
    // Connections to any broker are spread over both.
    let mut old: Vec<_> = (0..DISKLESS_CLIENTS).map(|_| Client::connect(&address)).collect();
    old.iter_mut().for_each(|client| {
        append_once(client);
    });

    let broker = kafka.ids()[1];
    signal(broker, "-STOP");
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < HANGS_FOR {
        for client in &mut old {
            longest = longest.max(append_once(client));
        }
        longest = longest.max(append_once(&mut Client::connect(&address)));
        thread::sleep(Duration::from_millis(250));
    }
    for _ in 0..DISKLESS_CLIENTS {
        let sent = Instant::now();
        Client::connect(&replica.bootstrap()).call::<MetadataRequest>(&metadata(&[&name]), 12);
        longest = longest.max(sent.elapsed());
    }
    signal(broker, "-CONT");
    assert!(longest < DISKLESS_WAIT_MAX, "{longest:?}");
}
