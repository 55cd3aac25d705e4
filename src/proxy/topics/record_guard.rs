//! Decides whether records may be forwarded to classic topics.
//!
//! A topic whose logs ever contained a record is classic forever. One that is empty may become
//! diskless without this replica knowing yet. So before records go to an empty topic, the
//! coordinator must have confirmed recently that it is classic.

use std::sync::Arc;

use tokio::time::Instant;

use super::classic_status::ClassicStatus;
use super::placeholder;
use super::registry::TopicRegistry;
use super::topic::Topic;
use crate::coordinator::{BindRule, Coordinator, Registration, TopicBinding, TopicType};
use crate::log::ids::TopicId;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::tasks;

/// Keeps records out of classic topics that may be about to become diskless.
#[derive(Debug)]
pub struct ClassicRecordGuard {
    registry: Arc<TopicRegistry>,
    cluster: Arc<KafkaCluster>,
    coordinator: Arc<dyn Coordinator>,
}

impl ClassicRecordGuard {
    pub(super) fn new(
        registry: Arc<TopicRegistry>,
        cluster: Arc<KafkaCluster>,
        coordinator: Arc<dyn Coordinator>,
    ) -> Self {
        Self { registry, cluster, coordinator }
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
            let mut all = true;
            for topic in &unconfirmed {
                all &= self.has_records(topic).await;
            }
            return all;
        };
        let mut confirmed = 0;
        for binding in self.registry.apply_bindings(&ids, bound) {
            if binding.topic_type == TopicType::Classic {
                let status = ClassicStatus::ConfirmedAt(requested_at);
                self.registry.classic_status().record(binding.topic, status);
                confirmed += 1;
            }
        }
        let guard = Arc::clone(self);
        tasks::spawn("check logs of classic topics", async move {
            for topic in unconfirmed {
                guard.has_records(&topic).await;
            }
        });
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
