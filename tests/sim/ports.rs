//! The store and the batch coordinator as hosts of the network, and the ways to them.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use odradek::coordinator::memory::MemoryCoordinator;
use odradek::coordinator::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, Event, FindRequest, Found,
    Member, Membership, PartOutcome, ProducerSnapshot, Registration, TopicBinding, Watermarks,
};
use odradek::entropy::Entropy;
use odradek::log::ids::{TopicId, TopicPartition};
use odradek::store::memory::MemoryStore;
use odradek::store::{ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};
use odradek::tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use turmoil::net::{TcpListener, TcpStream};

use crate::rpc::{RpcError, RpcServer, Table};

const FOLLOW: u16 = 9001;
const STORE_WITHIN: Duration = Duration::from_secs(4);
const COORDINATOR_WITHIN: Duration = Duration::from_secs(2);
/// A follower that hears nothing for three of these takes its connection for broken.
const HEARTBEAT: Duration = Duration::from_millis(500);
const ALIVE: u64 = 0;

/// The object store: slow, and slower when it is told to be.
#[derive(Debug)]
pub(crate) struct SlowStore {
    pub(crate) memory: MemoryStore,
    pub(crate) entropy: Entropy,
    /// The longest that a call takes, in milliseconds.
    pub(crate) slowest: AtomicU64,
}

impl SlowStore {
    /// Half of a call's time before it happens, or after: whoever asked may be gone by then.
    async fn pause(&self) {
        let most = self.slowest.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(self.entropy.next_u64() % most)).await;
    }
}

/// The way to the store.
#[derive(Clone)]
pub(crate) struct RemoteStore(pub(crate) Arc<RpcServer<SlowStore>>);

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteStore")
    }
}

