//! Cached state of classic topics to which records are forwarded.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::log::ids::TopicId;

/// Time for which the coordinator's response that an empty topic is classic is used, counted from the
/// request.
pub(super) const CONFIRMATION_TTL: Duration = Duration::from_secs(3);

/// Reason that records may be forwarded to a classic topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClassicStatus {
    /// The topic has, or had, records. It stays classic forever.
    HasRecords,
    /// The coordinator confirmed that the topic was classic when asked at this time.
    ConfirmedAt(Instant),
}

/// The status of classic topics.
#[derive(Debug, Default)]
pub(super) struct ClassicStatusCache(Mutex<HashMap<TopicId, ClassicStatus>>);

impl ClassicStatusCache {
    /// Removes a deleted topic.
    pub(super) fn remove(&self, id: TopicId) {
        self.0.lock().remove(&id);
    }

    /// Returns whether records may be forwarded to the topic without asking again.
    pub(super) fn allows(&self, id: TopicId) -> bool {
        match self.0.lock().get(&id) {
            Some(ClassicStatus::HasRecords) => true,
            Some(ClassicStatus::ConfirmedAt(at)) => at.elapsed() < CONFIRMATION_TTL,
            None => false,
        }
    }

    /// Records the status of a topic, unless it is known to have records.
    pub(super) fn record(&self, id: TopicId, status: ClassicStatus) {
        let mut topics = self.0.lock();
        if topics.get(&id) != Some(&ClassicStatus::HasRecords) {
            topics.insert(id, status);
        }
    }
}
