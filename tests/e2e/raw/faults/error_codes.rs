//! The error code of each failure: each fault is active while three requests are in flight.

use std::time::Duration;

use super::Producer;
use testbed::Testbed;
use testbed::redis_proxy::{Mode, RedisProxy};
use testbed::replica::Replica;
use testbed::slow_s3::SlowS3;

const OFFSET: i16 = 0;
const REQUEST_TIMED_OUT: i16 = 7;
const KAFKA_STORAGE_ERROR: i16 = 56;

/// A replica with its store and Redis.
struct Harness {
    store: SlowS3,
    redis: RedisProxy,
    replica: Replica,
}

impl Harness {
    fn start() -> Self {
        let store = SlowS3::start(&[]);
        let redis = RedisProxy::start(Testbed::get().redis().port());
        let replica = Replica::start_on(&store.yaml(), &redis.yaml(), "");
        Self { store, redis, replica }
    }
}

/// The fault that is active.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Store(&'static str),
    Redis(Mode),
}

fn check(name: &str, fault: Fault, expected_code: i16) {
    let harness = Harness::start();
    let producer = Producer::new(&harness.replica);
    assert_eq!(producer.write(&harness.replica, 0), 0, "{name}");
    match fault {
        Fault::Store(rule) => {
            harness.store.control(&format!("fault?operation=put&contains=/wal/&{rule}"));
        }
        Fault::Redis(mode) => harness.redis.set(mode),
    }
    // Pipelined on one connection.
    let mut client = producer.connect(&harness.replica);
    let sent: Vec<i32> = (1..4).map(|n| producer.send(&mut client, n)).collect();
    for (sequence, correlation_id) in (1..).zip(sent) {
        let (code, offset) = producer.receive(&mut client, correlation_id);
        assert_eq!(code, expected_code, "{name}: sequence {sequence}");
        assert_eq!(offset, if expected_code == OFFSET { sequence } else { -1 }, "{name}");
    }
    harness.store.control("lift");
    harness.store.control("release");
    harness.redis.set(Mode::Pass);
    for sequence in 1..6 {
        assert_eq!(producer.write(&harness.replica, sequence), i64::from(sequence), "{name}");
    }
    producer.check_log(&harness.replica, 6);
}

/// Runs the checks concurrently: most of the time is waiting.
fn check_all(cells: &[(&str, Fault, i16)]) {
    std::thread::scope(|scope| {
        for (name, fault, expected_code) in cells {
            scope.spawn(move || check(name, *fault, *expected_code));
        }
    });
}

#[test]
fn store_failures_map_to_produce_error_codes() {
    check_all(&[
        ("refused", Fault::Store("refuse"), REQUEST_TIMED_OUT),
        ("throttled", Fault::Store("status=503&code=SlowDown"), REQUEST_TIMED_OUT),
        ("denied", Fault::Store("status=403&code=AccessDenied"), KAFKA_STORAGE_ERROR),
        ("timed out but happened", Fault::Store("hang-after=never"), REQUEST_TIMED_OUT),
        ("timed out and did not", Fault::Store("hang-before=never"), REQUEST_TIMED_OUT),
        ("slow", Fault::Store("hang-before=1500"), OFFSET),
        ("partial", Fault::Store("partial"), REQUEST_TIMED_OUT),
        ("lost reply", Fault::Store("lost"), REQUEST_TIMED_OUT),
        ("one lost reply", Fault::Store("lost&next=1"), OFFSET),
        ("one that hangs", Fault::Store("hang-before=never&next=1"), OFFSET),
    ]);
}

#[test]
fn coordinator_failures_map_to_produce_error_codes() {
    check_all(&[
        ("refused", Fault::Redis(Mode::Refuse), REQUEST_TIMED_OUT),
        ("timed out but happened", Fault::Redis(Mode::HoldResponses), REQUEST_TIMED_OUT),
        ("timed out and did not", Fault::Redis(Mode::HoldRequests), REQUEST_TIMED_OUT),
        ("slow", Fault::Redis(Mode::Slow(Duration::from_millis(500))), OFFSET),
        ("partial", Fault::Redis(Mode::CutRequests), REQUEST_TIMED_OUT),
        ("lost reply", Fault::Redis(Mode::LoseResponses), REQUEST_TIMED_OUT),
    ]);
}
