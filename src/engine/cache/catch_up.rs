//! Positions of the catch-up readers, and the blocks that they still need.
//!
//! A fetch reports, for each of its partitions, the offset and the runs at and after it that the
//! coordinator returned. A block is needed while an active reader has not passed a known run in it:
//!
//! ```text
//! needed(b) = number of known runs r of b with position(p) < end(r), p the partition of r
//! position(p) = the lowest offset of the active readers of p; none → infinite
//! ```
//!
//! A reader is active for [`ACTIVE`] after its last fetch. The counts change when a position
//! changes, at the cost of one step for each run between the old and the new one; a look-up of a
//! block reads no run.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::block::BlockId;
use crate::engine::memory::ReaderId;
use crate::log::ids::TopicPartition;

/// Time after its last fetch for which a reader's blocks are kept. It covers the processing of a
/// response by the client.
const ACTIVE: Duration = Duration::from_secs(2);
/// Maximum number of positions; beyond it, the one that was reported least recently is dropped.
const POSITIONS_MAX: usize = 65_536;
/// Approximate memory of a known run, in bytes.
const RUN_BYTES: u64 = 128;

/// A run of which a fetch has reported that it will be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedRun {
    /// The offset after its last record.
    pub(super) end_offset: i64,
    /// A block that contains bytes of it.
    pub(super) block: BlockId,
}

/// Report of a fetch about one of its partitions.
#[derive(Clone, Debug)]
pub(super) struct PositionReport {
    pub(super) partition: TopicPartition,
    /// The next offset to be read; `None` if the partition is not, or no longer, read by a catch-up
    /// reader.
    pub(super) offset: Option<i64>,
    /// The runs at and after the offset.
    pub(super) runs: Vec<ExpectedRun>,
}

/// The readers, the runs that they will read, and the blocks of these runs.
#[derive(Debug)]
pub(super) struct CatchUpReaders {
    partitions: HashMap<TopicPartition, PartitionReaders>,
    blocks: HashMap<BlockId, BlockRuns>,
    /// Time of the last report of each position, least recent first.
    reported: LruCache<(ReaderId, TopicPartition), Instant>,
    /// Number of positions of each reader.
    readers: HashMap<ReaderId, usize>,
    /// Number of known runs, and its limit.
    runs: u64,
    runs_max: u64,
    /// Runs that were looked at, to show which operations look at none.
    #[cfg(test)]
    pub(super) steps: u64,
}

#[derive(Debug)]
struct PartitionReaders {
    positions: Vec<(ReaderId, i64)>,
    /// The lowest position.
    lowest: i64,
    /// Known runs by end offset and block index.
    runs: BTreeMap<(i64, u64), BlockId>,
}

#[derive(Debug, Default)]
struct BlockRuns {
    /// Number of runs that a reader has not passed.
    needed: usize,
    is_cached: bool,
    /// Partition and end offset.
    runs: Vec<(TopicPartition, i64)>,
}

impl Default for PartitionReaders {
    fn default() -> Self {
        Self { positions: Vec::new(), lowest: i64::MAX, runs: BTreeMap::new() }
    }
}

impl CatchUpReaders {
    /// Creates a registry that takes at most about `memory` bytes for known runs. Further runs do
    /// not protect their blocks.
    pub(super) fn new(memory: u64) -> Self {
        Self {
            partitions: HashMap::new(),
            blocks: HashMap::new(),
            reported: LruCache::unbounded(),
            readers: HashMap::new(),
            runs: 0,
            runs_max: memory / RUN_BYTES,
            #[cfg(test)]
            steps: 0,
        }
    }

    /// Returns whether a reader still needs the block.
    pub(super) fn is_needed(&self, id: BlockId) -> bool {
        self.blocks.get(&id).is_some_and(|block| block.needed > 0)
    }

    /// Returns the number of active readers as of the last report or expiry.
    pub(super) fn active(&self) -> usize {
        self.readers.len()
    }

