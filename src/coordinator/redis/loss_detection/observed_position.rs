//! Observed positions: the greatest sequence that a replica saw of each shard, and the port that
//! stores them outside of Redis.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::log::ids::ProcessIdentity;

/// The greatest sequence observed of one shard under one replication id.
///
/// A Redis has it if the shard reached at least this sequence under this replication id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObservedPosition {
    /// The replication id of the Redis.
    pub replication_id: String,
    /// The sequence.
    pub sequence: u64,
}

/// The observed positions of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedPositions {
    /// The metadata that they belong to.
    pub metadata_id: String,
    /// The registry's, then each shard's; `None` where no change was observed yet.
    pub positions: Vec<Option<ObservedPosition>>,
    /// The indexes of positions that an earlier process of the replica observed, and against which
    /// this one has not verified the shard.
    pub inherited: BTreeSet<usize>,
    /// The positions of the last changes that no object has, as far as they were observed.
    pub unrecoverable: Vec<Option<ObservedPosition>>,
    /// The process whose record may be reported in place of the positions, if any.
    pub process: Option<ProcessIdentity>,
}

/// Stores observed positions where a failure of Redis does not affect them.
#[async_trait]
pub trait ObservedPositionStore: Send + Sync + std::fmt::Debug {
    /// Stores the positions of this replica in place of the earlier ones.
    ///
    /// # Errors
    /// The store's message, for logs.
    async fn save(&self, positions: &ObservedPositions) -> Result<(), String>;

    /// Returns the stored positions of this replica; `None` if it never stored any.
    ///
    /// # Errors
    /// The store's message, for logs.
    async fn load_own(&self) -> Result<Option<ObservedPositions>, String>;

    /// Returns the stored positions of all replicas.
    ///
    /// # Errors
    /// The store's message, for logs.
    async fn load_all(&self) -> Result<Vec<ObservedPositions>, String>;

    /// Precedes the first change of this process in a part of the metadata, the registry or a shard,
    /// under another replication id, which is empty if the server has none.
    ///
    /// # Errors
    /// The store's message, for logs; nothing is changed then.
    async fn begin_history(&self, _index: usize, _replication_id: &str) -> Result<(), String> {
        Ok(())
    }
}

/// The positions that were saved last, and when.
#[derive(Debug, Default)]
pub(in crate::coordinator::redis) struct LastSaved(pub(super) Option<(ObservedPositions, Instant)>);

/// The verifications of one shard in this process.
#[derive(Debug, Default)]
pub(in crate::coordinator::redis) struct Verification {
    /// The number of completed ones.
    pub(in crate::coordinator::redis) completed: AtomicU64,
    /// Held by the task that verifies.
    pub(super) running: tokio::sync::Mutex<()>,
}

/// The positions of all replicas, as they were read from their store.
#[derive(Debug)]
pub(in crate::coordinator::redis) struct StoredPositions {
    /// When the reading began.
    pub(super) since: Instant,
    pub(super) all: Arc<Vec<ObservedPositions>>,
}

/// Tracks the positions that this process observed of one shard.
#[derive(Debug, Default)]
pub(in crate::coordinator::redis) struct PositionTracker(Mutex<TrackedPosition>);

#[derive(Clone, Debug, Default)]
struct TrackedPosition {
    /// The replication id under which the shard is verified; empty before the first verification.
    replication_id: String,
    /// The sequence at which that replication id began.
    start_sequence: u64,
    /// The greatest sequence observed under it.
    sequence: u64,
    /// The position under the last earlier replication id in which a change was observed.
    previous: Option<ObservedPosition>,
    /// The position that an earlier process of this replica saved, until the first verification.
    inherited: Option<ObservedPosition>,
    /// The position of the last change that is in no object, and when it was observed.
    pinned: Option<(Instant, ObservedPosition)>,
}

