//! Wakes long-polling fetches when the coordinator's events announce new records.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::tail_index::TailIndex;
use crate::coordinator::{CoordinatorEvent, EventScope};
use crate::log::ids::TopicPartition;
use crate::metrics::Metrics;

/// Waiting fetches by partition, and the tail index that the same events keep up to date.
#[derive(Debug, Default)]
pub struct LongPolls {
    waiting: Mutex<HashMap<TopicPartition, Vec<Weak<Notify>>>>,
    tail: TailIndex,
    metrics: Arc<Metrics>,
}

/// A registered fetch. Dropping it ends the registration.
#[derive(Debug)]
pub(super) struct LongPoll {
    notify: Arc<Notify>,
    partitions: Vec<TopicPartition>,
    long_polls: Arc<LongPolls>,
}

impl LongPoll {
    /// Waits for an event. Returns immediately if one has arrived since the registration or the
    /// last call.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        let mut waiting = self.long_polls.waiting.lock();
        for partition in &self.partitions {
            if let Some(polls) = waiting.get_mut(partition) {
                polls.retain(|p| p.as_ptr() != Arc::as_ptr(&self.notify) && p.strong_count() > 0);
                if polls.is_empty() {
                    waiting.remove(partition);
                }
            }
        }
    }
}

impl LongPolls {
    /// Creates an empty registry that counts events in `metrics`.
    pub fn with_metrics(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Registers a fetch of these partitions.
    pub(super) fn register(
        self: &Arc<Self>,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> LongPoll {
        let notify = Arc::new(Notify::new());
        let partitions: Vec<_> = partitions.collect();
        let mut waiting = self.waiting.lock();
        for partition in &partitions {
            waiting.entry(*partition).or_default().push(Arc::downgrade(&notify));
        }
        drop(waiting);
        LongPoll { notify, partitions, long_polls: Arc::clone(self) }
    }

    /// Returns the tail index.
    pub(super) fn tail(&self) -> &TailIndex {
        &self.tail
    }

    /// Applies an event to the tail index, then wakes the fetches that it concerns.
    pub fn apply(&self, event: &CoordinatorEvent) {
        self.tail.apply(event);
        if let CoordinatorEvent::Committed { runs, .. } = event {
            runs.iter().for_each(|run| self.metrics.coordinator.event_received(run.object));
        }
        match event {
            CoordinatorEvent::Committed { partition, .. }
            | CoordinatorEvent::Trimmed { partition, .. } => {
                if let Some(polls) = self.waiting.lock().get(partition) {
                    wake(polls);
                }
            }
            CoordinatorEvent::Disconnected(EventScope::Topics)
            | CoordinatorEvent::Gap(EventScope::Topics) => {}
            CoordinatorEvent::Disconnected(_) | CoordinatorEvent::Gap(_) => {
                self.waiting.lock().values().for_each(|polls| wake(polls))
            }
            CoordinatorEvent::Bound(_) | CoordinatorEvent::TopicDeleted(_) => {}
        }
    }

    /// Applies events until the subscription ends, and passes each of them to `also`.
    pub async fn apply_events(
        &self,
        mut events: mpsc::Receiver<CoordinatorEvent>,
        also: impl Fn(&CoordinatorEvent),
    ) {
        self.tail.set_subscribed(true);
        while let Some(event) = events.recv().await {
            self.apply(&event);
            also(&event);
        }
        self.tail.set_subscribed(false);
    }
}

fn wake(polls: &[Weak<Notify>]) {
    for poll in polls {
        if let Some(notify) = poll.upgrade() {
            notify.notify_one();
        }
    }
}
