//! The way of a produce to a diskless topic.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::book::Book;
use super::labels::{ProduceStage, ProduceStageLabels};
use super::timer::Timer;

/// Figures of produces.
#[derive(Debug)]
pub struct ProduceMetrics {
    stages: Vec<Timer>,
    /// From a request's first look until its answer is ready in its turn.
    pub seconds: Timer,
    /// Bytes of each object.
    pub object_size: Histogram,
    /// Batches of each object.
    pub object_batches: Histogram,
    /// Partitions of each object.
    pub object_partitions: Histogram,
    /// Objects written.
    pub objects: Counter,
    /// Bytes of objects written.
    pub object_bytes: Counter,
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
    pub commit_repeats: Counter,
}

impl ProduceMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        let stages = book.timers(
            "produce_stage_seconds",
            "stage",
            "Where the time of produce requests to diskless topics went",
            ProduceStage::ALL,
            |stage| ProduceStageLabels { stage },
        );
        let bytes = Histogram::new(exponential_buckets(1024.0, 4.0, 9));
        let numbers = || Histogram::new(exponential_buckets(1.0, 4.0, 8));
        Self {
            stages,
            seconds: book.timer(
                "produce_seconds",
                "Produce requests to diskless nodes, from their first look until the answer is \
                 ready in its turn",
            ),
            object_size: book.histogram("object_bytes", bytes, "Bytes of each WAL object sealed"),
            object_batches: book.histogram(
                "object_batches",
                numbers(),
                "Batches of each WAL object sealed",
            ),
            object_partitions: book.histogram(
                "object_partitions",
                numbers(),
                "Partitions of each WAL object sealed",
            ),
            objects: book.counter("objects_put", "WAL objects written"),
            object_bytes: book.counter(
                "objects_put_bytes",
                "Bytes of WAL objects written, header and footer included",
            ),
            puts: book
                .counter("puts", "PUTs of WAL objects begun, repetitions and hedges included"),
            hedges: book.counter("put_hedges", "PUTs begun beside one that was late"),
            put_errors: book.counter("put_errors", "Uploads that failed and were repeated"),
            put_slow_downs: book
                .counter("put_slow_downs", "Uploads that the store answered with 503 or 429"),
            put_seconds: book.timer(
                "put_seconds",
                "From the first PUT of an attempt until the object was durable",
            ),
            commit_repeats: book
                .counter("commit_repeats", "Commits repeated because their outcome was not known"),
        }
    }

    /// The timer of a stage.
    pub fn stage(&self, stage: ProduceStage) -> &Timer {
        &self.stages[stage as usize]
    }
}
