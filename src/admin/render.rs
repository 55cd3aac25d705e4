//! Renders snapshots and the cost model as the parts of a [`Status`](super::status::Status).

use std::collections::HashMap;
use std::time::Duration;

use super::snapshot::MetricsSnapshot;
use super::status::{
    BackendStatus, CallStats, ClusterStatus, CostItem, CostStatus, NodeStatus, SpentDollars,
    StageLatency, StoreRequests, TopicStatus, TrafficRates, ZoneCost, ZoneStatus,
};
use super::topic_sizes::TopicSize;
use crate::cost::{CostModel, MONTH_SECONDS, Usage, advice};
use crate::log::ids::TopicId;
use crate::metrics::{LastSuccesses, MonitoredOperation, TimerSnapshot, TopicCounts};
use crate::proxy::Proxy;

/// Two snapshots; rates and latencies are those of the time between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotDelta<'a> {
    pub(super) before: &'a MetricsSnapshot,
    pub(super) now: &'a MetricsSnapshot,
}

impl SnapshotDelta<'_> {
    fn seconds(&self) -> f64 {
        self.now.at.saturating_sub(self.before.at).as_secs_f64().max(0.001)
    }

    fn rate(&self, of: impl Fn(&MetricsSnapshot) -> u64) -> f64 {
        of(self.now).saturating_sub(of(self.before)) as f64 / self.seconds()
    }

    pub(super) fn rates(&self) -> TrafficRates {
        let bytes = |of: fn(&TopicCounts) -> u64| {
            self.rate(|snapshot| snapshot.topics.values().map(of).sum())
        };
        TrafficRates {
            produce_bytes: bytes(|counts| counts.produced_bytes),
            fetch_bytes: bytes(|counts| counts.fetched_bytes),
            produce_requests: self.rate(|snapshot| snapshot.produce_requests),
            fetch_requests: self.rate(|snapshot| snapshot.fetch_requests),
            cross_zone_bytes: self.rate(|snapshot| snapshot.cross_zone_bytes),
        }
    }

    pub(super) fn produce_stages<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
    ) -> Vec<StageLatency> {
        stages(names, &self.before.produce_stages, &self.now.produce_stages)
    }

    pub(super) fn fetch_stages<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
    ) -> Vec<StageLatency> {
        stages(names, &self.before.fetch_stages, &self.now.fetch_stages)
    }

    pub(super) fn store(&self) -> Vec<CallStats> {
        let name = |at: usize| {
            let (operation, outcome, count) = self.now.store_calls[at];
            (operation as usize, operation.name(), outcome.name(), count)
        };
        let before = self.before.store_calls.iter().map(|(_, _, count)| *count).collect();
        let seconds = (&*self.before.store_seconds, &*self.now.store_seconds);
        calls((0..self.now.store_calls.len()).map(name), before, seconds)
    }

    pub(super) fn coordinator(&self) -> Vec<CallStats> {
        let name = |at: usize| {
            let (operation, outcome, count) = self.now.coordinator_calls[at];
            (operation as usize, operation.name(), outcome.name(), count)
        };
        let before = self.before.coordinator_calls.iter().map(|(_, _, count)| *count).collect();
        let seconds = (&*self.before.coordinator_seconds, &*self.now.coordinator_seconds);
        calls((0..self.now.coordinator_calls.len()).map(name), before, seconds)
    }

    pub(super) fn topics(
        &self,
        proxy: &Proxy,
        cost_model: &CostModel,
        sizes: &HashMap<TopicId, TopicSize>,
    ) -> Vec<TopicStatus> {
        let counts = |snapshot: &MetricsSnapshot, topic| {
            snapshot.topics.get(&topic).copied().unwrap_or_default()
        };
        let row = |topic: &std::sync::Arc<crate::proxy::topics::Topic>| {
            let (before, now) = (counts(self.before, topic.id), counts(self.now, topic.id));
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / self.seconds();
            let report = cost_model.topics().get(&topic.id).copied().unwrap_or_default();
            let size = sizes.get(&topic.id);
            TopicStatus {
                name: topic.name.clone(),
                partitions: topic.leader_epochs.len(),
                produce_bytes: rate(now.produced_bytes, before.produced_bytes),
                fetch_bytes: rate(now.fetched_bytes, before.fetched_bytes),
                bytes: size.map(|size| size.bytes),
                objects: now.objects,
                tail_lag_records: size.and_then(|size| size.lag_records),
                produced_bytes: now.produced_bytes,
                fetched_bytes: now.fetched_bytes,
                saved_dollars: report.saved(),
                spent_dollars: report.spent(),
                advice: advice::topic(&report, cost_model.elapsed())
                    .map(|advice| advice.to_string()),
            }
        };
        proxy.topics.registry.diskless().iter().map(row).collect()
    }

    pub(super) fn cost(&self, cost_model: &CostModel, usage: Usage, zone: &str) -> CostStatus {
        let report = cost_model.report();
        let item =
            |(item, dollars): (&'static str, f64)| CostItem { item: item.to_owned(), dollars };
        let saved = report.saved() - self.before.report.saved();
        let per_month = saved * MONTH_SECONDS / self.seconds();
        let advice =
            advice::replica(report, cost_model.pricing(), usage.puts, cost_model.elapsed());
        CostStatus {
            since_ms: 0,
            saved_dollars: report.saved(),
            baseline_dollars: report.baseline_items().map(item).to_vec(),
            spent_dollars: SpentDollars {
                put: report.put,
                get: report.get,
                list: report.list,
                storage: report.storage,
                cross_zone: report.cross_zone,
            },
            saved_dollars_per_month: (self.seconds() >= 1.0).then_some(per_month),
            zones: vec![ZoneCost {
                zone: zone.to_owned(),
                saved_dollars: report.saved(),
                spent_dollars: report.spent(),
            }],
            requests: StoreRequests {
                puts: usage.puts,
                gets: usage.gets,
                lists: usage.lists,
                stored_bytes: usage.stored_bytes,
            },
            advice: advice.map(|advice| advice.to_string()),
        }
    }
}

