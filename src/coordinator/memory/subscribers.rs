//! Publishes events to subscribers, and a gap to those that are too slow.

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::coordinator::{CoordinatorEvent, EventScope};

/// The number of unread events after which a subscriber gets [`CoordinatorEvent::Gap`].
pub(in crate::coordinator) const SUBSCRIBER_EVENTS_MAX: usize = 4096;

/// All subscribers.
#[derive(Debug, Default)]
pub(in crate::coordinator) struct Subscribers(Vec<Subscriber>);

#[derive(Debug)]
struct Subscriber {
    sender: Sender<CoordinatorEvent>,
    /// The last event in the channel is an unread gap. It covers all events until it is read,
    /// because the subscriber queries the state only then.
    has_unread_gap: bool,
}

impl Subscribers {
    pub(in crate::coordinator) fn subscribe(&mut self) -> Receiver<CoordinatorEvent> {
        // One place is reserved for the gap.
        let (sender, receiver) = mpsc::channel(SUBSCRIBER_EVENTS_MAX + 1);
        self.0.push(Subscriber { sender, has_unread_gap: false });
        receiver
    }

    pub(in crate::coordinator) fn publish(&mut self, event: &CoordinatorEvent) {
        self.0.retain_mut(|subscriber| !subscriber.sender.is_closed() && subscriber.publish(event));
    }
}

impl Subscriber {
    /// Returns `false` if the receiver was dropped.
    fn publish(&mut self, event: &CoordinatorEvent) -> bool {
        if self.has_unread_gap {
            if self.sender.capacity() < self.sender.max_capacity() {
                return true;
            }
            self.has_unread_gap = false;
        }
        self.has_unread_gap = self.sender.capacity() == 1;
        let event = if self.has_unread_gap {
            CoordinatorEvent::Gap(EventScope::All)
        } else {
            event.clone()
        };
        // Only this sender fills the channel, so there is room for the event.
        self.sender.try_send(event).is_ok()
    }
}
