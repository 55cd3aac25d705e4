//! Metrics of produce requests to diskless topics.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::labels::{ProduceStage, ProduceStageLabels};
use super::registry::MetricRegistry;
use super::timer::Timer;

/// Metrics of produce requests.
#[derive(Debug)]
pub struct ProduceMetrics {
    stages: Vec<Timer>,
    /// Time from the start of a request until its response is next in the connection's order.
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
    /// PUTs of objects started, including retries and hedges.
    pub puts: Counter,
    /// Hedges: second PUTs beside a late one.
    pub hedges: Counter,
    /// Uploads that failed and were retried.
    pub put_errors: Counter,
    /// Failed uploads that the store throttled (503 or 429).
    pub put_slow_downs: Counter,
    /// Objects that the store refused for their size, and that were divided.
    pub objects_too_large: Counter,
    /// Objects that the store refused for another lasting reason, and whose batches failed.
    pub objects_refused: Counter,
    /// The size above which no object is sealed because the store refused one; 0 without a limit.
    pub object_bytes_limit: Gauge,
    /// Batches that were refused because their shard fails and its requests hold their memory.
    pub batches_of_failing_shards: Counter,
    /// Time from the first PUT of an attempt until the object is durable.
    pub put_seconds: Timer,
    /// Commits that were retried because their outcome was indeterminate.
    pub commit_retries: Counter,
}

impl ProduceMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let stages = registry.timer_vec(
            "produce_stage_duration_seconds",
            "stage",
            "Duration of the stages of produce requests to diskless nodes",
            ProduceStage::ALL,
            |stage| ProduceStageLabels { stage },
        );
        let bytes = Histogram::new(exponential_buckets(1024.0, 4.0, 9));
        let numbers = || Histogram::new(exponential_buckets(1.0, 4.0, 8));
        let (object_bytes_limit, batches_of_failing_shards) = limits(registry);
        Self {
            stages,
            duration: registry.timer(
                "produce_duration_seconds",
                "Duration of produce requests to diskless nodes until the response is next in the \
                 connection's order",
            ),
            object_size: registry.histogram(
                "object_size_bytes",
                bytes,
                "Size of sealed WAL objects, in bytes",
            ),
            object_batches: registry.histogram(
                "object_batches",
                numbers(),
                "Batches in each sealed WAL object",
            ),
            object_partitions: registry.histogram(
                "object_partitions",
                numbers(),
                "Partitions in each sealed WAL object",
            ),
            objects_written: registry.counter("objects_written", "WAL objects written"),
            objects_written_bytes: registry.counter(
                "objects_written_bytes",
                "Bytes of WAL objects written, including header and footer",
            ),
            puts: registry.counter(
                "object_puts",
                "PUTs of WAL objects started, including retries and hedges",
            ),
            hedges: registry.counter("object_put_hedges", "PUTs started beside a late one"),
            put_errors: registry
                .counter("object_put_errors", "Uploads that failed and were retried"),
            put_slow_downs: registry.counter(
                "object_put_slow_downs",
                "Uploads that the store throttled with status 503 or 429",
            ),
            objects_too_large: registry.counter(
                "objects_too_large",
                "WAL objects that the store refused for their size",
            ),
            objects_refused: registry.counter(
                "objects_refused",
                "WAL objects that the store refused for another lasting reason: their batches failed",
            ),
            object_bytes_limit,
            batches_of_failing_shards,
            put_seconds: registry.timer(
                "object_put_duration_seconds",
                "Time from the first PUT of an attempt until the object is durable",
            ),
            commit_retries: registry.counter(
                "commit_retries",
                "Commits retried because their outcome was indeterminate",
            ),
        }
    }

    /// Returns the timer of a stage.
    pub fn stage(&self, stage: ProduceStage) -> &Timer {
        &self.stages[stage as usize]
    }
}

/// Registers the limits that failures impose.
fn limits(registry: &mut MetricRegistry) -> (Gauge, Counter) {
    let object_bytes = registry.gauge(
        "object_bytes_limit",
        "Size above which no WAL object is sealed because the store refused one, in bytes; 0 without \
         a limit. It doubles every ten minutes",
    );
    let batches = registry.counter(
        "batches_refused_failing_shard",
        "Batches refused because their shard of the coordinator fails and the requests of failing \
         shards hold half of `memory.requests`",
    );
    (object_bytes, batches)
}
