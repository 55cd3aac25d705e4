//! A decorator that counts calls by outcome.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::lost_partitions::LostPartitions;
use super::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, CoordinatorEvent,
    CoordinatorResult, FindRequest, Found, Member, Membership, PartOutcome, ProducerSnapshot,
    Registration, TopicBinding, Watermarks,
};
use crate::log::ids::{ProcessIdentity, TopicId, TopicPartition};
use crate::log::object_format::ShardPosition;
use crate::metrics::{CoordinatorOperation, CoordinatorOutcome, Metrics, MonitoredOperation};

/// A coordinator whose calls are counted.
#[derive(Debug)]
pub struct MeasuredCoordinator {
    inner: Arc<dyn Coordinator>,
    metrics: Arc<Metrics>,
    lost: LostPartitions,
}

impl MeasuredCoordinator {
    /// Counts the calls of `inner`.
    pub fn new(inner: Arc<dyn Coordinator>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics, lost: LostPartitions::default() }
    }

    async fn call<T>(
        &self,
        operation: CoordinatorOperation,
        call: impl Future<Output = CoordinatorResult<T>>,
    ) -> CoordinatorResult<T> {
        let mut measured_call = self.begin(operation);
        let result = call.await;
        self.end(&mut measured_call, result.is_ok(), result.as_ref().err());
        result
    }

    /// As [`MeasuredCoordinator::call`], for a call with one result for each item. A call of which
    /// an item failed is counted by the first error; one of which an item succeeded is a success
    /// for the age of the last one, because a failed shard or partition says nothing of the others.
    async fn call_many<T>(
        &self,
        operation: CoordinatorOperation,
        call: impl Future<Output = Vec<CoordinatorResult<T>>>,
    ) -> Vec<CoordinatorResult<T>> {
        let mut measured_call = self.begin(operation);
        let results = call.await;
        let error = results.iter().find_map(|result| result.as_ref().err());
        let is_success = error.is_none() || results.iter().any(Result::is_ok);
        self.end(&mut measured_call, is_success, error);
        results
    }

    /// Records which of the partitions of a call lack metadata.
    fn note_lost<T>(
        &self,
        partitions: impl Iterator<Item = TopicPartition>,
        results: &[CoordinatorResult<T>],
    ) {
        let errors = results.iter().map(|result| result.as_ref().err());
        self.lost.note(&self.metrics, partitions.zip(errors));
    }

    fn begin(&self, operation: CoordinatorOperation) -> MeasuredCall<'_> {
        MeasuredCall { metrics: &self.metrics, operation, started: Instant::now(), outcome: None }
    }

    fn end(&self, call: &mut MeasuredCall<'_>, is_success: bool, error: Option<&CoordinatorError>) {
        call.outcome = Some(error.map_or(CoordinatorOutcome::ok, outcome_of));
        if is_success {
            let operation = call.operation;
            self.metrics.last_successes.record(MonitoredOperation::coordinator_request);
            if operation == CoordinatorOperation::commit {
                self.metrics.last_successes.record(MonitoredOperation::commit);
            }
        }
    }
}

fn outcome_of(error: &CoordinatorError) -> CoordinatorOutcome {
    match error {
        CoordinatorError::Unavailable(_) => CoordinatorOutcome::unavailable,
        CoordinatorError::Unknown(_) => CoordinatorOutcome::indeterminate,
        CoordinatorError::MetadataLost(_) => CoordinatorOutcome::metadata_lost,
        CoordinatorError::OtherCluster { .. }
        | CoordinatorError::UnsupportedVersion(_)
        | CoordinatorError::Corrupt(_)
        | CoordinatorError::Fenced(_) => CoordinatorOutcome::rejected,
    }
}

/// Counts a call when it ends, also if it is dropped before.
struct MeasuredCall<'a> {
    metrics: &'a Metrics,
    operation: CoordinatorOperation,
    started: Instant,
    outcome: Option<CoordinatorOutcome>,
}

impl Drop for MeasuredCall<'_> {
    fn drop(&mut self) {
        let elapsed = self.outcome.map(|_| self.started.elapsed());
        let outcome = self.outcome.unwrap_or(CoordinatorOutcome::cancelled);
        self.metrics.coordinator.record(self.operation, outcome, elapsed);
    }
}

#[async_trait]
impl Coordinator for MeasuredCoordinator {
    fn shard(&self, partition: TopicPartition) -> u16 {
        self.inner.shard(partition)
    }

    async fn check_shard(&self, shard: u16) -> Result<(), CoordinatorError> {
        self.inner.check_shard(shard).await
    }

    fn position(&self, partition: TopicPartition) -> ShardPosition {
        self.inner.position(partition)
    }

