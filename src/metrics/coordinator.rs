//! Metrics of calls of the batch coordinator, and ages of the last successful operations.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::labels::{
    CoordinatorLabels, CoordinatorOperation, CoordinatorOperationLabels, CoordinatorOutcome,
    MonitoredOperation, MonitoredOperationLabels,
};
use super::recovery::RecoveryMetrics;
use super::registry::MetricRegistry;
use super::timer::Timer;
use crate::log::ids::ObjectId;

/// Metrics of the batch coordinator.
#[derive(Debug)]
pub struct CoordinatorMetrics {
    requests: Family<CoordinatorLabels, Counter>,
    duration: Vec<Timer>,
    /// 1 while the metadata is lost.
    pub metadata_lost: Gauge<i64, AtomicI64>,
    undecided_objects: Gauge<i64, AtomicI64>,
    /// By shard: the newest object of this replica, and the lowest that may be undecided.
    sequences: Mutex<BTreeMap<u16, (u32, u32)>>,
    /// The partitions of which the last call of this replica reported lost metadata.
    pub lost_partitions: Gauge<i64, AtomicI64>,
    /// The masters whose eviction policy is not `noeviction`.
    pub evicting_servers: Gauge<i64, AtomicI64>,
    /// Changes of an eviction policy away from `noeviction` while this replica ran.
    pub eviction_changes: Counter,
    /// Verifications of a Redis after a start, restart or failover.
    pub verifications: Counter,
    /// The recovery of ended processes.
    pub recovery: RecoveryMetrics,
    /// Lease renewals; each also returns the membership.
    pub lease_renewals: Counter,
    event_lag: Timer,
    /// Objects of this replica for which one of the two signals has arrived, and when.
    pending_signals: Mutex<VecDeque<(ObjectId, CommitSignal, Instant)>>,
}

/// A signal that an object of this replica is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommitSignal {
    /// The response of the commit.
    Response,
    /// The event that wakes readers.
    Event,
}

/// Maximum number of objects that wait for the second signal.
const PENDING_SIGNALS_MAX: usize = 256;

