//! Bounds the outcomes that the coordinator stores for this process.
//!
//! The coordinator keeps the outcome of every part of an object that is not below the lowest
//! undecided one of its shard, so that a repeated commit gets it again. While one part stays
//! undecided, those of the later ones accumulate. A shard at the limit accepts no more batches
//! until the part is decided ([`super::pending`]).

use std::collections::BTreeMap;

/// The batches of each shard whose outcomes the coordinator stores.
#[derive(Debug)]
pub(super) struct StoredOutcomes {
    /// The most batches of a shard.
    max: usize,
    shards: BTreeMap<u16, ShardOutcomes>,
}

#[derive(Debug, Default)]
struct ShardOutcomes {
    /// The number of decided batches, by the sequence of their object.
    batches: BTreeMap<u32, usize>,
    total: usize,
}

impl StoredOutcomes {
    /// Creates the outcomes of a process that may have those of `max` batches in a shard.
    pub(super) fn new(max: usize) -> Self {
        Self { max, shards: BTreeMap::new() }
    }

    /// Adds the outcomes of a part.
    pub(super) fn add(&mut self, shard: u16, sequence: u32, batches: usize) {
        let of_shard = self.shards.entry(shard).or_default();
        *of_shard.batches.entry(sequence).or_default() += batches;
        of_shard.total += batches;
    }

    /// Removes the outcomes of the objects below the lowest undecided one of each shard.
    pub(super) fn release(&mut self, lowest_undecided: impl Fn(u16) -> Option<u32>) {
        self.shards.retain(|shard, outcomes| {
            let Some(lowest) = lowest_undecided(*shard) else { return false };
            while let Some(entry) = outcomes.batches.first_entry()
                && *entry.key() < lowest
            {
                outcomes.total -= entry.remove();
            }
            outcomes.total > 0
        });
    }

    /// Returns the shards at the limit.
    pub(super) fn full_shards(&self) -> impl Iterator<Item = u16> {
        let full = self.shards.iter().filter(|(_, outcomes)| outcomes.total >= self.max);
        full.map(|(shard, _)| *shard)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn shard_is_full_until_its_lowest_part_is_decided() {
        let mut outcomes = StoredOutcomes::new(10);
        let full = |outcomes: &StoredOutcomes| outcomes.full_shards().collect::<BTreeSet<_>>();
        (1..10).for_each(|sequence| outcomes.add(0, sequence, 1));
        outcomes.add(1, 3, 10);
        outcomes.release(|_| Some(0));
        assert_eq!(full(&outcomes), BTreeSet::from([1]));
        outcomes.add(0, 9, 1);
        outcomes.release(|_| Some(1));
        assert_eq!(full(&outcomes), BTreeSet::from([0, 1]));
        outcomes.release(|shard| Some(if shard == 0 { 2 } else { 3 }));
        assert_eq!(full(&outcomes), BTreeSet::from([1]));
        outcomes.release(|_| None);
        assert!(outcomes.shards.is_empty());
    }
}
