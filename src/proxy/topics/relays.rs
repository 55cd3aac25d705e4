//! Which classic topics records may be relayed to.
//!
//! A topic whose logs ever held a record is classic for ever. One that is empty may become
//! diskless, and this replica may not have heard of it: so it makes sure, and not long ago.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::{Topic, Topics, placeholder};
use crate::coordinator::{BindRule, Registration, TopicBinding, TopicType};
use crate::log::ids::TopicId;
use crate::tasks;

/// How long the coordinator's word that an empty topic is classic is acted upon, from the asking.
pub(super) const VERIFIED: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relay {
    /// It has, or had, records: it is classic for good.
    Written,
    /// It was classic then.
    Verified(Instant),
}

/// What is known of classic topics to which records are relayed.
#[derive(Debug, Default)]
pub(super) struct Relays(Mutex<HashMap<TopicId, Relay>>);

impl Relays {
    pub(super) fn forget(&self, id: TopicId) {
        self.lock().remove(&id);
    }

    fn allows(&self, id: TopicId) -> bool {
        match self.lock().get(&id) {
            Some(Relay::Written) => true,
            Some(Relay::Verified(at)) => at.elapsed() < VERIFIED,
            None => false,
        }
    }

    fn note(&self, id: TopicId, relay: Relay) {
        let mut relays = self.lock();
        if relays.get(&id) != Some(&Relay::Written) {
            relays.insert(id, relay);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicId, Relay>> {
        self.0.lock()
    }
}

impl Topics {
    /// Whether records for these topics may go to the brokers now. Those that are not known, or
    /// not classic, are somebody else's matter.
    pub async fn may_relay(self: &Arc<Self>, topics: &[(TopicId, &str)]) -> bool {
        let known = topics.iter().filter_map(|(id, name)| self.by_id_or_name(*id, name));
        let doubtful: Vec<_> = known
            .filter(|topic| topic.kind == TopicType::Classic && !topic.name.starts_with("__"))
            .filter(|topic| !self.relays.allows(topic.id))
            .collect();
        if doubtful.is_empty() {
            return true;
        }
        let asked_at = Instant::now();
        let ids: Vec<_> = doubtful.iter().map(|topic| topic.id).collect();
        let registration = |topic: &Arc<Topic>| Registration {
            binding: TopicBinding {
                topic: topic.id,
                name: topic.name.clone(),
                topic_type: TopicType::Classic,
            },
            rule: BindRule::FirstWins,
        };
        let registrations = doubtful.iter().map(registration).collect();
        let Ok(bound) = self.coordinator.register(registrations).await else {
            // Who has records needs nobody's word.
            let mut all = true;
            for topic in &doubtful {
                all &= self.is_written(topic).await;
            }
            return all;
        };
        let bound = self.take_over(&ids, bound);
        let classic = bound.iter().filter(|binding| binding.topic_type == TopicType::Classic);
        let classic = classic.map(|b| self.relays.note(b.topic, Relay::Verified(asked_at))).count();
        let topics = Arc::clone(self);
        tasks::spawn("look at logs", async move {
            for topic in doubtful {
                topics.is_written(&topic).await;
            }
        });
        classic == ids.len()
    }

    /// Whether the brokers say that the topic has, or had, records.
    async fn is_written(&self, topic: &Topic) -> bool {
        let written = placeholder::is_written(&self.cluster, &topic.name, topic.id).await;
        if written {
            self.relays.note(topic.id, Relay::Written);
        }
        written
    }
}
