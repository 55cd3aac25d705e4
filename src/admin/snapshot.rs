//! Snapshots of the metrics of the last minute.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::cost::CostReport;
use crate::log::ids::TopicId;
use crate::metrics::{
    CoordinatorOperation, CoordinatorOutcome, FetchStage, Metrics, ProduceStage, StoreOperation,
    StoreOutcome, TimerSnapshot, TopicCounts,
};

/// The interval between snapshots.
pub(super) const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

/// The values of all metrics that the console shows, at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct MetricsSnapshot {
    /// Time since the start.
    pub(super) at: Duration,
    pub(super) produce_stages: Vec<TimerSnapshot>,
    pub(super) fetch_stages: Vec<TimerSnapshot>,
    pub(super) store_seconds: Vec<TimerSnapshot>,
    pub(super) store_calls: Vec<(StoreOperation, StoreOutcome, u64)>,
    pub(super) coordinator_seconds: Vec<TimerSnapshot>,
    pub(super) coordinator_calls: Vec<(CoordinatorOperation, CoordinatorOutcome, u64)>,
    pub(super) produce_requests: u64,
    pub(super) fetch_requests: u64,
    pub(super) cross_zone_bytes: u64,
    pub(super) topics: HashMap<TopicId, TopicCounts>,
    pub(super) report: CostReport,
}

impl MetricsSnapshot {
    pub(super) fn take(metrics: &Metrics, at: Duration, report: CostReport) -> Self {
        let stages = ProduceStage::ALL.iter();
        let store = &metrics.store;
        let coordinator = &metrics.coordinator;
        let store_calls = |operation: &StoreOperation| {
            let outcomes = StoreOutcome::ALL.iter();
            outcomes.map(|o| (*operation, *o, store.count(*operation, *o))).collect::<Vec<_>>()
        };
        let of_coordinator = |operation: &CoordinatorOperation| {
            let outcomes = CoordinatorOutcome::ALL.iter();
            outcomes
                .map(|o| (*operation, *o, coordinator.count(*operation, *o)))
                .collect::<Vec<_>>()
        };
        Self {
            at,
            produce_stages: stages.map(|stage| metrics.produce.stage(*stage).read()).collect(),
            fetch_stages: FetchStage::ALL.iter().map(|s| metrics.fetch.stage(*s).read()).collect(),
            store_seconds: StoreOperation::ALL.iter().map(|v| store.duration(*v).read()).collect(),
            store_calls: StoreOperation::ALL.iter().flat_map(store_calls).collect(),
            coordinator_seconds: CoordinatorOperation::ALL
                .iter()
                .map(|operation| coordinator.duration(*operation).read())
                .collect(),
            coordinator_calls: CoordinatorOperation::ALL.iter().flat_map(of_coordinator).collect(),
            produce_requests: metrics.clients.requests_to_nodes("Produce"),
            fetch_requests: metrics.clients.requests_to_nodes("Fetch"),
            cross_zone_bytes: metrics.clients.diskless_cross_zone_bytes(),
            topics: metrics.topics.read(),
            report,
        }
    }
}

/// The snapshots of the last minute.
#[derive(Debug, Default)]
pub(super) struct SnapshotRing(VecDeque<MetricsSnapshot>);

impl SnapshotRing {
    /// Adds a snapshot, and removes those that are not needed to reach back one minute.
    pub(super) fn push(&mut self, snapshot: MetricsSnapshot) {
        let now = snapshot.at;
        self.0.push_back(snapshot);
        while self.0.get(1).is_some_and(|second| now.saturating_sub(second.at) >= MINUTE) {
            self.0.pop_front();
        }
    }

    /// Returns the snapshot of a minute ago; in the first minute, the first snapshot.
    pub(super) fn minute_ago(&self) -> Option<&MetricsSnapshot> {
        self.0.front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_covers_exactly_one_minute() {
        let mut ring = SnapshotRing::default();
        for second in (0..=600).step_by(5) {
            ring.push(MetricsSnapshot {
                at: Duration::from_secs(second),
                ..MetricsSnapshot::default()
            });
            let ago = ring.minute_ago().map(|snapshot| snapshot.at.as_secs());
            assert_eq!(ago, Some(second.saturating_sub(60)));
        }
        assert_eq!(ring.0.len(), 13);
    }
}
