//! Keeps the configs of diskless topics up to date: known before the first produce, and re-read
//! after changes.

use std::sync::Arc;
use std::time::Duration;

use super::placeholder;
use super::registry::TopicRegistry;
use super::topic::{Topic, TopicConfig};
use crate::proxy::upstream::cluster::KafkaCluster;

/// Maximum number of queries to a broker that does not show a topic or a change yet.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Reads the configs of diskless topics from the brokers.
#[derive(Debug)]
pub struct TopicConfigs {
    registry: Arc<TopicRegistry>,
    cluster: Arc<KafkaCluster>,
}

impl TopicConfigs {
    pub(super) fn new(registry: Arc<TopicRegistry>, cluster: Arc<KafkaCluster>) -> Self {
        Self { registry, cluster }
    }

    /// Reads the configs of all diskless topics again.
    pub async fn refresh(&self) {
        let topics = self.registry.diskless();
        match placeholder::configs(&self.cluster, topics.iter().map(|t| t.name.as_str())).await {
            Ok(configs) => {
                for topic in topics {
                    if let Some(config) = configs.get(&topic.name) {
                        self.registry.set_config(topic.id, *config);
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot read configs of diskless topics"),
        }
    }

    /// Returns a diskless topic with its configs. Reads them first if they are unknown; if no broker
    /// gives them, they are the default, which rejects the least.
    pub async fn with_config(&self, topic: Arc<Topic>) -> Arc<Topic> {
        if self.registry.has_config(topic.id) {
            return topic;
        }
        let config = self.await_config(&topic.name, |_| true).await.unwrap_or_default();
        self.registry.set_config(topic.id, config);
        self.registry.by_id(topic.id).unwrap_or(topic)
    }

    /// Waits for up to a second until the brokers show configs that a client has just set. If they
    /// do not, the next [`TopicConfigs::refresh`] reads them.
    pub async fn await_change(&self, name: &str, set: &[(String, String)]) {
        let topic = self.registry.by_name(name).filter(|topic| topic.is_diskless());
        let Some(topic) = topic else { return };
        let is_visible = |config: &TopicConfig| {
            let mut requested = *config;
            set.iter().for_each(|(key, value)| requested.set(key, value));
            requested == *config
        };
        if let Some(config) = self.await_config(name, is_visible).await {
            self.registry.set_config(topic.id, config);
        }
    }

    /// Returns the configs of a topic as soon as they fulfil a condition.
    async fn await_config(
        &self,
        name: &str,
        condition: impl Fn(&TopicConfig) -> bool,
    ) -> Option<TopicConfig> {
        for _ in 0..TRIES {
            match placeholder::configs(&self.cluster, std::iter::once(name)).await {
                Ok(configs) => match configs.get(name) {
                    Some(config) if condition(config) => return Some(*config),
                    _ => tokio::time::sleep(PAUSE).await,
                },
                Err(error) => {
                    tracing::warn!(topic = name, %error, "cannot read configs");
                    return None;
                }
            }
        }
        None
    }
}
