//! What the traffic costs, would have cost on replicated Kafka, and what each topic has to do with
//! it; computed elsewhere, shown here.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::book::Book;
use super::labels::{ItemLabels, TopicLabels};
use super::topics::TopicCounts;

type Dollars = Family<ItemLabels, Counter<f64, AtomicU64>>;

/// Dollars, and the traffic of topics.
#[derive(Debug)]
pub struct MoneyMetrics {
    classic: Dollars,
    spent: Dollars,
    saved: Gauge<f64, AtomicU64>,
    topic_produced: Family<TopicLabels, Gauge<i64, AtomicI64>>,
    topic_fetched: Family<TopicLabels, Gauge<i64, AtomicI64>>,
    topic_spent: Family<TopicLabels, Gauge<f64, AtomicU64>>,
    topic_saved: Family<TopicLabels, Gauge<f64, AtomicU64>>,
}

/// One topic, as its series show it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicRow {
    /// Its name.
    pub name: String,
    /// What it came to.
    pub counts: TopicCounts,
    /// Dollars saved so far; below 0 where it cost more than it saved.
    pub saved: f64,
    /// Dollars spent so far.
    pub spent: f64,
}

impl MoneyMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        Self {
            classic: book.sums(
                "classic_dollars",
                "item",
                "What the diskless traffic through this replica would have cost in cross-zone bytes \
                 on replicated Kafka, by the price book (`costs`)",
            ),
            spent: book.sums(
                "spent_dollars",
                "item",
                "What the diskless traffic through this replica cost in requests, storage and cross-zone bytes; storage is that of the objects written since the start",
            ),
            saved: book.gauge(
                "saved_dollars",
                "Dollars that the diskless traffic through this replica saved since the start; below 0 where it cost more than it saved",
            ),
            topic_produced: book.gauges(
                "topic_produced_bytes",
                "topic",
                "Bytes of batches written since the start, by topic (`metrics.perTopic`)",
            ),
            topic_fetched: book.gauges(
                "topic_fetched_bytes",
                "topic",
                "Bytes of batches read since the start, by topic (`metrics.perTopic`)",
            ),
            topic_spent: book.gauges(
                "topic_spent_dollars",
                "topic",
                "Dollars spent since the start, by topic (`metrics.perTopic`)",
            ),
            topic_saved: book.gauges(
                "topic_saved_dollars",
                "topic",
                "Dollars saved since the start, by topic (`metrics.perTopic`)",
            ),
        }
    }

    /// Shows what it comes to by now; items never become less.
    pub fn show(&self, classic: &[(&'static str, f64)], spent: &[(&'static str, f64)]) {
        let set = |family: &Dollars, items: &[(&'static str, f64)]| {
            for (item, dollars) in items {
                let counter = family.get_or_create_owned(&ItemLabels { item });
                counter.inc_by((dollars - counter.get()).max(0.0));
            }
        };
        set(&self.classic, classic);
        set(&self.spent, spent);
        let sum = |items: &[(&'static str, f64)]| items.iter().map(|(_, d)| d).sum::<f64>();
        self.saved.set(sum(classic) - sum(spent));
    }

    /// Shows these topics and no others.
    pub fn show_topics(&self, rows: &[TopicRow]) {
        self.topic_produced.clear();
        self.topic_fetched.clear();
        self.topic_spent.clear();
        self.topic_saved.clear();
        let whole = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        for row in rows {
            let labels = TopicLabels { topic: row.name.clone() };
            self.topic_produced.get_or_create(&labels).set(whole(row.counts.produced_bytes));
            self.topic_fetched.get_or_create(&labels).set(whole(row.counts.fetched_bytes));
            self.topic_spent.get_or_create(&labels).set(row.spent);
            self.topic_saved.get_or_create(&labels).set(row.saved);
        }
    }
}
