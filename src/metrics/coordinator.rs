//! Calls of the batch coordinator, and how long ago things last went well.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::book::Book;
use super::labels::{
    CoordinatorLabels, CoordinatorOutcome, CoordinatorVerb, CoordinatorVerbLabels, Success,
    SuccessLabels,
};
use super::timer::Timer;
use crate::log::ids::ObjectId;

/// Figures of the batch coordinator.
#[derive(Debug)]
pub struct CoordinatorMetrics {
    requests: Family<CoordinatorLabels, Counter>,
    seconds: Vec<Timer>,
    /// 1 while the metadata is lost.
    pub lost: Gauge<i64, AtomicI64>,
    /// How often a Redis that began anew was settled.
    pub settlements: Counter,
    /// Leases renewed, and with them the list of the zone's replicas.
    pub lease_renewals: Counter,
    event_lag: Timer,
    /// Objects of this replica's own of which one of the two was heard, and when.
    halves: Mutex<VecDeque<(ObjectId, Half, Instant)>>,
}

/// What is heard of an own object that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    /// The commit's answer.
    Answer,
    /// The event that tells readers.
    Event,
}

/// So many objects are remembered until the other half is heard.
const HALVES_MAX: usize = 256;

impl CoordinatorMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        let seconds = book.timers(
            "coordinator_request_seconds",
            "verb",
            "How long calls of the batch coordinator took; those that nobody waited for are left \
             out",
            CoordinatorVerb::ALL,
            |verb| CoordinatorVerbLabels { verb },
        );
        let made = Self {
            requests: book.counters(
                "coordinator_requests",
                "verb, outcome",
                "Calls of the batch coordinator, repetitions included",
            ),
            seconds,
            lost: book.gauge(
                "coordinator_lost",
                "1 while the metadata in Redis is lost: alert on it",
            ),
            settlements: book.counter(
                "coordinator_settlements",
                "Lives of Redis (starts, restarts, failovers) in which the metadata was found whole",
            ),
            lease_renewals: book.counter(
                "lease_renewals",
                "Leases renewed at the coordinator; about one every 2 seconds",
            ),
            event_lag: book.timer(
                "event_lag_seconds",
                "From the commit of one of this replica's own objects until the event that tells \
                 its readers arrived here",
            ),
            halves: Mutex::default(),
        };
        // There from the start, so that a rate of the first failure is one.
        for verb in CoordinatorVerb::ALL {
            for outcome in CoordinatorOutcome::ALL {
                let labels = CoordinatorLabels { verb: *verb, outcome: *outcome };
                drop(made.requests.get_or_create(&labels));
            }
        }
        made
    }

    /// A commit of this replica's own object was answered.
    pub fn committed(&self, object: ObjectId) {
        self.heard(object, Half::Answer);
    }

    /// The event of a commit came; whose object it is does not matter.
    pub fn told(&self, object: ObjectId) {
        self.heard(object, Half::Event);
    }

    fn heard(&self, object: ObjectId, half: Half) {
        let mut halves = self.halves.lock();
        let Some(at) = halves.iter().position(|(known, _, _)| *known == object) else {
            halves.push_back((object, half, Instant::now()));
            if halves.len() > HALVES_MAX {
                halves.pop_front();
            }
            return;
        };
        let (_, first, since) = halves[at];
        if first != half {
            halves.remove(at);
            // An event that came before the answer made nobody wait.
            let lag = if half == Half::Event { since.elapsed() } else { Duration::ZERO };
            self.event_lag.observe(lag);
        }
    }

    /// The timer of the events.
    pub fn event_lag(&self) -> &Timer {
        &self.event_lag
    }

    /// Takes note of a call that ended; `took` is left out where nobody waited for it.
    pub fn ended(&self, verb: CoordinatorVerb, end: CoordinatorOutcome, took: Option<Duration>) {
        self.requests.get_or_create(&CoordinatorLabels { verb, outcome: end }).inc();
        if let Some(took) = took {
            self.seconds(verb).observe(took);
        }
    }

    /// The timer of a verb.
    pub fn seconds(&self, verb: CoordinatorVerb) -> &Timer {
        &self.seconds[verb as usize]
    }

    /// Calls that ended so until now.
    pub fn count(&self, verb: CoordinatorVerb, outcome: CoordinatorOutcome) -> u64 {
        self.requests.get(&CoordinatorLabels { verb, outcome }).map_or(0, |counter| counter.get())
    }
}

/// How long ago things last went well.
#[derive(Debug)]
pub struct Successes {
    begun: Instant,
    /// Milliseconds after `begun`, and one; 0 for never.
    at: Vec<AtomicU64>,
    ages: Family<SuccessLabels, Gauge<f64, AtomicU64>>,
}

impl Successes {
    pub(super) fn new(book: &mut Book) -> Self {
        Self {
            begun: Instant::now(),
            at: Success::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            ages: book.gauges(
                "last_success_age_seconds",
                "of",
                "Seconds since this last went well; -1 for never. `put`, `get` and `commit` grow \
                 while nobody produces or reads",
            ),
        }
    }

    /// It went well now.
    pub fn note(&self, of: Success) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.at[of as usize].store(millis + 1, Ordering::Relaxed);
    }

    /// How long ago it last went well.
    pub fn age(&self, of: Success) -> Option<Duration> {
        let at = self.at[of as usize].load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.begun.elapsed().saturating_sub(Duration::from_millis(at)))
    }

    pub(super) fn refresh(&self) {
        for of in Success::ALL {
            let age = self.age(*of).map_or(-1.0, |age| age.as_secs_f64());
            self.ages.get_or_create(&SuccessLabels { of: *of }).set(age);
        }
    }
}
