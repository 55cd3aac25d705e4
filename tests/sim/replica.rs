//! A replica: the engine as it is, on a host that may be killed at any step.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use odradek::clock::ManualClock;
use odradek::engine::Components;
use odradek::engine::budget::Budget;
use odradek::engine::fetch::{FetchRequest, FetchedPartition, Fetcher, Wakeups};
use odradek::engine::objects::{FromStore, Objects};
use odradek::engine::produce::{
    AppendRow, ConnectionId, Decided, ProduceSettings, Producer, RowOutcome, UploadSettings,
};
use odradek::entropy::Entropy;
use odradek::metrics::Metrics;
use odradek::store::Store;
use odradek::store::retry::{RetryPolicy, RetryStore};
use odradek::tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use turmoil::net::{TcpListener, TcpStream};

use crate::ports::{CoordinatorDesk, RemoteCoordinator, RemoteStore};
use crate::rpc::{Desk, Table};

pub(crate) const PRODUCE: u16 = 9002;
const BUDGET_BYTES: usize = 4 << 20;

/// What a replica needs to be started again and again.
pub(crate) struct Recipe {
    pub(crate) seed: u64,
    pub(crate) tag: u32,
    pub(crate) store: RemoteStore,
    pub(crate) coordinator: Arc<CoordinatorDesk>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) calls: Arc<Desk<Engine>>,
    pub(crate) produce: Arc<ProduceDesk>,
    /// Counts the lives of all replicas.
    pub(crate) lives: Arc<AtomicU64>,
}

/// What lies between a producer's connection and the replica.
#[derive(Debug, Default)]
pub(crate) struct ProduceDesk {
    pub(crate) rows: Table<AppendRow>,
    pub(crate) outcomes: Table<RowOutcome>,
}

/// A replica's use cases.
pub(crate) struct Engine {
    producer: Producer,
    fetcher: Fetcher,
    budget: Arc<Budget>,
    connections: AtomicU64,
}

impl Engine {
    async fn start(recipe: &Recipe) -> Arc<Self> {
        let life = recipe.lives.fetch_add(1, Ordering::Relaxed);
        let entropy = Arc::new(Entropy::from_seed(recipe.seed ^ (life << 32)));
        let bare: Arc<dyn Store> = Arc::new(recipe.store.clone());
        let retry = RetryStore::new(Arc::clone(&bare), RetryPolicy::STANDARD, Arc::clone(&entropy));
        let coordinator = Arc::new(RemoteCoordinator(Arc::clone(&recipe.coordinator)));
        let components = Components {
            store: Arc::new(retry),
            uploads: bare,
            coordinator,
            clock: Arc::clone(&recipe.clock) as _,
            entropy,
        };
        let settings = ProduceSettings {
            interval: Duration::from_millis(100),
            object_bytes: 2 << 10,
            puts_per_second_max: None,
            upload: UploadSettings {
                parallel_max: 4,
                hedges_burst: 2,
                deadline: Duration::from_secs(1)..=Duration::from_secs(3),
            },
            replica: recipe.calls.host().to_owned(),
            incarnation: life,
            process_id: recipe.tag,
        };
        let wakeups = Arc::new(Wakeups::default());
        let events = components.coordinator.subscribe().await.expect("it never fails here");
        let following = Arc::clone(&wakeups);
        tasks::spawn("follow", async move { following.follow(events, |_| {}).await });
        let objects = FromStore(Arc::clone(&components.store));
        // Less than what is written, so that objects are read again.
        let objects = Arc::new(Objects::new(Arc::new(objects), 16 << 10));
        let metrics = Arc::new(Metrics::default());
        let budget = Budget::new(BUDGET_BYTES, Arc::clone(&metrics));
        let (parts, kept) = (components.clone(), Arc::clone(&objects));
        let producer = Producer::start(parts, settings, Arc::clone(&budget), kept, metrics);
        let fetcher = Fetcher::new(components, objects, wakeups);
        Arc::new(Self { producer, fetcher, budget, connections: AtomicU64::new(1) })
    }

    pub(crate) async fn fetch(self: Arc<Self>, request: FetchRequest) -> Vec<FetchedPartition> {
        self.fetcher.fetch(&request, &self.budget.share(usize::MAX)).await.partitions
    }

    /// A producer's connection: rows in the order in which they were sent, answers in the same.
    async fn connection(self: Arc<Self>, stream: TcpStream, desk: Arc<ProduceDesk>) {
        let connection = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (mut requests, mut answers) = stream.into_split();
        let (queue, mut decided) = mpsc::channel::<oneshot::Receiver<Decided>>(16);
        let rows = Arc::clone(&desk);
        tasks::spawn("answers", async move {
            while let Some(reply) = decided.recv().await {
                let Ok(outcomes) = reply.await else { return };
                if answers.write_u64(desk.outcomes.put(outcomes[0])).await.is_err() {
                    return;
                }
            }
        });
        while let Ok(number) = requests.read_u64().await {
            let Some(row) = rows.rows.take(number) else { return };
            let Ok(room) = self.budget.share(usize::MAX).take(row.batch.len()).await else {
                return;
            };
            let Ok(reply) = self.producer.append(connection, vec![row], room).await else { return };
            if queue.send(reply).await.is_err() {
                return;
            }
        }
    }
}

/// A life of a replica, until its host dies.
pub(crate) async fn live(recipe: Arc<Recipe>) -> io::Result<()> {
    let engine = Engine::start(&recipe).await;
    tasks::spawn("calls", Arc::clone(&recipe.calls).serve(Arc::clone(&engine)));
    let listener = TcpListener::bind(("0.0.0.0", PRODUCE)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let desk = Arc::clone(&recipe.produce);
        tasks::spawn("producer's connection", Arc::clone(&engine).connection(stream, desk));
    }
}
