//! From classic to diskless, while the topic is empty, in two steps (ADR 0008).
//!
//! First the topic is bound as *switching*: whoever hears of it refuses records. A replica that
//! has not heard yet relays none for longer than [`CONFIRMATION_TTL`] after it last asked. So after
//! [`MIGRATION_DELAY`] whatever was relayed lies in the brokers' logs, which are then looked at: empty, and
//! the topic is diskless; otherwise it is classic again. Whoever began may die meanwhile: every
//! replica finishes what it finds.

use std::time::Duration;

use tokio::time::Instant;

use super::classic_status::CONFIRMATION_TTL;
use super::classify::{MakeDisklessError, MigrationMode};
use super::{TopicRegistry, placeholder};
use crate::coordinator::{
    BindRule, CommitOrder, CoordinatorError, Registration, TopicBinding, TopicType,
};
use crate::log::ids::TopicId;

/// From the first step to the look at the logs: so long after a replica last made sure that the
/// topic is classic, what it relayed then is in the logs, or the broker will not take it any more.
const MIGRATION_DELAY: Duration = Duration::from_secs(10);
const _: () = assert!(MIGRATION_DELAY.as_secs() >= 3 * CONFIRMATION_TTL.as_secs());
/// The same where nobody else relays anything.
const SINGLE_REPLICA_DELAY: Duration = Duration::from_millis(500);
/// After that long whoever began it is taken for dead.
const ABANDONED_AFTER: Duration = Duration::from_secs(20);

impl TopicRegistry {
    /// Makes an existing, empty topic diskless (`kafka-configs --alter`). Takes ten seconds where
    /// there may be other replicas.
    ///
    /// # Cancel safety
    /// When dropped, some replica finishes what was begun.
    pub async fn make_diskless(
        &self,
        name: &str,
        mode: MigrationMode,
    ) -> Result<(), MakeDisklessError> {
        if name.starts_with("__") {
            return Err(MakeDisklessError::Internal(name.to_owned()));
        }
        let upstream = |error| MakeDisklessError::Upstream(name.to_owned(), error);
        self.look_up(&[name], &[]).await.map_err(upstream)?;
        let (id, topic_type) = match (self.by_name(name), self.migrating_by_name(name)) {
            (Some(topic), _) => (topic.id, topic.topic_type),
            (None, Some(id)) => (id, TopicType::Migrating),
            (None, None) => return Err(MakeDisklessError::Unknown(name.to_owned())),
        };
        if topic_type == TopicType::Diskless {
            return Ok(());
        }
        placeholder::check(&self.cluster, name).await?;
        if mode == MigrationMode::ValidateOnly {
            return Ok(());
        }
        let bound = self.bind_type(id, name, TopicType::Migrating).await?;
        if bound == Some(TopicType::Migrating) {
            self.finish(id, name, Instant::now() + self.migration_delay()).await?;
        }
        self.refresh_configs().await;
        Ok(())
    }

    /// Finishes switches whose beginner is gone.
    pub async fn resume_migrations(&self) {
        let abandoned: Vec<_> = {
            let cache = self.read();
            let old =
                cache.migrating.iter().filter(|(_, (_, since))| since.elapsed() >= ABANDONED_AFTER);
            old.map(|(id, (name, _))| (*id, name.clone())).collect()
        };
        for (id, name) in abandoned {
            if let Err(error) = self.finish(id, &name, Instant::now()).await {
                tracing::warn!(topic = name, %error, "a switch to diskless is not finished");
            }
        }
    }

    fn migration_delay(&self) -> Duration {
        match self.coordinator.commit_order() {
            CommitOrder::ByObject => SINGLE_REPLICA_DELAY,
            CommitOrder::Independent => MIGRATION_DELAY,
        }
    }

    fn migrating_by_name(&self, name: &str) -> Option<TopicId> {
        let cache = self.read();
        cache.migrating.iter().find(|(_, (of, _))| of == name).map(|(id, _)| *id)
    }

    /// Looks at the logs when whatever was relayed is in them, and binds the topic to what it is.
    async fn finish(&self, id: TopicId, name: &str, at: Instant) -> Result<(), MakeDisklessError> {
        tokio::time::sleep_until(at).await;
        let eligibility = placeholder::check(&self.cluster, name).await;
        let topic_type = match &eligibility {
            Ok(()) => TopicType::Diskless,
            Err(MakeDisklessError::HasRecords(_) | MakeDisklessError::Compacted(_)) => {
                TopicType::Classic
            }
            // Whoever looks later finishes it.
            Err(_) => return eligibility,
        };
        if self.bind_type(id, name, topic_type).await? == Some(TopicType::Diskless) {
            tracing::info!(topic = name, %id, "topic is diskless from now on");
            return Ok(());
        }
        eligibility
    }

    /// What the topic is bound to after the step; `None` when it was deleted.
    async fn bind_type(
        &self,
        id: TopicId,
        name: &str,
        topic_type: TopicType,
    ) -> Result<Option<TopicType>, MakeDisklessError> {
        let binding = TopicBinding { topic: id, name: name.to_owned(), topic_type: topic_type };
        let registration = Registration { binding, rule: BindRule::Migrate };
        let bound = self.coordinator.register(vec![registration]).await;
        let bound = bound.map_err(|error: CoordinatorError| {
            // It may have been bound all the same: the kind is unknown until the next look.
            self.invalidate(id);
            MakeDisklessError::Coordinator(name.to_owned(), error)
        })?;
        Ok(self.apply_bindings(&[id], bound).first().map(|binding| binding.topic_type))
    }
}
