//! A failure stays in its shard: a master of a Redis Cluster that hangs, a shard that is
//! quarantined and a replica of Redis that lags hold up nothing else.

use odradek::tasks;
use std::sync::Arc;
use std::time::Duration;

use odradek::coordinator::redis::RedisCoordinator;
use odradek::coordinator::{
    Commit, CommitOutcome, Coordinator as _, CoordinatorError, CoordinatorEvent,
    CoordinatorExt as _, FindFrom, FindRequest,
};
use odradek::log::batch::{BatchMetadata, Part};
use odradek::log::ids::{TopicId, TopicPartition};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::RedisCluster;
use crate::loss_detection::member;
use crate::metadata_loss::{assert_lost, one_batch};
use crate::redis_server::{RedisServer, wait_until};
use crate::{RedisSettings, connect, settings};

/// The timeout of a call, as in production.
const CALL: Duration = Duration::from_secs(2);

/// Commits one batch of a partition with a sequence of its own.
pub(crate) async fn commit(
    of: &RedisCoordinator,
    sequence: u32,
    partition: i32,
) -> Result<i64, CoordinatorError> {
    let outcomes = of.commit_all(&one_batch(sequence, partition)).await?;
    match outcomes[0].batches[0] {
        CommitOutcome::Committed { base_offset } => Ok(base_offset),
        other => panic!("{other:?}"),
    }
}

/// Finds the first run of a partition; returns the high watermark.
pub(crate) async fn find(of: &RedisCoordinator, partition: i32) -> Result<i64, CoordinatorError> {
    let partition = one_batch(0, partition).parts[0].partition;
    let request = FindRequest { partition, from: FindFrom::Offset(0), bytes_max: 1, runs_max: 1 };
    Ok(of.find_one(request).await?.watermarks.high_watermark)
}

