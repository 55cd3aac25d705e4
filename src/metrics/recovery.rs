//! Metrics of the recovery of ended processes.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::registry::MetricRegistry;

/// Metrics of the recovery of ended processes.
#[derive(Debug)]
pub struct RecoveryMetrics {
    /// Objects of earlier processes that were read to commit what the coordinator lacks of them.
    pub objects: Counter,
    /// Parts of these objects that the coordinator has afterwards.
    pub parts: Counter,
    /// Recoveries of earlier processes that failed.
    pub failures: Counter,
    /// Processes without a lease whose objects are not recovered.
    pub pending_processes: Gauge<i64, AtomicI64>,
}

impl RecoveryMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        Self {
            objects: registry.counter(
                "recovery_objects",
                "Objects of ended processes that were read to commit what Redis lacks of them",
            ),
            parts: registry.counter(
                "recovery_parts",
                "Parts of objects of ended processes that Redis has after their recovery, whether \
                 it lacked them or not",
            ),
            failures: registry
                .counter("recovery_failures", "Failed attempts to recover an ended process"),
            pending_processes: registry.gauge(
                "recovery_pending_processes",
                "Processes without a lease whose objects are not recovered yet",
            ),
        }
    }
}
