//! A machine loses power together with its Redis and its only replica: Redis lacks the last
//! commits, and no process is left that observed them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek::app::process_positions::{ProcessPositions, recorded};
use odradek::clock::SystemClock;
use odradek::coordinator::gated::{ClosedShards, GatedCoordinator};
use odradek::coordinator::redis::RedisCoordinator;
use odradek::coordinator::redis::loss_detection::object_store::ObservedPositionObjects;
use odradek::coordinator::redis::loss_detection::observed_position::ObservedPosition;
use odradek::coordinator::redis::loss_detection::recorded::RecoverablePositions;
use odradek::coordinator::{
    CommitOutcome, Coordinator, CoordinatorError, CoordinatorExt as _, FindFrom, FindRequest,
    Member,
};
use odradek::engine::Components;
use odradek::engine::cache::{ObjectCache, StoreSource};
use odradek::engine::memory::MemoryLimiter;
use odradek::engine::processes::{
    self, PinnedPosition, ProcessRecord, ProcessRecorder, SharedRecorder,
};
use odradek::engine::produce::{
    AppendOutcome, ConnectionId, FlushProfile, ProduceSettings, ProducedBatch, Producer,
    UploadSettings,
};
use odradek::engine::recovery::Takeover;
use odradek::entropy::Entropy;
use odradek::log::batch::{BatchMetadata, Run};
use odradek::log::ids::{ProcessIdentity, TopicId, TopicPartition};
use odradek::metrics::Metrics;
use odradek::store::Store;
use odradek::store::memory::MemoryStore;
use tokio::time::{Instant, sleep};

use crate::loss_detection::member;
use crate::metadata_loss::assert_lost;
use crate::redis_server::RedisServer;
use crate::{RedisSettings, connect, settings};

const PARTITIONS: i32 = 4;
const SECOND: Duration = Duration::from_secs(1);

/// One process of a replica above Redis.
struct Process {
    redis: Arc<RedisCoordinator>,
    takeover: Takeover,
    recorder: Arc<SharedRecorder>,
    producer: Producer,
    limiter: Arc<MemoryLimiter>,
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([9; 16]), partition: index }
}

fn redis_of(
    server: &RedisServer,
    store: &Arc<dyn Store>,
    replica: &'static str,
    (incarnation, recorder): (u64, &Arc<SharedRecorder>),
) -> Arc<RedisCoordinator> {
    let saved = ObservedPositionObjects::new(Arc::clone(store), Arc::new(SystemClock), replica);
    let records = ProcessPositions::new(Arc::clone(store), Arc::clone(recorder));
    let process = ProcessIdentity { incarnation, process_id: 1 };
    let positions = RecoverablePositions::new(Arc::new(saved), Arc::new(records), process);
    connect(RedisSettings {
        shards: 2,
        replica: replica.to_owned(),
        lease: SECOND,
        position_store: Some(Arc::new(positions)),
        ..settings(&server.url(), "c")
    })
}

impl Process {
    /// Starts a process, which recovers its predecessors.
    async fn start(
        server: &RedisServer,
        store: &Arc<dyn Store>,
        incarnation: u64,
    ) -> Result<Self, CoordinatorError> {
        let recorder = Arc::new(SharedRecorder::default());
        let redis = redis_of(server, store, "a", (incarnation, &recorder));
        let started = Instant::now();
        let metadata_id = loop {
            match redis.attach("cluster", "a").await {
                Ok(attachment) => break attachment.metadata_id,
                Err(error @ CoordinatorError::MetadataLost(_)) => return Err(error),
                Err(error) => assert!(started.elapsed() < 20 * SECOND, "{error}"),
            }
            sleep(SECOND / 10).await;
        };
        // Every shard is checked: one that is lost would only be logged.
        redis.check().await?;
        let own = ProcessRecord {
            incarnation,
            process_id: 1,
            replica: "a".to_owned(),
            metadata_id,
            lowest_undecided: 0,
            positions: redis.observed_positions().into_iter().map(recorded).collect(),
            histories: redis.replication_ids(),
            has_ended: false,
        };
        let inner = Arc::clone(&redis) as Arc<dyn Coordinator>;
        let gate = Arc::new(GatedCoordinator::new(inner, ClosedShards::All));
        let me = Member { incarnation, ..member("a") };
        let (objects, metrics) = (Arc::clone(store), Arc::new(Metrics::default()));
        let mut takeover = Takeover::new(objects, Arc::clone(&gate), own.clone(), &me, metrics);
        takeover.recover_ended(&redis.replication_ids()).await.expect("the store is there");
        assert!(gate.is_open());
        let begun = ProcessRecorder::begin(Arc::clone(store), own).await.expect("stored");
        *recorder.lock().await = Some(begun);
        let (producer, limiter) = producer(store, gate, incarnation);
        Ok(Self { redis, takeover, recorder, producer, limiter })
    }

