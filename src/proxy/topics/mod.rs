//! The type of every topic, and what else the proxy has to know of topics.
//!
//! Invariant: a topic is served as diskless only if its id is bound as diskless in the coordinator.
//! A topic whose type is unknown is never treated as classic: the response is a retriable error.

mod attempts;
mod audit;
mod classic_status;
mod classify;
mod configs;
mod error;
mod migrate;
mod placeholder;
mod recent_lookups;
mod record_guard;
mod registry;
mod topic;

use std::sync::Arc;

pub use audit::PlaceholderAudit;
pub use classify::{PendingCreation, TopicClassifier};
pub use configs::TopicConfigs;
pub use error::MakeDisklessError;
pub use migrate::{MigrationMode, TopicMigrator};
pub use record_guard::ClassicRecordGuard;
pub use registry::TopicRegistry;
pub use topic::{Topic, TopicConfig, id_of, includes_compact};

use crate::coordinator::{Coordinator, CoordinatorError};
use crate::engine::produce::FlushProfile;
use crate::log::ids::TopicId;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::topic_rules::TopicRules;

/// The topics of a cluster.
#[derive(Debug)]
pub struct Topics {
    /// The cached topics.
    pub registry: Arc<TopicRegistry>,
    /// Finds topics and decides their types.
    pub classifier: Arc<TopicClassifier>,
    /// Makes classic topics diskless.
    pub migrator: TopicMigrator,
    /// The configs of diskless topics.
    pub configs: Arc<TopicConfigs>,
    /// Keeps records out of classic topics that may be about to become diskless.
    pub record_guard: Arc<ClassicRecordGuard>,
    /// Watches the placeholders.
    pub audit: PlaceholderAudit,
    coordinator: Arc<dyn Coordinator>,
}

impl Topics {
    /// Creates an empty registry. [`TopicClassifier::load`] and the first
    /// [`TopicClassifier::observe`] fill it.
    pub fn new(
        cluster: Arc<KafkaCluster>,
        coordinator: Arc<dyn Coordinator>,
        rules: TopicRules,
        profile: FlushProfile,
    ) -> Self {
        let registry = Arc::new(TopicRegistry::default());
        let classifier = Arc::new(TopicClassifier::new(
            Arc::clone(&registry),
            Arc::clone(&cluster),
            Arc::clone(&coordinator),
            (rules, profile),
        ));
        let configs = Arc::new(TopicConfigs::new(Arc::clone(&registry), Arc::clone(&cluster)));
        Self {
            migrator: TopicMigrator::new(
                Arc::clone(&classifier),
                Arc::clone(&configs),
                Arc::clone(&cluster),
                Arc::clone(&coordinator),
            ),
            configs,
            record_guard: Arc::new(ClassicRecordGuard::new(
                Arc::clone(&registry),
                Arc::clone(&cluster),
                Arc::clone(&coordinator),
            )),
            audit: PlaceholderAudit::new(Arc::clone(&registry), cluster),
            registry,
            classifier,
            coordinator,
        }
    }

    /// Deletes a topic from the coordinator and from the registry.
    ///
    /// # Errors
    /// The coordinator could not be reached; the topic is still bound.
    pub async fn delete(&self, id: TopicId) -> Result<(), CoordinatorError> {
        self.coordinator.delete_topic(id).await?;
        self.registry.remove(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
