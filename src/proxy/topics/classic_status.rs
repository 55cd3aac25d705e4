//! Which classic topics records may be relayed to.
//!
//! A topic whose logs ever held a record is classic for ever. One that is empty may become
//! diskless, and this replica may not have heard of it: so it makes sure, and not long ago.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{Topic, TopicRegistry, placeholder};
use crate::coordinator::{BindRule, Registration, TopicBinding, TopicType};
use crate::log::ids::TopicId;
use crate::tasks;

/// How long the coordinator's word that an empty topic is classic is acted upon, from the asking.
pub(super) const CONFIRMATION_TTL: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClassicStatus {
    /// It has, or had, records: it is classic for good.
    HasRecords,
    /// It was classic then.
    ConfirmedClassic(Instant),
}

/// What is known of classic topics to which records are relayed.
#[derive(Debug, Default)]
pub(super) struct ClassicStatusCache(Mutex<HashMap<TopicId, ClassicStatus>>);

impl ClassicStatusCache {
    pub(super) fn delete_topic(&self, id: TopicId) {
        self.lock().remove(&id);
    }

    fn allows(&self, id: TopicId) -> bool {
        match self.lock().get(&id) {
            Some(ClassicStatus::HasRecords) => true,
            Some(ClassicStatus::ConfirmedClassic(at)) => at.elapsed() < CONFIRMATION_TTL,
            None => false,
        }
    }

    fn record(&self, id: TopicId, status: ClassicStatus) {
        let mut classic_status = self.lock();
        if classic_status.get(&id) != Some(&ClassicStatus::HasRecords) {
            classic_status.insert(id, status);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicId, ClassicStatus>> {
        self.0.lock()
    }
}

impl TopicRegistry {
    /// Whether records for these topics may go to the brokers now. Those that are not known, or
    /// not classic, are somebody else's matter.
    pub async fn may_forward_records(self: &Arc<Self>, topics: &[(TopicId, &str)]) -> bool {
        let known = topics.iter().filter_map(|(id, name)| self.by_id_or_name(*id, name));
        let unconfirmed: Vec<_> = known
            .filter(|topic| topic.topic_type == TopicType::Classic && !topic.name.starts_with("__"))
            .filter(|topic| !self.classic_status.allows(topic.id))
            .collect();
        if unconfirmed.is_empty() {
            return true;
        }
        let requested_at = Instant::now();
        let ids: Vec<_> = unconfirmed.iter().map(|topic| topic.id).collect();
        let registration = |topic: &Arc<Topic>| Registration {
            binding: TopicBinding {
                topic: topic.id,
                name: topic.name.clone(),
                topic_type: TopicType::Classic,
            },
            rule: BindRule::FirstWins,
        };
        let registrations = unconfirmed.iter().map(registration).collect();
        let Ok(bound) = self.coordinator.register(registrations).await else {
            // Who has records needs nobody's word.
            let mut all = true;
            for topic in &unconfirmed {
                all &= self.has_records(topic).await;
            }
            return all;
        };
        let bound = self.apply_bindings(&ids, bound);
        let classic = bound.iter().filter(|binding| binding.topic_type == TopicType::Classic);
        let classic = classic
            .map(|b| {
                self.classic_status.record(b.topic, ClassicStatus::ConfirmedClassic(requested_at))
            })
            .count();
        let topics = Arc::clone(self);
        tasks::spawn("look at logs", async move {
            for topic in unconfirmed {
                topics.has_records(&topic).await;
            }
        });
        classic == ids.len()
    }

    /// Whether the brokers say that the topic has, or had, records.
    async fn has_records(&self, topic: &Topic) -> bool {
        let written = placeholder::has_records(&self.cluster, &topic.name, topic.id).await;
        if written {
            self.classic_status.record(topic.id, ClassicStatus::HasRecords);
        }
        written
    }
}
