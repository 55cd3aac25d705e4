//! Calls of the batch coordinator, and how long ago things last went well.

use std::collections::VecDeque;
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
use super::registry::MetricRegistry;
use super::timer::Timer;
use crate::log::ids::ObjectId;

/// Figures of the batch coordinator.
#[derive(Debug)]
pub struct CoordinatorMetrics {
    requests: Family<CoordinatorLabels, Counter>,
    duration: Vec<Timer>,
    /// 1 while the metadata is lost.
    pub metadata_lost: Gauge<i64, AtomicI64>,
    /// How often a Redis that began anew was settled.
    pub verifications: Counter,
    /// Leases renewed, and with them the list of the zone's replicas.
    pub lease_renewals: Counter,
    event_lag: Timer,
    /// Objects of this replica's own of which one of the two was heard, and when.
    pending_signals: Mutex<VecDeque<(ObjectId, CommitSignal, Instant)>>,
}

/// What is heard of an own object that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommitSignal {
    /// The commit's answer.
    Response,
    /// The event that tells readers.
    Event,
}

/// So many objects are remembered until the other half is heard.
const PENDING_SIGNALS_MAX: usize = 256;

impl CoordinatorMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        let duration = registry.timer_vec(
            "coordinator_request_duration_seconds",
            "operation",
            "How long calls of the batch coordinator took; those that nobody waited for are left \
             out",
            CoordinatorOperation::ALL,
            |operation| CoordinatorOperationLabels { operation },
        );
        let made = Self {
            requests: registry.counter_family(
                "coordinator_requests",
                "operation, outcome",
                "Calls of the batch coordinator, repetitions included",
            ),
            duration,
            metadata_lost: registry.gauge(
                "coordinator_metadata_lost",
                "1 while the metadata in Redis is lost: alert on it",
            ),
            verifications: registry.counter(
                "coordinator_verifications",
                "Lives of Redis (starts, restarts, failovers) in which the metadata was found whole",
            ),
            lease_renewals: registry.counter(
                "lease_renewals",
                "Leases renewed at the coordinator; about one every 2 seconds",
            ),
            event_lag: registry.timer(
                "coordinator_event_lag_seconds",
                "From the commit of one of this replica's own objects until the event that tells \
                 its readers arrived here",
            ),
            pending_signals: Mutex::default(),
        };
        // There from the start, so that a rate of the first failure is one.
        for operation in CoordinatorOperation::ALL {
            for outcome in CoordinatorOutcome::ALL {
                let labels = CoordinatorLabels { operation: *operation, outcome: *outcome };
                drop(made.requests.get_or_create(&labels));
            }
        }
        made
    }

    /// A commit of this replica's own object was answered.
    pub fn commit_acknowledged(&self, object: ObjectId) {
        self.record_signal(object, CommitSignal::Response);
    }

    /// The event of a commit came; whose object it is does not matter.
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
            // An event that came before the answer made nobody wait.
            let lag = if signal == CommitSignal::Event { since.elapsed() } else { Duration::ZERO };
            self.event_lag.observe(lag);
        }
    }

    /// The timer of the events.
    pub fn event_lag(&self) -> &Timer {
        &self.event_lag
    }

    /// Takes note of a call that ended; `elapsed` is left out where nobody waited for it.
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

    /// The timer of a verb.
    pub fn duration(&self, operation: CoordinatorOperation) -> &Timer {
        &self.duration[operation as usize]
    }

    /// Calls that ended so until now.
    pub fn count(&self, operation: CoordinatorOperation, outcome: CoordinatorOutcome) -> u64 {
        self.requests
            .get(&CoordinatorLabels { operation, outcome })
            .map_or(0, |counter| counter.get())
    }
}

/// How long ago things last went well.
#[derive(Debug)]
pub struct LastSuccesses {
    begun: Instant,
    /// Milliseconds after `begun`, and one; 0 for never.
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
                "Seconds since this last went well; -1 for never. `put`, `get` and `commit` grow \
                 while nobody produces or reads",
            ),
        }
    }

    /// It went well now.
    pub fn record(&self, of: MonitoredOperation) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.at[of as usize].store(millis + 1, Ordering::Relaxed);
    }

    /// How long ago it last went well.
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
