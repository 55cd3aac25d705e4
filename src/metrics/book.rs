//! Registers metrics and keeps what was said of each, so that the list in `docs/metrics.md` is
//! printed from where they are made.

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

/// What every name begins with.
const PREFIX: &str = "odradek";

/// One metric, as it is described.
#[derive(Clone, Copy, Debug)]
struct Described {
    name: &'static str,
    kind: &'static str,
    labels: &'static str,
    help: &'static str,
}

/// The registry in the making, or made.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) registry: Registry,
    described: Vec<Described>,
}

impl Book {
    pub(super) fn new() -> Self {
        Self { registry: Registry::with_prefix(PREFIX), described: Vec::new() }
    }

    fn register<M: Metric + Clone>(&mut self, metric: &M, described: Described) {
        // The encoder ends the text with a full stop of its own.
        let help = described.help.replace('`', "");
        self.registry.register(described.name, help, metric.clone());
        self.described.push(described);
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::default();
        self.register(&counter, Described { name, kind: "counter", labels: "", help });
        counter
    }

    pub(super) fn gauge<N, A>(&mut self, name: &'static str, help: &'static str) -> Gauge<N, A>
    where
        Gauge<N, A>: Metric + Default + Clone,
    {
        let gauge = Gauge::default();
        self.register(&gauge, Described { name, kind: "gauge", labels: "", help });
        gauge
    }

    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        histogram: Histogram,
        help: &'static str,
    ) -> Histogram {
        self.register(&histogram, Described { name, kind: "histogram", labels: "", help });
        histogram
    }

    pub(super) fn timer(&mut self, name: &'static str, help: &'static str) -> Timer {
        Timer::of(self.histogram(name, coarse(), help))
    }

    pub(super) fn counters<S>(
        &mut self,
        name: &'static str,
        labels: &'static str,
        help: &'static str,
    ) -> Family<S, Counter>
    where
        S: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static,
    {
        let family = Family::default();
        self.register(&family, Described { name, kind: "counter", labels, help });
        family
    }

    /// Counters of what is not whole.
    pub(super) fn sums<S>(
        &mut self,
        name: &'static str,
        labels: &'static str,
        help: &'static str,
    ) -> Family<S, Counter<f64, AtomicU64>>
    where
        S: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static,
    {
        let family = Family::default();
        self.register(&family, Described { name, kind: "counter", labels, help });
        family
    }

    pub(super) fn gauges<S, N, A>(
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
        self.register(&family, Described { name, kind: "gauge", labels, help });
        family
    }

    /// Timers by the values of one label, in the order of the values, which are all there are.
    pub(super) fn timers<S, V: Copy>(
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
        let timers = values.iter().map(timer).collect();
        self.register(&family, Described { name, kind: "histogram", labels, help });
        timers
    }

    /// The table of `docs/metrics.md`.
    pub(super) fn table(&self) -> String {
        let mut rows = self.described.clone();
        rows.sort_by_key(|row| row.name);
        let mut out = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
        for Described { name, kind, labels, help } in rows {
            let total = if kind == "counter" { "_total" } else { "" };
            let labels: Vec<_> = labels.split(", ").filter(|l| !l.is_empty()).collect();
            let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>();
            let labels = labels.join(", ");
            let _infallible =
                writeln!(out, "| `{PREFIX}_{name}{total}` | {kind} | {labels} | {help} |");
        }
        out
    }
}
