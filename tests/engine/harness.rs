//! Test harness: the engine of one replica above a faulty store and a faulty coordinator.

use std::sync::Arc;
use std::time::Duration;

use odradek::clock::{ManualClock, WallClock};
use odradek::coordinator::embedded::EmbeddedCoordinator;
use odradek::coordinator::faulty::FaultyCoordinator;
use odradek::coordinator::memory::MemoryCoordinator;
use odradek::coordinator::{CommitOutcome, Coordinator};
use odradek::engine::Components;
use odradek::engine::cache::{ObjectCache, StoreSource};
use odradek::engine::fetch::{FetchSpec, FetchedPartition, Fetcher, LongPolls, PartitionFetch};
use odradek::engine::list_offsets::OffsetLookup;
use odradek::engine::memory::{MemoryLimiter, MemoryPermit, ShuttingDown};
use odradek::engine::produce::{
    AppendOutcome, AppendResult, ConnectionId, ProduceSettings, ProducedBatch, Producer,
    UploadSettings,
};
use odradek::entropy::Entropy;
use odradek::metrics::Metrics;
use odradek::store::Store;
use odradek::store::faulty::FaultyStore;
use odradek::store::memory::MemoryStore;
use odradek::tasks;
use tokio::sync::oneshot;

use crate::batches::{NOW, partition, records};

pub(crate) const INTERVAL: Duration = Duration::from_millis(250);
pub(crate) const MEMORY_BYTES: usize = 1 << 20;
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) type Reply = oneshot::Receiver<AppendResult>;

/// Delivery of the coordinator's events to the replica.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    Delivered,
    Lost,
}

pub(crate) struct Replica {
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) coordinator: Arc<FaultyCoordinator>,
    pub(crate) limiter: Arc<MemoryLimiter>,
    pub(crate) producer: Producer,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) long_polls: Arc<LongPolls>,
    pub(crate) lookup: OffsetLookup,
}

/// Settings without hedges, and without deadlines of PUTs.
pub(crate) fn settings() -> ProduceSettings {
    ProduceSettings {
        interval: INTERVAL,
        object_bytes: 64 << 10,
        puts_per_second_max: None,
        stored_outcomes_max: ProduceSettings::STORED_OUTCOMES_MAX,
        upload: UploadSettings {
            parallel_max: 8,
            hedges_burst: 0,
            deadline: 86_400 * SECOND..=86_400 * SECOND,
        },
        replica: "r0".to_owned(),
        incarnation: 1,
        process_id: 1,
    }
}

