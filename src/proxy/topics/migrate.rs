//! Migrates empty topics from classic to diskless in two steps (ADR 0008).
//!
//! First the topic is bound as *migrating*: a replica that knows this rejects records. A replica
//! that does not know it yet forwards records for at most [`CONFIRMATION_TTL`] after it last asked
//! the coordinator. So after [`MIGRATION_DELAY`] every forwarded record is in the brokers' logs.
//! Then the logs are checked: if they are empty, the topic becomes diskless, else classic again.
//! The replica that began a migration may fail meanwhile: any replica completes an abandoned one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::classic_status::CONFIRMATION_TTL;
use super::classify::TopicClassifier;
use super::configs::TopicConfigs;
use super::error::MakeDisklessError;
use super::placeholder;
use crate::coordinator::{
    BindRule, CommitOrder, Coordinator, CoordinatorError, Registration, TopicBinding, TopicType,
};
use crate::log::ids::TopicId;
use crate::proxy::upstream::cluster::KafkaCluster;

/// The time between the first step and the check of the logs. When it has passed since a replica
/// last confirmed that the topic is classic, the records that it forwarded are in the logs, or the
/// brokers no longer accept them.
const MIGRATION_DELAY: Duration = Duration::from_secs(10);
const _: () = assert!(MIGRATION_DELAY.as_secs() >= 3 * CONFIRMATION_TTL.as_secs());
/// The same where no other replica forwards records.
const SINGLE_REPLICA_DELAY: Duration = Duration::from_millis(500);
/// After this time the replica that began a migration is assumed to have failed.
const ABANDONED_AFTER: Duration = Duration::from_secs(20);

/// Action of [`TopicMigrator::make_diskless`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationMode {
    /// Only checks that it would succeed (`validateOnly`).
    ValidateOnly,
    /// Migrates the topic.
    Apply,
}

/// Makes classic topics diskless.
#[derive(Debug)]
pub struct TopicMigrator {
    classifier: Arc<TopicClassifier>,
    configs: Arc<TopicConfigs>,
    cluster: Arc<KafkaCluster>,
    coordinator: Arc<dyn Coordinator>,
}

impl TopicMigrator {
    pub(super) fn new(
        classifier: Arc<TopicClassifier>,
        configs: Arc<TopicConfigs>,
        cluster: Arc<KafkaCluster>,
        coordinator: Arc<dyn Coordinator>,
    ) -> Self {
        Self { classifier, configs, cluster, coordinator }
    }

    /// Makes an existing, empty topic diskless (`kafka-configs --alter`). Takes ten seconds if
    /// there may be other replicas.
    ///
    /// # Errors
    /// The topic is not eligible, or brokers or coordinator could not be reached.
    ///
    /// # Cancel safety
    /// If dropped after the first step, some replica completes the migration.
    pub async fn make_diskless(
        &self,
        name: &str,
        mode: MigrationMode,
    ) -> Result<(), MakeDisklessError> {
        if name.starts_with("__") {
            return Err(MakeDisklessError::Internal(name.to_owned()));
        }
        let upstream = |error| MakeDisklessError::Upstream(name.to_owned(), error);
        self.classifier.look_up_now(&[name], &[]).await.map_err(upstream)?;
        let registry = self.classifier.registry();
        let (id, topic_type) = match (registry.by_name(name), registry.migrating_by_name(name)) {
            (Some(topic), _) => (topic.id, topic.topic_type),
            (None, Some(id)) => (id, TopicType::Migrating),
            (None, None) => return Err(MakeDisklessError::Unknown(name.to_owned())),
        };
        if topic_type == TopicType::Diskless {
            return Ok(());
        }
        placeholder::check_eligible(&self.cluster, name, &Semaphore::new(1)).await?;
        if mode == MigrationMode::ValidateOnly {
            return Ok(());
        }
        let bound = self.bind_type(id, name, TopicType::Migrating).await?;
        if bound == Some(TopicType::Migrating) {
            self.complete(id, name, Instant::now() + self.migration_delay()).await?;
        }
        self.configs.refresh().await;
        Ok(())
    }

