//! The store and the batch coordinator as hosts of the network, and their remote adapters.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use odradek::coordinator::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, CoordinatorEvent,
    CoordinatorResult, EventScope, FindRequest, Found, Member, Membership, PartOutcome,
    ProducerSnapshot, Registration, TopicBinding, Watermarks,
};
use odradek::entropy::Entropy;
use odradek::log::ids::{ProcessIdentity, TopicId, TopicPartition};
use odradek::store::memory::MemoryStore;
use odradek::store::{ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};
use odradek::tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;
use turmoil::net::{TcpListener, TcpStream};

use crate::rpc::{Mailbox, RpcError, RpcServer};
use crate::shards::{Model, each, shard_of};

const SUBSCRIBE_PORT: u16 = 9001;
const STORE_TIMEOUT: Duration = Duration::from_secs(4);
const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(2);
/// Heartbeat interval of subscriptions; a subscriber that receives nothing for three intervals
/// reconnects.
const HEARTBEAT: Duration = Duration::from_millis(500);
const HEARTBEAT_FRAME: u64 = 0;

/// The object store, with an adjustable latency.
#[derive(Debug)]
pub(crate) struct SlowStore {
    pub(crate) memory: MemoryStore,
    pub(crate) entropy: Entropy,
    /// Maximum latency of a call, in milliseconds.
    pub(crate) latency_max_ms: AtomicU64,
}

impl SlowStore {
    /// Delays a call before or after it is executed: the caller may have crashed by then.
    async fn pause(&self) {
        let max = self.latency_max_ms.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(self.entropy.next_u64() % max)).await;
    }
}

/// Remote adapter of the store.
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
        (operation, key): (&'static str, &str),
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
        match self.0.call(STORE_TIMEOUT, job).await {
            Ok(result) => result,
            Err(RpcError::NotSent) => Err(StoreError::determinate(
                StoreErrorKind::Unavailable,
                operation,
                key,
                "connection failed",
            )),
            Err(RpcError::Unknown) => Err(StoreError::indeterminate(operation, key, "no response")),
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

/// Serves calls and subscriptions to the model.
pub(crate) struct CoordinatorServer {
    pub(crate) calls: Arc<RpcServer<Model>>,
    events: Mailbox<CoordinatorEvent>,
}

impl CoordinatorServer {
    pub(crate) fn new(host: &str) -> Arc<Self> {
        Arc::new(Self { calls: RpcServer::new(host), events: Mailbox::default() })
    }

    /// Sends every event to all subscribers.
    pub(crate) async fn publish(self: Arc<Self>, model: Arc<Model>) -> io::Result<()> {
        let listener = TcpListener::bind(("0.0.0.0", SUBSCRIBE_PORT)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let (server, model) = (Arc::clone(&self), Arc::clone(&model));
            tasks::spawn("publish", async move { server.publish_to(stream, &model).await });
        }
    }

    async fn publish_to(&self, mut stream: TcpStream, model: &Model) -> io::Result<()> {
        let Ok(mut events) = model.memory.subscribe().await else { return Ok(()) };
        // Earlier events were missed.
        stream.write_u64(self.events.put(CoordinatorEvent::Gap(EventScope::All))).await?;
        loop {
            match timeout(HEARTBEAT, events.recv()).await {
                Ok(Some(event)) => stream.write_u64(self.events.put(event)).await?,
                Ok(None) => return Ok(()),
                Err(_) => stream.write_u64(HEARTBEAT_FRAME).await?,
            }
        }
    }

    async fn subscribe_once(&self, sender: &mpsc::Sender<CoordinatorEvent>) -> io::Result<()> {
        let connect = TcpStream::connect((self.calls.host(), SUBSCRIBE_PORT));
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

/// Remote adapter of the coordinator.
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
            if model.is_unavailable.load(Ordering::Relaxed) {
                return Err(CoordinatorError::Unavailable(
                    "unavailable by fault injection".to_owned(),
                ));
            }
            call(model).await
        };
        match self.0.calls.call(COORDINATOR_TIMEOUT, job).await {
            Ok(result) => result,
            Err(RpcError::NotSent) => {
                Err(CoordinatorError::Unavailable("connection failed".to_owned()))
            }
            Err(RpcError::Unknown) => Err(CoordinatorError::Unknown("no response".to_owned())),
        }
    }
}

#[async_trait]
impl Coordinator for RemoteCoordinator {
    fn shard(&self, partition: TopicPartition) -> u16 {
        shard_of(partition)
    }

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

    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        let (count, commit) = (commit.parts.len(), commit.clone());
        let call = self.call(|model| async move { Ok(model.commit(&commit).await) });
        each(call.await, count)
    }

    async fn raise_fence(
        &self,
        process: ProcessIdentity,
        lowest: u32,
    ) -> Result<(), CoordinatorError> {
        self.call(move |model| async move { model.memory.raise_fence(process, lowest).await }).await
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        let count = requests.len();
        each(self.call(|model| async move { Ok(model.find(requests).await) }).await, count)
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        let count = starts.len();
        each(self.call(|model| async move { Ok(model.memory.trim(starts).await) }).await, count)
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        self.call(move |model| async move { model.memory.producers(partition).await }).await
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<CoordinatorEvent>, CoordinatorError> {
        let (sender, receiver) = mpsc::channel(1024);
        let server = Arc::clone(&self.0);
        tasks::spawn("subscribe", async move {
            while !sender.is_closed() {
                let _broken = server.subscribe_once(&sender).await;
                let _gone = sender.send(CoordinatorEvent::Gap(EventScope::All)).await;
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
