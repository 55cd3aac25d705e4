//! Latencies of calls.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_9;

/// A log-normal distribution, given by two of its percentiles: object stores have a stable median and
/// a long tail.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Latency {
    p50_ms: f64,
    p99_ms: f64,
}

impl Latency {
    /// Draws a latency.
    pub(crate) fn draw(self, from: &mut StdRng) -> Duration {
        if self.p50_ms == 0.0 {
            return Duration::ZERO;
        }
        let sigma = (self.p99_ms / self.p50_ms).ln() / Z99;
        // Box–Muller: two uniform numbers make a normal one. The first must not be 0.
        let (u, v): (f64, f64) = (1.0 - from.random::<f64>(), from.random());
        let z = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        Duration::from_secs_f64(self.p50_ms * (sigma * z).exp() / 1_000.0)
    }
}

impl FromStr for Latency {
    type Err = String;

    /// Parses p50 and p99 in milliseconds, as `65/200`; `65` is a constant.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<f64>().ok().filter(|ms| (0.0..1e9).contains(ms));
        let (p50, p99) = text.split_once('/').unwrap_or((text, text));
        match (number(p50), number(p99)) {
            (Some(p50_ms), Some(p99_ms)) if p99_ms >= p50_ms && (p50_ms > 0.0 || p99_ms == 0.0) => {
                Ok(Self { p50_ms, p99_ms })
            }
            _ => Err(format!("invalid latency `{text}`: expected p50/p99 in ms, such as 65/200")),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.p50_ms, self.p99_ms)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn drawn_latencies_have_the_configured_percentiles() {
        let latency: Latency = "65/200".parse().expect("a latency");
        let mut rng = StdRng::seed_from_u64(7);
        let mut drawn: Vec<_> =
            (0..100_000).map(|_| latency.draw(&mut rng).as_secs_f64() * 1e3).collect();
        drawn.sort_by(f64::total_cmp);
        let (p50, p99) = (drawn[50_000], drawn[99_000]);
        assert!((63.0..67.0).contains(&p50) && (190.0..210.0).contains(&p99), "{p50} {p99}");
    }

    #[test]
    fn latencies_are_parsed_or_rejected() {
        for text in ["", "x", "200/65", "0/5", "-1", "1/2/3", "nan"] {
            assert!(text.parse::<Latency>().is_err(), "{text}");
        }
        let mut rng = StdRng::seed_from_u64(7);
        for (text, drawn) in [("0", 0), ("0/0", 0), ("5", 5)] {
            let latency: Latency = text.parse().expect(text);
            assert_eq!(latency.draw(&mut rng), Duration::from_millis(drawn), "{text}");
        }
    }
}
