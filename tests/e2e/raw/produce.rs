//! Produce on a diskless node.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use kafka_protocol::messages::{
    FetchRequest, InitProducerIdRequest, ProduceRequest, ProducerId, TransactionalId,
};

use super::batch::{Batch, TRANSACTIONAL, corrupt, read, stored_bytes};
use super::client::Client;
use super::lifecycle::LIMIT;
use super::requests::{LATEST, append, fetch, fetched, offset_of, produce, produced, text};
use super::{Topic, replica};
use testbed::process::wait_until;

#[test]
fn every_version_round_trips() {
    let topic = Topic::diskless("versions", 1);
    let mut client = topic.client();
    let mut sent = Vec::new();
    for version in 3..=13 {
        let batch = Batch::of(&[&format!("a{version}"), "b", "c"]).bytes();
        let response =
            client.call(&produce(topic.partition(0), version, -1, batch.clone()), version);
        let row = produced(&response);
        assert_eq!((row.error_code, row.base_offset), (0, sent.len() as i64 * 3), "v{version}");
        assert_eq!(row.log_append_time_ms, -1, "v{version}");
        sent.push((row.base_offset, stored_bytes(&batch)));
    }
    for version in 4..=18 {
        let response = client.call(&fetch(topic.partition(0), version, 0), version);
        let row = fetched(&response);
        assert_eq!((row.error_code, row.high_watermark), (0, 33), "v{version}");
        assert_eq!(row.last_stable_offset, 33, "v{version}");
        assert_eq!(read(row.records.as_ref().expect("records")), sent, "v{version}");
    }
}

#[test]
fn errors_are_reported_in_every_version() {
    let (ours, theirs) = (Topic::diskless("refusals", 1), Topic::classic("refusals", 1));
    let bad = corrupt(&Batch::of(&["x"]).bytes());
    for topic in [ours, theirs] {
        let mut client = topic.client();
        for version in 3..=13 {
            let response =
                client.call(&produce(topic.partition(0), version, -1, bad.clone()), version);
            let row = produced(&response);
            assert_eq!((row.error_code, row.base_offset), (2, -1), "{} v{version}", topic.name);
        }
    }
}

/// Invalid batches get the error codes that a broker returns.
#[test]
fn invalid_batches_get_the_error_codes_of_a_broker() {
    let (ours, theirs) = (Topic::diskless("bad", 1), Topic::classic("bad", 1));
    let good = Batch::of(&["x", "y"]).bytes();
    let transactional =
        Batch { attributes: TRANSACTIONAL, ..Batch::of(&["x"]).by(1, 0, 0) }.bytes();
    let large = Batch { values: vec![vec![7; 1_100_000]], ..Batch::of(&[]) }.bytes();
    let cases = [
        ("corrupt", corrupt(&good), 2),
        ("two batches", [&good[..], &good[..]].concat().into(), 87),
        ("too large", large, 10),
        ("half a batch", good.slice(..good.len() - 1), 87),
        ("no bytes", Bytes::new(), 87),
        ("no such codec", Batch { attributes: 5, ..Batch::of(&["x"]) }.bytes(), -1),
        ("control", Batch { attributes: 0x20, ..Batch::of(&["x"]) }.bytes(), 87),
        ("no sequence", Batch::of(&["x"]).by(7, 0, -1).bytes(), 87),
        ("a transaction without an id", transactional, 53),
    ];
    for topic in [&ours, &theirs] {
        let mut client = topic.client();
        for (label, records, code) in &cases {
            let response = client.call(&produce(topic.partition(0), 9, -1, records.clone()), 9);
            let row = produced(&response);
            let answer = (row.error_code, row.base_offset, row.log_append_time_ms);
            assert_eq!(answer, (*code, -1, -1), "{label} to {}", topic.name);
        }
        assert_eq!(offset_of(&mut client, topic.partition(0), LATEST).offset, 0, "{}", topic.name);
    }
}

#[test]
fn transactional_produce_fails_permanently() {
    let topic = Topic::diskless("transaction", 1);
    let batch = Batch { attributes: TRANSACTIONAL, ..Batch::of(&["x"]).by(1, 0, 0) }.bytes();
    let id = TransactionalId(text("t"));
    let request = produce(topic.partition(0), 9, -1, batch).with_transactional_id(Some(id));
    let response = topic.client().call(&request, 9);
    let row = produced(&response);
    assert_eq!(row.error_code, 48);
    assert!(row.error_message.as_ref().is_some_and(|m| m.contains("transactions")), "{row:?}");
}

