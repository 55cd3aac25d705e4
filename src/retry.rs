//! The one retry policy: exponential delays whose jitter is drawn from a seed.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::entropy::Entropy;

/// The delays before the repetitions of a failed call, and their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first delay; each further one is twice as long. Jitter makes a delay longer, by at
    /// most its own length.
    pub min_delay: Duration,
    /// The longest delay before jitter.
    pub max_delay: Duration,
    /// The number of repetitions; `None` for no limit.
    pub max_retries: Option<usize>,
}

impl RetryPolicy {
    /// Start-up steps that the process cannot do without: every 2 s, without a limit.
    pub const STARTUP: Self = Self {
        min_delay: Duration::from_secs(2),
        max_delay: Duration::from_secs(2),
        max_retries: None,
    };
    /// A call to the object store: four repetitions, after 25, 50, 100 and 200 ms before jitter.
    pub const STORE: Self = Self {
        min_delay: Duration::from_millis(25),
        max_delay: Duration::from_secs(1),
        max_retries: Some(4),
    };
    /// Uploads and commits: from 10 ms to 1 s, without a limit.
    pub const DATA_PATH: Self = Self {
        min_delay: Duration::from_millis(10),
        max_delay: Duration::from_secs(1),
        max_retries: None,
    };
    /// A subscription that lost its connection: from 50 ms to 2 s, without a limit.
    pub const SUBSCRIPTION: Self = Self {
        min_delay: Duration::from_millis(50),
        max_delay: Duration::from_secs(2),
        max_retries: None,
    };

    /// Returns the delays of one call, with jitter from `entropy`, so that callers that failed
    /// together do not come back together.
    pub fn delays(&self, entropy: &Entropy) -> Delays {
        let builder = self.builder().with_jitter().with_jitter_seed(entropy.next_u64());
        Delays { backoff: builder.build(), last: self.max_delay }
    }

    /// Returns the delays of one call, without jitter.
    pub fn delays_without_jitter(&self) -> Delays {
        Delays { backoff: self.builder().build(), last: self.max_delay }
    }

    fn builder(&self) -> ExponentialBuilder {
        let builder =
            ExponentialBuilder::new().with_min_delay(self.min_delay).with_max_delay(self.max_delay);
        match self.max_retries {
            Some(max) => builder.with_max_times(max),
            None => builder.without_max_times(),
        }
    }
}

/// The delays of one call, in order; ends when the policy allows no further repetition.
#[derive(Debug)]
pub struct Delays {
    backoff: ExponentialBackoff,
    last: Duration,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.backoff.next()
    }
}

impl Delays {
    /// Waits for the next delay; for the longest one if the policy allows no further repetition.
    pub async fn wait(&mut self) {
        let delay = self.next().unwrap_or(self.last);
        tokio::time::sleep(delay).await;
    }
}

/// Repeats a start-up step until it succeeds, and logs every failure as waiting for `what`.
pub async fn retry_until_ok<T, E, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut delays = RetryPolicy::STARTUP.delays_without_jitter();
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => tracing::warn!(%error, "waiting for {what}"),
        }
        delays.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_repeat_for_the_same_seed() {
        let policy = RetryPolicy { max_retries: Some(8), ..RetryPolicy::SUBSCRIPTION };
        let ms = |delays: Delays| -> Vec<u128> { delays.map(|delay| delay.as_millis()).collect() };
        let plain = ms(policy.delays_without_jitter());
        assert_eq!(plain, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        let jittered = |seed| ms(policy.delays(&Entropy::from_seed(seed)));
        assert_eq!(jittered(7), jittered(7));
        assert_ne!(jittered(7), jittered(8));
        for (jittered, plain) in jittered(7).iter().zip(&plain) {
            assert!((*plain..=2 * plain).contains(jittered), "{jittered} of {plain}");
        }
    }
}
