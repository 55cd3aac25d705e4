//! How long PUTs took lately: what is usual, and what is late.

use std::time::Duration;

/// How many PUTs are remembered.
const SAMPLES: usize = 512;
/// Fewer say nothing.
const SAMPLES_MIN: usize = 20;

/// The durations of the latest PUTs.
#[derive(Debug, Default)]
pub(crate) struct PutLatency {
    /// A ring, once it is full.
    samples: Vec<Duration>,
    next: usize,
    /// Counted anew with every 16th sample: sorting for each would cost more than it tells.
    usual: Option<Duration>,
    late: Option<Duration>,
}

impl PutLatency {
    pub(crate) fn note(&mut self, took: Duration) {
        if self.samples.len() < SAMPLES {
            self.samples.push(took);
        } else {
            self.samples[self.next] = took;
        }
        self.next = (self.next + 1) % SAMPLES;
        if self.samples.len() >= SAMPLES_MIN
            && (self.next.is_multiple_of(16) || self.usual.is_none())
        {
            let mut sorted = self.samples.clone();
            sorted.sort_unstable();
            self.usual = sorted.get(sorted.len() / 2).copied();
            self.late = sorted.get(sorted.len() * 99 / 100).copied();
        }
    }

    /// The median.
    pub(crate) fn usual(&self) -> Option<Duration> {
        self.usual
    }

    /// The 99th percentile.
    pub(crate) fn late(&self) -> Option<Duration> {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_what_the_store_does_now() {
        let mut latency = PutLatency::default();
        let ms = Duration::from_millis;
        (1..20).for_each(|n| latency.note(ms(n)));
        assert_eq!((latency.usual(), latency.late()), (None, None), "too few to tell");
        (0..2_000_u64).for_each(|n| latency.note(ms(n % 100)));
        let (usual, late) = (latency.usual().unwrap(), latency.late().unwrap());
        assert!((ms(45)..ms(55)).contains(&usual), "{usual:?}");
        assert!((ms(97)..ms(100)).contains(&late), "{late:?}");
        (0..SAMPLES).for_each(|_| latency.note(ms(7)));
        assert_eq!((latency.usual(), latency.late()), (Some(ms(7)), Some(ms(7))));
    }
}