    fn commit_order(&self) -> CommitOrder {
        self.inner.commit_order()
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> CoordinatorResult<Attachment> {
        self.call(CoordinatorOperation::attach, self.inner.attach(cluster_id, zone)).await
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> CoordinatorResult<Vec<Option<TopicBinding>>> {
        self.call(CoordinatorOperation::register, self.inner.register(registrations)).await
    }

    async fn topics(&self) -> CoordinatorResult<Vec<TopicBinding>> {
        self.call(CoordinatorOperation::topics, self.inner.topics()).await
    }

    async fn delete_topic(&self, topic: TopicId) -> CoordinatorResult<()> {
        self.call(CoordinatorOperation::delete_topic, self.inner.delete_topic(topic)).await
    }

    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        let (sequence, lowest) = (commit.object.sequence, commit.lowest_undecided);
        // The parts of each shard are a call of their own.
        if let Some(part) = commit.parts.first() {
            let shard = self.inner.shard(part.partition);
            self.metrics.coordinator.note_undecided(shard, sequence, lowest);
        }
        let committing = self.inner.commit(commit);
        let results = self.call_many(CoordinatorOperation::commit, committing).await;
        self.note_lost(commit.parts.iter().map(|part| part.partition), &results);
        if results.iter().any(Result::is_ok) {
            self.metrics.coordinator.commit_acknowledged(commit.object);
        }
        results
    }

    async fn raise_fence(&self, process: ProcessIdentity, lowest: u32) -> CoordinatorResult<()> {
        let call = self.inner.raise_fence(process, lowest);
        self.call(CoordinatorOperation::raise_fence, call).await
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        let partitions: Vec<_> = requests.iter().map(|request| request.partition).collect();
        let finding = self.inner.find(requests);
        let results = self.call_many(CoordinatorOperation::find, finding).await;
        self.note_lost(partitions.into_iter(), &results);
        results
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        let partitions: Vec<_> = starts.iter().map(|(partition, _)| *partition).collect();
        let trimming = self.inner.trim(starts);
        let results = self.call_many(CoordinatorOperation::trim, trimming).await;
        self.note_lost(partitions.into_iter(), &results);
        results
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> CoordinatorResult<Vec<ProducerSnapshot>> {
        self.call(CoordinatorOperation::producers, self.inner.producers(partition)).await
    }

    async fn subscribe(&self) -> CoordinatorResult<mpsc::Receiver<CoordinatorEvent>> {
        self.call(CoordinatorOperation::subscribe, self.inner.subscribe()).await
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> CoordinatorResult<Membership> {
        self.call(CoordinatorOperation::renew, self.inner.renew(member, ttl)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::memory::MemoryCoordinator;

    #[tokio::test]
    async fn partitions_without_metadata_are_counted_until_they_have_it() {
        let metrics = Arc::new(Metrics::default());
        let inner = Arc::new(MemoryCoordinator::new("metadata"));
        let coordinator = MeasuredCoordinator::new(inner, Arc::clone(&metrics));
        let partition = |partition| TopicPartition { topic: TopicId([1; 16]), partition };
        let results = |second: Result<(), CoordinatorError>| {
            let lost = || Err(CoordinatorError::MetadataLost("x".to_owned()));
            coordinator.note_lost([0, 1, 2].map(partition).into_iter(), &[Ok(()), second, lost()]);
            metrics.coordinator.lost_partitions.get()
        };
        assert_eq!(results(Err(CoordinatorError::MetadataLost("x".to_owned()))), 2);
        assert_eq!(results(Err(CoordinatorError::Unavailable("x".to_owned()))), 2, "not known");
        assert_eq!(results(Ok(())), 1);
        coordinator.note_lost(std::iter::once(partition(2)), &[Ok(())]);
        assert_eq!(metrics.coordinator.lost_partitions.get(), 0);
    }

    #[tokio::test]
    async fn call_that_succeeded_for_one_item_is_a_success() {
        let metrics = Arc::new(Metrics::default());
        let inner = Arc::new(MemoryCoordinator::new("metadata"));
        let coordinator = MeasuredCoordinator::new(inner, Arc::clone(&metrics));
        let lost = || Err(CoordinatorError::MetadataLost("x".to_owned()));
        let age = || metrics.last_successes.age(MonitoredOperation::commit);
        let operation = CoordinatorOperation::commit;
        coordinator.call_many::<()>(operation, async { vec![lost()] }).await;
        assert_eq!(age(), None);
        coordinator.call_many(operation, async { vec![lost(), Ok(())] }).await;
        assert!(age().is_some());
        assert_eq!(metrics.coordinator.count(operation, CoordinatorOutcome::metadata_lost), 2);
    }

    #[tokio::test]
    async fn calls_are_counted_by_outcome() {
        let metrics = Arc::new(Metrics::default());
        let inner = Arc::new(MemoryCoordinator::new("metadata"));
        let coordinator = MeasuredCoordinator::new(inner, Arc::clone(&metrics));
        coordinator.attach("one", "a").await.unwrap();
        coordinator.attach("two", "a").await.unwrap_err();
        let count = |outcome| metrics.coordinator.count(CoordinatorOperation::attach, outcome);
        assert_eq!(count(CoordinatorOutcome::ok), 1);
        assert_eq!(count(CoordinatorOutcome::rejected), 1);
        assert!(metrics.last_successes.age(MonitoredOperation::coordinator_request).is_some());
        assert_eq!(metrics.last_successes.age(MonitoredOperation::commit), None);
    }
}
