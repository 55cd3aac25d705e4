//! How a topic gets its kind: by the YAML at first sight, or by being asked for.

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;

use super::{TopicRegistry, id_of, placeholder};
use crate::coordinator::{BindRule, CoordinatorError, Registration, TopicBinding, TopicType};
use crate::proxy::upstream::error::UpstreamError;

/// Why a topic could not be made diskless.
#[derive(Debug, thiserror::Error)]
pub enum MakeDisklessError {
    /// Its broker log is not empty.
    #[error(
        "topic {0} cannot become diskless: its broker log holds records; create a new topic with \
         diskless.enable=true and copy them"
    )]
    HasRecords(String),
    /// It is compacted.
    #[error(
        "topic {0} cannot become diskless: cleanup.policy=compact is not supported; use delete"
    )]
    Compacted(String),
    /// It is one of Kafka's own.
    #[error("topic {0} cannot become diskless: it is internal to Kafka")]
    Internal(String),
    /// No such topic.
    #[error("topic {0} does not exist")]
    Unknown(String),
    /// The brokers could not be asked.
    #[error("topic {0} cannot become diskless now, try again: {1}")]
    Upstream(String, UpstreamError),
    /// The coordinator could not be asked.
    #[error("topic {0} cannot become diskless now, try again: {1}")]
    Coordinator(String, CoordinatorError),
}

/// Whether [`TopicRegistry::make_diskless`] only looks whether it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationMode {
    /// As with `validateOnly`.
    ValidateOnly,
    /// And then do it.
    Apply,
}

impl TopicRegistry {
    /// Decides the kind of topics never seen, and binds it.
    pub(super) async fn classify(&self, observed: &[&MetadataResponseTopic]) {
        let _one_at_a_time = self.classify_lock.lock().await;
        let mut registrations = Vec::new();
        for topic in observed.iter().filter(|topic| !self.is_bound(topic)) {
            let name = topic.name.as_ref().map_or("", |name| name.as_str());
            // One that switches is bound already: this asks only whether it is done.
            let migrating = self.read().migrating.contains_key(&id_of(topic));
            let topic_type = match migrating {
                true => Some(TopicType::Classic),
                false => self.desired_type(name, topic.is_internal).await,
            };
            let Some(topic_type) = topic_type else { continue };
            let binding =
                TopicBinding { topic: id_of(topic), name: name.to_owned(), topic_type: topic_type };
            registrations.push(Registration { binding, rule: BindRule::FirstWins });
        }
        if registrations.is_empty() {
            return;
        }
        let ids: Vec<_> = registrations.iter().map(|r| r.binding.topic).collect();
        match self.coordinator.register(registrations).await {
            Ok(bound) => {
                self.apply_bindings(&ids, bound);
            }
            Err(error) => tracing::warn!(%error, "kinds of new topics unknown for now"),
        }
    }

    /// What a new topic should be; `None` when that cannot be found out now.
    async fn desired_type(&self, name: &str, internal: bool) -> Option<TopicType> {
        let requested_type = self.pending_creations().get(name).map(|(_, topic_type)| *topic_type);
        let requested = match requested_type {
            Some(topic_type) => topic_type == TopicType::Diskless,
            None => self.is_diskless_by_rules(name),
        };
        if internal || !requested {
            return Some(TopicType::Classic);
        }
        match placeholder::check(&self.cluster, name).await {
            Ok(()) => Some(TopicType::Diskless),
            Err(
                error @ (MakeDisklessError::HasRecords(_)
                | MakeDisklessError::Compacted(_)
                | MakeDisklessError::Internal(_)),
            ) => {
                tracing::warn!(topic = name, %error, "the topic stays classic");
                Some(TopicType::Classic)
            }
            Err(error) => {
                tracing::warn!(topic = name, %error, "kind unknown for now");
                None
            }
        }
    }
}
