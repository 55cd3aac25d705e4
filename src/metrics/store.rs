//! Calls of the object store, each as the store itself counts and charges it.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::book::Book;
use super::labels::{StoreLabels, StoreOutcome, StoreVerb, StoreVerbLabels};
use super::timer::Timer;

/// Figures of the object store.
#[derive(Debug)]
pub struct StoreMetrics {
    requests: Family<StoreLabels, Counter>,
    bytes: Family<StoreVerbLabels, Counter>,
    seconds: Vec<Timer>,
}

impl StoreMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        let seconds = book.timers(
            "store_request_seconds",
            "verb",
            "How long calls of the object store took; those that nobody waited for are left out",
            StoreVerb::ALL,
            |verb| StoreVerbLabels { verb },
        );
        let made = Self {
            requests: book.counters(
                "store_requests",
                "verb, outcome",
                "Calls of the object store, repetitions and hedges included: what it charges for",
            ),
            bytes: book.counters(
                "store_bytes",
                "verb",
                "Bytes of objects sent (put) to and received (get) from the object store",
            ),
            seconds,
        };
        // There from the start, so that a rate of the first failure is one.
        for verb in StoreVerb::ALL {
            drop(made.bytes.get_or_create(&StoreVerbLabels { verb: *verb }));
            for outcome in StoreOutcome::ALL {
                let labels = StoreLabels { verb: *verb, outcome: *outcome };
                drop(made.requests.get_or_create(&labels));
            }
        }
        made
    }

    /// Takes note of a call that ended; `took` is left out where nobody waited for it.
    pub fn ended(&self, verb: StoreVerb, outcome: StoreOutcome, took: Option<Duration>) {
        self.requests.get_or_create(&StoreLabels { verb, outcome }).inc();
        if let Some(took) = took {
            self.seconds(verb).observe(took);
        }
    }

    /// Counts bytes of bodies.
    pub fn carried(&self, verb: StoreVerb, bytes: u64) {
        self.bytes.get_or_create(&StoreVerbLabels { verb }).inc_by(bytes);
    }

    /// The timer of a verb.
    pub fn seconds(&self, verb: StoreVerb) -> &Timer {
        &self.seconds[verb as usize]
    }

    /// Calls that ended so until now.
    pub fn count(&self, verb: StoreVerb, outcome: StoreOutcome) -> u64 {
        self.requests.get(&StoreLabels { verb, outcome }).map_or(0, |counter| counter.get())
    }

    /// Calls of a verb until now.
    pub fn total(&self, verb: StoreVerb) -> u64 {
        StoreOutcome::ALL.iter().map(|outcome| self.count(verb, *outcome)).sum()
    }
}
