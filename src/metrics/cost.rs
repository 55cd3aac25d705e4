//! Metrics of the cost of the traffic and of the same traffic on replicated Kafka, in total and by
//! topic. `cost` calculates the values.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::labels::{ItemLabels, TopicLabels};
use super::registry::MetricRegistry;
use super::topics::TopicCounts;

type Dollars = Family<ItemLabels, Counter<f64, AtomicU64>>;

/// Costs in dollars, and the traffic of topics.
#[derive(Debug)]
pub struct CostMetrics {
    baseline: Dollars,
    spent: Dollars,
    saved: Gauge<f64, AtomicU64>,
    topic_produced: Family<TopicLabels, Counter>,
    topic_fetched: Family<TopicLabels, Counter>,
    topic_cost_spent: Family<TopicLabels, Counter<f64, AtomicU64>>,
    topic_cost_saved: Family<TopicLabels, Gauge<f64, AtomicU64>>,
}

/// The values of one topic's series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicSeries {
    /// The name of the topic.
    pub name: String,
    /// Traffic since the start.
    pub counts: TopicCounts,
    /// Dollars saved since the start; negative if the topic cost more than the baseline.
    pub saved: f64,
    /// Dollars spent since the start.
    pub spent: f64,
}

impl CostMetrics {
    pub(super) fn new(registry: &mut MetricRegistry) -> Self {
        Self {
            baseline: registry.float_counter_family(
                "cost_baseline_dollars",
                "item",
                "Cross-zone cost that the diskless traffic through this replica would have on \
                 replicated Kafka, at the prices in `costs`",
            ),
            spent: registry.float_counter_family(
                "cost_spent_dollars",
                "item",
                "Cost of the diskless traffic through this replica for requests, storage and cross-zone \
                 bytes; storage is that of the objects written since the start",
            ),
            saved: registry.gauge(
                "cost_saved_dollars",
                "Dollars that the diskless traffic through this replica saved since the start; negative \
                 if it cost more than the baseline",
            ),
            topic_produced: registry.counter_family(
                "topic_produced_bytes",
                "topic",
                "Bytes of batches written since the start, by topic (`metrics.perTopic`)",
            ),
            topic_fetched: registry.counter_family(
                "topic_fetched_bytes",
                "topic",
                "Bytes of batches read since the start, by topic (`metrics.perTopic`)",
            ),
            topic_cost_spent: registry.float_counter_family(
                "topic_cost_spent_dollars",
                "topic",
                "Dollars spent since the start, by topic (`metrics.perTopic`)",
            ),
            topic_cost_saved: registry.gauge_family(
                "topic_cost_saved_dollars",
                "topic",
                "Dollars saved since the start, by topic (`metrics.perTopic`)",
            ),
        }
    }

    /// Sets the totals by item. Totals never decrease.
    pub fn show(&self, baseline: &[(&'static str, f64)], spent: &[(&'static str, f64)]) {
        let set = |family: &Dollars, items: &[(&'static str, f64)]| {
            for (item, dollars) in items {
                let counter = family.get_or_create_owned(&ItemLabels { item });
                counter.inc_by((dollars - counter.get()).max(0.0));
            }
        };
        set(&self.baseline, baseline);
        set(&self.spent, spent);
        let sum = |items: &[(&'static str, f64)]| items.iter().map(|(_, d)| d).sum::<f64>();
        self.saved.set(sum(baseline) - sum(spent));
    }

    /// Replaces the series by topic with these.
    pub fn show_topics(&self, rows: &[TopicSeries]) {
        self.topic_produced.clear();
        self.topic_fetched.clear();
        self.topic_cost_spent.clear();
        self.topic_cost_saved.clear();
        for row in rows {
            let labels = TopicLabels { topic: row.name.clone() };
            self.topic_produced.get_or_create(&labels).inc_by(row.counts.produced_bytes);
            self.topic_fetched.get_or_create(&labels).inc_by(row.counts.fetched_bytes);
            self.topic_cost_spent.get_or_create(&labels).inc_by(row.spent.max(0.0));
            self.topic_cost_saved.get_or_create(&labels).set(row.saved);
        }
    }
}
