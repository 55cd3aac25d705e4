//! A decorator that counts calls by outcome.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, CoordinatorEvent, FindRequest,
    Found, Member, Membership, PartOutcome, ProducerSnapshot, Registration, TopicBinding,
    Watermarks,
};
use crate::log::ids::{TopicId, TopicPartition};
use crate::metrics::{CoordinatorOperation, CoordinatorOutcome, Metrics, MonitoredOperation};

/// A coordinator whose calls are counted.
#[derive(Debug)]
pub struct MeasuredCoordinator {
    inner: Arc<dyn Coordinator>,
    metrics: Arc<Metrics>,
}

type CoordinatorResult<T> = Result<T, CoordinatorError>;

impl MeasuredCoordinator {
    /// Counts the calls of `inner`.
    pub fn new(inner: Arc<dyn Coordinator>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    async fn call<T>(
        &self,
        operation: CoordinatorOperation,
        call: impl Future<Output = CoordinatorResult<T>>,
    ) -> CoordinatorResult<T> {
        let mut measured_call = MeasuredCall {
            metrics: &self.metrics,
            operation,
            started: Instant::now(),
            outcome: None,
        };
        let result = call.await;
        measured_call.outcome =
            Some(result.as_ref().map_or_else(outcome_of, |_| CoordinatorOutcome::ok));
        if result.is_ok() {
            self.metrics.last_successes.record(MonitoredOperation::coordinator_request);
            if operation == CoordinatorOperation::commit {
                self.metrics.last_successes.record(MonitoredOperation::commit);
            }
        }
        result
    }
}

fn outcome_of(error: &CoordinatorError) -> CoordinatorOutcome {
    match error {
        CoordinatorError::Unavailable(_) => CoordinatorOutcome::unavailable,
        CoordinatorError::Unknown(_) => CoordinatorOutcome::indeterminate,
        CoordinatorError::MetadataLost(_) => CoordinatorOutcome::metadata_lost,
        CoordinatorError::OtherCluster { .. } | CoordinatorError::Corrupt(_) => {
            CoordinatorOutcome::rejected
        }
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

    async fn commit(&self, commit: &Commit) -> CoordinatorResult<Vec<PartOutcome>> {
        let result = self.call(CoordinatorOperation::commit, self.inner.commit(commit)).await;
        if result.is_ok() {
            self.metrics.coordinator.commit_acknowledged(commit.object);
        }
        result
    }

    async fn find(&self, requests: Vec<FindRequest>) -> CoordinatorResult<Vec<Found>> {
        self.call(CoordinatorOperation::find, self.inner.find(requests)).await
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> CoordinatorResult<Vec<Watermarks>> {
        self.call(CoordinatorOperation::trim, self.inner.trim(starts)).await
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
