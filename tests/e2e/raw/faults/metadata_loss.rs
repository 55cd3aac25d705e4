//! A Redis that lost recent metadata: requests are rejected until the newest metadata is restored.

use std::time::Duration;

use super::Producer;
use crate::raw::zone_cache::get;
use testbed::Testbed;
use testbed::process::wait_until;
use testbed::redis::Redis;
use testbed::replica::Replica;
use testbed::slow_s3::SlowS3;

const LIMIT: Duration = Duration::from_secs(30);

fn admin(replica: &Replica, path: &str) -> String {
    get(u16::try_from(replica.ports().start + 1).expect("a port"), path)
}

fn is_ready(replica: &Replica) -> bool {
    admin(replica, "/readyz").starts_with("HTTP/1.1 200")
}

fn is_lost(replica: &Replica) -> bool {
    let answer = admin(replica, "/readyz");
    answer.starts_with("HTTP/1.1 503")
        && answer.contains("lost: ")
        && answer.contains("restore the Redis")
        && admin(replica, "/metrics").contains("odradek_coordinator_metadata_lost 1")
}

#[test]
fn restored_old_metadata_is_rejected_until_the_newest_returns() {
    let bed = Testbed::get();
    let (store, mut redis) = (SlowS3::start(&[]), Redis::start(&bed.test_dir("redis-lost")));
    let cluster = bed.unique("cluster");
    // With several shards, only those that lost something would be lost.
    let yaml =
        format!("coordinator: {{url: \"redis://127.0.0.1:{}/0\", shards: 1}}\n", redis.port());
    let mut replicas: Vec<_> =
        (0..2).map(|_| Replica::start_of(&cluster, &store.yaml(), &yaml, "")).collect();
    let producer = Producer::new(&replicas[0]);
    for sequence in 0..3 {
        assert_eq!(producer.write(&replicas[0], sequence), i64::from(sequence));
    }
    let old = redis.snapshot();
    for sequence in 3..5 {
        assert_eq!(producer.write(&replicas[0], sequence), i64::from(sequence));
    }
    let whole = redis.snapshot();

    // A restart without loss causes only a short interruption.
    redis.restore(&whole);
    assert_eq!(producer.write(&replicas[1], 5), 5);
    let whole = redis.snapshot();

    redis.restore(&old);
    wait_until("both say that it is lost", LIMIT, || replicas.iter().all(is_lost));
    for replica in &replicas {
        let mut client = producer.connect(replica);
        let sent = producer.send(&mut client, 6);
        assert_eq!(producer.receive(&mut client, sent), (56, -1), "retriable, and no offset");
    }
    // A replica that was started later detects the loss as well.
    replicas[1].kill9();
    let loss_reports = |replica: &Replica| replica.log().matches("lost its metadata").count();
    assert_eq!(loss_reports(&replicas[0]), 1, "once, not for each request");

    redis.restore(&whole);
    wait_until("it is whole again", LIMIT, || is_ready(&replicas[0]));
    replicas[1].restart();
    for (sequence, replica) in (6..).zip(&replicas) {
        assert_eq!(producer.write(replica, sequence), i64::from(sequence));
    }
    producer.check_log(&replicas[1], 8);
    assert!(admin(&replicas[0], "/metrics").contains("odradek_coordinator_metadata_lost 0"));
}
