//! A coordinator that can lose its last commits.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use odradek::coordinator::memory::MemoryCoordinator;
use odradek::coordinator::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorEvent, CoordinatorResult, FindRequest,
    Found, Member, Membership, PartOutcome, ProducerSnapshot, Registration, TopicBinding,
    Watermarks,
};
use odradek::log::ids::{ProcessIdentity, TopicId, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// A coordinator that can lose its last commits, as a Redis whose machine lost power.
#[derive(Debug)]
pub(crate) struct LossyCoordinator {
    model: MemoryCoordinator,
    /// The commits that were applied, in this order.
    applied: Mutex<Vec<Commit>>,
}

impl LossyCoordinator {
    pub(crate) fn new() -> Self {
        Self { model: MemoryCoordinator::new("m"), applied: Mutex::default() }
    }

    pub(crate) fn count(&self) -> usize {
        self.applied.lock().len()
    }

    /// Returns what is left without the last `lost` commits.
    pub(crate) async fn without_last(&self, lost: usize) -> Arc<Self> {
        let left = Self::new();
        let applied = self.applied.lock().clone();
        for commit in &applied[..applied.len() - lost] {
            left.commit(commit).await;
        }
        Arc::new(left)
    }
}

#[async_trait]
impl Coordinator for LossyCoordinator {
    fn commit_order(&self) -> CommitOrder {
        self.model.commit_order()
    }
    fn shard(&self, partition: TopicPartition) -> u16 {
        self.model.shard(partition)
    }
    async fn attach(&self, cluster_id: &str, zone: &str) -> CoordinatorResult<Attachment> {
        self.model.attach(cluster_id, zone).await
    }
    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> CoordinatorResult<Vec<Option<TopicBinding>>> {
        self.model.register(registrations).await
    }
    async fn topics(&self) -> CoordinatorResult<Vec<TopicBinding>> {
        self.model.topics().await
    }
    async fn delete_topic(&self, topic: TopicId) -> CoordinatorResult<()> {
        self.model.delete_topic(topic).await
    }
    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        self.applied.lock().push(commit.clone());
        self.model.commit(commit).await
    }
    async fn raise_fence(&self, process: ProcessIdentity, lowest: u32) -> CoordinatorResult<()> {
        self.model.raise_fence(process, lowest).await
    }
    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        self.model.find(requests).await
    }
    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        self.model.trim(starts).await
    }
    async fn producers(&self, at: TopicPartition) -> CoordinatorResult<Vec<ProducerSnapshot>> {
        self.model.producers(at).await
    }
    async fn subscribe(&self) -> CoordinatorResult<mpsc::Receiver<CoordinatorEvent>> {
        self.model.subscribe().await
    }
    async fn renew(&self, member: &Member, ttl: Duration) -> CoordinatorResult<Membership> {
        self.model.renew(member, ttl).await
    }
}
