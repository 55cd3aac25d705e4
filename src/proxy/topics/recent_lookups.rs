//! Topics that the brokers were asked about a moment ago.
//!
//! A fleet of clients that retries a deleted topic, or one that names random topics, must not keep
//! the brokers busy with lookups.

use std::collections::HashMap;
use std::time::Duration;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::log::ids::TopicId;

/// Time for which a broker's response is used. A topic, or a partition, that is created meanwhile is
/// known when a client requests its metadata.
const TTL: Duration = Duration::from_secs(1);
/// Maximum number of topics that are remembered.
const TOPICS_MAX: usize = 10_000;

/// A topic to look up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lookup<'a> {
    /// By name.
    Name(&'a str),
    /// By id.
    Id(TopicId),
}

impl Lookup<'_> {
    /// Returns the topic as a Metadata request names it.
    pub(super) fn requested(&self) -> MetadataRequestTopic {
        let topic = MetadataRequestTopic::default();
        match self {
            Self::Name(name) => {
                topic.with_name(Some(StrBytes::from_string((*name).to_owned()).into()))
            }
            Self::Id(id) => topic.with_name(None).with_topic_id(uuid::Uuid::from_bytes(id.0)),
        }
    }
}

/// The topics that were looked up recently, by name or by id.
#[derive(Debug, Default)]
pub(super) struct RecentLookups {
    names: Mutex<HashMap<String, Instant>>,
    ids: Mutex<HashMap<TopicId, Instant>>,
}

impl RecentLookups {
    pub(super) fn has(&self, topic: &Lookup<'_>) -> bool {
        match topic {
            Lookup::Name(name) => self.has_name(name),
            Lookup::Id(id) => self.has_id(*id),
        }
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.lock().get(name).is_some_and(is_recent)
    }

    pub(super) fn has_id(&self, id: TopicId) -> bool {
        self.ids.lock().get(&id).is_some_and(is_recent)
    }

    /// Records topics about which the brokers have just responded.
    pub(super) fn record_names<'a>(&self, names: impl Iterator<Item = &'a TopicName>) {
        record(&mut self.names.lock(), names.map(|name| name.as_str().to_owned()).collect());
    }

    /// The same by id.
    pub(super) fn record_ids(&self, ids: impl Iterator<Item = TopicId>) {
        record(&mut self.ids.lock(), ids.collect());
    }
}

fn is_recent(at: &Instant) -> bool {
    at.elapsed() < TTL
}

fn record<K: Eq + std::hash::Hash>(recent: &mut HashMap<K, Instant>, topics: Vec<K>) {
    let now = Instant::now();
    if recent.len() + topics.len() > TOPICS_MAX {
        recent.retain(|_, at| is_recent(at));
    }
    let free = TOPICS_MAX.saturating_sub(recent.len());
    recent.extend(topics.into_iter().take(free).map(|topic| (topic, now)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lookups_are_remembered_for_a_moment_and_bounded() {
        let recent = RecentLookups::default();
        let record = |names: &[String]| {
            let names: Vec<_> =
                names.iter().map(|name| TopicName(StrBytes::from_string(name.clone()))).collect();
            recent.record_names(names.iter());
        };
        record(&["t".to_owned()]);
        recent.record_ids([TopicId([1; 16])].into_iter());
        assert!(recent.has_name("t") && recent.has_id(TopicId([1; 16])));
        assert!(!recent.has_name("u") && !recent.has_id(TopicId([2; 16])));
        let names: Vec<_> = (0..3 * TOPICS_MAX).map(|index| index.to_string()).collect();
        record(&names);
        assert_eq!(recent.names.lock().len(), TOPICS_MAX);
        tokio::time::advance(TTL).await;
        assert!(!recent.has_name("t") && !recent.has_id(TopicId([1; 16])));
        record(&["v".to_owned()]);
        assert!(recent.has_name("v"));
        assert_eq!(recent.names.lock().len(), 1);
    }
}
