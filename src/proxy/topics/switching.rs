//! From classic to diskless, while the topic is empty, in two steps (ADR 0008).
//!
//! First the topic is bound as *switching*: whoever hears of it refuses records. A replica that
//! has not heard yet relays none for longer than [`VERIFIED`] after it last asked. So after
//! [`WAIT`] whatever was relayed lies in the brokers' logs, which are then looked at: empty, and
//! the topic is diskless; otherwise it is classic again. Whoever began may die meanwhile: every
//! replica finishes what it finds.

use std::time::Duration;

use tokio::time::Instant;

use super::kinds::{Check, MakeDisklessError};
use super::relays::VERIFIED;
use super::{Topics, placeholder};
use crate::coordinator::{
    BindRule, CommitOrder, CoordinatorError, Registration, TopicBinding, TopicType,
};
use crate::log::ids::TopicId;

/// From the first step to the look at the logs: so long after a replica last made sure that the
/// topic is classic, what it relayed then is in the logs, or the broker will not take it any more.
const WAIT: Duration = Duration::from_secs(10);
const _: () = assert!(WAIT.as_secs() >= 3 * VERIFIED.as_secs());
/// The same where nobody else relays anything.
const WAIT_ALONE: Duration = Duration::from_millis(500);
/// After that long whoever began it is taken for dead.
const ORPHANED: Duration = Duration::from_secs(20);

impl Topics {
    /// Makes an existing, empty topic diskless (`kafka-configs --alter`). Takes ten seconds where
    /// there may be other replicas.
    ///
    /// # Cancel safety
    /// When dropped, some replica finishes what was begun.
    pub async fn make_diskless(&self, name: &str, check: Check) -> Result<(), MakeDisklessError> {
        if name.starts_with("__") {
            return Err(MakeDisklessError::Internal(name.to_owned()));
        }
        let upstream = |error| MakeDisklessError::Upstream(name.to_owned(), error);
        self.look_up(&[name], &[]).await.map_err(upstream)?;
        let (id, kind) = match (self.by_name(name), self.switching_by_name(name)) {
            (Some(topic), _) => (topic.id, topic.kind),
            (None, Some(id)) => (id, TopicType::Migrating),
            (None, None) => return Err(MakeDisklessError::Unknown(name.to_owned())),
        };
        if kind == TopicType::Diskless {
            return Ok(());
        }
        placeholder::check(&self.cluster, name).await?;
        if check == Check::Only {
            return Ok(());
        }
        let bound = self.step(id, name, TopicType::Migrating).await?;
        if bound == Some(TopicType::Migrating) {
            self.finish(id, name, Instant::now() + self.wait()).await?;
        }
        self.refresh_configs().await;
        Ok(())
    }

    /// Finishes switches whose beginner is gone.
    pub async fn finish_switches(&self) {
        let orphans: Vec<_> = {
            let known = self.read();
            let old = known.switching.iter().filter(|(_, (_, since))| since.elapsed() >= ORPHANED);
            old.map(|(id, (name, _))| (*id, name.clone())).collect()
        };
        for (id, name) in orphans {
            if let Err(error) = self.finish(id, &name, Instant::now()).await {
                tracing::warn!(topic = name, %error, "a switch to diskless is not finished");
            }
        }
    }

    fn wait(&self) -> Duration {
        match self.coordinator.commit_order() {
            CommitOrder::ByObject => WAIT_ALONE,
            CommitOrder::Independent => WAIT,
        }
    }

    fn switching_by_name(&self, name: &str) -> Option<TopicId> {
        let known = self.read();
        known.switching.iter().find(|(_, (of, _))| of == name).map(|(id, _)| *id)
    }

    /// Looks at the logs when whatever was relayed is in them, and binds the topic to what it is.
    async fn finish(&self, id: TopicId, name: &str, at: Instant) -> Result<(), MakeDisklessError> {
        tokio::time::sleep_until(at).await;
        let checked = placeholder::check(&self.cluster, name).await;
        let kind = match &checked {
            Ok(()) => TopicType::Diskless,
            Err(MakeDisklessError::HasRecords(_) | MakeDisklessError::Compacted(_)) => {
                TopicType::Classic
            }
            // Whoever looks later finishes it.
            Err(_) => return checked,
        };
        if self.step(id, name, kind).await? == Some(TopicType::Diskless) {
            tracing::info!(topic = name, %id, "topic is diskless from now on");
            return Ok(());
        }
        checked
    }

    /// What the topic is bound to after the step; `None` when it was deleted.
    async fn step(
        &self,
        id: TopicId,
        name: &str,
        kind: TopicType,
    ) -> Result<Option<TopicType>, MakeDisklessError> {
        let binding = TopicBinding { topic: id, name: name.to_owned(), topic_type: kind };
        let registration = Registration { binding, rule: BindRule::Migrate };
        let bound = self.coordinator.register(vec![registration]).await;
        let bound = bound.map_err(|error: CoordinatorError| {
            // It may have been bound all the same: the kind is unknown until the next look.
            self.unbind(id);
            MakeDisklessError::Coordinator(name.to_owned(), error)
        })?;
        Ok(self.take_over(&[id], bound).first().map(|binding| binding.topic_type))
    }
}
