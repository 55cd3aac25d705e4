//! A decorator that serves a shard only once what earlier processes stored is committed to it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, CoordinatorEvent,
    CoordinatorResult, FindRequest, Found, Member, Membership, PartOutcome, ProducerSnapshot,
    Registration, TopicBinding, Watermarks,
};
use crate::log::ids::{ProcessIdentity, TopicId, TopicPartition};
use crate::log::object_format::ShardPosition;

/// The shards that are not served yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClosedShards {
    /// All of them.
    All,
    /// These.
    Some(BTreeSet<u16>),
}

impl ClosedShards {
    /// No shard.
    pub const NONE: Self = Self::Some(BTreeSet::new());

    /// Returns the shards of both.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Some(mut shards), Self::Some(others)) => {
                shards.extend(others);
                Self::Some(shards)
            }
            _ => Self::All,
        }
    }

    /// Returns the same, of a coordinator with so many shards; 0 if their number is not known.
    pub fn of(self, shards: usize) -> Self {
        match self {
            Self::Some(closed) if shards > 0 && closed.len() >= shards => Self::All,
            closed => closed,
        }
    }

    fn contains(&self, shard: u16) -> bool {
        match self {
            Self::All => true,
            Self::Some(shards) => shards.contains(&shard),
        }
    }
}

/// A coordinator that neither changes nor shows the partitions of closed shards: their calls fail
/// with [`CoordinatorError::Unavailable`]. A batch that were committed before those of an earlier
/// process would get the offsets that they had.
#[derive(Debug)]
pub struct GatedCoordinator {
    inner: Arc<dyn Coordinator>,
    closed: Mutex<ClosedShards>,
}

impl GatedCoordinator {
    /// Returns a coordinator with these closed shards.
    pub fn new(inner: Arc<dyn Coordinator>, closed: ClosedShards) -> Self {
        Self { inner, closed: Mutex::new(closed) }
    }

    /// Returns the coordinator without the gate.
    pub fn inner(&self) -> &Arc<dyn Coordinator> {
        &self.inner
    }

    /// Opens all shards but these. A shard that is open stays open.
    pub fn open_all_but(&self, closed: ClosedShards) {
        let mut current = self.closed.lock();
        match (&mut *current, closed) {
            (_, ClosedShards::All) => {}
            (ClosedShards::Some(shards), ClosedShards::Some(others)) => {
                shards.retain(|shard| others.contains(shard));
            }
            (ClosedShards::All, closed) => *current = closed,
        }
    }

    /// Returns whether a shard is served.
    pub fn is_partly_open(&self) -> bool {
        *self.closed.lock() != ClosedShards::All
    }

    /// Returns whether every shard is served.
    pub fn is_open(&self) -> bool {
        *self.closed.lock() == ClosedShards::NONE
    }

    fn refusal(&self, partition: TopicPartition) -> Option<CoordinatorError> {
        let closed = self.closed.lock();
        if *closed == ClosedShards::NONE || !closed.contains(self.inner.shard(partition)) {
            return None;
        }
        Some(CoordinatorError::Unavailable(
            "what an earlier process stored is being committed".to_owned(),
        ))
    }
}

#[async_trait]
impl Coordinator for GatedCoordinator {
    fn commit_order(&self) -> CommitOrder {
        self.inner.commit_order()
    }

    fn shard(&self, partition: TopicPartition) -> u16 {
        self.inner.shard(partition)
    }

    async fn check_shard(&self, shard: u16) -> CoordinatorResult<()> {
        self.inner.check_shard(shard).await
    }

    fn position(&self, partition: TopicPartition) -> ShardPosition {
        self.inner.position(partition)
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> CoordinatorResult<Attachment> {
        self.inner.attach(cluster_id, zone).await
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> CoordinatorResult<Vec<Option<TopicBinding>>> {
        self.inner.register(registrations).await
    }

    async fn topics(&self) -> CoordinatorResult<Vec<TopicBinding>> {
        self.inner.topics().await
    }

    async fn delete_topic(&self, topic: TopicId) -> CoordinatorResult<()> {
        self.inner.delete_topic(topic).await
    }

    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        if self.is_open() {
            return self.inner.commit(commit).await;
        }
        let refusals: Vec<_> = commit.parts.iter().map(|p| self.refusal(p.partition)).collect();
        let served = commit.parts.iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none());
        let parts: Vec<_> = served.map(|(part, _)| part.clone()).collect();
        let results = match parts.is_empty() {
            true => Vec::new(),
            false => self.inner.commit(&Commit { parts, ..commit.clone() }).await,
        };
        in_order(refusals, results)
    }

