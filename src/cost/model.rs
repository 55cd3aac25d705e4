//! Adds up usage at the prices, and with the number of zones, of the time.

use std::collections::HashMap;
use std::time::Duration;

use super::{CostReport, GIB, MONTH_SECONDS, Pricing};
use crate::log::ids::TopicId;
use crate::metrics::TopicCounts;

/// Usage of a replica since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// PUTs started.
    pub puts: u64,
    /// GETs and HEADs started.
    pub gets: u64,
    /// LISTs started.
    pub lists: u64,
    /// Bytes of objects written.
    pub stored_bytes: u64,
    /// Bytes between diskless nodes and clients of other zones.
    pub cross_zone_bytes: u64,
}

/// The cost of one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TopicCost {
    /// Traffic of the topic.
    pub counts: TopicCounts,
    /// Dollars on replicated Kafka.
    pub baseline: f64,
    /// Dollars for its share of the PUTs.
    pub put: f64,
    /// Dollars for its share of all other items.
    pub other: f64,
}

impl TopicCost {
    /// Returns the dollars spent on the topic.
    pub fn spent(&self) -> f64 {
        self.put + self.other
    }

    /// Returns the dollars saved; negative if more was spent than the baseline.
    pub fn saved(&self) -> f64 {
        self.baseline - self.spent()
    }
}

/// The cost model of a replica.
#[derive(Clone, Debug)]
pub struct CostModel {
    pricing: Pricing,
    last: Usage,
    elapsed: Duration,
    report: CostReport,
    topics: HashMap<TopicId, TopicCost>,
    /// Dollars that are not allocated to topics yet: PUTs and GETs start before the topics that
    /// use them are known.
    unallocated: UnallocatedCost,
}

#[derive(Clone, Copy, Debug, Default)]
struct UnallocatedCost {
    put: f64,
    get: f64,
    cross_zone: f64,
}

impl CostModel {
    /// Creates a model without usage.
    pub fn new(pricing: Pricing) -> Self {
        let (last, elapsed) = (Usage::default(), Duration::ZERO);
        let (report, topics, unallocated) =
            (CostReport::default(), HashMap::new(), UnallocatedCost::default());
        Self { pricing, last, elapsed, report, topics, unallocated }
    }

    /// Sets the prices for all usage that is recorded from now on.
    pub fn set_pricing(&mut self, pricing: Pricing) {
        self.pricing = pricing;
    }

    /// Returns the prices.
    pub fn pricing(&self) -> &Pricing {
        &self.pricing
    }

    /// Records the usage since the last call. `now` is the time since the start; `zones` is the
    /// number of zones with live replicas.
    pub fn record(
        &mut self,
        now: Duration,
        zones: u32,
        usage: Usage,
        counts: &HashMap<TopicId, TopicCounts>,
    ) {
        let zones = self.pricing.zones.unwrap_or(zones).max(1);
        let months = now.saturating_sub(self.elapsed).as_secs_f64() / MONTH_SECONDS;
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let put = since(usage.puts, self.last.puts) as f64 / 1_000.0 * self.pricing.put_per_1000;
        let get = since(usage.gets, self.last.gets) as f64 / 1_000.0 * self.pricing.get_per_1000;
        let list = since(usage.lists, self.last.lists) as f64 / 1_000.0 * self.pricing.put_per_1000;
        let crossed = since(usage.cross_zone_bytes, self.last.cross_zone_bytes);
        let cross_zone = self.pricing.transfer_cost(crossed, 1.0);
        self.report.put += put;
        self.report.get += get;
        self.report.list += list;
        self.report.cross_zone += cross_zone;
        self.report.storage += self.storage(usage.stored_bytes, months);
        self.unallocated.put += put;
        self.unallocated.get += get;
        self.unallocated.cross_zone += cross_zone;
        self.record_topics(zones, months, counts);
        (self.last, self.elapsed) = (usage, now);
    }

    fn storage(&self, bytes: u64, months: f64) -> f64 {
        bytes as f64 / GIB * months * self.pricing.storage_per_gib_month
    }

    fn record_topics(&mut self, zones: u32, months: f64, counts: &HashMap<TopicId, TopicCounts>) {
        let deltas: Vec<_> = counts
            .iter()
            .map(|(topic, now)| {
                let before = self.topics.get(topic).map(|report| report.counts).unwrap_or_default();
                (*topic, *now, TopicDelta::between(&before, now))
            })
            .collect();
        let sum =
            |of: fn(&TopicDelta) -> f64| deltas.iter().map(|(_, _, delta)| of(delta)).sum::<f64>();
        let shares = [sum(|d| d.put_share), sum(|d| d.fetched), sum(TopicDelta::moved)];
        for (topic, now, delta) in deltas {
            let produced = delta.produced as u64;
            let pricing = &self.pricing;
            let produce = pricing.transfer_cost(produced, Pricing::produce_transfers(zones));
            let replication = pricing.transfer_cost(produced, pricing.replication_transfers(zones));
            let fetch = pricing.transfer_cost(delta.fetched as u64, pricing.fetch_transfers(zones));
            let storage = self.storage(now.produced_bytes, months);
            self.report.baseline_produce += produce;
            self.report.baseline_replication += replication;
            self.report.baseline_fetch += fetch;
            let part = |unallocated: f64, of: f64, all: f64| {
                if all > 0.0 { unallocated * of / all } else { 0.0 }
            };
            let report = self.topics.entry(topic).or_default();
            report.counts = now;
            report.baseline += produce + replication + fetch;
            report.put += part(self.unallocated.put, delta.put_share, shares[0]);
            report.other += part(self.unallocated.get, delta.fetched, shares[1])
                + part(self.unallocated.cross_zone, delta.moved(), shares[2])
                + storage;
        }
        for (unallocated, all) in
            [&mut self.unallocated.put, &mut self.unallocated.get, &mut self.unallocated.cross_zone]
                .into_iter()
                .zip(shares)
        {
            if all > 0.0 {
                *unallocated = 0.0;
            }
        }
    }

