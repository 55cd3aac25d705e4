//! A replica: the real engine on a host that may crash at any step.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use odradek::clock::ManualClock;
use odradek::engine::Components;
use odradek::engine::cache::{ObjectCache, StoreSource};
use odradek::engine::fetch::{FetchSpec, FetchedPartition, Fetcher, LongPolls};
use odradek::engine::memory::MemoryLimiter;
use odradek::engine::produce::{
    AppendOutcome, AppendResult, ConnectionId, ProduceSettings, ProducedBatch, Producer,
    UploadSettings,
};
use odradek::entropy::Entropy;
use odradek::metrics::Metrics;
use odradek::store::Store;
use odradek::store::retry::RetryStore;
use odradek::tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use turmoil::net::{TcpListener, TcpStream};

use crate::ports::{CoordinatorServer, RemoteCoordinator, RemoteStore};
use crate::rpc::{Mailbox, RpcServer};

pub(crate) const PRODUCE_PORT: u16 = 9002;
const MEMORY_BYTES: usize = 4 << 20;

/// The parameters with which a replica is started and restarted.
pub(crate) struct ReplicaSpec {
    pub(crate) seed: u64,
    pub(crate) tag: u32,
    pub(crate) store: RemoteStore,
    pub(crate) coordinator: Arc<CoordinatorServer>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) calls: Arc<RpcServer<Engine>>,
    pub(crate) produce: Arc<ProduceExchange>,
    /// Counts the incarnations of all replicas.
    pub(crate) incarnations: Arc<AtomicU64>,
}

/// Messages between a producer's connection and the replica.
#[derive(Debug, Default)]
pub(crate) struct ProduceExchange {
    pub(crate) rows: Mailbox<ProducedBatch>,
    pub(crate) outcomes: Mailbox<AppendOutcome>,
}

/// The engine of a replica.
pub(crate) struct Engine {
    producer: Producer,
    fetcher: Fetcher,
    limiter: Arc<MemoryLimiter>,
    connections: AtomicU64,
}

impl Engine {
    async fn start(spec: &ReplicaSpec) -> Arc<Self> {
        let incarnation = spec.incarnations.fetch_add(1, Ordering::Relaxed);
        let entropy = Arc::new(Entropy::from_seed(spec.seed ^ (incarnation << 32)));
        let bare: Arc<dyn Store> = Arc::new(spec.store.clone());
        let retry = RetryStore::new(Arc::clone(&bare), Arc::clone(&entropy));
        let coordinator = Arc::new(RemoteCoordinator(Arc::clone(&spec.coordinator)));
        let components = Components {
            store: Arc::new(retry),
            uploads: bare,
            coordinator,
            clock: Arc::clone(&spec.clock) as _,
            entropy,
        };
        let settings = ProduceSettings {
            interval: Duration::from_millis(100),
            object_bytes: 2 << 10,
            puts_per_second_max: None,
            stored_outcomes_max: ProduceSettings::STORED_OUTCOMES_MAX,
            upload: UploadSettings {
                parallel_max: 4,
                hedges_burst: 2,
                deadline: Duration::from_secs(1)..=Duration::from_secs(3),
            },
            replica: spec.calls.host().to_owned(),
            incarnation,
            process_id: spec.tag,
        };
        let long_polls = Arc::new(LongPolls::default());
        let events = components.coordinator.subscribe().await.expect("the model never fails");
        let following = Arc::clone(&long_polls);
        tasks::spawn("events", async move { following.apply_events(events, |_| {}).await });
        let objects = StoreSource(Arc::clone(&components.store));
        // Smaller than the data, so that objects are read again.
        let objects = Arc::new(ObjectCache::new(Arc::new(objects), 16 << 10));
        let metrics = Arc::new(Metrics::default());
        let limiter = MemoryLimiter::new(MEMORY_BYTES, Arc::clone(&metrics));
        let (parts, cache) = (components.clone(), Arc::clone(&objects));
        let producer = Producer::start(parts, settings, Arc::clone(&limiter), cache, metrics);
        let fetcher = Fetcher::new(components, objects, long_polls);
        Arc::new(Self { producer, fetcher, limiter, connections: AtomicU64::new(1) })
    }

    pub(crate) async fn fetch(self: Arc<Self>, request: FetchSpec) -> Vec<FetchedPartition> {
        self.fetcher.fetch(&request, &self.limiter.quota(usize::MAX)).await.partitions
    }

    /// Serves a producer's connection: appends batches and responds in the order of arrival.
    async fn connection(self: Arc<Self>, stream: TcpStream, server: Arc<ProduceExchange>) {
        let connection = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (mut requests, mut responses) = stream.into_split();
        let (queue, mut decided) = mpsc::channel::<oneshot::Receiver<AppendResult>>(16);
        let rows = Arc::clone(&server);
        tasks::spawn("responses", async move {
            while let Some(reply) = decided.recv().await {
                let Ok(outcomes) = reply.await else { return };
                if responses.write_u64(server.outcomes.put(outcomes[0])).await.is_err() {
                    return;
                }
            }
        });
        while let Ok(number) = requests.read_u64().await {
            let Some(row) = rows.rows.take(number) else { return };
            let Ok(permit) = self.limiter.quota(usize::MAX).acquire(row.batch.len()).await else {
                return;
            };
            let Ok(reply) = self.producer.append(connection, vec![row], permit).await else {
                return;
            };
            if queue.send(reply).await.is_err() {
                return;
            }
        }
    }
}

/// Runs a replica until its host crashes.
pub(crate) async fn run_replica(spec: Arc<ReplicaSpec>) -> io::Result<()> {
    let engine = Engine::start(&spec).await;
    tasks::spawn("calls", Arc::clone(&spec.calls).serve(Arc::clone(&engine)));
    let listener = TcpListener::bind(("0.0.0.0", PRODUCE_PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let server = Arc::clone(&spec.produce);
        tasks::spawn("producer's connection", Arc::clone(&engine).connection(stream, server));
    }
}
