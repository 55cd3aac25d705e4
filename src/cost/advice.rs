//! What would be cheaper.

use std::fmt;
use std::time::Duration;

use super::{CostReport, MONTH_SECONDS, Pricing, TopicCost};

/// So much traffic must have been seen before it says anything.
const OBSERVED_MIN: Duration = Duration::from_secs(60);
/// Savings below so many dollars a month are nobody's time worth.
const SAVINGS_PER_MONTH_MIN: f64 = 1.0;
/// PUTs that are less than this part of what replicated Kafka would cost are no matter.
const PUT_SHARE_MIN: f64 = 0.1;

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Advice {
    /// The topic would be cheaper on the brokers.
    Classic {
        /// Dollars that it would save in a month.
        per_month: f64,
    },
    /// Twice the interval would halve the PUTs.
    LongerInterval {
        /// Dollars that it would save in a month.
        per_month: f64,
    },
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classic { per_month } => {
                write!(f, "would be cheaper classic: ${per_month:.2} a month")
            }
            Self::LongerInterval { per_month } => write!(
                f,
                "`flush.profile: cheap` and twice the `flush.interval` would save ${per_month:.2} \
                 a month"
            ),
        }
    }
}

/// What to say to one topic's bill over `observed`; storage counts on neither side, for it is there in
/// the one case and in the other.
pub fn topic(report: &TopicCost, observed: Duration) -> Option<Advice> {
    if observed < OBSERVED_MIN || report.counts.produced_bytes == 0 {
        return None;
    }
    let per_month = (report.put - report.baseline) * MONTH_SECONDS / observed.as_secs_f64();
    (per_month >= SAVINGS_PER_MONTH_MIN).then_some(Advice::Classic { per_month })
}

/// What to say to a replica's bill over `observed`.
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
    fn a_topic_that_pays_more_for_puts_than_it_saves_is_told() {
        let Some(Advice::Classic { per_month }) = topic(&report(0.01, 0.02), HOUR) else {
            panic!()
        };
        assert!((per_month - 7.3).abs() < 1e-9, "{per_month}");
        assert_eq!(topic(&report(0.02, 0.01), HOUR), None, "it saves");
        assert_eq!(topic(&report(0.01, 0.011), HOUR), None, "less than a dollar a month");
        assert_eq!(topic(&report(0.01, 0.02), Duration::from_secs(59)), None, "too early");
        let idle = TopicCost { counts: TopicCounts::default(), ..report(0.0, 1.0) };
        assert_eq!(topic(&idle, HOUR), None);
    }

    #[test]
    fn puts_that_matter_are_halved_by_twice_the_interval() {
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
        assert_eq!(replica(&of(0.3, 0.02), &pricing, 4, HOUR), None, "they do not matter");
        assert_eq!(replica(&of(0.0, 0.002), &pricing, 4, HOUR), None, "less than a dollar");
        assert_eq!(replica(&of(0.0, 0.02), &pricing, 4, Duration::ZERO), None);
    }
}
