//! Fetch while the store, Redis or the reader fails: available records are returned, others fail
//! with a retriable error, and wrong bytes are never returned.

mod slow_readers;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchRequest;

use super::Topic;
use super::batch::{Batch, read, stored_bytes};
use super::client::Client;
use super::requests::{append, fetch, fetched};
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::redis_proxy::{Mode, RedisProxy};
use testbed::replica::{DISKLESS_PREFIX, Replica};
use testbed::slow_s3::SlowS3;

const NONE: i16 = 0;
const KAFKA_STORAGE_ERROR: i16 = 56;
const LIMIT: Duration = Duration::from_secs(30);
const RECORDS: usize = 4;

/// Fetches a log without its writer, so that every byte comes from the store.
fn check(name: &str, rule: &str, expected_code: i16) {
    let store = SlowS3::start(&[]);
    let (coordinator, cluster) = (Testbed::get().redis().yaml(), Testbed::get().unique("reading"));
    let writer = Replica::start_of(&cluster, &store.yaml(), &coordinator, "");
    let topic = Testbed::get().unique(&format!("{DISKLESS_PREFIX}reading"));
    let topic = Topic::create(&writer, &topic, 1, &[]);
    let batches = [0; RECORDS].map(|_| Batch::of(&["a record of a log"]).bytes());
    let mut client = Client::connect(&topic.address(&writer, 0));
    for (offset, batch) in (0..).zip(&batches) {
        assert_eq!(append(&mut client, topic.partition(0), batch.clone()), offset);
    }
    let reader = Replica::start_of(&cluster, &store.yaml(), &coordinator, "");
    let mut client = Client::connect(&topic.address(&reader, 0));
    let query = |client: &mut Client| {
        let response = client.call(&fetch(topic.partition(0), 12, 0), 12);
        let row = fetched(&response);
        let ends = if row.error_code == NONE { (0, RECORDS as i64) } else { (-1, -1) };
        assert_eq!((row.log_start_offset, row.high_watermark), ends, "{name}");
        (row.error_code, row.records.as_ref().map(|r| read(r)).unwrap_or_default())
    };
    let expected: Vec<_> =
        (0..).zip(&batches).map(|(at, batch)| (at, stored_bytes(batch))).collect();

    store.control(&format!("fault?operation=get&contains=/wal/&{rule}"));
    let started = Instant::now();
    let (code, records) = query(&mut client);
    assert_eq!(code, expected_code, "{name}");
    assert_eq!(records, expected[..if expected_code == NONE { RECORDS } else { 0 }], "{name}");
    assert!(started.elapsed() < LIMIT, "{name}: {:?}", started.elapsed());
    store.control("lift");
    store.control("release");
    // A consumer retries on the same connection.
    wait_until(name, LIMIT, || query(&mut client) == (NONE, expected.clone()));
}

#[test]
fn store_failures_map_to_fetch_error_codes() {
    let cells = [
        ("gone", "status=404&code=NoSuchKey", KAFKA_STORAGE_ERROR),
        ("refused", "refuse", KAFKA_STORAGE_ERROR),
        ("throttled", "status=503&code=SlowDown", KAFKA_STORAGE_ERROR),
        ("denied", "status=403&code=AccessDenied", KAFKA_STORAGE_ERROR),
        ("truncated", "partial", KAFKA_STORAGE_ERROR),
        ("wrong bytes", "corrupt", KAFKA_STORAGE_ERROR),
        ("hanging", "hang-before=never", KAFKA_STORAGE_ERROR),
        ("slow", "hang-before=1500", NONE),
        ("wrong bytes once", "corrupt&next=1", NONE),
        ("truncated once", "partial&next=1", NONE),
        ("refused once", "refuse&next=1", NONE),
    ];
    std::thread::scope(|scope| {
        for (name, rule, expected_code) in cells {
            scope.spawn(move || check(name, rule, expected_code));
        }
    });
}

