//! A key that is missing is never taken for an empty one: each key of a shard is deleted in turn.

use odradek::coordinator::{
    Commit, CommitOutcome, Coordinator, CoordinatorError, CoordinatorExt as _, FindFrom,
    FindRequest,
};
use odradek::log::batch::{BatchMetadata, Part, ProducerSequence};
use odradek::log::ids::{ObjectId, TopicId, TopicPartition};
use redis::Value;

use crate::redis_server::RedisServer;
use crate::{RedisSettings, connect, settings};

const PARTITIONS: i32 = 2;
/// More than one block of the time index.
const OBJECTS: u32 = 300;

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([9; 16]), partition }
}

/// An object with one batch of an idempotent producer for each partition.
fn object(sequence: u32) -> Commit {
    let producer =
        Some(ProducerSequence { id: 7, epoch: 0, base_sequence: sequence.cast_signed() });
    let batch = BatchMetadata { bytes: 10, offset_count: 1, max_timestamp: 1, producer };
    let parts = (0..PARTITIONS).map(|index| Part {
        index: index.cast_unsigned(),
        partition: partition(index),
        start: 8 + u64::from(index.cast_unsigned()) * 10,
        batches: vec![batch],
    });
    let object = ObjectId { incarnation: 1, process_id: 1, sequence };
    Commit { object, sealed_ms: 1_000, lowest_undecided: 0, parts: parts.collect() }
}

fn request(partition: TopicPartition, from: FindFrom) -> FindRequest {
    FindRequest { partition, from, bytes_max: 1, runs_max: 1 }
}

fn is_lost<T>(result: &Result<T, CoordinatorError>) -> bool {
    matches!(result, Err(CoordinatorError::MetadataLost(_)))
}

