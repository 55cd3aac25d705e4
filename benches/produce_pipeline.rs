//! Prints the CPU time of the produce pipeline for each part: `make bench-pipeline`.
//!
//! The store and the coordinator respond at once, so that what is measured is the pipeline's own
//! work: append, seal, PUT, commit, outcomes. One thread runs everything. Each object has the parts
//! of 100 connections. The target is 2 µs for each part, whatever their number.
#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use odradek::clock::SystemClock;
use odradek::coordinator::{
    Attachment, Commit, CommitOrder, CommitOutcome, Coordinator, CoordinatorError,
    CoordinatorEvent, CoordinatorResult, FindRequest, Found, Member, Membership, PartOutcome,
    ProducerSnapshot, Registration, TopicBinding, Watermarks,
};
use odradek::engine::Components;
use odradek::engine::cache::{ObjectCache, StoreSource};
use odradek::engine::memory::MemoryLimiter;
use odradek::engine::produce::{
    ConnectionId, FlushProfile, ProduceSettings, ProducedBatch, Producer, UploadSettings,
};
use odradek::entropy::Entropy;
use odradek::log::batch::BatchMetadata;
use odradek::log::ids::{ProcessIdentity, TopicId, TopicPartition};
use odradek::metrics::Metrics;
use odradek::store::Store;
use odradek::store::memory::MemoryStore;
use tokio::sync::mpsc;

const CONNECTIONS: usize = 100;
const BATCH_BYTES: usize = 100;
const PARTS: [usize; 3] = [1_000, 10_000, 30_000];
/// Parts that are written for each row.
const PARTS_WRITTEN: usize = 300_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    println!("{:>12} {:>12}   target", "parts/object", "ns/part");
    for parts in PARTS {
        let elapsed = runtime.block_on(run(parts, PARTS_WRITTEN / parts));
        let each = elapsed.as_nanos() / (PARTS_WRITTEN as u128);
        println!("{parts:>12} {each:>12}   < 2000");
    }
}

async fn run(parts: usize, objects: usize) -> Duration {
    let (producer, memory) = start(parts * BATCH_BYTES);
    // The first batch after the start is sealed alone.
    write(&producer, &memory, 1, 1).await;
    write(&producer, &memory, parts, CONNECTIONS).await;
    let started = Instant::now();
    for _ in 0..objects {
        write(&producer, &memory, parts, CONNECTIONS).await;
    }
    started.elapsed()
}

fn start(object_bytes: usize) -> (Producer, Arc<MemoryLimiter>) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let components = Components {
        store: Arc::clone(&store),
        uploads: Arc::clone(&store),
        coordinator: Arc::new(InstantCoordinator),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(Entropy::from_seed(1)),
    };
    let settings = ProduceSettings {
        interval: Duration::from_secs(3_600),
        object_bytes,
        puts_per_second_max: None,
        stored_outcomes_max: ProduceSettings::STORED_OUTCOMES_MAX,
        upload: UploadSettings::STANDARD,
        replica: "bench".to_owned(),
        incarnation: 1,
        process_id: 1,
    };
    let metrics = Arc::new(Metrics::default());
    let memory = MemoryLimiter::new(1 << 30, Arc::clone(&metrics));
    let cache = Arc::new(ObjectCache::new(Arc::new(StoreSource(store)), 8 << 20));
    let producer = Producer::start(components, settings, Arc::clone(&memory), cache, metrics);
    (producer, memory)
}

/// Appends one batch to each of `parts` partitions, and waits for all outcomes.
async fn write(producer: &Producer, memory: &Arc<MemoryLimiter>, parts: usize, connections: usize) {
    let bytes = Bytes::from_static(&[0; BATCH_BYTES]);
    let each = parts / connections;
    let mut replies = Vec::with_capacity(connections);
    for connection in 0..connections {
        let batch = |index: usize| ProducedBatch {
            partition: TopicPartition {
                topic: TopicId([7; 16]),
                partition: i32::try_from(connection * each + index).expect("a small number"),
            },
            profile: FlushProfile::Cheap,
            metadata: BatchMetadata {
                bytes: u32::try_from(BATCH_BYTES).expect("a small number"),
                offset_count: 1,
                max_timestamp: 0,
                producer: None,
            },
            batch: bytes.clone(),
        };
        let permit = memory.quota(usize::MAX).acquire(0).await.expect("memory");
        let batches = (0..each).map(batch).collect();
        let connection = ConnectionId(connection as u64);
        replies.push(producer.append(connection, batches, permit).await.expect("it runs"));
    }
    for reply in replies {
        assert_eq!(reply.await.expect("a result").len(), each);
    }
}

/// A coordinator that commits everything at offset 0.
#[derive(Debug)]
struct InstantCoordinator;

fn unused<T>() -> Result<T, CoordinatorError> {
    Err(CoordinatorError::Unavailable("not part of the benchmark".to_owned()))
}

#[async_trait]
impl Coordinator for InstantCoordinator {
    fn commit_order(&self) -> CommitOrder {
        CommitOrder::Independent
    }

    fn shard(&self, _: TopicPartition) -> u16 {
        0
    }

    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        let outcome = |part: &odradek::log::batch::Part| {
            Ok(PartOutcome {
                index: part.index,
                batches: vec![CommitOutcome::Committed { base_offset: 0 }; part.batches.len()],
                log_start_offset: 0,
                sealed_ms: commit.sealed_ms,
            })
        };
        commit.parts.iter().map(outcome).collect()
    }

    async fn attach(&self, _: &str, _: &str) -> Result<Attachment, CoordinatorError> {
        unused()
    }

    async fn register(
        &self,
        _: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        unused()
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        unused()
    }

    async fn delete_topic(&self, _: TopicId) -> Result<(), CoordinatorError> {
        unused()
    }

    async fn raise_fence(&self, _: ProcessIdentity, _: u32) -> Result<(), CoordinatorError> {
        unused()
    }

    async fn find(&self, _: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        Vec::new()
    }

    async fn trim(&self, _: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        Vec::new()
    }

    async fn producers(
        &self,
        _: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        unused()
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<CoordinatorEvent>, CoordinatorError> {
        unused()
    }

    async fn renew(&self, _: &Member, _: Duration) -> Result<Membership, CoordinatorError> {
        unused()
    }
}
