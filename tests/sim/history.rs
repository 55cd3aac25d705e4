//! Records the events of a run and checks them against Kafka's guarantees.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use testbed::history_checker::{Acked, Anomaly, Found, anomalies};

/// Upper bound of the values of one producer, which ascend.
pub(crate) const VALUES_EACH: u64 = 1_000_000;

/// The history of one run.
#[derive(Debug, Default)]
pub(crate) struct HistoryChecker(Mutex<Recorded>, Mutex<Duration>);

#[derive(Debug, Default)]
struct Recorded {
    log: Vec<String>,
    acked: Vec<Acked>,
    read: BTreeMap<(i32, i64), u64>,
    violations: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

impl HistoryChecker {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock()
    }

    fn now(&self) -> MutexGuard<'_, Duration> {
        self.1.lock()
    }

    /// Sets the time of events that occur outside of all hosts.
    pub(crate) fn set_time(&self, now: Duration) {
        *self.now() = now;
    }

    /// Appends an event to the log.
    pub(crate) fn log_event(&self, what: impl Display) {
        let at = turmoil::sim_elapsed().unwrap_or_else(|| *self.now());
        self.lock().log.push(format!("{:>9.3} {what}", at.as_secs_f64()));
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    /// Records a violation.
    pub(crate) fn violation(&self, what: impl Display) {
        self.log_event(format!("VIOLATION {what}"));
        self.lock().violations.push(what.to_string());
    }

    /// Records the acknowledgement of a batch at offset `base`.
    pub(crate) fn record_ack(&self, partition: i32, base: i64, values: &[u64]) {
        self.log_event(format!("ack {partition}@{base} {values:?}"));
        let places = (base..).zip(values);
        let acked = places.map(|(offset, &value)| Acked { partition, offset, value });
        self.lock().acked.extend(acked);
        self.count("batches acknowledged");
    }

    /// Records a value that was read.
    pub(crate) fn record_read(&self, partition: i32, offset: i64, value: u64) {
        let before = *self.lock().read.entry((partition, offset)).or_insert(value);
        if before != value {
            self.violation(format!("{partition}@{offset} is {value} and was {before}"));
        }
    }

    /// Checks the history once every consumer has read everything. Values read at the same offset
    /// were compared as they were read.
    pub(crate) fn check(&self) {
        let recorded = self.lock();
        let found: Vec<Found> = recorded
            .read
            .iter()
            .map(|(&(partition, offset), &value)| Found { partition, offset, value })
            .collect();
        let acked = recorded.acked.clone();
        drop(recorded);
        // Order is checked per producer, everything else across all of them.
        let all = anomalies(&acked, &found);
        let all =
            all.into_iter().filter(|violation| !matches!(violation, Anomaly::Reordered { .. }));
        let mut producers: Vec<u64> = found.iter().map(|f| f.value / VALUES_EACH).collect();
        producers.sort_unstable();
        producers.dedup();
        let of = |producer| {
            let own: Vec<Found> =
                found.iter().filter(|f| f.value / VALUES_EACH == producer).copied().collect();
            anomalies(&[], &own).into_iter().filter(|w| matches!(w, Anomaly::Reordered { .. }))
        };
        for violation in all.chain(producers.into_iter().flat_map(of)) {
            self.violation(format!("{violation:?}"));
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// Returns a hash of the log that is the same in any process.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lock().log.iter().for_each(|line| hasher.write(line.as_bytes()));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(record: impl FnOnce(&HistoryChecker)) -> usize {
        let history = HistoryChecker::default();
        record(&history);
        history.check();
        history.violations().len()
    }

    #[test]
    fn checker_detects_every_anomaly() {
        let other = VALUES_EACH;
        let fine = |history: &HistoryChecker| {
            history.record_ack(0, 0, &[1, 2]);
            for (offset, value) in [(0, 1), (1, 2), (2, other), (3, 3)] {
                history.record_read(0, offset, value);
            }
        };
        assert_eq!(violations(fine), 0);
        assert_eq!(violations(|b| b.record_ack(0, 0, &[1])), 1, "lost");
        let two_at_one = |b: &HistoryChecker| {
            b.record_read(0, 0, 1);
            b.record_read(0, 0, 2);
        };
        assert_eq!(violations(two_at_one), 1);
        let reordered = |b: &HistoryChecker| {
            b.record_read(0, 0, 2);
            b.record_read(0, 1, 1);
        };
        assert_eq!(violations(reordered), 1);
        let twice = |b: &HistoryChecker| {
            b.record_read(0, 0, 1);
            b.record_read(0, 1, 1);
        };
        assert_eq!(violations(twice), 1);
        assert_eq!(violations(|b| b.record_read(0, 1, 1)), 1, "a gap");
    }
}
