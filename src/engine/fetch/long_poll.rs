//! Wakes long-polling fetches when the coordinator's events announce new records.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::tail_index::TailIndex;
use crate::coordinator::{CoordinatorEvent, EventScope};
use crate::log::ids::{TopicId, TopicPartition};
use crate::metrics::Metrics;

/// Waiting fetches by partition, and the tail index that the same events keep up to date.
#[derive(Debug, Default)]
pub struct LongPolls {
    waiting: Mutex<HashMap<TopicPartition, Vec<Weak<Waiter>>>>,
    tail: TailIndex,
    metrics: Arc<Metrics>,
}

/// The state of a registered fetch.
#[derive(Debug, Default)]
struct Waiter {
    notify: Notify,
    /// Topics of the fetch that were deleted since its registration.
    deleted: Mutex<Vec<TopicId>>,
}

/// A registered fetch. Dropping it ends the registration.
#[derive(Debug)]
pub(super) struct LongPoll {
    waiter: Arc<Waiter>,
    partitions: Vec<TopicPartition>,
    long_polls: Arc<LongPolls>,
}

impl LongPoll {
    /// Waits for an event. Returns immediately if one has arrived since the registration or the
    /// last call.
    pub(super) async fn notified(&self) {
        self.waiter.notify.notified().await;
    }

    /// Returns the topics of the fetch that were deleted since its registration.
    pub(super) fn deleted_topics(&self) -> Vec<TopicId> {
        self.waiter.deleted.lock().clone()
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        let mut waiting = self.long_polls.waiting.lock();
        for partition in &self.partitions {
            if let Some(polls) = waiting.get_mut(partition) {
                polls.retain(|p| p.as_ptr() != Arc::as_ptr(&self.waiter) && p.strong_count() > 0);
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
        let waiter = Arc::new(Waiter::default());
        let partitions: Vec<_> = partitions.collect();
        let mut waiting = self.waiting.lock();
        for partition in &partitions {
            waiting.entry(*partition).or_default().push(Arc::downgrade(&waiter));
        }
        drop(waiting);
        LongPoll { waiter, partitions, long_polls: Arc::clone(self) }
    }

    /// Returns the tail index.
    pub(super) fn tail(&self) -> &TailIndex {
        &self.tail
    }

    /// Sets whether the coordinator cannot be reached. Waiting fetches then look again, and fail if
    /// the coordinator does not respond to them either: records may exist that no event announces.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        self.tail.set_cut_off(is_cut_off);
        if is_cut_off {
            self.waiting.lock().values().for_each(|polls| wake(polls));
        }
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
                self.waiting.lock().values().for_each(|polls| wake(polls));
            }
            CoordinatorEvent::TopicDeleted(topic) => self.end_waits_for(*topic),
            CoordinatorEvent::Bound(_) => {}
        }
    }

    fn end_waits_for(&self, topic: TopicId) {
        let waiting = self.waiting.lock();
        for (_, polls) in waiting.iter().filter(|(partition, _)| partition.topic == topic) {
            for waiter in polls.iter().filter_map(Weak::upgrade) {
                waiter.deleted.lock().push(topic);
                waiter.notify.notify_one();
            }
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
            // First, so that a fetch that is woken finds the event applied everywhere.
            also(&event);
            self.apply(&event);
        }
        self.tail.set_subscribed(false);
    }
}

fn wake(polls: &[Weak<Waiter>]) {
    polls.iter().filter_map(Weak::upgrade).for_each(|waiter| waiter.notify.notify_one());
}
