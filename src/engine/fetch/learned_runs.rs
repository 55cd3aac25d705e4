//! Runs that queries of catching-up readers returned. A run never changes, so the next fetches of
//! the partition need no query for them.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use crate::log::batch::Run;
use crate::log::ids::TopicPartition;

/// The greatest number of runs in total, about 12 MiB. Beyond it, those of the partition that was
/// not read for the longest time are dropped.
const RUNS_MAX: usize = 98_304;
/// The greatest number of runs of one partition; beyond it, the oldest ones are dropped.
const RUNS_PER_PARTITION_MAX: usize = 8_192;

/// The runs, shared by all fetches of a replica.
#[derive(Debug, Default)]
pub(super) struct LearnedRuns(Mutex<RunTable>);

#[derive(Debug, Default)]
struct RunTable {
    partitions: HashMap<TopicPartition, PartitionRuns>,
    runs: usize,
    uses: u64,
}

#[derive(Debug, Default)]
struct PartitionRuns {
    by_offset: BTreeMap<i64, Run>,
    last_used: u64,
}

impl LearnedRuns {
    /// Adds the runs that a query returned.
    pub(super) fn insert(&self, partition: TopicPartition, runs: &[Run]) {
        let mut table = self.0.lock();
        table.uses += 1;
        let now = table.uses;
        let entry = table.partitions.entry(partition).or_default();
        entry.last_used = now;
        let before = entry.by_offset.len();
        entry.by_offset.extend(runs.iter().map(|run| (run.base_offset, *run)));
        let added = entry.by_offset.len() - before;
        let mut dropped = 0;
        while entry.by_offset.len() > RUNS_PER_PARTITION_MAX {
            entry.by_offset.pop_first();
            dropped += 1;
        }
        table.runs += added;
        table.runs -= dropped;
        while table.runs > RUNS_MAX && table.drop_least_recently_used() {}
    }

    /// Returns contiguous runs from the one that contains `offset` on, until they have `bytes_max`
    /// bytes or are `runs_max`; none if that run is unknown.
    pub(super) fn find(
        &self,
        partition: TopicPartition,
        offset: i64,
        bytes_max: u64,
        runs_max: usize,
    ) -> Vec<Run> {
        let mut table = self.0.lock();
        table.uses += 1;
        let now = table.uses;
        let Some(entry) = table.partitions.get_mut(&partition) else { return Vec::new() };
        entry.last_used = now;
        let first = entry.by_offset.range(..=offset).next_back().map(|(base, _)| *base);
        let (mut runs, mut bytes, mut next) = (Vec::<Run>::new(), 0, offset);
        for run in first.into_iter().flat_map(|base| entry.by_offset.range(base..)).map(|(_, r)| r)
        {
            let continues = match runs.last() {
                None => run.end_offset() > next,
                Some(_) => run.base_offset == next,
            };
            if !continues || bytes >= bytes_max || runs.len() >= runs_max {
                break;
            }
            bytes += run.bytes;
            next = run.end_offset();
            runs.push(*run);
        }
        runs
    }
}

impl RunTable {
    fn drop_least_recently_used(&mut self) -> bool {
        let oldest = self.partitions.iter().min_by_key(|(_, runs)| runs.last_used);
        let Some((&partition, _)) = oldest else { return false };
        if let Some(dropped) = self.partitions.remove(&partition) {
            self.runs -= dropped.by_offset.len();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::{ObjectId, TopicId};

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition }
    }

    fn run(base_offset: i64, offset_count: i64) -> Run {
        let object = ObjectId { incarnation: 1, process_id: 1, sequence: 0 };
        Run { base_offset, offset_count, object, start: 8, bytes: 100, max_timestamp: 0 }
    }

    #[test]
    fn contiguous_runs_are_found() {
        let learned = LearnedRuns::default();
        learned.insert(partition(0), &[run(0, 10), run(10, 5)]);
        learned.insert(partition(0), &[run(15, 5), run(30, 1)]);
        let find = |offset, bytes, runs| {
            let found = learned.find(partition(0), offset, bytes, runs);
            found.iter().map(|run| run.base_offset).collect::<Vec<_>>()
        };
        assert_eq!(find(3, 1 << 20, 9), [0, 10, 15]);
        assert_eq!(find(10, 1 << 20, 9), [10, 15]);
        assert_eq!(find(3, 101, 9), [0, 10]);
        assert_eq!(find(3, 1 << 20, 1), [0]);
        assert!(find(20, 1 << 20, 9).is_empty());
        assert_eq!(find(30, 1 << 20, 9), [30]);
        assert!(find(31, 1 << 20, 9).is_empty());
        assert!(find(-1, 1 << 20, 9).is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let learned = LearnedRuns::default();
        for index in 0..40 {
            let runs: Vec<_> = (0..9_000).map(|base| run(base, 1)).collect();
            learned.insert(partition(index), &runs);
            let table = learned.0.lock();
            let held: usize = table.partitions.values().map(|runs| runs.by_offset.len()).sum();
            assert_eq!(held, table.runs);
            assert!(held <= RUNS_MAX);
        }
        assert!(learned.find(partition(0), 8_999, 1, 1).is_empty(), "the least recently used");
        assert_eq!(learned.find(partition(39), 8_999, 1, 1).len(), 1);
        assert!(learned.find(partition(39), 0, 1, 1).is_empty(), "the oldest");
    }
}