/// The reader's replica loses Redis; meanwhile records are written, and their events are lost.
#[test]
fn gap_in_the_commit_stream_loses_no_records() {
    let store = SlowS3::start(&[]);
    let redis = Testbed::get().redis();
    let cluster = Testbed::get().unique("gap");
    let writer = Replica::start_of(&cluster, &store.yaml(), &redis.yaml(), "");
    let proxy = RedisProxy::start(redis.port());
    let reader = Replica::start_of(&cluster, &store.yaml(), &proxy.yaml(), "");
    let topic = Testbed::get().unique(&format!("{DISKLESS_PREFIX}gap"));
    let topic = Topic::create(&writer, &topic, 1, &[]);
    let at = topic.partition(0);
    let mut produces = Client::connect(&topic.address(&writer, 0));
    let mut reads = Client::connect(&topic.address(&reader, 0));
    let batch = Batch::of(&["before"]).bytes();
    assert_eq!(append(&mut produces, at, batch.clone()), 0);
    let give = |reads: &mut Client, offset: i64, wait_ms: i32| {
        let request = fetch(at, 12, offset).with_max_wait_ms(wait_ms);
        let correlation_id = reads.send(&request, 12);
        let response = reads.receive::<FetchRequest>(correlation_id, 12);
        let row = fetched(&response);
        (row.error_code, row.records.as_ref().map(|r| read(r)).unwrap_or_default())
    };
    assert_eq!(give(&mut reads, 0, 10_000), (NONE, vec![(0, stored_bytes(&batch))]));

    // A fetch that waits when Redis is lost ends with an error as well.
    let mut waits = Client::connect(&topic.address(&reader, 0));
    let waiting = waits.send(&fetch(at, 12, 1).with_max_wait_ms(25_000), 12);
    let started = Instant::now();
    proxy.set(Mode::Refuse);
    for offset in 1..4 {
        assert_eq!(append(&mut produces, at, batch.clone()), offset);
    }
    let response = waits.receive::<FetchRequest>(waiting, 12);
    let row = fetched(&response);
    let records = row.records.as_ref().map(|r| read(r)).unwrap_or_default();
    assert!(records.is_empty() && row.error_code == KAFKA_STORAGE_ERROR, "{row:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    // The reader does not know what was written or deleted meanwhile: an error, and never an empty
    // success. Its clients stay, because it cannot ask the writer's replica.
    for offset in [0, 1, 3] {
        let (code, records) = give(&mut reads, offset, 0);
        assert!(records.is_empty() && code == KAFKA_STORAGE_ERROR, "{code} at {offset}");
    }
    for shard in 0..4 {
        let key = format!("odradek:{{{cluster}:{shard}}}:events");
        redis_call(redis.port(), &["XTRIM", &key, "MAXLEN", "0"]);
    }

    proxy.set(Mode::Pass);
    let all: Vec<_> = (1..4).map(|offset| (offset, stored_bytes(&batch))).collect();
    wait_until("the reader finds what was written meanwhile", Duration::from_secs(15), || {
        give(&mut reads, 1, 0) == (NONE, all.clone())
    });
    // New records wake the reader as usual.
    let correlation_id = reads.send(&fetch(at, 12, 4).with_max_wait_ms(25_000), 12);
    assert_eq!(append(&mut produces, at, batch.clone()), 4);
    let response = reads.receive::<FetchRequest>(correlation_id, 12);
    let records = fetched(&response).records.as_ref().map(|r| read(r)).unwrap_or_default();
    assert_eq!(records, [(4, stored_bytes(&batch))]);
}

fn redis_call(port: u16, words: &[&str]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("Redis is there");
    let words_of = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    let command = format!("*{}\r\n{}", words.len(), words_of.collect::<String>());
    stream.write_all(command.as_bytes()).expect("it reads");
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).expect("it answers");
    assert_eq!(answer, *b":", "a number");
}
