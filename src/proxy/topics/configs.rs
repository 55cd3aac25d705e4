//! The configs of diskless topics: known before the first produce, and followed.

use std::sync::Arc;
use std::time::Duration;

use super::placeholder::{self, TopicConfig};
use super::{Topic, TopicCache, TopicRegistry};
use crate::log::ids::TopicId;

/// How often, and how long apart, a broker is asked that lags behind.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

impl TopicRegistry {
    /// Reads the configs of all diskless topics anew.
    pub async fn refresh_configs(&self) {
        let topics = self.diskless();
        match placeholder::configs(&self.cluster, topics.iter().map(|t| t.name.as_str())).await {
            Ok(configs) => {
                let mut cache = self.write();
                for (topic, config) in
                    topics.iter().filter_map(|t| Some((t, configs.get(&t.name)?)))
                {
                    cache.set_config(topic.id, *config);
                }
            }
            Err(error) => tracing::warn!(%error, "configs of diskless topics unknown"),
        }
    }

    /// A diskless topic with its configs known: those of one that nobody has written to yet are
    /// asked for. While no broker tells them, they are what refuses least.
    pub async fn with_config(&self, topic: Arc<Topic>) -> Arc<Topic> {
        if self.read().configs.contains_key(&topic.id) {
            return topic;
        }
        let config = self.await_config(&topic.name, |_| true).await.unwrap_or_default();
        self.write().set_config(topic.id, config);
        self.by_id(topic.id).unwrap_or(topic)
    }

    /// Follows configs that a client has just set, once the brokers show them. Does not wait long
    /// for that: the next [`TopicRegistry::refresh_configs`] sees them too.
    pub async fn await_config_change(&self, name: &str, set: &[(String, String)]) {
        let Some(topic) = self.by_name(name).filter(|topic| topic.is_diskless()) else { return };
        let is_visible = |config: &TopicConfig| {
            let mut requested = *config;
            set.iter().for_each(|(key, value)| requested.set(key, value));
            requested == *config
        };
        if let Some(config) = self.await_config(name, is_visible).await {
            self.write().set_config(topic.id, config);
        }
    }

    /// The configs of a topic as soon as they are `requested`: a broker may lag behind.
    async fn await_config(
        &self,
        name: &str,
        requested: impl Fn(&TopicConfig) -> bool,
    ) -> Option<TopicConfig> {
        for _ in 0..TRIES {
            match placeholder::configs(&self.cluster, std::iter::once(name)).await {
                Ok(configs) => match configs.get(name) {
                    Some(config) if requested(config) => return Some(*config),
                    _ => tokio::time::sleep(PAUSE).await,
                },
                Err(error) => {
                    tracing::warn!(topic = name, %error, "configs unknown");
                    return None;
                }
            }
        }
        None
    }
}

impl TopicCache {
    pub(super) fn set_config(&mut self, id: TopicId, config: TopicConfig) {
        let before = self.configs.insert(id, config);
        if config.compacted && !before.is_some_and(|before| before.compacted) {
            let name = self.by_id.get(&id).map(|topic| topic.name.as_str());
            tracing::warn!(
                topic = name,
                "cleanup.policy=compact on a diskless topic: keys are asked for, nothing is compacted"
            );
        }
        if let Some(topic) = self.by_id.get(&id).filter(|topic| topic.config != config) {
            let topic = Topic { config, ..Topic::clone(topic) };
            self.by_id.insert(id, Arc::new(topic));
        }
    }
}