#[test]
fn acks_behave_as_at_a_broker() {
    let (ours, theirs) = (Topic::diskless("acks", 1), Topic::classic("acks", 1));
    let batch = Batch::of(&["x"]).bytes();
    for topic in [ours, theirs] {
        let at = topic.partition(0);
        let mut client = topic.client();
        for acks in [2, 127, -2] {
            let response = client.call(&produce(at, 9, acks, batch.clone()), 9);
            let row = produced(&response);
            assert_eq!((row.error_code, row.base_offset), (21, -1), "acks={acks} {}", topic.name);
        }
        let response = client.call(&produce(at, 9, 1, batch.clone()), 9);
        assert_eq!((produced(&response).error_code, produced(&response).base_offset), (0, 0));

        // No response: the next response on the wire is that of the next request.
        client.send(&produce(at, 9, 0, batch.clone()), 9);
        assert_eq!(append(&mut client, at, batch.clone()), 2, "{}", topic.name);

        client.send(&produce(at, 9, 0, corrupt(&batch)), 9);
        assert!(client.is_closed(), "{}: a failure without an answer", topic.name);
        let mut client = topic.client();
        assert_eq!(offset_of(&mut client, at, LATEST).offset, 3, "{}", topic.name);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_share_objects() {
    const REQUESTS: i64 = 20;
    let topic = Topic::diskless("pipeline", 1);
    let mut client = topic.client();
    append(&mut client, topic.partition(0), Batch::of(&["first"]).bytes());
    let objects_before = wal_objects(&replica().dir().join("store"));

    let sent: Vec<_> = (0..REQUESTS)
        .map(|n| {
            let batch = Batch::of(&[&format!("record {n}")]).bytes();
            (n, client.send(&produce(topic.partition(0), 9, -1, batch), 9))
        })
        .collect();
    for (n, correlation_id) in sent {
        let response = client.receive::<ProduceRequest>(correlation_id, 9);
        let row = produced(&response);
        assert_eq!((row.error_code, row.base_offset), (0, 1 + n));
    }
    let response = client.call::<FetchRequest>(&fetch(topic.partition(0), 12, 1), 12);
    let records = fetched(&response).records.clone().expect("records");
    for (n, (offset, bytes)) in (0..REQUESTS).zip(read(&records)) {
        assert_eq!(offset, 1 + n);
        let value = format!("record {n}");
        assert!(bytes.windows(value.len()).any(|w| w == value.as_bytes()), "{value} at {offset}");
    }
    // Other tests write at the same time: only objects that contain this topic's records count.
    let holds = |object: &Vec<u8>| object.windows(7).any(|w| w == b"record ");
    let objects = wal_objects(&replica().dir().join("store"));
    let new = objects.iter().filter(|o| !objects_before.contains(o) && holds(o)).count();
    assert!((1..REQUESTS as usize / 2).contains(&new), "{new} objects for {REQUESTS} requests");
}

/// Returns the bytes of every WAL object below `dir`.
fn wal_objects(dir: &Path) -> Vec<Vec<u8>> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            objects.extend(wal_objects(&path));
        } else if path.to_string_lossy().ends_with(".wal~") {
            objects.extend(fs::read(path));
        }
    }
    objects
}

/// The same steps with a diskless and a classic topic have the same responses.
#[test]
fn idempotent_produce_matches_a_broker() {
    let (ours, theirs) = (Topic::diskless("idempotent", 1), Topic::classic("idempotent", 1));
    for topic in [ours, theirs] {
        let mut client = topic.client();
        let id = producer_id(&mut client);
        let mut send = |epoch, sequence| {
            let batch = Batch::of(&["a", "b"]).by(id, epoch, sequence).bytes();
            let response = client.call(&produce(topic.partition(0), 9, -1, batch), 9);
            let row = produced(&response);
            (row.error_code, row.base_offset)
        };
        for n in 0..6 {
            assert_eq!(send(0, 2 * n), (0, i64::from(2 * n)), "{}", topic.name);
        }
        for n in 1..6 {
            assert_eq!(send(0, 2 * n), (0, i64::from(2 * n)), "{n}, again, {}", topic.name);
        }
        assert_eq!(send(0, 0), (45, -1), "forgotten by now, {}", topic.name);
        assert_eq!(send(0, 14), (45, -1), "a gap, {}", topic.name);
        assert_eq!(send(0, 11), (45, -1), "an overlap, {}", topic.name);
        assert_eq!(send(1, 3), (45, -1), "a new epoch begins at 0, {}", topic.name);
        assert_eq!(send(1, 0), (0, 12), "{}", topic.name);
        assert_eq!(send(0, 12), (47, -1), "an old epoch, {}", topic.name);
    }
}

pub(super) fn producer_id(client: &mut Client) -> i64 {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
        .with_transaction_timeout_ms(60_000);
    let mut id = 0;
    wait_until("a producer id", LIMIT, || {
        let response = client.call(&request, 4);
        // A broker without reserved producer ids returns a retriable error.
        assert!([0, 14].contains(&response.error_code), "{response:?}");
        id = response.producer_id.0;
        response.error_code == 0
    });
    id
}
