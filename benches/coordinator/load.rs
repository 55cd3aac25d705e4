//! Commits, and their latencies.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use odradek::coordinator::redis::RedisCoordinator;
use odradek::coordinator::{Commit, CoordinatorExt as _};
use odradek::log::batch::{BatchMetadata, Part};
use odradek::log::ids::{ObjectId, TopicId, TopicPartition};
use tokio::time::Instant;

/// A process that commits one object after another.
pub(crate) struct Writer {
    coordinator: Arc<RedisCoordinator>,
    process_id: u32,
    partitions: u32,
    sequence: u32,
    /// The partition of the next part.
    next: u32,
}

impl Writer {
    /// Returns a writer whose parts go to `partitions` partitions in turn.
    pub(crate) fn new(of: &Arc<RedisCoordinator>, process_id: u32, partitions: u32) -> Self {
        Self { coordinator: Arc::clone(of), process_id, partitions, sequence: 0, next: 0 }
    }

    /// Commits an object; returns how long that took.
    pub(crate) async fn commit(&mut self, parts: u32) -> Duration {
        let batch =
            BatchMetadata { bytes: 1_000, offset_count: 1, max_timestamp: 1, producer: None };
        let part = |index: u32| {
            let partition = ((self.next + index) % self.partitions).cast_signed();
            Part {
                index,
                partition: TopicPartition { topic: TopicId([7; 16]), partition },
                start: 8 + u64::from(index) * 1_000,
                batches: vec![batch],
            }
        };
        let sequence = self.sequence;
        let object = ObjectId { incarnation: 1, process_id: self.process_id, sequence };
        let parts: Vec<_> = (0..parts).map(part).collect();
        self.next = (self.next + parts.len() as u32) % self.partitions;
        self.sequence += 1;
        let commit = Commit { object, sealed_ms: 1_000, lowest_undecided: sequence, parts };
        let start = Instant::now();
        // An unknown outcome is repeated, as the pipeline does.
        while self.coordinator.commit_all(&commit).await.is_err() {}
        start.elapsed()
    }
}

/// The latencies of calls.
#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend(&others.0);
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
            sorted.get(index).map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
        };
        write!(f, "p50 {:.2} ms, p99 {:.2} ms", at(50), at(99))
    }
}
