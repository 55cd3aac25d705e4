//! Watches the placeholders on the brokers, which must stay empty.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::placeholder;
use super::registry::TopicRegistry;
use crate::log::ids::TopicId;
use crate::proxy::upstream::cluster::KafkaCluster;

/// Topics checked per run; the next run continues after them.
const TOPICS_PER_RUN: usize = 16;

/// Finds placeholders that contain records.
#[derive(Debug)]
pub struct PlaceholderAudit {
    registry: Arc<TopicRegistry>,
    cluster: Arc<KafkaCluster>,
    state: Mutex<AuditState>,
}

#[derive(Debug, Default)]
struct AuditState {
    /// The name of the topic that was checked last.
    last_checked: Option<String>,
    /// Topics whose placeholders contain records.
    with_records: BTreeSet<TopicId>,
}

impl PlaceholderAudit {
    pub(super) fn new(registry: Arc<TopicRegistry>, cluster: Arc<KafkaCluster>) -> Self {
        Self { registry, cluster, state: Mutex::default() }
    }

    /// Checks the placeholders of some diskless topics, in turn, and returns how many of all
    /// contain records. Such a record was produced to a broker directly, and no consumer of the
    /// diskless topic sees it.
    pub async fn run(&self) -> usize {
        let topics = self.registry.diskless();
        let last = self.state.lock().last_checked.clone();
        let first = last.map_or(0, |last| topics.partition_point(|topic| topic.name <= last));
        let in_turn = topics[first..].iter().chain(&topics[..first]).take(TOPICS_PER_RUN);
        for topic in in_turn {
            let has_records = placeholder::has_records(&self.cluster, &topic.name, topic.id).await;
            let mut state = self.state.lock();
            state.last_checked = Some(topic.name.clone());
            if has_records && state.with_records.insert(topic.id) {
                tracing::error!(
                    topic = topic.name,
                    "the placeholder on the brokers contains records: a client produces to the \
                     brokers directly, not through Odradek, and no consumer of the diskless topic \
                     sees its records; configure the client to connect to Odradek"
                );
            }
        }
        let mut state = self.state.lock();
        state.with_records.retain(|id| topics.iter().any(|topic| topic.id == *id));
        state.with_records.len()
    }
}