/// Checks that no offset is assigned twice and that no lookup below the high watermark is empty.
async fn assert_safe(coordinator: &dyn Coordinator, key: &str) {
    let next = i64::from(OBJECTS);
    // A new object, and the repetition of one that was committed.
    for sequence in [OBJECTS, OBJECTS - 1] {
        for result in coordinator.commit(&object(sequence)).await {
            match result.map(|outcome| outcome.batches[0]) {
                Err(CoordinatorError::MetadataLost(_)) => {}
                Ok(CommitOutcome::Committed { base_offset }) if sequence == OBJECTS => {
                    assert_eq!(base_offset, next, "without {key}");
                }
                Ok(CommitOutcome::Committed { base_offset }) => {
                    assert_eq!(base_offset, next - 1, "without {key}: repeated");
                }
                other => panic!("without {key}: {other:?}"),
            }
        }
    }
    for index in 0..PARTITIONS {
        for from in [FindFrom::Offset(0), FindFrom::Timestamp(0), FindFrom::MaxTimestamp] {
            match coordinator.find_one(request(partition(index), from)).await {
                Err(CoordinatorError::MetadataLost(_)) => {}
                Ok(found) => {
                    assert!(!found.runs.is_empty(), "without {key}: {from:?} is empty");
                    assert!(found.watermarks.high_watermark >= next, "without {key}");
                }
                Err(error) => panic!("without {key}: {error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_key_is_reported_as_lost() {
    let Some(mut server) = RedisServer::start() else { return };
    let first = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    let metadata_id = first.attach("cluster", "a").await.unwrap().metadata_id;
    for sequence in 0..OBJECTS {
        first.commit_all(&object(sequence)).await.unwrap();
    }
    first.delete_topic(TopicId([8; 16])).await.unwrap();
    let whole = server.snapshot();
    let keys: Vec<String> = server.query(&["KEYS", "odradek:{c:0}:*"]);
    assert!(keys.len() >= 10, "{keys:?}");
    for key in &keys {
        server.restore(&whole);
        let metadata_id = Some(metadata_id.clone());
        let settings = RedisSettings { shards: 1, metadata_id, ..settings(&server.url(), "c") };
        let coordinator = connect(settings);
        coordinator.attach("cluster", "a").await.unwrap();
        coordinator.commit_all(&object(OBJECTS - 1)).await.unwrap();
        assert_eq!(server.query::<i64>(&["DEL", key]), 1);
        assert_safe(&*coordinator, key).await;
        let deleted = server.try_query::<Value>(&["EXISTS", key]).unwrap();
        // Only the stream of events, and outcomes of later objects, are written again.
        assert!(
            key.ends_with(":events") || key.contains(":o:") || deleted == Value::Int(0),
            "{key} was created again"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partition_without_its_keys_affects_no_other() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    for sequence in 0..OBJECTS {
        coordinator.commit_all(&object(sequence)).await.unwrap();
    }
    for (prefix, sequence) in [("i", OBJECTS), ("t", OBJECTS + 1), ("d", OBJECTS + 2)] {
        let key = format!("odradek:{{c:0}}:{prefix}:{}", partition(0));
        let dump: Vec<u8> = server.query(&["DUMP", &key]);
        assert_eq!(server.query::<i64>(&["DEL", &key]), 1);
        let results = coordinator.commit(&object(sequence)).await;
        assert!(is_lost(&results[0]), "without {key}: {:?}", results[0]);
        let at = CommitOutcome::Committed { base_offset: i64::from(sequence) };
        assert_eq!(results[1].as_ref().unwrap().batches, [at]);
        let starts = vec![(partition(0), 1), (partition(1), 1)];
        let trimmed = coordinator.trim(starts).await;
        assert!(is_lost(&trimmed[0]) && trimmed[1].is_ok(), "{trimmed:?}");
        let requests = [0, 1].map(|index| request(partition(index), FindFrom::Offset(1)));
        let found = coordinator.find(requests.to_vec()).await;
        assert!(is_lost(&found[0]) && found[1].is_ok(), "{found:?}");
        assert!(is_lost(&coordinator.producers(partition(0)).await));
        // Nothing was written to it: with its key back, the commit is repeated.
        restore_key(&server, &key, &dump);
        let results = coordinator.commit(&object(sequence)).await;
        assert_eq!(results[0].as_ref().unwrap().batches, [at]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_outcomes_refuse_no_later_object() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    for sequence in [0, 1, 3] {
        coordinator.commit_all(&object_of(sequence, u64::from(sequence))).await.unwrap();
    }
    let keys: Vec<String> = server.query(&["KEYS", "odradek:{c:0}:o:*"]);
    assert_eq!((keys.len(), server.query::<i64>(&["DEL", &keys[0]])), (1, 1));
    // Object 2 was not committed, but that is not known any more. It is not decided either.
    let assert_undecided = async || {
        for sequence in [0, 2, 3] {
            for result in coordinator.commit(&object_of(sequence, 9)).await {
                assert!(is_lost(&result), "{sequence}: {result:?}");
            }
        }
    };
    assert_undecided().await;
    let later = coordinator.commit_all(&object_of(4, 4)).await.unwrap();
    assert_eq!(later[0].batches, [CommitOutcome::Committed { base_offset: 3 }]);
    assert_eq!(coordinator.commit_all(&object_of(4, 4)).await.unwrap(), later, "it is stored");
    assert_undecided().await;
    // The process passes them, or another one takes over.
    let raise = async |lowest| coordinator.raise_fence(object(0).object.process(), lowest).await;
    for lowest in [4, u32::MAX] {
        raise(lowest).await.unwrap();
        for result in coordinator.commit(&object_of(3, 9)).await {
            assert!(matches!(result, Err(CoordinatorError::Fenced(_))), "{result:?}");
        }
    }
}

/// An object of a producer of its own.
fn object_of(sequence: u32, producer: u64) -> Commit {
    let mut commit = object(sequence);
    let producer = ProducerSequence { id: producer.cast_signed(), epoch: 0, base_sequence: 0 };
    let batches = commit.parts.iter_mut().flat_map(|part| &mut part.batches);
    batches.for_each(|batch| batch.producer = Some(producer));
    commit
}

/// Creates a key from the reply to DUMP.
fn restore_key(server: &RedisServer, key: &str, dump: &[u8]) {
    let client = redis::Client::open(server.url()).expect("a good URL");
    let mut connection = client.get_connection().expect("it listens");
    let mut cmd = redis::cmd("RESTORE");
    cmd.arg(key).arg(0).arg(dump);
    cmd.query::<String>(&mut connection).expect("the key is restored");
}

/// A run that is missing in the middle is noticed by the offset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offset_below_the_high_watermark_without_a_run_is_lost() {
    let Some(server) = RedisServer::start() else { return };
    let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    coordinator.attach("cluster", "a").await.unwrap();
    for sequence in 0..3 {
        coordinator.commit_all(&object(sequence)).await.unwrap();
    }
    let index = format!("odradek:{{c:0}}:i:{}", partition(0));
    assert_eq!(server.query::<i64>(&["ZREMRANGEBYSCORE", &index, "1", "1"]), 1);
    // The number of runs is as before.
    server.query::<i64>(&["ZADD", &index, "9", "x"]);
    let found = coordinator.find_one(request(partition(0), FindFrom::Offset(1))).await;
    assert!(is_lost(&found), "{found:?}");
    let found = coordinator.find_one(request(partition(0), FindFrom::Offset(0))).await;
    assert_eq!(found.unwrap().runs.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_keys_of_the_registry_are_reported() {
    let Some(mut server) = RedisServer::start() else { return };
    let first = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
    first.attach("cluster", "a").await.unwrap();
    let topic = |id| odradek::coordinator::Registration {
        binding: odradek::coordinator::TopicBinding {
            topic: TopicId([id; 16]),
            name: "name".to_owned(),
            topic_type: odradek::coordinator::TopicType::Classic,
        },
        rule: odradek::coordinator::BindRule::FirstWins,
    };
    first.register(vec![topic(1), topic(2)]).await.unwrap();
    first.delete_topic(TopicId([2; 16])).await.unwrap();
    let whole = server.snapshot();
    for name in ["topics", "deleted_topics", "zones"] {
        server.restore(&whole);
        let coordinator = connect(RedisSettings { shards: 1, ..settings(&server.url(), "c") });
        coordinator.attach("cluster", "a").await.unwrap();
        assert_eq!(server.query::<i64>(&["DEL", &format!("odradek:{{c:registry}}:{name}")]), 1);
        assert!(is_lost(&coordinator.topics().await), "without {name}");
        assert!(is_lost(&coordinator.register(vec![topic(2)]).await), "without {name}");
    }
    let attached = connect(settings(&server.url(), "c")).attach("cluster", "b").await;
    assert!(is_lost(&attached), "an index was assigned again: {attached:?}");
}