impl PositionTracker {
    /// Returns the replication id under which the shard is verified, and the greatest sequence
    /// observed under it.
    pub(in crate::coordinator::redis) fn current(&self) -> (String, u64) {
        let tracked = self.0.lock();
        (tracked.replication_id.clone(), tracked.sequence)
    }

    /// Records a sequence. `replication_id` may be a prefix of the full id; a sequence of another
    /// replication id than the current one is ignored.
    pub(in crate::coordinator::redis) fn observe(&self, replication_id: &str, sequence: u64) {
        let mut tracked = self.0.lock();
        if !replication_id.is_empty() && tracked.replication_id.starts_with(replication_id) {
            tracked.sequence = tracked.sequence.max(sequence);
        }
    }

    /// Records a change that is in no object; its loss cannot be repaired. `replication_id` may be
    /// a prefix of the current one.
    pub(in crate::coordinator::redis) fn pin(&self, replication_id: &str, sequence: u64) {
        let mut tracked = self.0.lock();
        let is_current = tracked.replication_id.starts_with(replication_id);
        let replication_id = match is_current && !replication_id.is_empty() {
            true => tracked.replication_id.clone(),
            false => replication_id.to_owned(),
        };
        if let Some((_, pinned)) = &tracked.pinned
            && pinned.replication_id == replication_id
            && pinned.sequence >= sequence
        {
            return;
        }
        tracked.pinned = Some((Instant::now(), ObservedPosition { replication_id, sequence }));
    }

    /// Records a change of another replica that is in no object. `prefix` is that of its replication
    /// id; one that began before the current id is included in it.
    pub(in crate::coordinator::redis) fn pin_observed(&self, prefix: &str, sequence: u64) {
        if !prefix.is_empty() && self.current().0.starts_with(prefix) {
            self.pin(prefix, sequence);
        }
    }

    /// Takes over the position of such a change that an earlier process of this replica saved.
    pub(in crate::coordinator::redis) fn inherit_pin(&self, position: ObservedPosition) {
        self.0.lock().pinned.get_or_insert_with(|| (Instant::now(), position));
    }

    /// Returns the position of the last change that is in no object, and when it was observed.
    pub(in crate::coordinator::redis) fn pinned(&self) -> Option<(Instant, ObservedPosition)> {
        self.0.lock().pinned.clone()
    }

    /// Records that the shard is verified under a replication id that began at `start_sequence`.
    /// `earlier` is a position that the shard has; it is reported and saved until this process has
    /// observed a change, so that what earlier processes observed is never forgotten.
    pub(super) fn set_verified(
        &self,
        replication_id: String,
        start_sequence: u64,
        sequence: u64,
        earlier: Option<ObservedPosition>,
    ) {
        let mut tracked = self.0.lock();
        let inherited = tracked.inherited.take();
        if tracked.replication_id == replication_id {
            tracked.sequence = tracked.sequence.max(sequence);
        } else {
            let previous = tracked.position();
            *tracked = TrackedPosition {
                replication_id,
                start_sequence,
                sequence,
                previous,
                inherited: None,
                pinned: tracked.pinned.take(),
            };
        }
        if tracked.position().is_none() {
            tracked.previous = earlier.or(inherited);
        }
    }

    /// Takes over the position that an earlier process of this replica saved. It is reported and
    /// saved until the shard, which may be away, is verified.
    pub(in crate::coordinator::redis) fn inherit(&self, position: ObservedPosition) {
        let mut tracked = self.0.lock();
        if tracked.replication_id.is_empty() {
            tracked.inherited = Some(position);
        }
    }

    /// Returns the position to report.
    pub(in crate::coordinator::redis) fn position(&self) -> Option<ObservedPosition> {
        let tracked = self.0.lock();
        tracked.position().or_else(|| tracked.inherited.clone())
    }

    /// Returns whether the position to report is one that an earlier process observed.
    pub(in crate::coordinator::redis) fn is_inherited(&self) -> bool {
        self.0.lock().inherited.is_some()
    }
}