    /// Reports a reader's position in a partition and the runs that it will read. Adds to `changed`
    /// the blocks that may have become needed or unneeded.
    pub(super) fn report(
        &mut self,
        reader: ReaderId,
        report: &PositionReport,
        changed: &mut Vec<BlockId>,
    ) {
        self.expire(changed);
        let PositionReport { partition, offset, ref runs } = *report;
        let Some(position) = offset else {
            if self.readers.contains_key(&reader)
                && self.reported.pop(&(reader, partition)).is_some()
            {
                self.remove_position(reader, partition, changed);
            }
            return;
        };
        if self.reported.put((reader, partition), Instant::now()).is_none() {
            *self.readers.entry(reader).or_default() += 1;
        }
        let readers = self.partitions.entry(partition).or_default();
        match readers.positions.iter_mut().find(|(of, _)| *of == reader) {
            Some((_, at)) => *at = position,
            None => readers.positions.push((reader, position)),
        }
        self.update_lowest(partition, changed);
        for run in runs {
            self.add_run(partition, *run, changed);
        }
    }

    /// Marks a block as cached. Its known runs are kept until it is evicted.
    pub(super) fn cached(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.get_mut(&id) {
            block.is_cached = true;
        }
    }

    /// Marks a block as evicted, and forgets its runs unless a reader still needs it.
    pub(super) fn evicted(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.get_mut(&id) {
            block.is_cached = false;
            self.forget_if_unused(id);
        }
    }

    /// Drops the positions of readers that are no longer active.
    pub(super) fn expire(&mut self, changed: &mut Vec<BlockId>) {
        let is_expired = |at: &Instant| at.elapsed() >= ACTIVE;
        while let Some((_, at)) = self.reported.peek_lru()
            && (is_expired(at) || self.reported.len() > POSITIONS_MAX)
            && let Some(((reader, partition), _)) = self.reported.pop_lru()
        {
            self.remove_position(reader, partition, changed);
        }
    }

    fn remove_position(
        &mut self,
        reader: ReaderId,
        partition: TopicPartition,
        changed: &mut Vec<BlockId>,
    ) {
        if let Entry::Occupied(mut count) = self.readers.entry(reader) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if let Some(readers) = self.partitions.get_mut(&partition) {
            readers.positions.retain(|(of, _)| *of != reader);
        }
        self.update_lowest(partition, changed);
    }

    fn add_run(&mut self, partition: TopicPartition, run: ExpectedRun, changed: &mut Vec<BlockId>) {
        let readers = self.partitions.entry(partition).or_default();
        let key = (run.end_offset, run.block.index);
        if self.runs >= self.runs_max || readers.runs.contains_key(&key) {
            return;
        }
        readers.runs.insert(key, run.block);
        self.runs += 1;
        let block = self.blocks.entry(run.block).or_default();
        block.runs.push((partition, run.end_offset));
        if readers.lowest < run.end_offset {
            block.needed += 1;
        }
        changed.push(run.block);
    }

    /// Recomputes the lowest position of a partition, and counts the runs between the old and the
    /// new one as needed or no longer needed.
    fn update_lowest(&mut self, partition: TopicPartition, changed: &mut Vec<BlockId>) {
        let Some(readers) = self.partitions.get_mut(&partition) else { return };
        let lowest = readers.positions.iter().map(|(_, at)| *at).min().unwrap_or(i64::MAX);
        let before = std::mem::replace(&mut readers.lowest, lowest);
        let is_passed = before < lowest;
        let between = (before.min(lowest).saturating_add(1), 0)..=(before.max(lowest), u64::MAX);
        let crossed: Vec<BlockId> = match before == lowest {
            true => Vec::new(),
            false => readers.runs.range(between).map(|(_, id)| *id).collect(),
        };
        if readers.positions.is_empty() && readers.runs.is_empty() {
            self.partitions.remove(&partition);
        }
        for id in &crossed {
            #[cfg(test)]
            {
                self.steps += 1;
            }
            let Some(block) = self.blocks.get_mut(id) else { continue };
            match is_passed {
                true => block.needed -= 1,
                false => block.needed += 1,
            }
        }
        crossed.iter().for_each(|id| self.forget_if_unused(*id));
        changed.extend(crossed);
    }

    fn forget_if_unused(&mut self, id: BlockId) {
        let is_used = |block: &BlockRuns| block.is_cached || block.needed > 0;
        let Entry::Occupied(block) = self.blocks.entry(id) else { return };
        if is_used(block.get()) {
            return;
        }
        for (partition, end_offset) in block.remove().runs {
            #[cfg(test)]
            {
                self.steps += 1;
            }
            let Some(readers) = self.partitions.get_mut(&partition) else { continue };
            readers.runs.remove(&(end_offset, id.index));
            self.runs -= 1;
            if readers.positions.is_empty() && readers.runs.is_empty() {
                self.partitions.remove(&partition);
            }
        }
    }
}
