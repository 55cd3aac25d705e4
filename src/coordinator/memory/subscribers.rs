//! Tells followers of changes, and of the changes that they were too slow for.

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::coordinator::Event;

/// Events that a follower may lag behind before it is told [`Event::Gap`].
pub(in crate::coordinator) const SUBSCRIBER_EVENTS_MAX: usize = 4096;

/// Everyone who follows.
#[derive(Debug, Default)]
pub(in crate::coordinator) struct Subscribers(Vec<Subscriber>);

#[derive(Debug)]
struct Subscriber {
    sender: Sender<Event>,
    /// A gap waits in the channel, as its last event: whatever happens until it is read is
    /// covered by it, because the follower asks again only then.
    behind_gap: bool,
}

impl Subscribers {
    pub(in crate::coordinator) fn subscribe(&mut self) -> Receiver<Event> {
        // One place more than promised, kept for the gap.
        let (sender, receiver) = mpsc::channel(SUBSCRIBER_EVENTS_MAX + 1);
        self.0.push(Subscriber { sender, behind_gap: false });
        receiver
    }

    pub(in crate::coordinator) fn tell(&mut self, event: &Event) {
        self.0.retain_mut(|subscriber| !subscriber.sender.is_closed() && subscriber.tell(event));
    }
}

impl Subscriber {
    /// `false` when nobody listens any more.
    fn tell(&mut self, event: &Event) -> bool {
        if self.behind_gap {
            if self.sender.capacity() < self.sender.max_capacity() {
                return true;
            }
            self.behind_gap = false;
        }
        self.behind_gap = self.sender.capacity() == 1;
        let event = if self.behind_gap { Event::Gap } else { event.clone() };
        // Only this sender fills the channel, so the place that was seen is still there.
        self.sender.try_send(event).is_ok()
    }
}