impl RemoteStore {
    async fn call<T, F>(
        &self,
        (verb, key): (&'static str, &str),
        call: impl FnOnce(Arc<SlowStore>) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let job = async |store: Arc<SlowStore>| {
            store.pause().await;
            let done = call(Arc::clone(&store)).await;
            store.pause().await;
            done
        };
        match self.0.ask(STORE_WITHIN, job).await {
            Ok(answer) => answer,
            Err(RpcError::NotSent) => {
                Err(StoreError::determinate(StoreErrorKind::Unavailable, verb, key, "no way"))
            }
            Err(RpcError::Unknown) => Err(StoreError::indeterminate(verb, key, "no answer")),
        }
    }
}

#[async_trait]
impl Store for RemoteStore {
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError> {
        let owned = key.to_owned();
        self.call(
            ("put", key),
            move |store| async move { store.memory.put(&owned, body, mode).await },
        )
        .await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        let owned = key.to_owned();
        self.call(("get", key), |store| async move { store.memory.get(&owned, range).await }).await
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        let owned = key.to_owned();
        self.call(("head", key), |store| async move { store.memory.head(&owned).await }).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let (owned, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.call(("list", prefix), move |store| async move {
            store.memory.list(&owned, after.as_deref(), limit).await
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let owned = key.to_owned();
        self.call(("delete", key), |store| async move { store.memory.delete(&owned).await }).await
    }
}

/// The reference model, which refuses for a while when it is told to.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) memory: MemoryCoordinator,
    pub(crate) refuses: AtomicBool,
}

/// Where the model is asked and followed.
pub(crate) struct CoordinatorServer {
    pub(crate) calls: Arc<RpcServer<Model>>,
    events: Table<Event>,
}

impl CoordinatorServer {
    pub(crate) fn new(host: &str) -> Arc<Self> {
        Arc::new(Self { calls: RpcServer::new(host), events: Table::default() })
    }

    /// Sends every event to whoever follows.
    pub(crate) async fn publish(self: Arc<Self>, model: Arc<Model>) -> io::Result<()> {
        let listener = TcpListener::bind(("0.0.0.0", FOLLOW)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (server, model) = (Arc::clone(&self), Arc::clone(&model));
            tasks::spawn("publish", async move { server.publish_to(stream, &model).await });
        }
    }

    async fn publish_to(&self, mut stream: TcpStream, model: &Model) -> io::Result<()> {
        let Ok(mut events) = model.memory.subscribe().await else { return Ok(()) };
        // What was before, the follower has missed.
        stream.write_u64(self.events.put(Event::Gap)).await?;
        loop {
            match timeout(HEARTBEAT, events.recv()).await {
                Ok(Some(event)) => stream.write_u64(self.events.put(event)).await?,
                Ok(None) => return Ok(()),
                Err(_) => stream.write_u64(ALIVE).await?,
            }
        }
    }

    async fn follow_once(&self, sender: &mpsc::Sender<Event>) -> io::Result<()> {
        let connect = TcpStream::connect((self.calls.host(), FOLLOW));
        let mut stream = timeout(3 * HEARTBEAT, connect).await??;
        loop {
            let number = timeout(3 * HEARTBEAT, stream.read_u64()).await??;
            if let Some(event) = self.events.take(number)
                && sender.send(event).await.is_err()
            {
                return Ok(());
            }
        }
    }
}

/// The way to the coordinator.
#[derive(Clone)]
pub(crate) struct RemoteCoordinator(pub(crate) Arc<CoordinatorServer>);

impl fmt::Debug for RemoteCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RemoteCoordinator")
    }
}

impl RemoteCoordinator {
    async fn call<T, F>(
        &self,
        call: impl FnOnce(Arc<Model>) -> F + Send + 'static,
    ) -> Result<T, CoordinatorError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CoordinatorError>> + Send + 'static,
    {
        let job = async |model: Arc<Model>| {
            if model.refuses.load(Ordering::Relaxed) {
                return Err(CoordinatorError::Unavailable("it refuses".to_owned()));
            }
            call(model).await
        };
        match self.0.calls.ask(COORDINATOR_WITHIN, job).await {
            Ok(answer) => answer,
            Err(RpcError::NotSent) => Err(CoordinatorError::Unavailable("no way".to_owned())),
            Err(RpcError::Unknown) => Err(CoordinatorError::Unknown("no answer".to_owned())),
        }
    }
}

#[async_trait]
impl Coordinator for RemoteCoordinator {
    fn commit_order(&self) -> CommitOrder {
        CommitOrder::Independent
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        let (cluster_id, zone) = (cluster_id.to_owned(), zone.to_owned());
        self.call(|model| async move { model.memory.attach(&cluster_id, &zone).await }).await
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        self.call(|model| async move { model.memory.register(registrations).await }).await
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        self.call(|model| async move { model.memory.topics().await }).await
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        self.call(move |model| async move { model.memory.delete_topic(topic).await }).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Vec<PartOutcome>, CoordinatorError> {
        let commit = commit.clone();
        self.call(|model| async move { model.memory.commit(&commit).await }).await
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Result<Vec<Found>, CoordinatorError> {
        self.call(|model| async move { model.memory.find(requests).await }).await
    }

    async fn trim(
        &self,
        starts: Vec<(TopicPartition, i64)>,
    ) -> Result<Vec<Watermarks>, CoordinatorError> {
        self.call(|model| async move { model.memory.trim(starts).await }).await
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        self.call(move |model| async move { model.memory.producers(partition).await }).await
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<Event>, CoordinatorError> {
        let (sender, receiver) = mpsc::channel(1024);
        let server = Arc::clone(&self.0);
        tasks::spawn("subscribe", async move {
            while !sender.is_closed() {
                let _broken = server.follow_once(&sender).await;
                let _gone = sender.send(Event::Gap).await;
                tokio::time::sleep(HEARTBEAT).await;
            }
        });
        Ok(receiver)
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError> {
        let member = member.clone();
        self.call(move |model| async move { model.memory.renew(&member, ttl).await }).await
    }
}
