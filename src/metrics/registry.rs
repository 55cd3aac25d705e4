//! Registers metrics together with their descriptions, from which `docs/metrics.md` is generated.

use std::fmt::{Debug, Write as _};
use std::hash::Hash;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::timer::{Timer, coarse};

/// The prefix of all names, except those that Prometheus defines for every process.
const PREFIX: &str = "odradek_";
/// The prefix of the names that Prometheus defines.
const PROCESS_PREFIX: &str = "process_";

/// The description of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MetricDescription {
    name: &'static str,
    kind: &'static str,
    labels: &'static str,
    help: &'static str,
}

impl MetricDescription {
    /// The name in the exposition, without the suffix of its type.
    fn full_name(&self) -> String {
        let prefix = if self.name.starts_with(PROCESS_PREFIX) { "" } else { PREFIX };
        format!("{prefix}{}", self.name)
    }
}

/// A registry that keeps the description of each metric.
#[derive(Debug)]
pub(super) struct MetricRegistry {
    pub(super) inner: Registry,
    descriptions: Vec<MetricDescription>,
}

impl MetricRegistry {
    pub(super) fn new() -> Self {
        Self { inner: Registry::default(), descriptions: Vec::new() }
    }

    fn register<M: Metric + Clone>(&mut self, metric: &M, description: MetricDescription) {
        // The encoder appends a full stop to the text.
        let help = description.help.replace('`', "");
        self.inner.register(description.full_name(), help, metric.clone());
        self.descriptions.push(description);
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::default();
        self.register(&counter, MetricDescription { name, kind: "counter", labels: "", help });
        counter
    }

    /// Registers a counter of floating-point values.
    pub(super) fn float_counter(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> Counter<f64, AtomicU64> {
        let counter = Counter::default();
        self.register(&counter, MetricDescription { name, kind: "counter", labels: "", help });
        counter
    }

    pub(super) fn gauge<N, A>(&mut self, name: &'static str, help: &'static str) -> Gauge<N, A>
    where
        Gauge<N, A>: Metric + Default + Clone,
    {
        let gauge = Gauge::default();
        self.register(&gauge, MetricDescription { name, kind: "gauge", labels: "", help });
        gauge
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        histogram: Histogram,
        help: &'static str,
    ) -> Histogram {
        self.register(&histogram, MetricDescription { name, kind: "histogram", labels: "", help });
        histogram
    }

    pub(super) fn timer(&mut self, name: &'static str, help: &'static str) -> Timer {
        Timer::of(self.histogram(name, coarse(), help))
    }

    pub(super) fn counter_family<S>(
        &mut self,
        name: &'static str,
        labels: &'static str,
        help: &'static str,
    ) -> Family<S, Counter>
    where
        S: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static,
    {
        let family = Family::default();
        self.register(&family, MetricDescription { name, kind: "counter", labels, help });
        family
    }

    /// Registers a family of counters of floating-point values.
    pub(super) fn float_counter_family<S>(
        &mut self,
        name: &'static str,
        labels: &'static str,
        help: &'static str,
    ) -> Family<S, Counter<f64, AtomicU64>>
    where
        S: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static,
    {
        let family = Family::default();
        self.register(&family, MetricDescription { name, kind: "counter", labels, help });
        family
    }

    pub(super) fn gauge_family<S, N, A>(
        &mut self,
        name: &'static str,
        labels: &'static str,
        help: &'static str,
    ) -> Family<S, Gauge<N, A>>
    where
        S: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static,
        Gauge<N, A>: Default,
        Family<S, Gauge<N, A>>: Metric + Clone,
    {
        let family = Family::default();
        self.register(&family, MetricDescription { name, kind: "gauge", labels, help });
        family
    }

    /// Registers one timer for each value of a label, and returns the timers in the order of
    /// `values`, which must be all values of the label.
    pub(super) fn timer_vec<S, V: Copy>(
        &mut self,
        name: &'static str,
        labels: &'static str,
        help: &'static str,
        values: &[V],
        set: impl Fn(V) -> S,
    ) -> Vec<Timer>
    where
        S: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static,
    {
        let family: Family<S, Histogram> = Family::new_with_constructor(coarse);
        let timer = |value: &V| Timer::of(family.get_or_create(&set(*value)).clone());
        let timer_vec = values.iter().map(timer).collect();
        self.register(&family, MetricDescription { name, kind: "histogram", labels, help });
        timer_vec
    }

    /// Returns the table of `docs/metrics.md`.
    pub(super) fn table(&self) -> String {
        let mut rows: Vec<_> =
            self.descriptions.iter().map(|metric| (metric.full_name(), metric)).collect();
        rows.sort();
        let mut out = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
        for (name, MetricDescription { kind, labels, help, .. }) in rows {
            let total = if *kind == "counter" { "_total" } else { "" };
            let labels: Vec<_> = labels.split(", ").filter(|l| !l.is_empty()).collect();
            let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>();
            let labels = labels.join(", ");
            let _infallible = writeln!(out, "| `{name}{total}` | {kind} | {labels} | {help} |");
        }
        out
    }
}
