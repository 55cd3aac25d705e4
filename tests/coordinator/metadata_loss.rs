//! Metadata that is missing, older or of another metadata id is never served.

use odradek::coordinator::CoordinatorExt as _;
use std::time::Duration;

use odradek::coordinator::{
    Commit, CommitOutcome, Coordinator, CoordinatorError, FindFrom, FindRequest, Member,
};
use odradek::log::batch::{BatchMetadata, Part};
use odradek::log::ids::{ObjectId, TopicId, TopicPartition};

use crate::loss_detection::member;
use crate::redis_server::{RedisServer, free_port};
use crate::{RedisSettings, connect, settings};

pub(crate) fn one_batch(sequence: u32, partition: i32) -> Commit {
    let partition = TopicPartition { topic: TopicId([9; 16]), partition };
    let batch = BatchMetadata { bytes: 10, offset_count: 1, max_timestamp: 1, producer: None };
    let part = Part { index: 0, partition, start: 8, batches: vec![batch] };
    let object = ObjectId { incarnation: 1, process_id: 1, sequence };
    Commit { object, sealed_ms: 1_000, lowest_undecided: 0, parts: vec![part] }
}

pub(crate) fn assert_lost<T: std::fmt::Debug>(result: Result<T, CoordinatorError>) {
    assert!(matches!(result, Err(CoordinatorError::MetadataLost(_))), "{result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_redis_is_rejected() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(settings(&server.url(), "c"));
    let metadata_id = coordinator.attach("cluster", "a").await.unwrap().metadata_id;
    coordinator.commit_all(&one_batch(0, 0)).await.unwrap();
    server.query::<String>(&["FLUSHALL"]);
    assert_lost(coordinator.commit_all(&one_batch(1, 0)).await);
    assert_lost(coordinator.commit_all(&one_batch(0, 0)).await);
    assert_lost(coordinator.topics().await);
    let partition = TopicPartition { topic: TopicId([9; 16]), partition: 0 };
    let request = FindRequest { partition, from: FindFrom::Offset(0), bytes_max: 1, runs_max: 1 };
    assert_lost(coordinator.find_all(vec![request]).await);
    assert_lost(coordinator.trim_all(vec![(partition, 1)]).await);
    assert_lost(coordinator.delete_topic(partition.topic).await);
    assert_lost(coordinator.attach("cluster", "a").await);
    let with_id = RedisSettings { metadata_id: Some(metadata_id), ..settings(&server.url(), "c") };
    assert_lost(connect(with_id).attach("cluster", "a").await);
    assert_eq!(server.query::<i64>(&["DBSIZE"]), 0, "no new metadata was created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_shard_is_not_created_again() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(settings(&server.url(), "c"));
    coordinator.attach("cluster", "a").await.unwrap();
    for partition in 0..16 {
        let sequence = u32::try_from(partition).unwrap();
        coordinator.commit_all(&one_batch(sequence, partition)).await.unwrap();
    }
    server.query::<i64>(&["DEL", "odradek:{c:2}:meta"]);
    let later = connect(settings(&server.url(), "c"));
    for coordinator in [&coordinator, &later] {
        coordinator.attach("cluster", "a").await.unwrap();
        for partition in 0..16 {
            let sequence = 100 + u32::try_from(partition).unwrap();
            let commit = one_batch(sequence, partition);
            let result = coordinator.commit_all(&commit).await;
            match coordinator.shard(commit.parts[0].partition) {
                2 => assert_lost(result),
                _ => drop(result.unwrap()),
            }
        }
    }
    assert_eq!(server.query::<i64>(&["EXISTS", "odradek:{c:2}:meta"]), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decreased_sequence_is_rejected() {
    let Some(server) = RedisServer::start() else { return };
    let one_shard = RedisSettings { shards: 1, ..settings(&server.url(), "c") };
    let coordinator = connect(one_shard);
    coordinator.attach("cluster", "a").await.unwrap();
    for sequence in 0..3 {
        coordinator.commit_all(&one_batch(sequence, 0)).await.unwrap();
    }
    server.query::<i64>(&["HSET", "odradek:{c:0}:meta", "sequence", "2"]);
    assert_lost(coordinator.commit_all(&one_batch(3, 0)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_with_lost_reply_can_be_repeated() {
    let Some(server) = RedisServer::start() else { return };
    let short_timeout =
        RedisSettings { timeout: Duration::from_millis(300), ..settings(&server.url(), "c") };
    let coordinator = connect(short_timeout);
    coordinator.attach("cluster", "a").await.unwrap();
    server.query::<String>(&["CLIENT", "PAUSE", "900", "ALL"]);
    let first = coordinator.commit_all(&one_batch(0, 0)).await;
    assert!(matches!(first, Err(CoordinatorError::Unknown(_))), "{first:?}");
    let outcome = loop {
        match coordinator.commit_all(&one_batch(0, 0)).await {
            Ok(outcomes) => break outcomes[0].batches[0],
            Err(CoordinatorError::Unknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(outcome, CommitOutcome::Committed { base_offset: 0 });
    let next = coordinator.commit_all(&one_batch(1, 0)).await.unwrap()[0].batches[0];
    assert_eq!(next, CommitOutcome::Committed { base_offset: 1 }, "it was committed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_redis_is_unavailable() {
    let url = format!("redis://127.0.0.1:{}/", free_port());
    let attached = connect(settings(&url, "c")).attach("cluster", "a").await;
    assert!(matches!(attached, Err(CoordinatorError::Unavailable(_))), "{attached:?}");
}

/// Whatever must not be lost increments the sequence, by which a loss is detected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_lasting_change_increments_the_sequence() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    coordinator.commit_all(&one_batch(0, 0)).await.unwrap();
    let sequence = |shard: &str| -> u64 {
        server
            .query::<Option<u64>>(&["HGET", &format!("odradek:{{c:{shard}}}:meta"), "sequence"])
            .unwrap_or(0)
    };
    let lease = Duration::from_secs(10);
    let (shard, registry) = (sequence("0"), sequence("registry"));
    coordinator.renew(&member("a"), lease).await.unwrap();
    assert!(sequence("registry") > registry, "the nodes of the zone");
    let registry = sequence("registry");
    coordinator.renew(&member("a"), lease).await.unwrap();
    assert_eq!(sequence("registry"), registry, "a lease need not last");
    coordinator.renew(&Member { nodes: 2, ..member("a") }, lease).await.unwrap();
    assert!(sequence("registry") > registry, "the nodes of the zone");
    coordinator.delete_topic(TopicId([9; 16])).await.unwrap();
    assert!(sequence("0") > shard, "the partitions of the topic");
    let shard = sequence("0");
    coordinator.delete_topic(TopicId([9; 16])).await.unwrap();
    assert_eq!(sequence("0"), shard, "nothing changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_with_many_partitions_is_deleted_completely() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(settings(&server.url(), "c"));
    coordinator.attach("cluster", "a").await.unwrap();
    let batch = BatchMetadata { bytes: 10, offset_count: 1, max_timestamp: 1, producer: None };
    let parts = (0..3_000_u32).map(|index| Part {
        index,
        partition: TopicPartition { topic: TopicId([9; 16]), partition: index.cast_signed() },
        start: 8 + u64::from(index) * 10,
        batches: vec![batch],
    });
    let object = ObjectId { incarnation: 1, process_id: 1, sequence: 0 };
    let commit = Commit { object, sealed_ms: 1_000, lowest_undecided: 0, parts: parts.collect() };
    coordinator.commit_all(&commit).await.unwrap();
    coordinator.delete_topic(TopicId([9; 16])).await.unwrap();
    let left: Vec<String> = server.query(&["KEYS", "odradek:{c:*}:[pitdk]:*"]);
    assert_eq!(left, [""; 0]);
}