impl CoordinatorMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let duration = registry.timer_vec(
            "coordinator_request_duration_seconds",
            "operation",
            "Duration of calls of the batch coordinator; cancelled calls are not included",
            CoordinatorOperation::ALL,
            |operation| CoordinatorOperationLabels { operation },
        );
        let made = Self {
            requests: registry.counter_family(
                "coordinator_requests",
                "operation, outcome",
                "Calls of the batch coordinator, including retries",
            ),
            duration,
            metadata_lost: registry.gauge(
                "coordinator_metadata_lost",
                "1 while the metadata in Redis is lost",
            ),
            undecided_objects: registry.gauge(
                "coordinator_undecided_objects",
                "Objects of this replica after the oldest undecided one, in the shard with the most; \
                 Redis stores the outcomes of their parts",
            ),
            sequences: Mutex::default(),
            lost_partitions: registry.gauge(
                "coordinator_lost_partitions",
                "Partitions of which the last call of this replica reported lost metadata",
            ),
            evicting_servers: registry.gauge(
                "coordinator_evicting_servers",
                "Redis masters whose maxmemory-policy is not noeviction",
            ),
            eviction_changes: registry.counter(
                "coordinator_eviction_changes",
                "Times that a Redis master changed to a maxmemory-policy other than noeviction",
            ),
            verifications: registry.counter(
                "coordinator_verifications",
                "Verifications after a start, restart or failover of Redis that found the metadata complete",
            ),
            recovery: RecoveryMetrics::new(registry),
            lease_renewals: registry.counter(
                "lease_renewals",
                "Lease renewals at the coordinator; about one every 2 seconds",
            ),
            event_lag: registry.timer(
                "coordinator_event_lag_seconds",
                "Time from the commit of an object of this replica until the event that wakes its \
                 readers arrived at this replica",
            ),
            pending_signals: Mutex::default(),
        };
        // All series exist from the start, so that the rate of the first failure is not lost.
        for operation in CoordinatorOperation::ALL {
            for outcome in CoordinatorOutcome::ALL {
                let labels = CoordinatorLabels { operation: *operation, outcome: *outcome };
                drop(made.requests.get_or_create(&labels));
            }
        }
        made
    }

    /// Records a commit of an object of this replica to a shard, and the lowest of its objects that
    /// may be undecided there.
    pub fn note_undecided(&self, shard: u16, sequence: u32, lowest: u32) {
        let mut sequences = self.sequences.lock();
        let of_shard = sequences.entry(shard).or_default();
        *of_shard = (of_shard.0.max(sequence), of_shard.1.max(lowest));
        let counts =
            sequences.values().map(|(newest, lowest)| i64::from(*newest) - i64::from(*lowest));
        self.undecided_objects.set(counts.max().unwrap_or(0).max(0));
    }

    /// Returns the number of objects since the oldest undecided one.
    #[cfg(test)]
    pub fn undecided_objects(&self) -> i64 {
        self.undecided_objects.get()
    }

    /// Records the response to a commit of an object of this replica.
    pub fn commit_acknowledged(&self, object: ObjectId) {
        self.record_signal(object, CommitSignal::Response);
    }

    /// Records the event of a commit; objects of other replicas are allowed.
    pub fn event_received(&self, object: ObjectId) {
        self.record_signal(object, CommitSignal::Event);
    }

    fn record_signal(&self, object: ObjectId, signal: CommitSignal) {
        let mut pending_signals = self.pending_signals.lock();
        let Some(at) = pending_signals.iter().position(|(known, _, _)| *known == object) else {
            pending_signals.push_back((object, signal, Instant::now()));
            if pending_signals.len() > PENDING_SIGNALS_MAX {
                pending_signals.pop_front();
            }
            return;
        };
        let (_, first, since) = pending_signals[at];
        if first != signal {
            pending_signals.remove(at);
            // An event that arrived before the response delayed no reader.
            let lag = if signal == CommitSignal::Event { since.elapsed() } else { Duration::ZERO };
            self.event_lag.observe(lag);
        }
    }

    /// Returns the timer of the events.
    pub fn event_lag(&self) -> &Timer {
        &self.event_lag
    }

    /// Records a call that ended; `elapsed` is `None` if it was cancelled.
    pub fn record(
        &self,
        operation: CoordinatorOperation,
        end: CoordinatorOutcome,
        elapsed: Option<Duration>,
    ) {
        self.requests.get_or_create(&CoordinatorLabels { operation, outcome: end }).inc();
        if let Some(elapsed) = elapsed {
            self.duration(operation).observe(elapsed);
        }
    }

    /// Returns the timer of an operation.
    pub fn duration(&self, operation: CoordinatorOperation) -> &Timer {
        &self.duration[operation as usize]
    }

    /// Returns the total calls with this outcome.
    pub fn count(&self, operation: CoordinatorOperation, outcome: CoordinatorOutcome) -> u64 {
        self.requests
            .get(&CoordinatorLabels { operation, outcome })
            .map_or(0, |counter| counter.get())
    }
}

/// Times of the last successful operations.
#[derive(Debug)]
pub struct LastSuccesses {
    begun: Instant,
    /// Milliseconds after `begun`, plus one; 0 for never.
    at: Vec<AtomicU64>,
    ages: Family<MonitoredOperationLabels, Gauge<f64, AtomicU64>>,
}

impl LastSuccesses {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        Self {
            begun: Instant::now(),
            at: MonitoredOperation::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            ages: registry.gauge_family(
                "last_success_age_seconds",
                "operation",
                "Seconds since the operation last succeeded, or -1 if it never has. `store_put`, \
                 `store_get` and `commit` grow while no client produces or fetches",
            ),
        }
    }

    /// Records a success now.
    pub fn record(&self, of: MonitoredOperation) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.at[of as usize].store(millis + 1, Ordering::Relaxed);
    }

    /// Returns the time since the last success.
    pub fn age(&self, of: MonitoredOperation) -> Option<Duration> {
        let at = self.at[of as usize].load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.begun.elapsed().saturating_sub(Duration::from_millis(at)))
    }

    pub(super) fn refresh(&self) {
        for of in MonitoredOperation::ALL {
            let age = self.age(*of).map_or(-1.0, |age| age.as_secs_f64());
            self.ages.get_or_create(&MonitoredOperationLabels { operation: *of }).set(age);
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn objects_are_counted_from_the_oldest_undecided_one() {
        let metrics = crate::metrics::Metrics::default();
        let note = |sequence, lowest| {
            metrics.coordinator.note_undecided(0, sequence, lowest);
            metrics.coordinator.undecided_objects()
        };
        assert_eq!(note(0, 0), 0);
        assert_eq!(note(7, 0), 7);
        // The repetition of an older one.
        assert_eq!(note(3, 0), 7);
        metrics.coordinator.note_undecided(1, 20, 0);
        assert_eq!(note(9, 9), 20, "another shard has more");
        metrics.coordinator.note_undecided(1, 20, 20);
        assert_eq!(note(9, 9), 0);
    }
}
