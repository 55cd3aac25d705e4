//! Limits the rate and the concurrency of PUTs.

use std::time::Duration;

use tokio::time::Instant;

/// Token bucket of PUTs. Retries and hedges never wait for a token but take one, so that the
/// average rate, and with it the cost, stays within the limit.
#[derive(Debug)]
pub(super) struct PutRateLimiter {
    /// `None` for no limit.
    per_second: Option<f64>,
    /// At most [`PutRateLimiter::burst`]; negative after retries and hedges.
    tokens: f64,
    refilled_at: Instant,
}

impl PutRateLimiter {
    /// Creates a limiter with a full bucket.
    pub(super) fn new(per_second: Option<f64>, now: Instant) -> Self {
        let mut limiter = Self { per_second, tokens: 0.0, refilled_at: now };
        limiter.tokens = limiter.burst();
        limiter
    }

    /// Changes the limit. A debt of tokens is kept.
    pub(super) fn set_rate(&mut self, per_second: Option<f64>, now: Instant) {
        if self.per_second != per_second {
            self.refill(now);
            let debt = self.tokens.min(0.0);
            *self = Self::new(per_second, now);
            self.tokens += debt;
        }
    }

    /// Returns the size of the bucket: the PUTs of a quarter of a second, and at least one.
    fn burst(&self) -> f64 {
        self.per_second.map_or(1.0, |per_second| (per_second / 4.0).max(1.0))
    }

    fn refill(&mut self, now: Instant) {
        let Some(per_second) = self.per_second else { return };
        let earned = (now - self.refilled_at).as_secs_f64() * per_second;
        self.tokens = (self.tokens + earned).min(self.burst());
        self.refilled_at = now;
    }

    /// Takes a token for a PUT, if need be on credit.
    pub(super) fn take(&mut self, now: Instant) {
        self.refill(now);
        if self.per_second.is_some() {
            self.tokens -= 1.0;
        }
    }

    /// Returns the time at which the next PUT may start, which is not after `now` if it may start
    /// immediately.
    pub(super) fn next_put_at(&mut self, now: Instant) -> Instant {
        self.refill(now);
        match self.per_second {
            // A microsecond more, so that rounding does not yield a time that is too early.
            Some(per_second) if self.tokens < 1.0 => {
                let seconds = (1.0 - self.tokens) / per_second;
                now + Duration::from_secs_f64(seconds) + Duration::from_micros(1)
            }
            _ => now,
        }
    }
}

/// Concurrency limit of uploads, with additive increase and multiplicative decrease as in TCP:
/// halved when the store throttles, increased by one per window of successful uploads.
#[derive(Debug)]
pub(super) struct UploadWindow {
    max: f64,
    size: f64,
    throttled_at: Option<Instant>,
}

/// Time during which further throttling responses do not halve the window again: uploads that
/// started together fail together.
const HALVE_INTERVAL: Duration = Duration::from_millis(500);
/// Time after a throttling response during which uploads are not hedged.
const HEDGE_PAUSE: Duration = Duration::from_secs(5);

impl UploadWindow {
    /// Creates a window of `max` uploads, at least one.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1) as f64;
        Self { max, size: max, throttled_at: None }
    }

    /// Returns how many uploads may run at once.
    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    /// Records a successful upload.
    pub(super) fn record_success(&mut self) {
        self.size = (self.size + 1.0 / self.size).min(self.max);
    }

    /// Records a throttling response of the store.
    pub(super) fn record_throttling(&mut self, now: Instant) {
        if self.throttled_at.is_none_or(|at| now - at >= HALVE_INTERVAL) {
            self.size = (self.size / 2.0).max(1.0);
            self.throttled_at = Some(now);
        }
    }

    /// Returns whether the store has not throttled recently.
    pub(super) fn may_hedge(&self, now: Instant) -> bool {
        self.throttled_at.is_none_or(|at| now - at >= HEDGE_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_stays_within_the_limit_and_one_burst() {
        let start = Instant::now();
        let mut limiter = PutRateLimiter::new(Some(4.0), start);
        let mut now = start;
        for put in 0..40 {
            now = limiter.next_put_at(now).max(now);
            limiter.take(now);
            let earliest = start + Duration::from_millis(250) * put;
            assert!(now >= earliest, "PUT {put} at {:?}", now - start);
        }
        assert!(now < start + Duration::from_secs(10));
        // Two hedges delay the next PUTs.
        limiter.take(now);
        limiter.take(now);
        assert!(limiter.next_put_at(now) >= now + Duration::from_millis(750));
        // An idle hour earns one burst.
        now += Duration::from_secs(3_600);
        assert_eq!(limiter.next_put_at(now), now);
        limiter.take(now);
        assert!(limiter.next_put_at(now) > now);
    }

    #[test]
    fn unlimited_rate_never_waits() {
        let now = Instant::now();
        let mut limiter = PutRateLimiter::new(None, now);
        (0..1_000).for_each(|_| limiter.take(now));
        assert_eq!(limiter.next_put_at(now), now);
    }

    #[test]
    fn throttling_halves_the_window_and_successes_grow_it() {
        let start = Instant::now();
        let mut window = UploadWindow::new(32);
        (0..8).for_each(|_| window.record_throttling(start));
        assert_eq!(window.size(), 16, "simultaneous failures count once");
        assert!(!window.may_hedge(start));
        for seconds in 1..9 {
            window.record_throttling(start + Duration::from_secs(seconds));
        }
        assert_eq!(window.size(), 1, "never zero");
        for _ in 0..600 {
            window.record_success();
        }
        assert_eq!(window.size(), 32);
        assert!(window.may_hedge(start + Duration::from_secs(14)));
    }
}
