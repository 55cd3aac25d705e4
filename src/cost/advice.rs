//! Advice on configurations that would cost less.

use std::fmt;
use std::time::Duration;

use super::{CostReport, MONTH_SECONDS, Pricing, TopicCost};

/// Minimum observation time before advice is given.
const OBSERVED_MIN: Duration = Duration::from_secs(60);
/// Minimum savings, in dollars per month.
const SAVINGS_PER_MONTH_MIN: f64 = 1.0;
/// Minimum cost of PUTs, as a share of the baseline.
const PUT_SHARE_MIN: f64 = 0.1;

/// A change that would reduce costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Advice {
    /// The topic would be cheaper on the brokers.
    Classic {
        /// Dollars that the change would save per month.
        per_month: f64,
    },
    /// Doubling the flush interval would halve the PUTs.
    LongerInterval {
        /// Dollars that the change would save per month.
        per_month: f64,
    },
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classic { per_month } => {
                write!(f, "would cost ${per_month:.2} less per month as a classic topic")
            }
            Self::LongerInterval { per_month } => write!(
                f,
                "`flush.profile: cheap` and twice the `flush.interval` would save ${per_month:.2} \
                 per month"
            ),
        }
    }
}

/// Returns advice for one topic.
pub fn topic(report: &TopicCost, observed: Duration) -> Option<Advice> {
    if observed < OBSERVED_MIN || report.counts.produced_bytes == 0 {
        return None;
    }
    let per_month = (report.put - report.baseline) * MONTH_SECONDS / observed.as_secs_f64();
    (per_month >= SAVINGS_PER_MONTH_MIN).then_some(Advice::Classic { per_month })
}

/// Returns advice for the costs of a replica during `observed`.
pub fn replica(
    report: &CostReport,
    pricing: &Pricing,
    puts: u64,
    observed: Duration,
) -> Option<Advice> {
    let matters =
        report.put > PUT_SHARE_MIN * report.baseline() && pricing.put_per_1000 > 0.0 && puts > 0;
    if observed < OBSERVED_MIN || !matters {
        return None;
    }
    let per_month = report.put / 2.0 * MONTH_SECONDS / observed.as_secs_f64();
    (per_month >= SAVINGS_PER_MONTH_MIN).then_some(Advice::LongerInterval { per_month })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::TopicCounts;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn report(baseline: f64, put: f64) -> TopicCost {
        let counts = TopicCounts { produced_bytes: 1, ..TopicCounts::default() };
        TopicCost { counts, baseline, put, other: 100.0 }
    }

    #[test]
    fn topic_with_puts_above_the_baseline_gets_advice() {
        let Some(Advice::Classic { per_month }) = topic(&report(0.01, 0.02), HOUR) else {
            panic!()
        };
        assert!((per_month - 7.3).abs() < 1e-9, "{per_month}");
        assert_eq!(topic(&report(0.02, 0.01), HOUR), None, "the topic saves");
        assert_eq!(topic(&report(0.01, 0.011), HOUR), None, "less than a dollar a month");
        assert_eq!(topic(&report(0.01, 0.02), Duration::from_secs(59)), None, "too early");
        let idle = TopicCost { counts: TopicCounts::default(), ..report(0.0, 1.0) };
        assert_eq!(topic(&idle, HOUR), None);
    }

    #[test]
    fn expensive_puts_lead_to_advice_on_the_flush_interval() {
        let pricing = Pricing::default();
        let of = |baseline_replication, put| CostReport {
            baseline_replication,
            put,
            ..CostReport::default()
        };
        let Some(Advice::LongerInterval { per_month }) = replica(&of(0.1, 0.02), &pricing, 4, HOUR)
        else {
            panic!()
        };
        assert!((per_month - 7.3).abs() < 1e-9, "{per_month}");
        assert_eq!(
            replica(&of(0.3, 0.02), &pricing, 4, HOUR),
            None,
            "PUTs below the minimum share"
        );
        assert_eq!(replica(&of(0.0, 0.002), &pricing, 4, HOUR), None, "less than a dollar");
        assert_eq!(replica(&of(0.0, 0.02), &pricing, 4, Duration::ZERO), None);
    }
}