/// Returns one partition of each shard.
pub(crate) fn partitions_of_shards(of: &RedisCoordinator, shards: u16) -> Vec<i32> {
    let shard_of = |partition| of.shard(one_batch(0, partition).parts[0].partition);
    let first = |shard| (0..10_000).find(|partition| shard_of(*partition) == shard);
    (0..shards).map(|shard| first(shard).expect("a partition of every shard")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_and_finds_do_not_wait_for_replicas_of_commits() {
    let Some(master) = RedisServer::start() else { return };
    let of_master = ["--replicaof", "127.0.0.1", &master.port().to_string()];
    let Some(replica) = RedisServer::start_with(&of_master) else { return };
    let in_sync =
        || replica.query::<String>(&["INFO", "replication"]).contains("master_link_status:up");
    wait_until("the replica follows", in_sync);
    let settings = RedisSettings { replicas: 1, timeout: CALL * 2, ..settings(&master.url(), "c") };
    let coordinator = connect(settings);
    coordinator.attach("cluster", "a").await.unwrap();
    let partitions = partitions_of_shards(&coordinator, 4);
    for (sequence, partition) in (0..).zip(&partitions) {
        commit(&coordinator, sequence, *partition).await.unwrap();
    }
    replica.pause();
    // Each of them waits a quarter of the timeout, and all at the same time.
    let start = Instant::now();
    let commits: Vec<_> = (4..)
        .zip(partitions)
        .map(|(sequence, partition)| {
            let coordinator = Arc::clone(&coordinator);
            tasks::spawn(
                "test load",
                async move { commit(&coordinator, sequence, partition).await },
            )
        })
        .collect();
    sleep(Duration::from_millis(100)).await;
    coordinator.renew(&member("replica"), Duration::from_secs(10)).await.unwrap();
    assert!(commits.iter().all(|commit| !commit.is_finished()), "the renewal waited for them");
    for commit in commits {
        let result = commit.await.unwrap();
        assert!(matches!(result, Err(CoordinatorError::Unknown(_))), "{result:?}");
    }
    assert!(start.elapsed() < CALL, "they waited for one another: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_master_holds_up_only_its_shards() {
    let Some(cluster) = RedisCluster::start(0) else { return };
    let settings = RedisSettings { timeout: CALL, ..settings(&cluster.url(), "c") };
    let coordinator = connect(settings);
    coordinator.attach("cluster", "a").await.unwrap();
    let partitions = partitions_of_shards(&coordinator, 4);
    let mut events = coordinator.subscribe().await.unwrap();
    for (sequence, partition) in (0..).zip(&partitions) {
        commit(&coordinator, sequence, *partition).await.unwrap();
        assert!(matches!(events.recv().await, Some(CoordinatorEvent::Committed { .. })));
    }
    // The master of shard 0, and whatever else it has.
    let stopped = cluster.master_of("{c:0}");
    let is_affected = |shard: usize| cluster.master_of(&format!("{{c:{shard}}}")) == stopped;
    let (affected, others): (Vec<_>, Vec<_>) =
        partitions.iter().copied().enumerate().partition(|(shard, _)| is_affected(*shard));
    assert!(!others.is_empty());
    cluster.nodes[stopped].pause();
    let waiting: Vec<_> = (100..)
        .zip(affected.clone())
        .map(|(sequence, (_, partition))| {
            let coordinator = Arc::clone(&coordinator);
            tasks::spawn("test load", async move {
                loop {
                    match commit(&coordinator, sequence, partition).await {
                        Ok(offset) => return offset,
                        Err(CoordinatorError::MetadataLost(detail)) => panic!("{detail}"),
                        Err(_) => sleep(Duration::from_millis(50)).await,
                    }
                }
            })
        })
        .collect();
    // The others commit, find and are followed by subscribers all the time.
    let (mut sequence, mut offset) = (1_000, 1);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        for (_, partition) in &others {
            assert_eq!(commit(&coordinator, sequence, *partition).await.unwrap(), offset);
            assert_eq!(find(&coordinator, *partition).await.unwrap(), offset + 1);
            sequence += 1;
            let published = async {
                loop {
                    if let Some(CoordinatorEvent::Committed { runs, .. }) = events.recv().await {
                        break assert_eq!(runs[0].base_offset, offset);
                    }
                }
            };
            timeout(CALL, published).await.expect("the event of a shard that is well");
        }
        offset += 1;
        sleep(Duration::from_millis(20)).await;
    }
    assert!(waiting.iter().all(|commit| !commit.is_finished()));
    cluster.nodes[stopped].resume();
    for commit in waiting {
        assert_eq!(commit.await.unwrap(), 1, "it was committed once");
    }
    for (_, partition) in affected {
        assert_eq!(find(&coordinator, partition).await.unwrap(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quarantined_shard_does_not_affect_the_others() {
    let Some(server) = RedisServer::start() else { return };
    let first = connect(settings(&server.url(), "c"));
    first.attach("cluster", "a").await.unwrap();
    let partitions = partitions_of_shards(&first, 4);
    server.query::<i64>(&["HSET", "odradek:{c:1}:meta", "quarantined", "x"]);
    let second = connect(RedisSettings { replica: "b".to_owned(), ..settings(&server.url(), "c") });
    second.attach("cluster", "a").await.unwrap();
    let mut events = second.subscribe().await.unwrap();
    let mut sequence = 0;
    for coordinator in [&first, &second] {
        for (shard, partition) in partitions.iter().enumerate() {
            sequence += 1;
            if shard == 1 {
                assert_lost(commit(coordinator, sequence, *partition).await);
                assert_lost(find(coordinator, *partition).await);
            } else {
                commit(coordinator, sequence, *partition).await.unwrap();
                find(coordinator, *partition).await.unwrap();
                let published = async {
                    while !matches!(events.recv().await, Some(CoordinatorEvent::Committed { .. })) {
                    }
                };
                timeout(CALL, published).await.expect("the event of a shard that is well");
            }
        }
        coordinator.renew(&member("replica"), Duration::from_secs(10)).await.unwrap();
        assert_lost(coordinator.check().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_that_were_given_up_do_not_accumulate() {
    let Some(server) = RedisServer::start() else { return };
    let timeout = Duration::from_millis(500);
    let coordinator = connect(RedisSettings { timeout, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    find(&coordinator, 0).await.unwrap();
    let calls = || {
        let stats: String = server.query(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        line.and_then(|line| line.split(',').next()?.parse::<u32>().ok()).expect("it ran scripts")
    };
    let before = calls();
    server.pause();
    for _ in 0..3 {
        let finds = (0..50).map(|_| find(&coordinator, 0));
        let results = futures::future::join_all(finds).await;
        assert!(results.iter().all(Result::is_err));
    }
    server.resume();
    while find(&coordinator, 0).await.is_err() {}
    let ran = calls() - before;
    assert!(ran < 20, "the server ran {ran} of 150 queries that were given up");
}

/// Parts of partition 0, 1, 2, …
fn parts(count: u32) -> Vec<Part> {
    let batch = BatchMetadata { bytes: 10, offset_count: 1, max_timestamp: 1, producer: None };
    let part = |index: u32| Part {
        index,
        partition: TopicPartition { topic: TopicId([9; 16]), partition: index.cast_signed() },
        start: 8 + u64::from(index) * 10,
        batches: vec![batch],
    };
    (0..count).map(part).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_calls_are_split_so_that_others_come_between() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    let calls = || {
        let stats: String = server.query(&["INFO", "commandstats"]);
        let calls = |line: &str| line.split(',').next()?.parse::<u32>().ok();
        let of = |command: &str| {
            let prefix = format!("cmdstat_{command}:calls=");
            stats.lines().find_map(|line| line.strip_prefix(&prefix).and_then(calls)).unwrap_or(0)
        };
        of("evalsha") + of("eval")
    };
    let commit = Commit { parts: parts(3_000), ..one_batch(0, 0) };
    let before = calls();
    let outcomes = coordinator.commit_all(&commit).await.unwrap();
    assert!(calls() - before >= 6, "{} calls for 3,000 parts", calls() - before);
    let indexes: Vec<_> = outcomes.iter().map(|outcome| outcome.index).collect();
    assert_eq!(indexes, (0..3_000).collect::<Vec<_>>());
    assert_eq!(coordinator.commit_all(&commit).await.unwrap(), outcomes, "committed once");
    let request = |part: &Part| FindRequest {
        partition: part.partition,
        from: FindFrom::Offset(0),
        bytes_max: 1,
        runs_max: 1,
    };
    let before = calls();
    let found = coordinator.find_all(commit.parts.iter().map(request).collect()).await.unwrap();
    assert!(calls() - before >= 20, "{} calls for 3,000 partitions", calls() - before);
    for (found, part) in found.iter().zip(&commit.parts) {
        assert_eq!(found.runs[0].start, part.start);
    }
}
