//! The size of the metadata in Redis, a Redis at its memory limit, and the length of scripts.

use std::time::Duration;
use testbed::print_line;

use odradek::coordinator::redis::{RedisCoordinator, SweepPosition};
use odradek::coordinator::{
    Commit, Coordinator, CoordinatorError, CoordinatorExt as _, FindFrom, FindRequest,
};
use odradek::log::batch::{BatchMetadata, Part, ProducerSequence};
use odradek::log::ids::{ObjectId, TopicId, TopicPartition};

use crate::loss_detection::member;
use crate::redis_server::{RedisServer, wait_until};
use crate::{RedisSettings, connect, settings};

const TOPIC: TopicId = TopicId([9; 16]);

/// An object with one batch in each part, whose partition is its index modulo `partitions`. The
/// parts are not adjacent.
fn object(sequence: u32, parts: u32, partitions: u32) -> Commit {
    let batch = BatchMetadata { bytes: 10, offset_count: 1, max_timestamp: 1, producer: None };
    let parts = (0..parts).map(|index| Part {
        index,
        partition: TopicPartition { topic: TOPIC, partition: (index % partitions).cast_signed() },
        start: 8 + u64::from(index) * 20,
        batches: vec![batch],
    });
    let object = ObjectId { incarnation: 1, process_id: 1, sequence };
    Commit { object, sealed_ms: 1_000, lowest_undecided: sequence, parts: parts.collect() }
}

fn used_memory(server: &RedisServer) -> i64 {
    let info: String = server.query(&["INFO", "memory"]);
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|bytes| bytes.trim().parse().ok()).expect("the used memory")
}

