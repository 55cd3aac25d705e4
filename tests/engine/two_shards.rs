//! A coordinator with two shards that fail independently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use odradek::coordinator::faulty::FaultyCoordinator;
use odradek::coordinator::memory::MemoryCoordinator;
use odradek::coordinator::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, CoordinatorEvent,
    CoordinatorResult, FindRequest, Found, Member, Membership, PartOutcome, ProducerSnapshot,
    Registration, TopicBinding, Watermarks,
};
use odradek::log::batch::Part;
use odradek::log::ids::{ProcessIdentity, TopicId, TopicPartition};
use tokio::sync::mpsc;

/// Partitions with even numbers are in shard 0, those with odd numbers in shard 1.
#[derive(Debug)]
pub(crate) struct TwoShards {
    pub(crate) shards: [Arc<FaultyCoordinator>; 2],
    /// True if results have no runs, as if the index were missing.
    pub(crate) loses_runs: AtomicBool,
    /// Queries for runs.
    pub(crate) run_queries: AtomicU64,
    /// Queries for bounds alone.
    pub(crate) bounds_queries: AtomicU64,
}

impl TwoShards {
    pub(crate) fn new() -> Arc<Self> {
        let model = Arc::new(MemoryCoordinator::new("model"));
        let shard = || Arc::new(FaultyCoordinator::new(Arc::clone(&model) as Arc<dyn Coordinator>));
        Arc::new(Self {
            shards: [shard(), shard()],
            loses_runs: AtomicBool::new(false),
            run_queries: AtomicU64::new(0),
            bounds_queries: AtomicU64::new(0),
        })
    }

    fn of(&self, partition: TopicPartition) -> &FaultyCoordinator {
        &self.shards[usize::from(self.shard(partition))]
    }

    /// Splits the items of a call by shard, and waits for the results of both.
    async fn split<I: Send, T: Send>(
        &self,
        items: Vec<(TopicPartition, I)>,
        call: fn(Arc<FaultyCoordinator>, Vec<I>) -> Results<T>,
    ) -> Vec<CoordinatorResult<T>> {
        let shards: Vec<_> = items.iter().map(|(partition, _)| self.shard(*partition)).collect();
        let mut by_shard = [Vec::new(), Vec::new()];
        for ((_, item), shard) in items.into_iter().zip(&shards) {
            by_shard[usize::from(*shard)].push(item);
        }
        let [even, odd] = by_shard;
        let call = |shard: usize, items: Vec<I>| match items.is_empty() {
            true => futures::future::ready(Vec::new()).boxed(),
            false => call(Arc::clone(&self.shards[shard]), items),
        };
        let (even, odd) = tokio::join!(call(0, even), call(1, odd));
        let (mut even, mut odd) = (even.into_iter(), odd.into_iter());
        let next = |shard: &u16| if *shard == 0 { even.next() } else { odd.next() };
        shards.iter().map(next).map(|result| result.expect("one for each")).collect()
    }
}

type Results<T> = BoxFuture<'static, Vec<CoordinatorResult<T>>>;

#[async_trait]
impl Coordinator for TwoShards {
    fn commit_order(&self) -> CommitOrder {
        CommitOrder::Independent
    }

    fn shard(&self, partition: TopicPartition) -> u16 {
        u16::from(partition.partition % 2 == 1)
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        self.shards[0].attach(cluster_id, zone).await
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        self.shards[0].register(registrations).await
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        self.shards[0].topics().await
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        self.shards[0].delete_topic(topic).await
    }

    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        let header = Arc::new(Commit { parts: Vec::new(), ..commit.clone() });
        let part = |part: &Part| (part.partition, (Arc::clone(&header), part.clone()));
        let call = |shard: Arc<FaultyCoordinator>, items: Vec<(Arc<Commit>, Part)>| {
            let header = Commit::clone(&items[0].0);
            let parts = items.into_iter().map(|(_, part)| part).collect();
            async move { shard.commit(&Commit { parts, ..header }).await }.boxed()
        };
        self.split(commit.parts.iter().map(part).collect(), call).await
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        let bounds = requests.iter().filter(|request| request.runs_max == 0).count() as u64;
        self.bounds_queries.fetch_add(bounds, Ordering::Relaxed);
        self.run_queries.fetch_add(requests.len() as u64 - bounds, Ordering::Relaxed);
        let call = |shard: Arc<FaultyCoordinator>, requests: Vec<FindRequest>| {
            async move { shard.find(requests).await }.boxed()
        };
        let requests = requests.into_iter().map(|request| (request.partition, request));
        let mut found = self.split(requests.collect(), call).await;
        if self.loses_runs.load(Ordering::Relaxed) {
            found.iter_mut().flatten().for_each(|found| found.runs.clear());
        }
        found
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        let call = |shard: Arc<FaultyCoordinator>, starts: Vec<(TopicPartition, i64)>| {
            async move { shard.trim(starts).await }.boxed()
        };
        self.split(starts.into_iter().map(|start| (start.0, start)).collect(), call).await
    }

    async fn raise_fence(
        &self,
        process: ProcessIdentity,
        lowest_undecided: u32,
    ) -> Result<(), CoordinatorError> {
        self.shards[0].raise_fence(process, lowest_undecided).await
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        self.of(partition).producers(partition).await
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<CoordinatorEvent>, CoordinatorError> {
        self.shards[0].subscribe().await
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError> {
        self.shards[0].renew(member, ttl).await
    }
}
