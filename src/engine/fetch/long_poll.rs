//! Wakes long-polling fetches when the coordinator's events announce new records.

use std::collections::{BTreeSet, HashMap};
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
    waiting: Mutex<HashMap<TopicPartition, Vec<Registration>>>,
    tail: TailIndex,
    metrics: Arc<Metrics>,
}

/// A partition of a waiting fetch.
#[derive(Debug)]
struct Registration {
    waiter: Weak<Waiter>,
    /// The index of the partition in the fetch.
    index: usize,
    shard: u16,
}

/// The state of a registered fetch.
#[derive(Debug, Default)]
struct Waiter {
    notify: Notify,
    changes: Mutex<Changes>,
}

/// Partitions of a fetch that events have named.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Indexes of partitions with news.
    pub(super) changed: BTreeSet<usize>,
    /// Indexes of partitions whose topic was deleted.
    pub(super) deleted: BTreeSet<usize>,
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

    /// Returns what has changed since the registration or the last call.
    pub(super) fn take_changes(&self) -> Changes {
        std::mem::take(&mut self.waiter.changes.lock())
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        let own = Arc::as_ptr(&self.waiter);
        let mut waiting = self.long_polls.waiting.lock();
        for partition in &self.partitions {
            if let Some(polls) = waiting.get_mut(partition) {
                polls.retain(|p| p.waiter.as_ptr() != own && p.waiter.strong_count() > 0);
                if polls.is_empty() {
                    waiting.remove(partition);
                }
            }
        }
    }
}

impl Registration {
    fn notify(&self) {
        if let Some(waiter) = self.waiter.upgrade() {
            waiter.changes.lock().changed.insert(self.index);
            waiter.notify.notify_one();
        }
    }
}

impl LongPolls {
    /// Creates an empty registry that counts events in `metrics`.
    pub fn with_metrics(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Registers a fetch of these partitions, each with its shard.
    pub(super) fn register(
        self: &Arc<Self>,
        fetched: impl Iterator<Item = (TopicPartition, u16)>,
    ) -> LongPoll {
        let waiter = Arc::new(Waiter::default());
        let mut partitions = Vec::new();
        let mut waiting = self.waiting.lock();
        for (index, (partition, shard)) in fetched.enumerate() {
            let registration = Registration { waiter: Arc::downgrade(&waiter), index, shard };
            waiting.entry(partition).or_default().push(registration);
            partitions.push(partition);
        }
        drop(waiting);
        LongPoll { waiter, partitions, long_polls: Arc::clone(self) }
    }

    /// Returns the tail index.
    pub(super) fn tail(&self) -> &TailIndex {
        &self.tail
    }

    /// Returns the number of shards whose events do not arrive; `u16::MAX` if none arrive.
    pub fn disconnected_shards(&self) -> u16 {
        self.tail.disconnected_shards()
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
                    polls.iter().for_each(Registration::notify);
                }
            }
            CoordinatorEvent::Disconnected(scope) | CoordinatorEvent::Gap(scope) => match scope {
                EventScope::All => self.wake(|_| true),
                EventScope::Topics => {}
                EventScope::Shard(shard) => self.wake(|of| of == *shard),
            },
            CoordinatorEvent::TopicDeleted(topic) => self.end_waits_for(*topic),
            CoordinatorEvent::Bound(_) => {}
        }
    }

    /// Wakes the fetches with partitions of these shards.
    fn wake(&self, is_affected: impl Fn(u16) -> bool) {
        let waiting = self.waiting.lock();
        let affected = waiting.values().flatten().filter(|poll| is_affected(poll.shard));
        affected.for_each(Registration::notify);
    }

    fn end_waits_for(&self, topic: TopicId) {
        let waiting = self.waiting.lock();
        for (_, polls) in waiting.iter().filter(|(partition, _)| partition.topic == topic) {
            for poll in polls {
                if let Some(waiter) = poll.waiter.upgrade() {
                    waiter.changes.lock().deleted.insert(poll.index);
                    waiter.notify.notify_one();
                }
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn interrupted_shard_wakes_fetches_of_its_own_partitions_only() {
        let partition = |partition| TopicPartition { topic: TopicId([1; 16]), partition };
        let long_polls = Arc::new(LongPolls::default());
        let register = |of: &[(i32, u16)]| {
            long_polls.register(of.iter().map(|(index, shard)| (partition(*index), *shard)))
        };
        let (other, both) = (register(&[(0, 0)]), register(&[(0, 0), (1, 1)]));
        let woken = |poll: &LongPoll| {
            let is_woken = poll.notified().now_or_never().is_some();
            (is_woken, poll.take_changes().changed.into_iter().collect::<Vec<_>>())
        };
        for event in [CoordinatorEvent::Disconnected, CoordinatorEvent::Gap] {
            long_polls.apply(&event(EventScope::Shard(1)));
            assert_eq!((woken(&other), woken(&both)), ((false, vec![]), (true, vec![1])));
            long_polls.apply(&event(EventScope::Topics));
            assert_eq!((woken(&other), woken(&both)), ((false, vec![]), (false, vec![])));
            long_polls.apply(&event(EventScope::All));
            assert_eq!((woken(&other), woken(&both)), ((true, vec![0]), (true, vec![0, 1])));
        }
        drop((other, both));
        assert!(long_polls.waiting.lock().is_empty());
    }
}