    async fn raise_fence(&self, process: ProcessIdentity, lowest: u32) -> CoordinatorResult<()> {
        self.inner.raise_fence(process, lowest).await
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        if self.is_open() {
            return self.inner.find(requests).await;
        }
        let refusals: Vec<_> = requests.iter().map(|r| self.refusal(r.partition)).collect();
        let served = requests.into_iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none());
        let served: Vec<_> = served.map(|(request, _)| request).collect();
        let results = match served.is_empty() {
            true => Vec::new(),
            false => self.inner.find(served).await,
        };
        in_order(refusals, results)
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        if self.is_open() {
            return self.inner.trim(starts).await;
        }
        let refusals: Vec<_> = starts.iter().map(|(of, _)| self.refusal(*of)).collect();
        let served = starts.into_iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none());
        let served: Vec<_> = served.map(|(start, _)| start).collect();
        let results = match served.is_empty() {
            true => Vec::new(),
            false => self.inner.trim(served).await,
        };
        in_order(refusals, results)
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> CoordinatorResult<Vec<ProducerSnapshot>> {
        match self.refusal(partition) {
            Some(error) => Err(error),
            None => self.inner.producers(partition).await,
        }
    }

    async fn subscribe(&self) -> CoordinatorResult<mpsc::Receiver<CoordinatorEvent>> {
        self.inner.subscribe().await
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> CoordinatorResult<Membership> {
        self.inner.renew(member, ttl).await
    }
}

/// Returns the refusals, and the results of the other items in their places.
fn in_order<R>(
    refusals: Vec<Option<CoordinatorError>>,
    results: Vec<CoordinatorResult<R>>,
) -> Vec<CoordinatorResult<R>> {
    let mut results = results.into_iter();
    let missing = || Err(CoordinatorError::Unknown("a result is missing".to_owned()));
    let result = |refusal: Option<CoordinatorError>| match refusal {
        Some(error) => Err(error),
        None => results.next().unwrap_or_else(missing),
    };
    refusals.into_iter().map(result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::FindFrom;
    use crate::coordinator::faulty::FaultyCoordinator;
    use crate::coordinator::memory::MemoryCoordinator;

    #[tokio::test]
    async fn closed_shards_fail_alone_until_they_are_opened() {
        let model = Arc::new(MemoryCoordinator::new("m"));
        let sharded = Arc::new(FaultyCoordinator::new(model).with_shards(2));
        let gated = GatedCoordinator::new(sharded, ClosedShards::All);
        let partitions =
            (0..8).map(|partition| TopicPartition { topic: TopicId([1; 16]), partition });
        let request = |partition| {
            let from = FindFrom::Offset(0);
            FindRequest { partition, from, bytes_max: 1, runs_max: 1 }
        };
        let requests: Vec<_> = partitions.map(request).collect();
        let served = async || -> Vec<bool> {
            gated.find(requests.clone()).await.iter().map(Result::is_ok).collect()
        };
        assert_eq!(served().await, [false; 8]);
        assert!(!gated.is_partly_open());
        gated.open_all_but(ClosedShards::Some(BTreeSet::from([1])));
        assert!(gated.is_partly_open() && !gated.is_open());
        let expected: Vec<_> = requests.iter().map(|r| gated.shard(r.partition) != 1).collect();
        assert!(expected.contains(&true) && expected.contains(&false));
        assert_eq!(served().await, expected);
        // What is served stays so, whatever a later look could not find out.
        gated.open_all_but(ClosedShards::All);
        gated.open_all_but(ClosedShards::Some(BTreeSet::from([0, 1])));
        assert_eq!(served().await, expected);
        gated.open_all_but(ClosedShards::NONE);
        assert!(gated.is_open());
        assert_eq!(served().await, [true; 8]);
    }
}