fn script_calls(server: &RedisServer) -> u64 {
    let info: String = server.query(&["INFO", "commandstats"]);
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// Commits until Redis has no memory left; returns the next sequence.
async fn fill(coordinator: &RedisCoordinator, mut sequence: u32) -> u32 {
    loop {
        let results = coordinator.commit(&object(sequence, 100, 100)).await;
        sequence += 1;
        match results.into_iter().find_map(Result::err) {
            None => assert!(sequence < 10_000, "it is never full"),
            Some(CoordinatorError::Unavailable(detail)) => {
                assert!(detail.contains("OOM"), "{detail}");
                return sequence;
            }
            Some(error) => panic!("{error}"),
        }
    }
}

/// Asserts that reads, and scripts that free memory, work while commits fail, and that commits
/// succeed again afterwards.
async fn assert_emptied(server: &RedisServer, coordinator: &RedisCoordinator) {
    coordinator.attach("cluster", "a").await.expect("the call succeeds");
    let mut sequence = fill(coordinator, 0).await;
    coordinator.check().await.expect("the call succeeds");
    coordinator
        .renew(&member("replica"), Duration::from_secs(10))
        .await
        .expect("the call succeeds");
    let partition = |partition| TopicPartition { topic: TOPIC, partition };
    let from = FindFrom::Offset(0);
    let request =
        FindRequest { partition: partition(1), from, bytes_max: u64::MAX, runs_max: u32::MAX };
    let found = coordinator.find_one(request).await.expect("the call succeeds");
    assert_eq!(found.runs.len() as u64, found.watermarks.high_watermark.cast_unsigned());
    assert!(found.runs.len() > 50, "{}", found.runs.len());
    coordinator.sweep_producers(&mut SweepPosition::default()).await.expect("the call succeeds");
    coordinator
        .raise_fence(object(0, 0, 1).object.process(), sequence)
        .await
        .expect("the call succeeds");
    let starts = (0..100).map(|index| (partition(index), i64::MAX)).collect();
    let trimmed = coordinator.trim_all(starts).await.expect("the call succeeds");
    assert!(trimmed.iter().all(|watermarks| watermarks.bytes == 0));
    let limit: i64 = server
        .query::<(String, String)>(&["CONFIG", "GET", "maxmemory"])
        .1
        .parse()
        .expect("the call succeeds");
    wait_until("memory is free", || used_memory(server) < limit * 3 / 4);
    coordinator.commit_all(&object(sequence, 100, 100)).await.expect("the call succeeds");
    sequence = fill(coordinator, sequence + 1).await;
    coordinator.delete_topic(TOPIC).await.expect("the call succeeds");
    wait_until("memory is free", || used_memory(server) < limit * 3 / 4);
    let mut other = object(sequence, 100, 100);
    other.parts.iter_mut().for_each(|part| part.partition.topic = TopicId([10; 16]));
    coordinator.commit_all(&other).await.expect("the call succeeds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_redis_can_be_emptied() {
    let options = ["--maxmemory", "24mb", "--maxmemory-policy", "noeviction"];
    let Some(server) = RedisServer::start_with(&options) else { return };
    assert_emptied(&server, &connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") }))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_redis_with_replicas_can_be_emptied() {
    let options = [
        "--maxmemory",
        "26mb",
        "--maxmemory-policy",
        "noeviction",
        "--repl-diskless-sync-delay",
        "0",
    ];
    let Some(server) = RedisServer::start_with(&options) else { return };
    let of_server = ["--replicaof", "127.0.0.1", &server.port().to_string()];
    let Some(replica) = RedisServer::start_with(&of_server) else { return };
    let in_sync = || {
        let info: String = replica.query(&["INFO", "replication"]);
        info.contains("master_link_status:up")
    };
    wait_until("the replica follows", in_sync);
    let with_wait = RedisSettings { replicas: 1, shards: 1, ..settings(&server.url(), "c") };
    assert_emptied(&server, &connect(with_wait)).await;
}

/// Prints the memory of a part; the bound is what ADR 4 and the schema promise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn part_takes_a_bounded_number_of_bytes() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(settings(&server.url(), "c"));
    coordinator.attach("cluster", "a").await.unwrap();
    let before = used_memory(&server);
    for sequence in 0..2_000 {
        coordinator.commit_all(&object(sequence, 50, 50)).await.unwrap();
    }
    let bytes = (used_memory(&server) - before) / 100_000;
    let usage = |pattern: &str| -> i64 {
        let keys: Vec<String> = server.query(&["KEYS", pattern]);
        let bytes =
            |key: &String| -> i64 { server.query(&["MEMORY", "USAGE", key, "SAMPLES", "0"]) };
        keys.iter().map(bytes).sum::<i64>() / 100_000
    };
    print_line(&format!(
        "bytes of Redis per part-commit: {bytes}; index {}, stream {}, outcomes {}, counters {}",
        usage("*:i:*"),
        usage("*:events"),
        usage("*:o:*"),
        usage("*:partitions"),
    ));
    assert!(bytes < 260, "{bytes}");
    let outcomes: Vec<String> = server.query(&["KEYS", "*:o:*"]);
    let stored: Vec<i64> = outcomes.iter().map(|key| server.query(&["HLEN", key])).collect();
    assert_eq!(stored.iter().max(), Some(&1), "outcomes below the fence are stored");
}

/// The stream is bounded by its bytes, not by its entries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_has_a_bounded_number_of_bytes() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    for sequence in 0..500 {
        coordinator.commit_all(&object(sequence, 500, 500)).await.unwrap();
    }
    let bytes: i64 = server.query(&["MEMORY", "USAGE", "odradek:{c:0}:events"]);
    print_line(&format!("bytes of the stream after 250,000 part-commits: {bytes}"));
    assert!(bytes > 4_000_000 && bytes < 12_000_000, "{bytes}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_producers_of_idle_partitions_are_deleted() {
    const DAY_MS: i64 = 86_400_000;
    let Some(server) = RedisServer::start() else { return };
    let clock = std::sync::Arc::new(odradek::clock::ManualClock::new(DAY_MS));
    let shared = Some(std::sync::Arc::clone(&clock) as _);
    let coordinator = connect(RedisSettings { clock: shared, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    for sequence in 0..20 {
        let mut commit = Commit { sealed_ms: DAY_MS, ..object(sequence, 150, 3) };
        for part in &mut commit.parts {
            let id = i64::from(sequence * 150 + part.index);
            let producer = Some(ProducerSequence { id, epoch: 0, base_sequence: 0 });
            part.batches.iter_mut().for_each(|batch| batch.producer = producer);
        }
        coordinator.commit_all(&commit).await.unwrap();
    }
    // What does not fit into the calls of one pass is left for the next.
    let sweep = async || {
        let (mut position, mut removed, mut passes) = (SweepPosition::default(), 0, 0);
        while passes < 4 {
            removed += coordinator.sweep_producers(&mut position).await.unwrap();
            passes += u32::from(position == SweepPosition::default());
        }
        removed
    };
    assert_eq!(sweep().await, 0);
    clock.set(2 * DAY_MS + 600_000);
    assert_eq!(sweep().await, 3_000);
    assert_eq!(server.query::<Vec<String>>(&["KEYS", "*:d:*"]), [""; 0]);
    coordinator.commit_all(&object(20, 3, 3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_trim_that_was_given_up_are_deleted() {
    const RUNS: u32 = 60_000;
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    for sequence in 0..RUNS / 1_000 {
        coordinator.commit_all(&object(sequence, 1_000, 1)).await.unwrap();
    }
    let partition = TopicPartition { topic: TOPIC, partition: 0 };
    let index = format!("odradek:{{c:0}}:i:{partition}");
    let left = || server.query::<u32>(&["ZCARD", &index]);
    let trim = coordinator.trim_all(vec![(partition, i64::from(RUNS) - 1)]);
    // Its caller ends once some of the runs are removed.
    let is_begun = async {
        while left() == RUNS {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = is_begun => {}
        _ = trim => panic!("it was not given up"),
    }
    assert!((2_000..RUNS).contains(&left()), "{} runs are left", left());
    let mut position = SweepPosition::default();
    for _ in 0..RUNS / 2_000 {
        coordinator.sweep_producers(&mut position).await.unwrap();
    }
    assert_eq!(left(), 1);
    coordinator.commit_all(&object(RUNS, 1, 1)).await.unwrap();
}

/// Prints the longest script on a partition with 300,000 runs; the number of calls shows that
/// trims are divided.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trim_of_many_runs_takes_many_short_scripts() {
    const RUNS: u32 = 300_000;
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    server.query::<String>(&["CONFIG", "SET", "slowlog-log-slower-than", "1000"]);
    server.query::<String>(&["CONFIG", "SET", "slowlog-max-len", "10000"]);
    let longest = |what: &str| {
        let log: Vec<(i64, i64, i64, redis::Value, String, String)> =
            server.query(&["SLOWLOG", "GET", "-1"]);
        let mut micros: Vec<_> = log.iter().map(|row| row.2).collect();
        micros.sort_unstable();
        let (median, longest) = (micros.get(micros.len() / 2), micros.last());
        print_line(&format!(
            "scripts above 1 ms of {what}: median {median:?}, longest {longest:?} µs"
        ));
        server.query::<String>(&["SLOWLOG", "RESET"]);
    };
    for sequence in 0..RUNS / 1_000 {
        coordinator.commit_all(&object(sequence, 1_000, 1)).await.unwrap();
    }
    longest("commits of 1,000 parts");
    let partition = TopicPartition { topic: TOPIC, partition: 0 };
    let timestamp = FindFrom::Timestamp(2);
    for from in [timestamp, FindFrom::Timestamp(1), FindFrom::MaxTimestamp] {
        let request = FindRequest { partition, from, bytes_max: u64::MAX, runs_max: 68 };
        let found = coordinator.find_one(request).await.unwrap();
        assert_eq!(found.runs.len(), if from == timestamp { 0 } else { 68 });
    }
    longest("finds by time");
    let before = script_calls(&server);
    coordinator.trim_all(vec![(partition, 1)]).await.unwrap();
    assert_eq!(script_calls(&server), before + 1, "one run is one call");
    longest("the trim of one run, all with one timestamp");
    let bounds = coordinator.trim_all(vec![(partition, i64::from(RUNS))]).await.unwrap();
    assert_eq!((bounds[0].log_start_offset, bounds[0].bytes), (i64::from(RUNS), 0));
    let calls = script_calls(&server) - before - 1;
    assert!(calls >= u64::from(RUNS) / 2_000, "{calls} calls removed everything");
    longest("the trim of everything");
}
