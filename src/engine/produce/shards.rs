//! Recognises the shards of the coordinator that fail.
//!
//! A request holds its memory until all of its batches have outcomes. While a shard of the
//! coordinator does not respond, the requests with batches in it would in time hold all memory of
//! the replica, and producers of the other shards could not send any more. So the requests with
//! batches in failing shards hold at most half of it ([`super::pending`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// A shard fails if its oldest commit without a decision started longer ago than this.
pub(super) const FAILING_AFTER: Duration = Duration::from_millis(500);

/// The commits of each shard that are not decided.
#[derive(Debug, Default)]
pub(super) struct ShardCommits {
    /// The start of each commit that is not decided completely, oldest first.
    shards: BTreeMap<u16, BTreeMap<u64, Instant>>,
    last_commit: u64,
}

impl ShardCommits {
    /// Records the start of a commit, and returns its number.
    pub(super) fn begin(&mut self, shard: u16, now: Instant) -> u64 {
        self.last_commit += 1;
        self.shards.entry(shard).or_default().insert(self.last_commit, now);
        self.last_commit
    }

    /// Records that every part of a commit is decided.
    pub(super) fn end(&mut self, shard: u16, commit: u64) {
        if let Some(commits) = self.shards.get_mut(&shard) {
            commits.remove(&commit);
        }
    }

    /// Returns the shards that fail.
    pub(super) fn failing(&self, now: Instant) -> BTreeSet<u16> {
        let is_failing = |commits: &BTreeMap<u64, Instant>| {
            let oldest = commits.first_key_value();
            oldest.is_some_and(|(_, started)| now - *started >= FAILING_AFTER)
        };
        let failing = self.shards.iter().filter(|(_, commits)| is_failing(commits));
        failing.map(|(shard, _)| *shard).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_fails_while_its_oldest_commit_is_late() {
        let start = Instant::now();
        let late = start + FAILING_AFTER;
        let mut commits = ShardCommits::default();
        let [first, _, _] = [0, 0, 1].map(|shard| commits.begin(shard, start));
        assert_eq!(commits.failing(start), BTreeSet::new());
        assert_eq!(commits.failing(late), BTreeSet::from([0, 1]));
        commits.end(0, first);
        assert_eq!(commits.failing(late), BTreeSet::from([0, 1]), "another one is as old");
        commits.end(1, 3);
        assert_eq!(commits.failing(late), BTreeSet::from([0]));
    }
}
