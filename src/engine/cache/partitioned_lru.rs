//! Memory-bounded LRU cache of blocks, partitioned by the reason why a block is cached.
//!
//! # Partitions
//! The capacity C, in bytes, is divided into guaranteed shares: C/2 for [`CachePartition::Written`],
//! C/4 each for [`CachePartition::Tailing`] and [`CachePartition::CatchUp`]. A partition may use
//! capacity that the others leave free. When the cache is full, a partition that is above its share
//! gives up a block: `CatchUp` first, then `Tailing`, then `Written`.
//!
//! # Eviction
//! `Written` and `Tailing` evict the least recently used block. Recency serves log readers better
//! than frequency: a block is read often for a short time and then never again, so a cache that
//! prefers frequently used blocks keeps the past and drops what was just read ahead.
//!
//! `CatchUp` serves several readers of the same objects that drift apart (ADR 15). Plain LRU evicts
//! the blocks that the slower readers need next, and each of these is read from the store again.
//! The cache therefore evicts first, in LRU order, a block *b* that no reader still needs:
//!
//! ```text
//! progress(b) ≥ R   or   idle(b) ≥ IDLE
//! R = max(1, round(progress(x)) for each cached x, round(progress(e)))
//! ```
//!
//! - progress(b), in readers: the mean number of readers over the runs of *b* that were read to
//!   their end at least once ([`ReaderProgress`](super::block::ReaderProgress));
//! - e: the block with the greatest progress that was evicted within [`PROGRESS_RETENTION`];
//! - R, in readers: the estimated number of readers near this position;
//! - idle(b), in seconds: the time since *b* was last read.
//!
//! If there is no such block, the least recently used one is evicted.
//!
//! # Admission
//! n further blocks of mean size s fit ([`PartitionedLru::has_catch_up_capacity`]) if the cache
//! stays within C, or if `CatchUp` is within its share, or if at least ⌈(used + n·s − C) / s⌉ blocks
//! satisfy the condition above. Read-ahead is skipped, and the fastest of several readers waits,
//! while they do not fit.

use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::block::{Block, BlockId};

/// Reason why a block is cached. Each has a guaranteed share of the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CachePartition {
    /// Whole objects that this replica wrote, as block 0: half of the capacity.
    Written,
    /// Blocks read near the high watermark: a quarter.
    Tailing,
    /// Blocks of older data: a quarter.
    CatchUp,
}

/// Order in which partitions above their share give up blocks.
const EVICTION_ORDER: [CachePartition; 3] =
    [CachePartition::CatchUp, CachePartition::Tailing, CachePartition::Written];
/// Time after which an unread block counts as no longer needed. A slow reader therefore delays the
/// others by at most this long each time they fill the cache.
const IDLE: Duration = Duration::from_millis(500);
/// Time for which the progress of an evicted block contributes to the estimated number of readers.
const PROGRESS_RETENTION: Duration = Duration::from_secs(2);
/// Approximate overhead of an entry, in bytes.
const ENTRY_BYTES: u64 = 256;

/// The cache. See the module's documentation for its policy.
#[derive(Debug)]
pub(super) struct PartitionedLru {
    capacity_bytes: u64,
    partitions: Mutex<[Partition; 3]>,
}

/// The blocks of one [`CachePartition`].
#[derive(Debug)]
struct Partition {
    share_bytes: u64,
    used_bytes: u64,
    blocks: LruCache<BlockId, LruEntry>,
    evicted: EvictedProgress,
}

#[derive(Debug)]
struct LruEntry {
    block: Block,
    last_used: Instant,
}

/// Progress of the most widely read block that was evicted recently.
#[derive(Clone, Copy, Debug)]
struct EvictedProgress {
    /// Readers that had read the block.
    readers: f64,
    /// Time of the eviction.
    at: Instant,
}

impl EvictedProgress {
    fn is_expired(self) -> bool {
        self.at.elapsed() >= PROGRESS_RETENTION
    }
}

