//! Percentiles of the latencies of recent requests.

use std::time::Duration;

/// Number of requests over which percentiles are computed.
const SAMPLES_MAX: usize = 512;
/// Number of requests below which there are no percentiles.
const SAMPLES_MIN: usize = 20;
/// Number of requests after which percentiles are computed again: sorting after each one would cost
/// more than it gains.
const RECOMPUTE_EVERY: usize = 16;

/// Latencies of the most recent requests.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// A ring buffer once it is full.
    samples: Vec<Duration>,
    next: usize,
    median: Option<Duration>,
    p99: Option<Duration>,
}

impl Latency {
    /// Adds the latency of a request.
    pub(crate) fn record(&mut self, elapsed: Duration) {
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(elapsed);
        } else {
            self.samples[self.next] = elapsed;
        }
        self.next = (self.next + 1) % SAMPLES_MAX;
        let is_due = self.next.is_multiple_of(RECOMPUTE_EVERY) || self.median.is_none();
        if self.samples.len() >= SAMPLES_MIN && is_due {
            let mut sorted = self.samples.clone();
            sorted.sort_unstable();
            self.median = sorted.get(sorted.len() / 2).copied();
            self.p99 = sorted.get(sorted.len() * 99 / 100).copied();
        }
    }

    /// Returns the median; `None` after too few requests.
    pub(crate) fn median(&self) -> Option<Duration> {
        self.median
    }

    /// Returns the 99th percentile; `None` after too few requests.
    pub(crate) fn p99(&self) -> Option<Duration> {
        self.p99
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_follow_recent_samples() {
        let mut latency = Latency::default();
        let ms = Duration::from_millis;
        (1..20).for_each(|n| latency.record(ms(n)));
        assert_eq!((latency.median(), latency.p99()), (None, None), "too few samples");
        (0..2_000_u64).for_each(|n| latency.record(ms(n % 100)));
        let (median, p99) = (latency.median().unwrap(), latency.p99().unwrap());
        assert!((ms(45)..ms(55)).contains(&median), "{median:?}");
        assert!((ms(97)..ms(100)).contains(&p99), "{p99:?}");
        (0..SAMPLES_MAX).for_each(|_| latency.record(ms(7)));
        assert_eq!((latency.median(), latency.p99()), (Some(ms(7)), Some(ms(7))));
    }
}
