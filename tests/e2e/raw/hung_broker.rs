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
use testbed::replica::{Backends, Replica};

const MIB: usize = 1 << 20;
/// More than the memory of all forwarded requests, beyond what the kernel buffers.
const PRODUCERS: usize = 48;
const FRAMES: usize = 12;

fn signal(pid: u32, signal: &str) {
    run(std::process::Command::new("kill").args([signal, &pid.to_string()]));
}

/// Returns a topic whose only partition is led by a broker.
fn topic_on(replica: &Replica, kafka: &Kafka, broker: i32) -> Topic {
    for _ in 0..40 {
        let name = Testbed::get().unique("classic-hung");
        testbed::kafka::create_topic(kafka.bootstrap(), &name, 1);
        let mut client = Client::connect(&replica.bootstrap());
        let mut led_by = -1;
        wait_until(&name, Duration::from_secs(20), || {
            let topic = client.call::<MetadataRequest>(&metadata(&[&name]), 12).topics.remove(0);
            led_by = topic.partitions.first().map_or(-1, |partition| partition.leader_id.0);
            topic.error_code == 0 && led_by >= 0
        });
        if led_by == broker {
            let leaders = [(0, led_by)].into_iter().collect();
            return Topic { name, id: uuid::Uuid::nil(), leaders };
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
