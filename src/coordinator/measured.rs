//! A decorator that counts calls by how they ended.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, Event, FindRequest, Found,
    Member, Membership, PartOutcome, ProducerSnapshot, Registration, TopicBinding, Watermarks,
};
use crate::log::ids::{TopicId, TopicPartition};
use crate::metrics::{CoordinatorOperation, CoordinatorOutcome, Metrics, MonitoredOperation};

/// A coordinator whose calls are counted.
#[derive(Debug)]
pub struct MeasuredCoordinator {
    inner: Arc<dyn Coordinator>,
    metrics: Arc<Metrics>,
}

type Answer<T> = Result<T, CoordinatorError>;

impl MeasuredCoordinator {
    /// Counts what `inner` is asked.
    pub fn new(inner: Arc<dyn Coordinator>, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    async fn call<T>(
        &self,
        verb: CoordinatorOperation,
        call: impl Future<Output = Answer<T>>,
    ) -> Answer<T> {
        let mut counted =
            Counted { metrics: &self.metrics, verb, begun: Instant::now(), end: None };
        let done = call.await;
        counted.end = Some(done.as_ref().map_or_else(outcome, |_| CoordinatorOutcome::ok));
        if done.is_ok() {
            self.metrics.last_successes.record(MonitoredOperation::coordinator_request);
            if verb == CoordinatorOperation::commit {
                self.metrics.last_successes.record(MonitoredOperation::commit);
            }
        }
        done
    }
}

fn outcome(error: &CoordinatorError) -> CoordinatorOutcome {
    match error {
        CoordinatorError::Unavailable(_) => CoordinatorOutcome::unavailable,
        CoordinatorError::Unknown(_) => CoordinatorOutcome::indeterminate,
        CoordinatorError::MetadataLost(_) => CoordinatorOutcome::metadata_lost,
        CoordinatorError::OtherCluster { .. } | CoordinatorError::Corrupt(_) => {
            CoordinatorOutcome::rejected
        }
    }
}

/// Counts a call at its end, also when it is dropped before.
struct Counted<'a> {
    metrics: &'a Metrics,
    verb: CoordinatorOperation,
    begun: Instant,
    end: Option<CoordinatorOutcome>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let took = self.end.map(|_| self.begun.elapsed());
        let end = self.end.unwrap_or(CoordinatorOutcome::cancelled);
        self.metrics.coordinator.record(self.verb, end, took);
    }
}

#[async_trait]
impl Coordinator for MeasuredCoordinator {
    fn commit_order(&self) -> CommitOrder {
        self.inner.commit_order()
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Answer<Attachment> {
        self.call(CoordinatorOperation::attach, self.inner.attach(cluster_id, zone)).await
    }

    async fn register(&self, asked: Vec<Registration>) -> Answer<Vec<Option<TopicBinding>>> {
        self.call(CoordinatorOperation::register, self.inner.register(asked)).await
    }

    async fn topics(&self) -> Answer<Vec<TopicBinding>> {
        self.call(CoordinatorOperation::topics, self.inner.topics()).await
    }

    async fn delete_topic(&self, topic: TopicId) -> Answer<()> {
        self.call(CoordinatorOperation::delete_topic, self.inner.delete_topic(topic)).await
    }

    async fn commit(&self, commit: &Commit) -> Answer<Vec<PartOutcome>> {
        let done = self.call(CoordinatorOperation::commit, self.inner.commit(commit)).await;
        if done.is_ok() {
            self.metrics.coordinator.commit_acknowledged(commit.object);
        }
        done
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Answer<Vec<Found>> {
        self.call(CoordinatorOperation::find, self.inner.find(requests)).await
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Answer<Vec<Watermarks>> {
        self.call(CoordinatorOperation::trim, self.inner.trim(starts)).await
    }

    async fn producers(&self, partition: TopicPartition) -> Answer<Vec<ProducerSnapshot>> {
        self.call(CoordinatorOperation::producers, self.inner.producers(partition)).await
    }

    async fn subscribe(&self) -> Answer<mpsc::Receiver<Event>> {
        self.call(CoordinatorOperation::subscribe, self.inner.subscribe()).await
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Answer<Membership> {
        self.call(CoordinatorOperation::renew, self.inner.renew(member, ttl)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::memory::MemoryCoordinator;

    #[tokio::test]
    async fn calls_are_counted_by_how_they_ended() {
        let metrics = Arc::new(Metrics::default());
        let inner = Arc::new(MemoryCoordinator::new("life"));
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
