//! What happened in the last minute.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::costs::Bill;
use crate::log::ids::TopicId;
use crate::metrics::{
    CoordinatorOutcome, CoordinatorVerb, FetchStage, Metrics, ProduceStage, Reading, StoreOutcome,
    StoreVerb, TopicCounts,
};

/// Between two snapshots.
pub(super) const TICK: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

/// All that counts at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// Since the start.
    pub(super) at: Duration,
    pub(super) produce_stages: Vec<Reading>,
    pub(super) fetch_stages: Vec<Reading>,
    pub(super) store_seconds: Vec<Reading>,
    pub(super) store_calls: Vec<(StoreVerb, StoreOutcome, u64)>,
    pub(super) coordinator_seconds: Vec<Reading>,
    pub(super) coordinator_calls: Vec<(CoordinatorVerb, CoordinatorOutcome, u64)>,
    pub(super) produce_requests: u64,
    pub(super) fetch_requests: u64,
    pub(super) crossed_bytes: u64,
    pub(super) topics: HashMap<TopicId, TopicCounts>,
    pub(super) bill: Bill,
}

impl Snapshot {
    pub(super) fn take(metrics: &Metrics, at: Duration, bill: Bill) -> Self {
        let stages = ProduceStage::ALL.iter();
        let store = &metrics.store;
        let coordinator = &metrics.coordinator;
        let of_store = |verb: &StoreVerb| {
            let outcomes = StoreOutcome::ALL.iter();
            outcomes.map(|o| (*verb, *o, store.count(*verb, *o))).collect::<Vec<_>>()
        };
        let coordinator_calls = |verb: &CoordinatorVerb| {
            let outcomes = CoordinatorOutcome::ALL.iter();
            outcomes.map(|o| (*verb, *o, coordinator.count(*verb, *o))).collect::<Vec<_>>()
        };
        Self {
            at,
            produce_stages: stages.map(|stage| metrics.produce.stage(*stage).read()).collect(),
            fetch_stages: FetchStage::ALL.iter().map(|s| metrics.fetch.stage(*s).read()).collect(),
            store_seconds: StoreVerb::ALL.iter().map(|v| store.seconds(*v).read()).collect(),
            store_calls: StoreVerb::ALL.iter().flat_map(of_store).collect(),
            coordinator_seconds: CoordinatorVerb::ALL
                .iter()
                .map(|verb| coordinator.seconds(*verb).read())
                .collect(),
            coordinator_calls: CoordinatorVerb::ALL.iter().flat_map(coordinator_calls).collect(),
            produce_requests: metrics.clients.requests_to_nodes("Produce"),
            fetch_requests: metrics.clients.requests_to_nodes("Fetch"),
            crossed_bytes: metrics.clients.crossed(),
            topics: metrics.topics.read(),
            bill,
        }
    }
}

/// Snapshots of the last minute.
#[derive(Debug, Default)]
pub(super) struct Ring(VecDeque<Snapshot>);

impl Ring {
    /// Keeps it, and of the older ones as many as reach back a minute.
    pub(super) fn push(&mut self, snapshot: Snapshot) {
        let now = snapshot.at;
        self.0.push_back(snapshot);
        while self.0.get(1).is_some_and(|second| now.saturating_sub(second.at) >= MINUTE) {
            self.0.pop_front();
        }
    }

    /// The one of a minute ago; the first there is in the first minute.
    pub(super) fn minute_ago(&self) -> Option<&Snapshot> {
        self.0.front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_reaches_back_a_minute_and_no_further() {
        let mut ring = Ring::default();
        for second in (0..=600).step_by(5) {
            ring.push(Snapshot { at: Duration::from_secs(second), ..Snapshot::default() });
            let ago = ring.minute_ago().map(|snapshot| snapshot.at.as_secs());
            assert_eq!(ago, Some(second.saturating_sub(60)));
        }
        assert_eq!(ring.0.len(), 13);
    }
}