    /// Binds the id of a topic that a request has just created.
    ///
    /// # Errors
    /// The coordinator could not be reached, or the topic was bound as classic by another replica
    /// and cannot be migrated.
    pub async fn bind_created(
        &self,
        id: TopicId,
        name: &str,
        topic_type: TopicType,
    ) -> Result<(), MakeDisklessError> {
        let binding = TopicBinding { topic: id, name: name.to_owned(), topic_type };
        let registration = Registration { binding, rule: BindRule::FirstWins };
        // The response may differ from the request: another replica may have observed the topic
        // first, or deleted it.
        let bound = self.coordinator.register(vec![registration]).await;
        let bound =
            bound.map_err(|error| MakeDisklessError::Coordinator(name.to_owned(), error))?;
        let mut is_classic = false;
        for bound in self.classifier.registry().apply_bindings(&[id], bound) {
            tracing::info!(topic = name, %id, topic_type = ?bound.topic_type, "topic created");
            is_classic = topic_type == TopicType::Diskless && bound.topic_type != topic_type;
        }
        // The topic may have records already, forwarded by the replica that observed it first.
        if is_classic { self.make_diskless(name, MigrationMode::Apply).await } else { Ok(()) }
    }

    /// Completes migrations that another replica began and abandoned.
    pub async fn resume_abandoned(&self) {
        for (id, name) in self.classifier.registry().migrating_for(ABANDONED_AFTER) {
            if let Err(error) = self.complete(id, &name, Instant::now()).await {
                tracing::warn!(topic = name, %error, "cannot complete the migration to diskless");
            }
        }
    }

    fn migration_delay(&self) -> Duration {
        match self.coordinator.commit_order() {
            CommitOrder::ByObject => SINGLE_REPLICA_DELAY,
            CommitOrder::Independent => MIGRATION_DELAY,
        }
    }

    /// Checks the logs at a time when all forwarded records are in them, and binds the topic
    /// accordingly.
    async fn complete(
        &self,
        id: TopicId,
        name: &str,
        at: Instant,
    ) -> Result<(), MakeDisklessError> {
        tokio::time::sleep_until(at).await;
        let eligibility =
            placeholder::check_eligible(&self.cluster, name, &Semaphore::new(1)).await;
        let topic_type = match &eligibility {
            Ok(()) => TopicType::Diskless,
            Err(MakeDisklessError::HasRecords(_) | MakeDisklessError::Compacted(_)) => {
                TopicType::Classic
            }
            // A later attempt completes the migration.
            Err(_) => return eligibility,
        };
        if self.bind_type(id, name, topic_type).await? == Some(TopicType::Diskless) {
            tracing::info!(topic = name, %id, "topic is diskless from now on");
            return Ok(());
        }
        eligibility
    }

    /// Binds a topic to a type. Returns the type that holds afterwards; `None` if the topic was
    /// deleted.
    async fn bind_type(
        &self,
        id: TopicId,
        name: &str,
        topic_type: TopicType,
    ) -> Result<Option<TopicType>, MakeDisklessError> {
        let binding = TopicBinding { topic: id, name: name.to_owned(), topic_type };
        let registration = Registration { binding, rule: BindRule::Migrate };
        let bound = self.coordinator.register(vec![registration]).await;
        let registry = self.classifier.registry();
        let bound = bound.map_err(|error: CoordinatorError| {
            // The topic may have been bound all the same, so its type is unknown until the next
            // lookup.
            registry.invalidate(id);
            MakeDisklessError::Coordinator(name.to_owned(), error)
        })?;
        Ok(registry.apply_bindings(&[id], bound).first().map(|binding| binding.topic_type))
    }
}