    /// Does what the application does every second.
    async fn tick(&mut self) {
        let lowest = self.producer.lowest_undecided();
        let observed = self.redis.observed_positions().into_iter().map(recorded).collect();
        let mut recorder = self.recorder.lock().await;
        let recorder = recorder.as_mut().expect("it was begun");
        recorder.note(lowest, observed);
        let pin = |pinned: Option<(Instant, ObservedPosition)>| {
            let (observed_at, position) = pinned?;
            Some(PinnedPosition { observed_at, position: recorded(Some(position))? })
        };
        let pinned: Vec<_> = self.redis.pinned_positions().into_iter().map(pin).collect();
        recorder.save(&pinned).await.expect("stored");
        self.takeover.delete_recovered(recorder.stored_of()).await.expect("deleted");
        self.redis.save_observed_positions(false).await.expect("stored");
    }

    /// Appends a batch to each partition, of a producer without idempotence.
    async fn write(&self, value: u64) -> Vec<i64> {
        let batch = |index| ProducedBatch {
            partition: partition(index),
            profile: FlushProfile::Fast,
            metadata: BatchMetadata { bytes: 8, offset_count: 1, max_timestamp: 1, producer: None },
            batch: Bytes::copy_from_slice(&value.to_be_bytes()),
        };
        let batches: Vec<_> = (0..PARTITIONS).map(batch).collect();
        let permit = self.limiter.quota(usize::MAX).acquire(1_000).await.expect("memory");
        let appended = self.producer.append(ConnectionId(1), batches, permit).await;
        let result = appended.expect("it runs").await.expect("a result");
        let offset = |outcome: &AppendOutcome| match outcome {
            AppendOutcome::Decided {
                outcome: CommitOutcome::Committed { base_offset }, ..
            } => *base_offset,
            other => panic!("{other:?}"),
        };
        result.outcomes.iter().map(offset).collect()
    }

    async fn runs(&self) -> Vec<Vec<Run>> {
        let mut runs = Vec::new();
        for index in 0..PARTITIONS {
            let (partition, from) = (partition(index), FindFrom::Offset(0));
            let request = FindRequest { partition, from, bytes_max: u64::MAX, runs_max: 10_000 };
            runs.push(self.redis.find_one(request).await.expect("a reply").runs);
        }
        runs
    }
}

fn producer(
    store: &Arc<dyn Store>,
    coordinator: Arc<dyn Coordinator>,
    incarnation: u64,
) -> (Producer, Arc<MemoryLimiter>) {
    let components = Components {
        store: Arc::clone(store),
        uploads: Arc::clone(store),
        coordinator,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(Entropy::from_os()),
    };
    let produce = ProduceSettings {
        interval: Duration::from_millis(250),
        object_bytes: 1 << 20,
        puts_per_second_max: None,
        stored_outcomes_max: ProduceSettings::STORED_OUTCOMES_MAX,
        upload: UploadSettings::STANDARD,
        replica: "a".to_owned(),
        incarnation,
        process_id: 1,
    };
    let metrics = Arc::new(Metrics::default());
    let limiter = MemoryLimiter::new(1 << 20, Arc::clone(&metrics));
    let cache = Arc::new(ObjectCache::new(Arc::new(StoreSource(Arc::clone(store))), 1 << 20));
    let producer = Producer::start(components, produce, Arc::clone(&limiter), cache, metrics);
    (producer, limiter)
}

