//! Calls of the object store, each as the store itself counts and charges it.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::labels::{StoreLabels, StoreOperation, StoreOperationLabels, StoreOutcome};
use super::registry::MetricRegistry;
use super::timer::Timer;

/// Figures of the object store.
#[derive(Debug)]
pub struct StoreMetrics {
    requests: Family<StoreLabels, Counter>,
    bytes: Family<StoreOperationLabels, Counter>,
    duration: Vec<Timer>,
}

impl StoreMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let duration = registry.timer_vec(
            "store_request_duration_seconds",
            "operation",
            "How long calls of the object store took; those that nobody waited for are left out",
            StoreOperation::ALL,
            |operation| StoreOperationLabels { operation },
        );
        let made = Self {
            requests: registry.counter_family(
                "store_requests",
                "operation, outcome",
                "Calls of the object store, repetitions and hedges included: what it charges for",
            ),
            bytes: registry.counter_family(
                "store_bytes",
                "operation",
                "Bytes of objects sent (put) to and received (get) from the object store",
            ),
            duration,
        };
        // There from the start, so that a rate of the first failure is one.
        for operation in StoreOperation::ALL {
            drop(made.bytes.get_or_create(&StoreOperationLabels { operation: *operation }));
            for outcome in StoreOutcome::ALL {
                let labels = StoreLabels { operation: *operation, outcome: *outcome };
                drop(made.requests.get_or_create(&labels));
            }
        }
        made
    }

    /// Takes note of a call that ended; `elapsed` is left out where nobody waited for it.
    pub fn record(
        &self,
        operation: StoreOperation,
        outcome: StoreOutcome,
        elapsed: Option<Duration>,
    ) {
        self.requests.get_or_create(&StoreLabels { operation, outcome }).inc();
        if let Some(elapsed) = elapsed {
            self.duration(operation).observe(elapsed);
        }
    }

    /// Counts bytes of bodies.
    pub fn record_bytes(&self, operation: StoreOperation, bytes: u64) {
        self.bytes.get_or_create(&StoreOperationLabels { operation }).inc_by(bytes);
    }

    /// The timer of a verb.
    pub fn duration(&self, operation: StoreOperation) -> &Timer {
        &self.duration[operation as usize]
    }

    /// Calls that ended so until now.
    pub fn count(&self, operation: StoreOperation, outcome: StoreOutcome) -> u64 {
        self.requests.get(&StoreLabels { operation, outcome }).map_or(0, |counter| counter.get())
    }

    /// Calls of a verb until now.
    pub fn total(&self, operation: StoreOperation) -> u64 {
        StoreOutcome::ALL.iter().map(|outcome| self.count(operation, *outcome)).sum()
    }
}