impl PartitionedLru {
    /// Creates an empty cache of `capacity_bytes` bytes.
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let evicted = EvictedProgress { readers: 0.0, at: Instant::now() };
        let partition = |share_bytes| Partition {
            share_bytes,
            used_bytes: 0,
            blocks: LruCache::unbounded(),
            evicted,
        };
        let shares = [capacity_bytes / 2, capacity_bytes / 4, capacity_bytes / 4];
        Self { capacity_bytes, partitions: Mutex::new(shares.map(partition)) }
    }

    /// Returns the size of the cached blocks, in bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        used_bytes(&self.partitions.lock())
    }

    /// Returns a block from the first of the given partitions that holds it, and marks it as most
    /// recently used.
    pub(super) fn get(&self, candidates: &[CachePartition], id: BlockId) -> Option<Block> {
        let mut partitions = self.partitions.lock();
        candidates.iter().find_map(|candidate| {
            let entry = partitions[*candidate as usize].blocks.get_mut(&id)?;
            entry.last_used = Instant::now();
            Some(entry.block.clone())
        })
    }

    /// Records that a reader has read the run at byte `run_start` of a catch-up block to its end.
    pub(super) fn record_progress(&self, id: BlockId, run_start: u64) {
        let partitions = self.partitions.lock();
        if let Some(entry) = partitions[CachePartition::CatchUp as usize].blocks.peek(&id) {
            entry.block.progress.record(run_start);
        }
    }

    /// Returns whether `count` further catch-up blocks would evict only blocks that no reader
    /// still needs.
    pub(super) fn has_catch_up_capacity(&self, count: usize) -> bool {
        let partitions = self.partitions.lock();
        let catch_up = &partitions[CachePartition::CatchUp as usize];
        let mean_bytes = catch_up.used_bytes / catch_up.blocks.len().max(1) as u64;
        let required = used_bytes(&partitions) + count as u64 * mean_bytes;
        let Some(excess) = required.checked_sub(self.capacity_bytes) else { return true };
        let evictions = excess.div_ceil(mean_bytes.max(1)) as usize;
        // Within its share, this partition evicts blocks of partitions that are above theirs.
        !catch_up.is_above_share() || catch_up.unneeded().take(evictions).count() == evictions
    }

    /// Returns whether several catch-up readers are near the same position.
    pub(super) fn is_catch_up_shared(&self) -> bool {
        self.partitions.lock()[CachePartition::CatchUp as usize].estimated_readers() >= 2.0
    }

    /// Caches a block, evicting others as necessary. A block larger than the capacity is ignored.
    pub(super) fn insert(&self, partition: CachePartition, id: BlockId, block: Block) {
        if weight(&block) > self.capacity_bytes {
            return;
        }
        let mut partitions = self.partitions.lock();
        partitions[partition as usize].insert(id, block);
        while used_bytes(&partitions) > self.capacity_bytes {
            // The shares add up to the capacity at most, so some partition is above its share.
            let above =
                EVICTION_ORDER.into_iter().find(|p| partitions[*p as usize].is_above_share());
            match above {
                None => return,
                Some(CachePartition::CatchUp) => {
                    partitions[CachePartition::CatchUp as usize].evict_unneeded_first();
                }
                Some(other) => partitions[other as usize].evict_least_recent(),
            }
        }
    }

    /// Removes a block from the given partitions.
    pub(super) fn remove(&self, candidates: &[CachePartition], id: BlockId) {
        let mut partitions = self.partitions.lock();
        for candidate in candidates {
            partitions[*candidate as usize].remove(id);
        }
    }
}

impl Partition {
    fn is_above_share(&self) -> bool {
        self.used_bytes > self.share_bytes
    }

    fn insert(&mut self, id: BlockId, block: Block) {
        self.used_bytes += weight(&block);
        if let Some(before) = self.blocks.put(id, LruEntry { block, last_used: Instant::now() }) {
            self.used_bytes -= weight(&before.block);
        }
    }

    fn remove(&mut self, id: BlockId) {
        if let Some(entry) = self.blocks.pop(&id) {
            self.used_bytes -= weight(&entry.block);
        }
    }

    /// Returns R of the module's documentation, in readers.
    fn estimated_readers(&self) -> f64 {
        let evicted = if self.evicted.is_expired() { 1.0 } else { self.evicted.readers };
        let cached = self.blocks.iter().map(|(_, entry)| entry.block.progress.readers().round());
        cached.fold(evicted.max(1.0), f64::max)
    }

    /// Returns the blocks that no reader still needs, least recently used first.
    fn unneeded(&self) -> impl Iterator<Item = BlockId> {
        let readers = self.estimated_readers();
        let is_unneeded = move |entry: &LruEntry| {
            entry.block.progress.readers() >= readers || entry.last_used.elapsed() >= IDLE
        };
        self.blocks.iter().rev().filter(move |(_, entry)| is_unneeded(entry)).map(|(id, _)| *id)
    }

    fn evict_least_recent(&mut self) {
        if let Some((_, entry)) = self.blocks.pop_lru() {
            self.used_bytes -= weight(&entry.block);
        }
    }

    /// Evicts a block that no reader still needs, else the least recently used one.
    fn evict_unneeded_first(&mut self) {
        let Some(id) = self.unneeded().next() else { return self.evict_least_recent() };
        let progress = self.blocks.peek(&id).map(|entry| entry.block.progress.readers().round());
        let readers = progress.unwrap_or_default();
        if readers >= self.evicted.readers || self.evicted.is_expired() {
            self.evicted = EvictedProgress { readers, at: Instant::now() };
        }
        self.remove(id);
    }
}

fn used_bytes(partitions: &[Partition; 3]) -> u64 {
    partitions.iter().map(|partition| partition.used_bytes).sum()
}

/// Returns what a block counts against the capacity, in bytes.
fn weight(block: &Block) -> u64 {
    block.bytes.len() as u64 + ENTRY_BYTES
}
