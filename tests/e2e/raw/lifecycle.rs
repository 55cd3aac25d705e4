//! Shutdown, restart and start-up of a replica.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use kafka_protocol::messages::ProduceRequest;

use super::Topic;
use super::batch::{Batch, read, stored_bytes};
use super::client::Client;
use super::requests::{append, fetch, fetched, produce, produced};
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::replica::{Backends, DISKLESS_PREFIX, Replica};
use testbed::slow_s3::SlowS3;

/// The maximum time for anything that must happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

fn topic_of(replica: &Replica) -> Topic {
    let name = Testbed::get().unique(&format!("{DISKLESS_PREFIX}lifecycle"));
    Topic::create(replica, &name, 1, &[])
}

/// After a kill and a restart with embedded backends, a replica has its topics, offsets, producers
/// and addresses. Fetch sessions are lost, and reported as such.
#[test]
fn restarted_replica_resumes() {
    let mut replica = Replica::start(Backends::Embedded, "flush: {interval: 20ms}\n");
    let topic = topic_of(&replica);
    let (address, at) = (topic.address(&replica, 0), topic.partition(0));
    let batches: Vec<_> =
        (0..3).map(|n| Batch::of(&[&format!("value {n}")]).by(5_000_000, 0, n).bytes()).collect();
    let mut client = Client::connect(&address);
    append(&mut client, at, batches[0].clone());
    append(&mut client, at, batches[1].clone());
    let session = client.call(&fetch(at, 12, 0).with_session_epoch(0), 12).session_id;
    assert!(session != 0);

    replica.restart();
    let again = Topic::look_up(&replica, &topic.name);
    assert_eq!((again.id, &again.leaders), (topic.id, &topic.leaders));
    let mut client = Client::connect(&address);
    let next = fetch(at, 12, 2).with_session_id(session).with_session_epoch(1);
    assert_eq!(client.call(&next, 12).error_code, 70);
    assert_eq!(append(&mut client, at, batches[1].clone()), 1, "a duplicate is still known");
    assert_eq!(append(&mut client, at, batches[2].clone()), 2);
    let response = client.call(&fetch(at, 12, 0), 12);
    let expected: Vec<_> =
        batches.iter().enumerate().map(|(n, b)| (n as i64, stored_bytes(b))).collect();
    assert_eq!(read(fetched(&response).records.as_ref().expect("records")), expected);
}

#[test]
fn drain_answers_requests_in_flight() {
    // Slow enough that the request is in flight when the signal arrives.
    let slow = "flush: {interval: 1500ms, profile: cheap}\n";
    let mut replica = Replica::start(Backends::Embedded, slow);
    let topic = topic_of(&replica);
    let mut client = Client::connect(&topic.address(&replica, 0));
    let mut idle = Client::connect(&replica.bootstrap());
    let batch = Batch::of(&["kept"]).bytes();
    // The next object is sealed an interval later.
    assert_eq!(append(&mut client, topic.partition(0), batch.clone()), 0);
    let correlation_id = client.send(&produce(topic.partition(0), 9, -1, batch), 9);
    assert!(client.is_silent_for(Duration::from_millis(300)), "it is in flight");
    replica.process().send_sigterm();
    let response = client.receive::<ProduceRequest>(correlation_id, 9);
    assert_eq!((produced(&response).error_code, produced(&response).base_offset), (0, 1));
    assert!(client.is_closed() && idle.is_closed());
    replica.wait_success(LIMIT);
}

/// The next start waits for no lease of it.
#[test]
fn drained_replica_records_that_it_has_ended() {
    let dir = Testbed::get().test_dir("ended");
    let store = format!("store: \"file://{}\"\n", dir.join("store").display());
    let mut replica = Replica::start_on(&store, &Testbed::get().redis().yaml(), "");
    let topic = topic_of(&replica);
    let mut client = Client::connect(&topic.address(&replica, 0));
    append(&mut client, topic.partition(0), Batch::of(&["kept"]).bytes());
    let ended = || {
        let mut clusters = fs::read_dir(dir.join("store")).expect("its cluster's directory");
        let cluster = clusters.next().expect("one").expect("an entry").path();
        let records = cluster.join("objects/meta/processes");
        let records = fs::read_dir(records).expect("the record");
        let record = |entry: std::io::Result<fs::DirEntry>| {
            fs::read_to_string(entry.expect("an entry").path()).expect("a record")
        };
        records.map(record).map(|text| text.contains("\"hasEnded\": true")).collect::<Vec<_>>()
    };
    assert_eq!(ended(), [false]);
    replica.process().send_sigterm();
    replica.wait_success(LIMIT);
    assert_eq!(ended(), [true]);
}

#[test]
fn second_signal_exits_at_once() {
    let store = SlowS3::start(&[]);
    let mut replica = Replica::start_on(&store.yaml(), &Testbed::get().redis().yaml(), "");
    let topic = topic_of(&replica);
    store.control("fault?operation=put&contains=/wal/&hang-before=never");
    let mut client = Client::connect(&topic.address(&replica, 0));
    client.send(&produce(topic.partition(0), 9, -1, Batch::of(&["lost"]).bytes()), 9);
    assert!(client.is_silent_for(Duration::from_millis(200)), "it is in flight");
    replica.process().send_sigterm();
    let draining = || replica.process().log().contains("draining");
    wait_until("it drains", LIMIT, draining);
    let started = Instant::now();
    replica.process().send_sigterm();
    assert!(client.is_closed(), "the exit does not wait for the store");
    replica.wait_success(LIMIT);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn invalid_configuration_reports_every_problem() {
    let file = Testbed::get().test_dir("mistakes").join("odradek.yaml");
    let text = "zone: 7\nreplika: r\nstore: ftp://somewhere\ncoordinator: sqlite\n\
                kafka: {bootstrapServers: []}\n\
                listeners: {bootstrapPort: 70000, nodePorts: 9300, brokerPorts: 9300}\n\
                diskless: {nodesPerZone: 0, topics: [{match: \"__secret\"}]}\n\
                flush: {interval: soon, size: 8}\n";
    fs::write(&file, text).expect("the directory is writable");
    for verb in ["validate", "serve"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_odradek"));
        let output = command.arg(verb).arg(&file).output().expect("it runs");
        assert_eq!(output.status.code(), Some(78), "{verb}");
        let outcome = String::from_utf8_lossy(&output.stderr).into_owned();
        let named = ["replika", "store", "coordinator", "bootstrapServers", "bootstrapPort"];
        for key in named.iter().chain(&["nodesPerZone", "flush.interval"]) {
            assert!(outcome.contains(key), "{verb} does not name {key}:\n{outcome}");
        }
    }
}
