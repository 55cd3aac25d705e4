//! The bounds on the number of events.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// The time for which a repeated event is only counted.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// The largest number of keys that are remembered.
const KEYS_MAX: usize = 10_000;
/// The events that may be written at once, and those of each further second.
const BURST: f64 = 1_000.0;
const PER_SECOND: f64 = 100.0;

/// A key of events that count as repetitions of each other. It is a hash with a random seed, so that
/// no client can choose names that collide with another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RepeatKey(u64);

impl RepeatKey {
    pub(super) fn of(address: IpAddr, names: &[&str]) -> Self {
        static SEED: OnceLock<RandomState> = OnceLock::new();
        Self(SEED.get_or_init(RandomState::new).hash_one((address, names)))
    }
}

/// The treatment of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written, with the number of those that were only counted before.
    Write {
        /// That number.
        repeated: u64,
    },
    /// It is counted, and the next one of its key says so.
    Repeated,
    /// It is lost.
    TooMany,
}

#[derive(Debug)]
struct Occurrences {
    written_at: Instant,
    repeated: u64,
}

/// The events of the last minute, and how many more may be written.
#[derive(Debug)]
pub(super) struct Repeats {
    keys: HashMap<RepeatKey, Occurrences>,
    successes: Allowance,
    others: Allowance,
}

/// The events that may be written.
#[derive(Debug)]
struct Allowance {
    events: f64,
    filled_at: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { events: BURST, filled_at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.duration_since(self.filled_at).as_secs_f64();
        self.events = (self.events + elapsed * PER_SECOND).min(BURST);
        self.filled_at = now;
        let is_free = self.events >= 1.0;
        if is_free {
            self.events -= 1.0;
        }
        is_free
    }
}

impl Repeats {
    pub(super) fn new(now: Instant) -> Self {
        let (successes, others) = (Allowance::new(now), Allowance::new(now));
        Self { keys: HashMap::new(), successes, others }
    }

    /// Counts an event; one without a key succeeded, and repeats no other. Those have an allowance of
    /// their own: what clients may not do cannot displace what others did.
    pub(super) fn occurred(&mut self, key: Option<RepeatKey>, now: Instant) -> Verdict {
        if let Some(seen) = key.and_then(|key| self.keys.get_mut(&key))
            && now - seen.written_at < REPEAT_INTERVAL
        {
            seen.repeated += 1;
            return Verdict::Repeated;
        }
        let allowance = if key.is_some() { &mut self.others } else { &mut self.successes };
        if !allowance.take(now) {
            return Verdict::TooMany;
        }
        let Some(key) = key else { return Verdict::Write { repeated: 0 } };
        let repeated = self.keys.remove(&key).map_or(0, |seen| seen.repeated);
        if self.keys.len() >= KEYS_MAX {
            self.keys.retain(|_, seen| now - seen.written_at < REPEAT_INTERVAL);
        }
        if self.keys.len() < KEYS_MAX {
            self.keys.insert(key, Occurrences { written_at: now, repeated: 0 });
        }
        Verdict::Write { repeated }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn key(name: &str) -> Option<RepeatKey> {
        Some(RepeatKey::of(Ipv4Addr::LOCALHOST.into(), &["alice", name]))
    }

    #[tokio::test(start_paused = true)]
    async fn repetitions_are_counted_for_a_minute() {
        let mut repeats = Repeats::new(Instant::now());
        let write = |repeated| Verdict::Write { repeated };
        assert_eq!(repeats.occurred(key("a"), Instant::now()), write(0));
        for _ in 0..3 {
            assert_eq!(repeats.occurred(key("a"), Instant::now()), Verdict::Repeated);
        }
        assert_eq!(repeats.occurred(key("b"), Instant::now()), write(0), "another topic");
        assert_eq!(repeats.occurred(None, Instant::now()), write(0));
        tokio::time::advance(REPEAT_INTERVAL).await;
        assert_eq!(repeats.occurred(key("a"), Instant::now()), write(3));
    }

    #[tokio::test(start_paused = true)]
    async fn number_of_events_and_of_keys_is_bounded() {
        let mut repeats = Repeats::new(Instant::now());
        let mut written = 0;
        for index in 0..3 * KEYS_MAX {
            let verdict = repeats.occurred(key(&index.to_string()), Instant::now());
            written += u32::from(verdict == Verdict::Write { repeated: 0 });
        }
        assert_eq!(f64::from(written), BURST);
        let success = repeats.occurred(None, Instant::now());
        assert_eq!(success, Verdict::Write { repeated: 0 }, "not displaced");
        for second in 0..400 {
            tokio::time::advance(Duration::from_secs(1)).await;
            for index in 0..200 {
                let name = format!("{second}-{index}");
                let verdict = repeats.occurred(key(&name), Instant::now());
                assert_eq!(verdict != Verdict::TooMany, index < 100, "{name}");
            }
            assert!(repeats.keys.len() <= KEYS_MAX);
        }
    }
}
