//! Limits the memory that the requests of failing shards hold.
//!
//! A request holds its memory until all of its batches have outcomes. While a shard of the
//! coordinator does not respond, the requests with batches in it would in time hold all memory of
//! the replica, and producers of the other shards could not send any more. So the requests of
//! shards that fail hold at most half of it; further batches for such a shard are refused.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// A shard fails if its oldest commit without a decision started longer ago than this.
const FAILING_AFTER: Duration = Duration::from_millis(500);
/// Divisor of the memory limit: the share that the requests of failing shards may hold together.
const SHARE_DIVISOR: usize = 2;

/// The requests and the commits of each shard that are not decided.
#[derive(Debug)]
pub(super) struct ShardLoads {
    /// The bytes that the requests of failing shards may hold together.
    share: usize,
    shards: BTreeMap<u16, ShardLoad>,
    last_commit: u64,
}

#[derive(Debug, Default)]
struct ShardLoad {
    /// The bytes of the requests with batches in the shard. A request with batches in several
    /// shards counts as a whole in each.
    bytes: usize,
    /// The start of each commit that is not decided completely, oldest first.
    commits: BTreeMap<u64, Instant>,
}

impl ShardLoads {
    /// Creates the loads of a replica whose requests hold at most `memory_bytes`.
    pub(super) fn new(memory_bytes: usize) -> Self {
        Self { share: memory_bytes / SHARE_DIVISOR, shards: BTreeMap::new(), last_commit: 0 }
    }

    /// Adds a request with batches in a shard.
    pub(super) fn add(&mut self, shard: u16, bytes: usize) {
        self.shards.entry(shard).or_default().bytes += bytes;
    }

    /// Removes a request whose batches in a shard have outcomes.
    pub(super) fn remove(&mut self, shard: u16, bytes: usize) {
        if let Some(load) = self.shards.get_mut(&shard) {
            load.bytes = load.bytes.saturating_sub(bytes);
        }
    }

    /// Records the start of a commit, and returns its number.
    pub(super) fn begin_commit(&mut self, shard: u16, now: Instant) -> u64 {
        self.last_commit += 1;
        self.shards.entry(shard).or_default().commits.insert(self.last_commit, now);
        self.last_commit
    }

    /// Records that every part of a commit is decided.
    pub(super) fn end_commit(&mut self, shard: u16, commit: u64) {
        if let Some(load) = self.shards.get_mut(&shard) {
            load.commits.remove(&commit);
        }
    }

    /// Returns the failing shards whose requests hold their share of the memory.
    pub(super) fn full(&self, now: Instant) -> Vec<u16> {
        let is_failing = |load: &ShardLoad| {
            let oldest = load.commits.first_key_value();
            oldest.is_some_and(|(_, started)| now - *started >= FAILING_AFTER)
        };
        let failing = self.shards.iter().filter(|(_, load)| is_failing(load));
        let count = failing.clone().count().max(1);
        let full = failing.filter(|(_, load)| load.bytes >= self.share / count);
        full.map(|(shard, _)| *shard).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failing_shards_are_full() {
        let start = Instant::now();
        let mut loads = ShardLoads::new(1_000);
        (0..3).for_each(|shard| loads.add(shard, 600));
        let commits = [0, 1].map(|shard| loads.begin_commit(shard, start));
        assert_eq!(loads.full(start), [0_u16; 0]);
        let late = start + FAILING_AFTER;
        assert_eq!(loads.full(late), [0, 1]);
        loads.end_commit(0, commits[0]);
        assert_eq!(loads.full(late), [1]);
        loads.remove(1, 200);
        assert_eq!(loads.full(late), [0_u16; 0], "400 of 500 bytes");
        // Two failing shards have one share together.
        loads.begin_commit(0, start);
        assert_eq!(loads.full(late), [0, 1]);
    }
}
