//! The way of a produce to a diskless topic.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::labels::{ProduceStage, ProduceStageLabels};
use super::registry::MetricRegistry;
use super::timer::Timer;

/// Figures of produces.
#[derive(Debug)]
pub struct ProduceMetrics {
    stages: Vec<Timer>,
    /// From a request's first look until its answer is ready in its turn.
    pub duration: Timer,
    /// Bytes of each object.
    pub object_size: Histogram,
    /// Batches of each object.
    pub object_batches: Histogram,
    /// Partitions of each object.
    pub object_partitions: Histogram,
    /// Objects written.
    pub objects_written: Counter,
    /// Bytes of objects written.
    pub objects_written_bytes: Counter,
    /// PUTs of objects begun: first ones, repetitions and hedges.
    pub puts: Counter,
    /// PUTs begun beside one that was late.
    pub hedges: Counter,
    /// Uploads that failed and were repeated.
    pub put_errors: Counter,
    /// Of these, the ones that the store refused because it has too much to do.
    pub put_slow_downs: Counter,
    /// How long objects took to become durable once they were sent.
    pub put_seconds: Timer,
    /// Commits that were repeated because their outcome was not known.
    pub commit_retries: Counter,
}

impl ProduceMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let stages = registry.timer_vec(
            "produce_stage_duration_seconds",
            "stage",
            "Where the time of produce requests to diskless topics went",
            ProduceStage::ALL,
            |stage| ProduceStageLabels { stage },
        );
        let bytes = Histogram::new(exponential_buckets(1024.0, 4.0, 9));
        let numbers = || Histogram::new(exponential_buckets(1.0, 4.0, 8));
        Self {
            stages,
            duration: registry.timer(
                "produce_duration_seconds",
                "Produce requests to diskless nodes, from their first look until the answer is \
                 ready in its turn",
            ),
            object_size: registry.histogram(
                "object_size_bytes",
                bytes,
                "Bytes of each WAL object sealed",
            ),
            object_batches: registry.histogram(
                "object_batches",
                numbers(),
                "Batches of each WAL object sealed",
            ),
            object_partitions: registry.histogram(
                "object_partitions",
                numbers(),
                "Partitions of each WAL object sealed",
            ),
            objects_written: registry.counter("objects_written", "WAL objects written"),
            objects_written_bytes: registry.counter(
                "objects_written_bytes",
                "Bytes of WAL objects written, header and footer included",
            ),
            puts: registry.counter(
                "object_puts",
                "PUTs of WAL objects begun, repetitions and hedges included",
            ),
            hedges: registry.counter("object_put_hedges", "PUTs begun beside one that was late"),
            put_errors: registry
                .counter("object_put_errors", "Uploads that failed and were repeated"),
            put_slow_downs: registry.counter(
                "object_put_slow_downs",
                "Uploads that the store answered with 503 or 429",
            ),
            put_seconds: registry.timer(
                "object_put_duration_seconds",
                "From the first PUT of an attempt until the object was durable",
            ),
            commit_retries: registry
                .counter("commit_retries", "Commits repeated because their outcome was not known"),
        }
    }

    /// The timer of a stage.
    pub fn stage(&self, stage: ProduceStage) -> &Timer {
        &self.stages[stage as usize]
    }
}
