//! What happened, in order, and whether it may.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use testbed::history_checker::{Acked, Anomaly, Found, anomalies};

/// Values of one producer are below this and above each other.
pub(crate) const VALUES_EACH: u64 = 1_000_000;

/// The books of one run.
#[derive(Debug, Default)]
pub(crate) struct HistoryChecker(Mutex<Recorded>, Mutex<Duration>);

#[derive(Debug, Default)]
struct Recorded {
    log: Vec<String>,
    acked: Vec<Acked>,
    read: BTreeMap<(i32, i64), u64>,
    violation: Vec<String>,
    counts: BTreeMap<&'static str, u64>,
}

impl HistoryChecker {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock()
    }

    fn now(&self) -> MutexGuard<'_, Duration> {
        self.1.lock()
    }

    /// What happens outside of all hosts happens at this time.
    pub(crate) fn set_time(&self, now: Duration) {
        *self.now() = now;
    }

    /// Something happened.
    pub(crate) fn note(&self, what: impl Display) {
        let at = turmoil::sim_elapsed().unwrap_or_else(|| *self.now());
        self.lock().log.push(format!("{:>9.3} {what}", at.as_secs_f64()));
    }

    pub(crate) fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    /// Something happened that must not.
    pub(crate) fn violation(&self, what: impl Display) {
        self.note(format!("WRONG {what}"));
        self.lock().violation.push(what.to_string());
    }

    /// The first value of a batch was acknowledged at this place, and the rest behind it.
    pub(crate) fn acked(&self, partition: i32, base: i64, values: &[u64]) {
        self.note(format!("ack {partition}@{base} {values:?}"));
        let places = (base..).zip(values);
        let acked = places.map(|(offset, &value)| Acked { partition, offset, value });
        self.lock().acked.extend(acked);
        self.count("batches acknowledged");
    }

    /// Somebody read this.
    pub(crate) fn read(&self, partition: i32, offset: i64, value: u64) {
        let before = *self.lock().read.entry((partition, offset)).or_insert(value);
        if before != value {
            self.violation(format!("{partition}@{offset} is {value} and was {before}"));
        }
    }

    /// Every reader has come to the end: whether the books balance. What `found` is of one offset
    /// was compared as it was read.
    pub(crate) fn check(&self) {
        let kept = self.lock();
        let found: Vec<Found> = kept
            .read
            .iter()
            .map(|(&(partition, offset), &value)| Found { partition, offset, value })
            .collect();
        let acked = kept.acked.clone();
        drop(kept);
        // The order is that of each producer, the rest is everybody's.
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
        self.lock().violation.clone()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// The same for the same log, in any process.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.lock().log.iter().for_each(|line| hasher.write(line.as_bytes()));
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(tell: impl FnOnce(&HistoryChecker)) -> usize {
        let history = HistoryChecker::default();
        tell(&history);
        history.check();
        history.violations().len()
    }

    #[test]
    fn books_that_balance_and_books_that_do_not() {
        let other = VALUES_EACH;
        let fine = |history: &HistoryChecker| {
            history.acked(0, 0, &[1, 2]);
            for (offset, value) in [(0, 1), (1, 2), (2, other), (3, 3)] {
                history.read(0, offset, value);
            }
        };
        assert_eq!(violations(fine), 0);
        assert_eq!(violations(|b| b.acked(0, 0, &[1])), 1, "lost");
        let two_at_one = |b: &HistoryChecker| {
            b.read(0, 0, 1);
            b.read(0, 0, 2);
        };
        assert_eq!(violations(two_at_one), 1);
        let reordered = |b: &HistoryChecker| {
            b.read(0, 0, 2);
            b.read(0, 1, 1);
        };
        assert_eq!(violations(reordered), 1);
        let twice = |b: &HistoryChecker| {
            b.read(0, 0, 1);
            b.read(0, 1, 1);
        };
        assert_eq!(violations(twice), 1);
        assert_eq!(violations(|b| b.read(0, 1, 1)), 1, "a gap");
    }
}
