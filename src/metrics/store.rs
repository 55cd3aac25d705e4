//! Metrics of calls of the object store, counted as the store counts and charges them.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::labels::{StoreLabels, StoreOperation, StoreOperationLabels, StoreOutcome};
use super::registry::MetricRegistry;
use super::timer::Timer;

/// Metrics of the object store.
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
            "Duration of calls of the object store; cancelled calls are not included",
            StoreOperation::ALL,
            |operation| StoreOperationLabels { operation },
        );
        let made = Self {
            requests: registry.counter_family(
                "store_requests",
                "operation, outcome",
                "Calls of the object store, including retries and hedges, as the store charges them",
            ),
            bytes: registry.counter_family(
                "store_bytes",
                "operation",
                "Bytes of objects sent (put) to and received (get) from the object store",
            ),
            duration,
        };
        // All series exist from the start, so that the rate of the first failure is not lost.
        for operation in StoreOperation::ALL {
            drop(made.bytes.get_or_create(&StoreOperationLabels { operation: *operation }));
            for outcome in StoreOutcome::ALL {
                let labels = StoreLabels { operation: *operation, outcome: *outcome };
                drop(made.requests.get_or_create(&labels));
            }
        }
        made
    }

    /// Records a call that ended; `elapsed` is `None` if it was cancelled.
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

    /// Returns the timer of an operation.
    pub fn duration(&self, operation: StoreOperation) -> &Timer {
        &self.duration[operation as usize]
    }

    /// Returns the total calls with this outcome.
    pub fn count(&self, operation: StoreOperation, outcome: StoreOutcome) -> u64 {
        self.requests.get(&StoreLabels { operation, outcome }).map_or(0, |counter| counter.get())
    }

    /// Returns the total calls of an operation.
    pub fn total(&self, operation: StoreOperation) -> u64 {
        StoreOutcome::ALL.iter().map(|outcome| self.count(operation, *outcome)).sum()
    }
}
