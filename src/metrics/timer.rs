//! Timers: durations in coarse buckets for Prometheus, and in fine buckets for the console.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Four buckets for each doubling, from 1 µs to more than an hour.
const PER_DOUBLING: usize = 4;
const FINE: usize = 32 * PER_DOUBLING;

/// Observes durations; cheap to clone.
#[derive(Clone, Debug)]
pub struct Timer {
    coarse: Histogram,
    fine: Arc<Fine>,
}

#[derive(Debug)]
struct Fine {
    counts: [AtomicU64; FINE],
    micros: AtomicU64,
}

/// Buckets from 1 ms to 16 s, and 0.1 ms for durations that should be close to zero.
pub(super) fn coarse() -> Histogram {
    Histogram::new(std::iter::once(0.000_1).chain(exponential_buckets(0.001, 2.0, 15)))
}

impl Default for Timer {
    fn default() -> Self {
        Self::of(coarse())
    }
}

impl Timer {
    /// Creates a timer that also observes into a histogram.
    pub(super) fn of(coarse: Histogram) -> Self {
        let counts = [const { AtomicU64::new(0) }; FINE];
        Self { coarse, fine: Arc::new(Fine { counts, micros: AtomicU64::new(0) }) }
    }

    /// Records one duration.
    pub fn observe(&self, elapsed: Duration) {
        self.coarse.observe(elapsed.as_secs_f64());
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).min(u32::MAX.into());
        self.fine.counts[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        self.fine.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Returns all observations until now.
    pub fn read(&self) -> TimerSnapshot {
        TimerSnapshot {
            counts: self.fine.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            micros: self.fine.micros.load(Ordering::Relaxed),
        }
    }
}

/// Returns the fine bucket of a duration: the two bits after the leading one select one of four.
fn bucket(micros: u64) -> usize {
    let micros = micros.max(1);
    let doubling = micros.ilog2() as usize;
    let quarter = match doubling {
        0 => 0,
        1 => (micros as usize & 1) * 2,
        _ => (micros >> (doubling - 2)) as usize & 3,
    };
    (doubling * PER_DOUBLING + quarter).min(FINE - 1)
}

/// Returns the middle of a fine bucket, in milliseconds.
fn middle_ms(bucket: usize) -> f64 {
    let low = f64::from(1_u32 << (bucket / PER_DOUBLING));
    let width = low / PER_DOUBLING as f64;
    (low + width * ((bucket % PER_DOUBLING) as f64 + 0.5)) / 1_000.0
}

/// The observations of a [`Timer`] until some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerSnapshot {
    counts: Vec<u64>,
    micros: u64,
}

/// The observations of a [`Timer`] between two snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimerSummary {
    /// Number of observations.
    pub count: u64,
    /// Mean, in milliseconds.
    pub mean_ms: f64,
    /// Median, in milliseconds, within an eighth.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds, within an eighth.
    pub p99_ms: f64,
}

impl TimerSnapshot {
    /// Returns the observations since an earlier snapshot of the same timer, or `None` if there
    /// are none.
    pub fn since(&self, earlier: &Self) -> Option<TimerSummary> {
        let before = |at| earlier.counts.get(at).copied().unwrap_or(0);
        let counts: Vec<u64> =
            self.counts.iter().enumerate().map(|(at, count)| count - before(at)).collect();
        let count: u64 = counts.iter().sum();
        let quantile = |share: f64| {
            let mut left = (count as f64 * share).ceil() as u64;
            let reached = counts.iter().position(|count| {
                left = left.saturating_sub(*count);
                left == 0
            });
            middle_ms(reached.unwrap_or(FINE - 1))
        };
        (count > 0).then(|| TimerSummary {
            count,
            mean_ms: (self.micros - earlier.micros) as f64 / 1_000.0 / count as f64,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_close_to_the_middle_of_their_bucket() {
        for micros in (0..4_000).chain([1 << 20, (1 << 20) + 777_777, u64::from(u32::MAX)]) {
            let middle = middle_ms(bucket(micros)) * 1_000.0;
            let off = (middle - micros.max(1) as f64).abs() / micros.max(1) as f64;
            assert!(off <= 0.26, "{micros} µs is shown as {middle}");
        }
    }

    #[test]
    fn summary_covers_observations_between_snapshots() {
        let timer = Timer::default();
        timer.observe(Duration::from_secs(9));
        let earlier = timer.read();
        assert_eq!(earlier.since(&earlier), None);
        for ms in 1..=100 {
            timer.observe(Duration::from_millis(ms));
        }
        let summary = timer.read().since(&earlier).expect("a hundred");
        assert_eq!((summary.count, summary.mean_ms), (100, 50.5));
        assert!((summary.p50_ms - 50.0).abs() < 50.0 / 8.0, "{summary:?}");
        assert!((summary.p99_ms - 99.0).abs() < 99.0 / 8.0, "{summary:?}");
        let all = timer.read().since(&TimerSnapshot::default()).expect("all");
        assert_eq!(all.count, 101);
    }
}
