//! Wakes waiting fetches when the coordinator's events say that there is more to read.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::tail_index::TailIndex;
use crate::coordinator::Event;
use crate::log::ids::TopicPartition;
use crate::metrics::Metrics;

/// Who waits for which partition, and what the events have told so far.
#[derive(Debug, Default)]
pub struct LongPolls {
    waiters: Mutex<HashMap<TopicPartition, Vec<Weak<Notify>>>>,
    tail: TailIndex,
    metrics: Arc<Metrics>,
}

/// A fetch that waits; dropping it ends the registration.
#[derive(Debug)]
pub(crate) struct LongPoll {
    notify: Arc<Notify>,
    partitions: Vec<TopicPartition>,
    long_polls: Arc<LongPolls>,
}

impl LongPoll {
    /// Returns at once if a wake-up came since the registration or the last call.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }
}

impl Drop for LongPoll {
    fn drop(&mut self) {
        let mut map = self.long_polls.lock();
        for partition in &self.partitions {
            if let Some(waiters) = map.get_mut(partition) {
                waiters.retain(|w| w.as_ptr() != Arc::as_ptr(&self.notify) && w.strong_count() > 0);
                if waiters.is_empty() {
                    map.remove(partition);
                }
            }
        }
    }
}

impl LongPolls {
    /// Takes note of what it hears in `metrics`.
    pub fn with_metrics(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    pub(crate) fn register(
        self: &Arc<Self>,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> LongPoll {
        let notify = Arc::new(Notify::new());
        let partitions: Vec<_> = partitions.collect();
        let mut map = self.lock();
        for partition in &partitions {
            map.entry(*partition).or_default().push(Arc::downgrade(&notify));
        }
        drop(map);
        LongPoll { notify, partitions, long_polls: Arc::clone(self) }
    }

    /// The ends of partitions.
    pub(crate) fn tail(&self) -> &TailIndex {
        &self.tail
    }

    /// Takes note of the event, then wakes whoever it concerns.
    pub fn apply(&self, event: &Event) {
        self.tail.apply(event);
        if let Event::Committed { runs, .. } = event {
            runs.iter().for_each(|run| self.metrics.coordinator.event_received(run.object));
        }
        match event {
            Event::Committed { partition, .. } | Event::Trimmed { partition, .. } => {
                if let Some(waiters) = self.lock().get(partition) {
                    wake(waiters);
                }
            }
            Event::Gap => self.lock().values().for_each(|waiters| wake(waiters)),
            Event::Bound(_) | Event::TopicDeleted(_) => {}
        }
    }

    /// Applies events until the coordinator is gone, handing each to `also` as well.
    pub async fn apply_events(&self, mut events: mpsc::Receiver<Event>, also: impl Fn(&Event)) {
        self.tail.set_following(true);
        while let Some(event) = events.recv().await {
            self.apply(&event);
            also(&event);
        }
        self.tail.set_following(false);
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<TopicPartition, Vec<Weak<Notify>>>> {
        self.waiters.lock()
    }
}

fn wake(waiters: &[Weak<Notify>]) {
    for waiter in waiters {
        if let Some(notify) = waiter.upgrade() {
            notify.notify_one();
        }
    }
}
