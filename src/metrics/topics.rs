//! Traffic of each diskless topic, for the console, the cost model and the series by topic.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::log::ids::TopicId;

/// Maximum number of topics; the traffic of further topics is counted under [`TopicId::ZERO`].
const TOPICS_MAX: usize = 10_000;
/// Shares of objects are stored in millionths.
const MILLIONTHS: f64 = 1e6;

/// Counters of one topic's traffic at this replica since its start.
#[derive(Debug, Default)]
pub struct TopicTraffic {
    produced_bytes: AtomicU64,
    produced_requests: AtomicU64,
    fetched_bytes: AtomicU64,
    objects: AtomicU64,
    put_millionths: AtomicU64,
}

/// Values of [`TopicTraffic`] at some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TopicCounts {
    /// Bytes of batches written.
    pub produced_bytes: u64,
    /// Batches written.
    pub batches: u64,
    /// Bytes of batches returned to clients.
    pub fetched_bytes: u64,
    /// Objects that contain batches of the topic.
    pub objects: u64,
    /// Sum of the topic's shares of these objects by bytes: the PUTs that are allocated to it.
    pub put_share: f64,
}

impl TopicTraffic {
    /// Records batches in an object that contains `object_bytes` of batches in total.
    pub fn record_written(&self, bytes: u64, batches: u64, object_bytes: u64) {
        self.produced_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.produced_requests.fetch_add(batches, Ordering::Relaxed);
        self.objects.fetch_add(1, Ordering::Relaxed);
        let share = bytes as f64 / object_bytes.max(1) as f64 * MILLIONTHS;
        self.put_millionths.fetch_add(share.round() as u64, Ordering::Relaxed);
    }

    /// Records batches that were returned to a client.
    pub fn record_fetched(&self, bytes: u64) {
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the values now.
    pub fn read(&self) -> TopicCounts {
        TopicCounts {
            produced_bytes: self.produced_bytes.load(Ordering::Relaxed),
            batches: self.produced_requests.load(Ordering::Relaxed),
            fetched_bytes: self.fetched_bytes.load(Ordering::Relaxed),
            objects: self.objects.load(Ordering::Relaxed),
            put_share: self.put_millionths.load(Ordering::Relaxed) as f64 / MILLIONTHS,
        }
    }
}

/// Traffic of all topics.
#[derive(Debug, Default)]
pub struct TopicTable(RwLock<HashMap<TopicId, Arc<TopicTraffic>>>);

impl TopicTable {
    /// Returns the traffic counters of a topic.
    pub fn get(&self, topic: TopicId) -> Arc<TopicTraffic> {
        let known = self.0.read().get(&topic).cloned();
        known.unwrap_or_else(|| {
            let mut topics = self.0.write();
            let is_full = topics.len() >= TOPICS_MAX && !topics.contains_key(&topic);
            Arc::clone(topics.entry(if is_full { TopicId::ZERO } else { topic }).or_default())
        })
    }

    /// Returns the values of all topics.
    pub fn read(&self) -> HashMap<TopicId, TopicCounts> {
        let topics = self.0.read();
        topics.iter().map(|(id, traffic)| (*id, traffic.read())).collect()
    }

    /// Removes a deleted topic.
    pub fn remove(&self, topic: TopicId) {
        self.0.write().remove(&topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_beyond_the_limit_are_counted_together() {
        let table = TopicTable::default();
        for n in 0..TOPICS_MAX as u128 + 10 {
            table.get(TopicId((n + 1).to_be_bytes())).record_fetched(1);
        }
        let counts = table.read();
        assert_eq!(counts.len(), TOPICS_MAX + 1);
        assert_eq!(counts[&TopicId::ZERO].fetched_bytes, 10);
    }

    #[test]
    fn topics_share_the_puts_of_an_object_by_their_bytes() {
        let table = TopicTable::default();
        let (large, small) = (table.get(TopicId([1; 16])), table.get(TopicId([2; 16])));
        large.record_written(750, 3, 1_000);
        small.record_written(250, 1, 1_000);
        small.record_written(10, 1, 10);
        assert_eq!((large.read().put_share, small.read().put_share), (0.75, 1.25));
        assert_eq!((small.read().objects, small.read().batches), (2, 2));
    }
}