    /// Returns the total costs.
    pub fn report(&self) -> &CostReport {
        &self.report
    }

    /// Returns the cost of each topic.
    pub fn topics(&self) -> &HashMap<TopicId, TopicCost> {
        &self.topics
    }

    /// Returns the time from the start until the last call of [`CostModel::record`].
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }
}

/// Traffic of a topic since the last call.
#[derive(Clone, Copy, Debug)]
struct TopicDelta {
    produced: f64,
    fetched: f64,
    put_share: f64,
}

impl TopicDelta {
    fn between(before: &TopicCounts, now: &TopicCounts) -> Self {
        Self {
            produced: now.produced_bytes.saturating_sub(before.produced_bytes) as f64,
            fetched: now.fetched_bytes.saturating_sub(before.fetched_bytes) as f64,
            put_share: (now.put_share - before.put_share).max(0.0),
        }
    }

    fn moved(&self) -> f64 {
        self.produced + self.fetched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLICKS: TopicId = TopicId([1; 16]);
    const LOGS: TopicId = TopicId([2; 16]);

    fn counts(produced: u64, fetched: u64, put_share: f64) -> TopicCounts {
        TopicCounts {
            produced_bytes: produced,
            fetched_bytes: fetched,
            put_share,
            ..TopicCounts::default()
        }
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() <= 1e-9 * right.abs().max(1.0)
    }

    /// One MiB/s for a month in three zones costs $34 to the leaders and $103 to the followers.
    #[test]
    fn cost_of_one_mebibyte_per_second_matches_the_documented_example() {
        let month = Duration::from_secs_f64(MONTH_SECONDS);
        let mib_month = (MONTH_SECONDS as u64) << 20;
        let mut cost_model = CostModel::new(Pricing::default());
        let topics = HashMap::from([(CLICKS, counts(mib_month, 3 * mib_month, 1.0))]);
        let puts = MONTH_SECONDS as u64 * 4;
        let usage = Usage { puts, stored_bytes: 0, ..Usage::default() };
        cost_model.record(month, 3, usage, &topics);
        let report = *cost_model.report();
        assert_eq!(report.baseline_produce.round(), 34.0);
        assert_eq!(report.baseline_replication.round(), 103.0);
        assert_eq!(report.baseline_fetch, 0.0, "consumers read from their zone");
        assert_eq!(report.put.round(), 53.0);
        let topic = cost_model.topics()[&CLICKS];
        assert!(near(topic.put, report.put) && near(topic.baseline, report.baseline()));

        let far = Pricing { fetch_from_follower: false, ..Pricing::default() };
        let mut cost_model = CostModel::new(far);
        cost_model.record(month, 3, usage, &topics);
        assert_eq!(
            cost_model.report().baseline().round(),
            240.0,
            "with three groups that fetch from other zones"
        );
    }

    #[test]
    fn storage_cost_grows_with_time() {
        let mut cost_model = CostModel::new(Pricing::default());
        let usage = Usage { stored_bytes: 1 << 30, ..Usage::default() };
        let none = HashMap::new();
        cost_model.record(Duration::ZERO, 3, usage, &none);
        assert_eq!(cost_model.report().storage, 0.0);
        cost_model.record(Duration::from_secs_f64(2.0 * MONTH_SECONDS), 3, usage, &none);
        assert!(near(cost_model.report().storage, 0.046));
    }

    #[test]
    fn all_spending_is_allocated_to_topics_once() {
        let mut cost_model = CostModel::new(Pricing::default());
        // The PUT starts before the counts contain the sealed object.
        let begun = Usage { puts: 1_000, ..Usage::default() };
        cost_model.record(Duration::from_secs(1), 1, begun, &HashMap::new());
        let topics =
            HashMap::from([(CLICKS, counts(3, 100, 750.0)), (LOGS, counts(1, 300, 250.0))]);
        let read = Usage { gets: 4_000, ..begun };
        cost_model.record(Duration::from_secs(1), 1, read, &topics);
        let (clicks, logs) = (cost_model.topics()[&CLICKS], cost_model.topics()[&LOGS]);
        assert!(near(clicks.put, 0.005 * 0.75) && near(logs.put, 0.005 * 0.25));
        assert!(near(clicks.other, 0.001_6 * 0.25) && near(logs.other, 0.001_6 * 0.75));
        assert_eq!(
            cost_model.report().baseline(),
            0.0,
            "no traffic crosses zones if there is only one"
        );
        assert!(cost_model.report().saved() < 0.0);
        // Recorded twice, the usage is charged once.
        let before = *cost_model.report();
        cost_model.record(Duration::from_secs(1), 1, read, &topics);
        assert_eq!(*cost_model.report(), before);
    }
}