/// Writes for 19 seconds, and returns the dump of Redis of 1 second before the end, and of 16.
async fn write_until_power_is_lost(
    server: &RedisServer,
    process: &mut Process,
) -> (Vec<u8>, Vec<u8>) {
    let (mut value, mut dumps) = (0, Vec::new());
    for second in 0..19 {
        if second == 3 || second == 18 {
            dumps.push(server.snapshot());
        }
        for _ in 0..5 {
            assert_eq!(process.write(value).await, [value as i64; PARTITIONS as usize]);
            value += 1;
            sleep(SECOND / 5).await;
        }
        process.tick().await;
    }
    let recent = dumps.pop().expect("a dump");
    (recent, dumps.pop().expect("a dump"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machine_that_lost_power_with_its_redis_keeps_every_record() {
    let Some(mut server) = RedisServer::start() else { return };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut process = Process::start(&server, &store, 1).await.expect("new metadata");
    let (recent, older) = write_until_power_is_lost(&server, &mut process).await;
    // Positions that Redis lacks are saved, as far as anyone can tell.
    process.redis.save_observed_positions(true).await.expect("stored");
    let expected = process.runs().await;
    assert!(expected.iter().all(|runs| runs.len() == 95));
    drop(process);

    // It lacks more than is recovered: it is refused, and nothing is changed.
    server.restore(&older);
    assert_lost(Process::start(&server, &store, 2).await.map(|_| ()));

    server.restore(&recent);
    let process = Process::start(&server, &store, 3).await.expect("it is recovered");
    assert_eq!(process.runs().await, expected, "each record once, at its offset");
    assert_eq!(process.write(95).await, [95; PARTITIONS as usize], "no offset is assigned again");
    let expected = process.runs().await;
    drop(process);

    // Power is lost again at once: the record of the first process is still there.
    assert_eq!(processes::load_all(&*store).await.expect("records").len(), 2);
    server.restore(&recent);
    let process = Process::start(&server, &store, 4).await.expect("it is recovered again");
    assert_eq!(process.runs().await, expected);
}

/// The shard has another history, in which a later process may not find what this one commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_names_a_history_before_the_first_commit_in_it() {
    let Some(mut server) = RedisServer::start() else { return };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let process = Process::start(&server, &store, 1).await.expect("new metadata");
    process.write(0).await;
    let before = process.redis.replication_ids();
    let data = server.snapshot();
    server.restore(&data);
    process.write(1).await;
    let after = process.redis.replication_ids();
    assert!(before.iter().skip(1).zip(&after[1..]).all(|(before, after)| before != after));
    let record = processes::load_all(&*store).await.expect("records").remove(0);
    assert_eq!(record.histories, after);
}

/// The records of a trim are in no object, so that its loss is not repaired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_of_a_trim_is_refused() {
    let Some(mut server) = RedisServer::start() else { return };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut process = Process::start(&server, &store, 1).await.expect("new metadata");
    for value in 0..3 {
        process.write(value).await;
    }
    for _ in 0..6 {
        process.tick().await;
        sleep(SECOND).await;
    }
    let before = server.snapshot();
    process.redis.trim_all(vec![(partition(0), 2)]).await.expect("trimmed");
    for _ in 0..6 {
        process.tick().await;
        sleep(SECOND).await;
    }
    drop(process);
    server.restore(&before);
    assert_lost(Process::start(&server, &store, 2).await.map(|_| ()));
}

/// A trim that another replica made is in no object either, and the record of this process, which
/// observed it, may be older.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_of_a_trim_of_another_replica_is_refused() {
    let Some(mut server) = RedisServer::start() else { return };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let process = Process::start(&server, &store, 1).await.expect("new metadata");
    let _events = process.redis.subscribe().await.expect("subscribed");
    for value in 0..3 {
        process.write(value).await;
    }
    let before = server.snapshot();
    let other = connect(RedisSettings {
        shards: 2,
        replica: "b".to_owned(),
        lease: SECOND,
        ..settings(&server.url(), "c")
    });
    other.attach("cluster", "a").await.expect("attached");
    other.trim_all(vec![(partition(0), 2)]).await.expect("trimmed");
    let started = Instant::now();
    while process.redis.pinned_positions().iter().skip(1).all(Option::is_none) {
        assert!(started.elapsed() < 10 * SECOND, "the event of the trim does not arrive");
        sleep(SECOND / 10).await;
    }
    process.redis.save_observed_positions(true).await.expect("stored");
    drop((process, other));
    server.restore(&before);
    assert_lost(Process::start(&server, &store, 2).await.map(|_| ()));
}

/// A replica of another name does not recover what it has not waited for: it refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_of_another_name_refuses_what_was_observed() {
    let Some(mut server) = RedisServer::start() else { return };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let process = Process::start(&server, &store, 1).await.expect("new metadata");
    process.write(0).await;
    let before = server.snapshot();
    process.write(1).await;
    process.redis.save_observed_positions(true).await.expect("stored");
    drop(process);
    server.restore(&before);
    let other = redis_of(&server, &store, "b", (2, &Arc::default()));
    let started = Instant::now();
    let refused = loop {
        match other.attach("cluster", "a").await {
            Ok(_) => break other.check().await,
            Err(CoordinatorError::MetadataLost(detail)) => {
                break Err(CoordinatorError::MetadataLost(detail));
            }
            Err(error) => assert!(started.elapsed() < 20 * SECOND, "{error}"),
        }
    };
    assert_lost(refused);
}