impl Replica {
    /// Starts a replica above an empty store and the reference model.
    pub(crate) async fn new() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: ProduceSettings) -> Self {
        Self::with_memory(settings, MEMORY_BYTES).await
    }

    pub(crate) async fn with_memory(settings: ProduceSettings, bytes: usize) -> Self {
        let coordinator = Arc::new(MemoryCoordinator::new("model"));
        Self::start(Arc::default(), coordinator, settings, bytes, Events::Delivered).await
    }

    /// Starts a replica with the embedded coordinator.
    pub(crate) async fn embedded(memory: &Arc<MemoryStore>) -> Self {
        Self::embedded_with(memory, settings()).await
    }

    /// Starts a replica with the embedded coordinator and other settings.
    pub(crate) async fn embedded_with(
        memory: &Arc<MemoryStore>,
        settings: ProduceSettings,
    ) -> Self {
        let store = Arc::clone(memory) as Arc<dyn Store>;
        let (clock, entropy) = (ManualClock::new(NOW), Entropy::from_seed(3));
        let coordinator = EmbeddedCoordinator::open(&clock, &entropy, store).await.expect("opens");
        let (incarnation, process_id) = (coordinator.incarnation(), coordinator.process_id());
        let settings = ProduceSettings { incarnation, process_id, ..settings };
        let (memory, coordinator) = (Arc::clone(memory), Arc::new(coordinator));
        Self::start(memory, coordinator, settings, MEMORY_BYTES, Events::Delivered).await
    }

    /// Starts another replica above the same store and coordinator.
    pub(crate) async fn beside(&self, delivery: Events) -> Self {
        let settings = ProduceSettings { process_id: 2, ..settings() };
        let coordinator = Arc::clone(&self.coordinator) as Arc<dyn Coordinator>;
        Self::start(Arc::clone(&self.memory), coordinator, settings, MEMORY_BYTES, delivery).await
    }

    /// Starts a replica whose partitions are distributed over `shards` shards.
    pub(crate) async fn sharded(shards: u16, memory_bytes: usize) -> Self {
        // The model has the same shards, because each shard has fences of its own.
        let sharded = |model| FaultyCoordinator::new(Arc::new(model)).with_shards(shards);
        let layout = Arc::new(sharded(MemoryCoordinator::new("layout")));
        let coordinator = sharded(MemoryCoordinator::new("model").with_shards_of(layout));
        Self::start_on(Arc::default(), coordinator, settings(), memory_bytes, Events::Delivered)
            .await
    }

    /// Starts a replica above a coordinator and a store.
    pub(crate) async fn over(coordinator: Arc<dyn Coordinator>, memory: Arc<MemoryStore>) -> Self {
        Self::start(memory, coordinator, settings(), MEMORY_BYTES, Events::Delivered).await
    }

    /// As [`Replica::over`], with other settings.
    pub(crate) async fn over_with(
        coordinator: Arc<dyn Coordinator>,
        memory: Arc<MemoryStore>,
        settings: ProduceSettings,
    ) -> Self {
        Self::start(memory, coordinator, settings, MEMORY_BYTES, Events::Delivered).await
    }

    async fn start(
        memory: Arc<MemoryStore>,
        coordinator: Arc<dyn Coordinator>,
        settings: ProduceSettings,
        memory_bytes: usize,
        delivery: Events,
    ) -> Self {
        let coordinator = FaultyCoordinator::new(coordinator);
        Self::start_on(memory, coordinator, settings, memory_bytes, delivery).await
    }

    async fn start_on(
        memory: Arc<MemoryStore>,
        coordinator: FaultyCoordinator,
        settings: ProduceSettings,
        memory_bytes: usize,
        delivery: Events,
    ) -> Self {
        let store = Arc::new(FaultyStore::new(Arc::clone(&memory) as Arc<dyn Store>));
        let coordinator = Arc::new(coordinator);
        let components = Components {
            store: Arc::clone(&store) as Arc<dyn Store>,
            uploads: Arc::clone(&store) as Arc<dyn Store>,
            coordinator: Arc::clone(&coordinator) as Arc<dyn Coordinator>,
            clock: Arc::new(ManualClock::new(NOW)) as Arc<dyn WallClock>,
            entropy: Arc::new(Entropy::from_seed(11)),
        };
        let zone = Arc::new(StoreSource(Arc::clone(&components.store)));
        let objects = Arc::new(ObjectCache::new(zone, 64 << 20));
        let long_polls = Arc::new(LongPolls::default());
        if delivery == Events::Delivered {
            let events = components.coordinator.subscribe().await.expect("the model never fails");
            let long_polls = Arc::clone(&long_polls);
            tasks::spawn("events", async move { long_polls.apply_events(events, |_| {}).await });
            tokio::task::yield_now().await;
        }
        let metrics = Arc::new(Metrics::default());
        let limiter = MemoryLimiter::new(memory_bytes, Arc::clone(&metrics));
        let (engine, cache) = (components.clone(), Arc::clone(&objects));
        let producer = Producer::start(engine, settings, Arc::clone(&limiter), cache, metrics);
        let lookup = OffsetLookup::new(components.clone(), Arc::clone(&objects));
        let fetcher = Arc::new(Fetcher::new(components, objects, Arc::clone(&long_polls)));
        Self { memory, store, coordinator, limiter, producer, fetcher, long_polls, lookup }
    }

    /// Acquires memory for batches, as a connection does before it reads them.
    pub(crate) async fn permit(
        &self,
        batches: &[ProducedBatch],
    ) -> Result<MemoryPermit, ShuttingDown> {
        let bytes = batches.iter().map(|batch| batch.batch.len()).sum();
        self.limiter.quota(usize::MAX).acquire(bytes).await
    }

    pub(crate) async fn send(&self, connection: u64, batches: Vec<ProducedBatch>) -> Reply {
        let permit = self.permit(&batches).await.expect("not shutting down");
        let appended = self.producer.append(ConnectionId(connection), batches, permit).await;
        appended.expect("the pipeline is running")
    }

    /// Appends a batch, and returns its offset.
    pub(crate) async fn write(&self, connection: u64, batch: ProducedBatch) -> i64 {
        offset(self.send(connection, vec![batch]).await.await.expect("a result")[0])
    }

    /// Returns the records of a partition from `offset` on, without waiting.
    pub(crate) async fn read(&self, from: i32, offset: i64) -> Vec<(i64, String)> {
        let result = self.fetch(fetch(&[(from, offset)], Duration::ZERO)).await.remove(0);
        assert_eq!(result.error, None);
        records(&result.records)
    }

    pub(crate) async fn fetch(&self, request: FetchSpec) -> Vec<FetchedPartition> {
        self.fetcher.fetch(&request, &self.limiter.quota(usize::MAX)).await.partitions
    }

    /// Returns the keys of the WAL objects.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let objects = self.memory.list("wal/", None, 1000).await.expect("a list");
        objects.into_iter().map(|object| object.key).collect()
    }
}

pub(crate) fn fetch(partitions: &[(i32, i64)], wait: Duration) -> FetchSpec {
    let of = |&(index, offset): &(i32, i64)| PartitionFetch {
        partition: partition(index),
        offset,
        bytes_max: 1 << 20,
        leader_epoch: 5,
        fresh: false,
    };
    let partitions = partitions.iter().map(of).collect();
    FetchSpec { partitions, bytes_min: 1, bytes_max: 50 << 20, wait }
}

#[track_caller]
pub(crate) fn offset(outcome: AppendOutcome) -> i64 {
    match outcome {
        AppendOutcome::Decided { outcome: CommitOutcome::Committed { base_offset }, .. } => {
            base_offset
        }
        other => panic!("not committed: {other:?}"),
    }
}

/// Returns the offset of a batch that was appended by this request or an earlier one.
#[track_caller]
pub(crate) fn offset_or_duplicate(outcome: AppendOutcome) -> i64 {
    match outcome {
        AppendOutcome::Decided {
            outcome:
                CommitOutcome::Committed { base_offset } | CommitOutcome::Duplicate { base_offset, .. },
            ..
        } => base_offset,
        other => panic!("not in the log: {other:?}"),
    }
}

/// Returns whether a result is available after all ready tasks have run.
pub(crate) async fn is_completed(reply: &mut Reply) -> bool {
    tokio::time::timeout(Duration::from_millis(1), reply).await.is_ok()
}
