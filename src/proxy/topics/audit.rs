//! Looks after the placeholders on the brokers: they are to hold nothing, ever.

use std::collections::BTreeSet;

use parking_lot::{Mutex, MutexGuard};

use super::{TopicRegistry, placeholder};
use crate::log::ids::TopicId;

/// Topics that one look asks the brokers about; the next look goes on behind them.
const TOPICS_PER_AUDIT: usize = 16;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct PlaceholderAudit(Mutex<AuditState>);

#[derive(Debug, Default)]
struct AuditState {
    /// The name of the topic that was looked at last.
    last_checked: Option<String>,
    /// Topics whose placeholders hold records.
    with_records: BTreeSet<TopicId>,
}

impl TopicRegistry {
    /// Looks at the placeholders of some diskless topics, and says how many hold records: a client
    /// wrote to a broker directly, and nobody who reads the diskless topic will see it. All topics
    /// have their turn.
    pub async fn placeholders_with_records(&self) -> usize {
        let topics = self.diskless();
        let last_checked = self.audit.lock().last_checked.clone();
        let first = last_checked
            .map_or(0, |last_checked| topics.partition_point(|topic| topic.name <= last_checked));
        let in_turn = topics[first..].iter().chain(&topics[..first]).take(TOPICS_PER_AUDIT);
        for topic in in_turn {
            let has_records = placeholder::has_records(&self.cluster, &topic.name, topic.id).await;
            let mut state = self.audit.lock();
            state.last_checked = Some(topic.name.clone());
            if has_records && state.with_records.insert(topic.id) {
                tracing::error!(
                    topic = topic.name,
                    "the placeholder on the brokers holds records: a client writes to the brokers \
                     directly, past Odradek, and no consumer of the diskless topic sees what it \
                     writes; point it at Odradek"
                );
            }
        }
        let mut state = self.audit.lock();
        state.with_records.retain(|id| topics.iter().any(|topic| topic.id == *id));
        state.with_records.len()
    }
}

impl PlaceholderAudit {
    fn lock(&self) -> MutexGuard<'_, AuditState> {
        self.0.lock()
    }
}
