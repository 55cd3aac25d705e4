//! Decides whether records may be forwarded to classic topics.
//!
//! A topic whose logs ever contained a record is classic forever. One that is empty may become
//! diskless without this replica knowing yet. So before records go to an empty topic, the
//! coordinator must have confirmed recently that it is classic.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::attempts::TopicAttempts;
use super::classic_status::ClassicStatus;
use super::placeholder;
use super::registry::TopicRegistry;
use super::topic::Topic;
use crate::coordinator::{BindRule, Coordinator, Registration, TopicBinding, TopicType};
use crate::log::ids::TopicId;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::tasks;

/// Time for which the brokers are not asked again about a topic without records.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Time for which a request waits for the brokers while the coordinator does not respond.
const EXAMINATION: Duration = Duration::from_secs(2);
/// Maximum number of topics whose logs are examined at a time.
const EXAMINATIONS_MAX: usize = 8;

/// Keeps records out of classic topics that may be about to become diskless.
#[derive(Debug)]
pub struct ClassicRecordGuard {
    registry: Arc<TopicRegistry>,
    cluster: Arc<KafkaCluster>,
    coordinator: Arc<dyn Coordinator>,
    /// The examinations of logs.
    attempts: Arc<TopicAttempts>,
    /// Limits the topics whose logs are examined at a time: after a start, all topics in use are.
    examinations: Semaphore,
}

impl ClassicRecordGuard {
    pub(super) fn new(
        registry: Arc<TopicRegistry>,
        cluster: Arc<KafkaCluster>,
        coordinator: Arc<dyn Coordinator>,
    ) -> Self {
        let attempts = TopicAttempts::new(RETRY_AFTER);
        let examinations = Semaphore::new(EXAMINATIONS_MAX);
        Self { registry, cluster, coordinator, attempts, examinations }
    }

    /// Returns whether records for these topics may be forwarded to the brokers now. Topics that
    /// are unknown or not classic are not checked.
    pub async fn may_forward_records(self: &Arc<Self>, topics: &[(TopicId, &str)]) -> bool {
        let unconfirmed: Vec<_> = self.unconfirmed(topics).collect();
        if unconfirmed.is_empty() {
            return true;
        }
        let requested_at = Instant::now();
        let ids: Vec<_> = unconfirmed.iter().map(|topic| topic.id).collect();
        let registrations = unconfirmed.iter().map(|topic| classic_registration(topic)).collect();
        let Ok(bound) = self.coordinator.register(registrations).await else {
            // Topics that have records are classic whatever the coordinator says.
            self.examine(&unconfirmed);
            self.attempts.all(&ids, EXAMINATION).await;
            return ids.iter().all(|id| self.registry.classic_status().allows(*id));
        };
        let mut confirmed = 0;
        for binding in self.registry.apply_bindings(&ids, bound) {
            if binding.topic_type == TopicType::Classic {
                let status = ClassicStatus::ConfirmedAt(requested_at);
                self.registry.classic_status().record(binding.topic, status);
                confirmed += 1;
            }
        }
        self.examine(&unconfirmed);
        confirmed == ids.len()
    }

    /// Returns whether records for these topics may be forwarded without further requests.
    pub fn is_confirmed(&self, topics: &[(TopicId, &str)]) -> bool {
        self.unconfirmed(topics).next().is_none()
    }

    fn unconfirmed(&self, topics: &[(TopicId, &str)]) -> impl Iterator<Item = Arc<Topic>> {
        let topics = topics.iter().filter_map(|(id, name)| self.registry.by_id_or_name(*id, name));
        topics
            .filter(|topic| topic.topic_type == TopicType::Classic && !topic.name.starts_with("__"))
            .filter(|topic| !self.registry.classic_status().allows(topic.id))
    }

    /// Asks the brokers whether topics have, or had, records: one task for each topic, none for one
    /// about which they were asked a moment ago.
    fn examine(self: &Arc<Self>, topics: &[Arc<Topic>]) {
        for topic in topics {
            let Some(attempt) = self.attempts.begin(std::iter::once(topic.id)) else { continue };
            let (guard, topic) = (Arc::clone(self), Arc::clone(topic));
            tasks::spawn("check-log-of-classic-topic", async move {
                // The semaphore is never closed.
                let _one_of_few = guard.examinations.acquire().await;
                if guard.has_records(&topic).await {
                    attempt.succeed();
                }
            });
        }
    }

    /// Asks the brokers whether the topic has, or had, records.
    async fn has_records(&self, topic: &Topic) -> bool {
        let has_records = placeholder::has_records(&self.cluster, &topic.name, topic.id).await;
        if has_records {
            self.registry.classic_status().record(topic.id, ClassicStatus::HasRecords);
        }
        has_records
    }
}

fn classic_registration(topic: &Topic) -> Registration {
    let binding =
        TopicBinding { topic: topic.id, name: topic.name.clone(), topic_type: TopicType::Classic };
    Registration { binding, rule: BindRule::FirstWins }
}