fn stages<'n>(
    names: impl Iterator<Item = &'n str>,
    before: &[TimerSnapshot],
    now: &[TimerSnapshot],
) -> Vec<StageLatency> {
    let stage = |(at, name): (usize, &str)| {
        let summary = now.get(at).zip(before.get(at)).and_then(|(now, before)| now.since(before));
        StageLatency {
            stage: name.to_owned(),
            mean_ms: summary.map(|summary| summary.mean_ms),
            p50_ms: summary.map(|summary| summary.p50_ms),
            p99_ms: summary.map(|summary| summary.p99_ms),
            count: summary.map_or(0, |summary| summary.count),
        }
    };
    names.enumerate().map(stage).collect()
}

/// Returns the calls that ended between the snapshots, from (operation index, operation, outcome,
/// total count).
fn calls(
    now: impl Iterator<Item = (usize, &'static str, &'static str, u64)>,
    before: Vec<u64>,
    (seconds_before, seconds): (&[TimerSnapshot], &[TimerSnapshot]),
) -> Vec<CallStats> {
    let before = before.into_iter().chain(std::iter::repeat(0));
    let call = |((at, operation, outcome, count), before): ((usize, &str, &str, u64), u64)| {
        let count = count.saturating_sub(before);
        let read = seconds.get(at).zip(seconds_before.get(at));
        let summary = read.and_then(|(now, before)| now.since(before));
        (count > 0).then(|| CallStats {
            operation: operation.to_owned(),
            outcome: outcome.to_owned(),
            count,
            p50_ms: summary.map(|summary| summary.p50_ms),
            p99_ms: summary.map(|summary| summary.p99_ms),
        })
    };
    now.zip(before).filter_map(call).collect()
}

/// Returns the health of a backend. Outcomes in `not_errors` are not counted as errors.
pub(super) fn backend(
    url: String,
    metadata_lost: bool,
    ages: &LastSuccesses,
    of: &[MonitoredOperation],
    calls: Vec<CallStats>,
    not_errors: &[&str],
) -> BackendStatus {
    let age = of.iter().filter_map(|of| ages.age(*of)).min();
    let is_error = |call: &&CallStats| !not_errors.contains(&call.outcome.as_str());
    BackendStatus {
        url,
        metadata_lost,
        last_success_age_seconds: age.as_ref().map(Duration::as_secs_f64),
        errors_last_minute: calls.iter().filter(is_error).map(|call| call.count).sum(),
        calls,
    }
}

pub(super) fn cluster(proxy: &Proxy, name: &str) -> ClusterStatus {
    let view = proxy.cluster.view();
    ClusterStatus {
        id: view.cluster_id.clone(),
        name: name.to_owned(),
        brokers: view.brokers.len(),
    }
}

pub(super) fn zones(proxy: &Proxy) -> Vec<ZoneStatus> {
    let map = proxy.topology.current();
    let zone = |(index, name): (u16, &str)| ZoneStatus {
        zone: name.to_owned(),
        replicas: map.live_members(index).iter().map(|member| member.replica.clone()).collect(),
        nodes: map
            .nodes_of_zone(index)
            .map(|(id, replica, address)| NodeStatus {
                id,
                host: replica.to_owned(),
                address: address.host.clone(),
                port: address.port,
            })
            .collect(),
    };
    (0..).zip(map.zone_names()).map(zone).collect()
}
