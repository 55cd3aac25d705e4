//! What a replica has seen of each shard, kept beside the metadata itself, so that metadata which
//! went back is recognised by whoever comes later.

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

/// The greatest sequence seen of one shard in one of its lives. A Redis is right only if it lived
/// that life at least so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObservedPosition {
    /// The life: Redis' replication id.
    pub replication_id: String,
    /// The sequence.
    pub sequence: u64,
}

/// What one replica has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedPositions {
    /// The generation of the metadata.
    pub metadata_id: String,
    /// Of the registry, then of each shard; `None` where nothing was seen yet.
    pub tags: Vec<Option<ObservedPosition>>,
}

/// Keeps floors where no Redis forgets them.
#[async_trait]
pub trait ObservedPositionStore: Send + Sync + std::fmt::Debug {
    /// Keeps what this replica has seen, in the place of what it kept before.
    ///
    /// # Errors
    /// What the store said; for people.
    async fn keep(&self, floors: &ObservedPositions) -> Result<(), String>;

    /// What all replicas kept.
    ///
    /// # Errors
    /// What the store said; for people.
    async fn all(&self) -> Result<Vec<ObservedPositions>, String>;
}

/// What this process has seen of one shard.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<State>);

#[derive(Clone, Debug, Default)]
struct State {
    /// The life in which the shard is known to be settled; empty before the first.
    replication_id: String,
    /// The sequence at which that life began.
    base: u64,
    /// The greatest sequence seen in it.
    sequence: u64,
    /// The last life before it in which a change was seen.
    before: Option<ObservedPosition>,
}

impl Seen {
    /// The life in which the shard is known to be settled, and the greatest sequence seen in it.
    pub(super) fn known(&self) -> (String, u64) {
        let state = self.lock();
        (state.replication_id.clone(), state.sequence)
    }

    /// Takes note of a sequence, unless it belongs to another life than the one that is known, of
    /// which `replication_id` is the beginning at least.
    pub(super) fn raise(&self, replication_id: &str, sequence: u64) {
        let mut state = self.lock();
        if !replication_id.is_empty() && state.replication_id.starts_with(replication_id) {
            state.sequence = state.sequence.max(sequence);
        }
    }

    /// The shard is settled in this life, which began at `base`.
    pub(super) fn settled(&self, replication_id: String, base: u64, sequence: u64) {
        let mut state = self.lock();
        if state.replication_id == replication_id {
            state.sequence = state.sequence.max(sequence);
        } else {
            let before = state.floor();
            *state = State { replication_id, base, sequence, before };
        }
    }

    pub(super) fn floor(&self) -> Option<ObservedPosition> {
        self.lock().floor()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    /// A life in which no change was seen binds nobody: its beginning may itself be lost, and with
    /// it nothing else.
    fn floor(&self) -> Option<ObservedPosition> {
        if self.sequence > self.base {
            Some(ObservedPosition {
                replication_id: self.replication_id.clone(),
                sequence: self.sequence,
            })
        } else {
            self.before.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(replication_id: &str, sequence: u64) -> ObservedPosition {
        ObservedPosition { replication_id: replication_id.to_owned(), sequence }
    }

    #[test]
    fn a_life_without_changes_leaves_the_floor_to_the_one_before() {
        let seen = Seen::default();
        assert_eq!(seen.floor(), None);
        seen.settled("a1".to_owned(), 0, 0);
        assert_eq!(seen.floor(), None);
        seen.raise("a1", 7);
        seen.settled("b2".to_owned(), 7, 7);
        assert_eq!(seen.floor(), Some(floor("a1", 7)));
        seen.raise("b2", 8);
        assert_eq!(seen.floor(), Some(floor("b2", 8)));
    }

    #[test]
    fn what_was_seen_in_another_life_does_not_count_in_this_one() {
        let seen = Seen::default();
        seen.raise("", 5);
        seen.settled("a1".to_owned(), 0, 3);
        seen.raise("b", 9);
        seen.raise("", 9);
        assert_eq!(seen.known(), ("a1".to_owned(), 3));
        seen.raise("a", 4);
        seen.raise("a1", 2);
        assert_eq!(seen.known(), ("a1".to_owned(), 4));
    }
}
