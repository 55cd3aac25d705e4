//! How often the store may be asked to write: PUTs cost money, and a store that says "slow down"
//! means it.

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket of PUTs. Retries and hedges never wait for it, but what they take is missing
/// afterwards, so that the bill stays capped.
#[derive(Debug)]
pub(crate) struct PutRateLimiter {
    /// `None` without a cap.
    per_second: Option<f64>,
    /// At most [`PutRateLimiter::burst`]; negative after retries and hedges.
    tokens: f64,
    counted: Instant,
}

impl PutRateLimiter {
    pub(crate) fn new(per_second: Option<f64>, now: Instant) -> Self {
        let mut pace = Self { per_second, tokens: 0.0, counted: now };
        pace.tokens = pace.burst();
        pace
    }

    /// Another cap, from now on. What was taken before is still to be made up for.
    pub(crate) fn cap(&mut self, per_second: Option<f64>, now: Instant) {
        if self.per_second != per_second {
            self.refill(now);
            let owed = self.tokens.min(0.0);
            *self = Self::new(per_second, now);
            self.tokens += owed;
        }
    }

    /// A quarter of a second's PUTs may come together, at least one.
    fn burst(&self) -> f64 {
        self.per_second.map_or(1.0, |per_second| (per_second / 4.0).max(1.0))
    }

    fn refill(&mut self, now: Instant) {
        let Some(per_second) = self.per_second else { return };
        let earned = (now - self.counted).as_secs_f64() * per_second;
        self.tokens = (self.tokens + earned).min(self.burst());
        self.counted = now;
    }

    /// Counts a PUT.
    pub(crate) fn spend(&mut self, now: Instant) {
        self.refill(now);
        if self.per_second.is_some() {
            self.tokens -= 1.0;
        }
    }

    /// When the next PUT may begin; now or in the past when it may at once.
    pub(crate) fn next(&mut self, now: Instant) -> Instant {
        self.refill(now);
        match self.per_second {
            // A microsecond is added, lest rounding call it a moment too early.
            Some(per_second) if self.tokens < 1.0 => {
                let seconds = (1.0 - self.tokens) / per_second;
                now + Duration::from_secs_f64(seconds) + Duration::from_micros(1)
            }
            _ => now,
        }
    }
}

/// How many uploads may run side by side: halved when the store says "slow down", and one more
/// again for each window's worth of successes (as TCP does).
#[derive(Debug)]
pub(crate) struct UploadWindow {
    max: f64,
    size: f64,
    /// Uploads that began together fail together; they count as one sign.
    halved: Option<Instant>,
}

/// A second sign within this time of the first says nothing new.
const HALVE_INTERVAL: Duration = Duration::from_millis(500);
/// For so long after a sign no upload is hedged.
const CALM: Duration = Duration::from_secs(5);

impl UploadWindow {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.max(1) as f64;
        Self { max, size: max, halved: None }
    }

    pub(crate) fn uploads(&self) -> usize {
        self.size as usize
    }

    pub(crate) fn succeeded(&mut self) {
        self.size = (self.size + 1.0 / self.size).min(self.max);
    }

    pub(crate) fn slow_down(&mut self, now: Instant) {
        if self.halved.is_none_or(|halved| now - halved >= HALVE_INTERVAL) {
            self.size = (self.size / 2.0).max(1.0);
            self.halved = Some(now);
        }
    }

    /// Whether the store has not complained lately.
    pub(crate) fn is_calm(&self, now: Instant) -> bool {
        self.halved.is_none_or(|halved| now - halved >= CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_puts_than_the_cap_and_a_burst() {
        let start = Instant::now();
        let mut pace = PutRateLimiter::new(Some(4.0), start);
        let mut now = start;
        for put in 0..40 {
            now = pace.next(now).max(now);
            pace.spend(now);
            let earliest = start + Duration::from_millis(250) * put;
            assert!(now >= earliest, "PUT {put} at {:?}", now - start);
        }
        assert!(now < start + Duration::from_secs(10));
        // Two hedges later the next two PUTs come later.
        pace.spend(now);
        pace.spend(now);
        assert!(pace.next(now) >= now + Duration::from_millis(750));
        // An idle hour earns one burst.
        now += Duration::from_secs(3_600);
        assert_eq!(pace.next(now), now);
        pace.spend(now);
        assert!(pace.next(now) > now);
    }

    #[test]
    fn without_a_cap_nothing_waits() {
        let now = Instant::now();
        let mut pace = PutRateLimiter::new(None, now);
        (0..1_000).for_each(|_| pace.spend(now));
        assert_eq!(pace.next(now), now);
    }

    #[test]
    fn complaints_halve_the_window_and_successes_open_it() {
        let start = Instant::now();
        let mut window = UploadWindow::new(32);
        (0..8).for_each(|_| window.slow_down(start));
        assert_eq!(window.uploads(), 16, "what failed together is one sign");
        assert!(!window.is_calm(start));
        for seconds in 1..9 {
            window.slow_down(start + Duration::from_secs(seconds));
        }
        assert_eq!(window.uploads(), 1, "never nothing");
        for _ in 0..600 {
            window.succeeded();
        }
        assert_eq!(window.uploads(), 32);
        assert!(window.is_calm(start + Duration::from_secs(14)));
    }
}