impl TrackedPosition {
    /// A replication id without an observed change is not reported: its beginning may itself be
    /// lost, and nothing else would be lost with it.
    fn position(&self) -> Option<ObservedPosition> {
        if self.sequence > self.start_sequence {
            Some(ObservedPosition {
                replication_id: self.replication_id.clone(),
                sequence: self.sequence,
            })
        } else {
            self.previous.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(replication_id: &str, sequence: u64) -> ObservedPosition {
        ObservedPosition { replication_id: replication_id.to_owned(), sequence }
    }

    #[test]
    fn replication_id_without_changes_keeps_the_previous_position() {
        let tracker = PositionTracker::default();
        assert_eq!(tracker.position(), None);
        tracker.set_verified("a1".to_owned(), 0, 0, None);
        assert_eq!(tracker.position(), None);
        tracker.observe("a1", 7);
        tracker.set_verified("b2".to_owned(), 7, 7, Some(position("x", 9)));
        assert_eq!(tracker.position(), Some(position("a1", 7)));
        tracker.observe("b2", 8);
        assert_eq!(tracker.position(), Some(position("b2", 8)));
    }

    #[test]
    fn new_process_takes_an_earlier_position_until_it_observes_a_change() {
        let tracker = PositionTracker::default();
        tracker.set_verified("b2".to_owned(), 7, 7, Some(position("a1", 7)));
        assert_eq!(tracker.position(), Some(position("a1", 7)));
        tracker.observe("b2", 8);
        assert_eq!(tracker.position(), Some(position("b2", 8)));
    }

    #[test]
    fn inherited_position_is_kept_until_the_shard_is_verified() {
        let tracker = PositionTracker::default();
        tracker.inherit(position("a1", 5));
        assert_eq!((tracker.position(), tracker.is_inherited()), (Some(position("a1", 5)), true));
        // The shard has it, and changes that were made after it.
        tracker.set_verified("b2".to_owned(), 9, 9, Some(position("a1", 9)));
        assert_eq!((tracker.position(), tracker.is_inherited()), (Some(position("a1", 9)), false));
        tracker.inherit(position("a1", 5));
        assert_eq!(tracker.position(), Some(position("a1", 9)), "read too late");
        let tracker = PositionTracker::default();
        tracker.inherit(position("a1", 5));
        tracker.set_verified("b2".to_owned(), 9, 9, None);
        assert_eq!(tracker.position(), Some(position("a1", 5)));
    }

    #[test]
    fn last_change_that_is_in_no_object_is_pinned() {
        let tracker = PositionTracker::default();
        let pinned = || tracker.pinned().map(|(_, position)| position);
        tracker.pin_observed("a1", 3);
        assert_eq!(pinned(), None, "nothing is known of that history");
        tracker.inherit_pin(position("x", 2));
        tracker.set_verified("a1".to_owned(), 0, 3, None);
        tracker.pin_observed("b", 4);
        tracker.pin_observed("", 4);
        assert_eq!(pinned(), Some(position("x", 2)));
        tracker.pin_observed("a", 4);
        tracker.pin("a1", 3);
        assert_eq!(pinned(), Some(position("a1", 4)));
        tracker.set_verified("b2".to_owned(), 5, 5, None);
        assert_eq!(pinned(), Some(position("a1", 4)));
        tracker.pin("a1", 5);
        assert_eq!(pinned(), Some(position("a1", 5)), "a reply that was late");
    }

    #[test]
    fn sequences_of_other_replication_ids_are_ignored() {
        let tracker = PositionTracker::default();
        tracker.observe("", 5);
        tracker.set_verified("a1".to_owned(), 0, 3, None);
        tracker.observe("b", 9);
        tracker.observe("", 9);
        assert_eq!(tracker.current(), ("a1".to_owned(), 3));
        tracker.observe("a", 4);
        tracker.observe("a1", 2);
        assert_eq!(tracker.current(), ("a1".to_owned(), 4));
    }
}
