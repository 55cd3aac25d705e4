//! What is kept of objects in memory: a bounded number of bytes, of which the longest unused go
//! first.
//!
//! Recency, not frequency: who reads a log moves on, and so a block is wanted often for a while and
//! then never again. A cache that favours what was wanted often keeps the past, and drops what was
//! just read ahead.
//!
//! Readers of history that are at about the same place share what one of them read, as long as the
//! first does not run so far ahead that the memory no longer reaches back to the last. So it goes
//! on only as far as there is something that all have passed, or that nobody used for a while.

use std::collections::HashMap;
use std::time::Duration;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::reader::{Block, BlockId};

/// Why something is kept. Each has a share of the memory that the others cannot take from it; what
/// one does not use, the others may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CachePartition {
    /// Whole objects that this replica wrote, as block 0: half of the memory.
    Written,
    /// What tail readers read: a quarter.
    Tailing,
    /// What readers of history read: a quarter.
    CatchUp,
}

/// From whom is taken first what is more than its share.
const EVICTED: [CachePartition; 3] =
    [CachePartition::CatchUp, CachePartition::Tailing, CachePartition::Written];
/// What nobody used for so long, nobody waits for: a reader that is slow holds the others up by no
/// more than this for each time that they fill the memory.
const IDLE: Duration = Duration::from_millis(500);
/// How long it is remembered how many readers had passed what was pushed out.
const READERS_REMEMBERED: Duration = Duration::from_secs(2);
/// What an entry takes beside its bytes, roughly.
const ENTRY_BYTES: u64 = 256;

/// The memory, for all readers of a replica.
#[derive(Debug)]
pub(super) struct PartitionedLru {
    bytes_max: u64,
    partitions: Mutex<[Kept; 3]>,
}

#[derive(Debug)]
struct Kept {
    share: u64,
    bytes: u64,
    blocks: LruCache<BlockId, Entry>,
    /// How many had passed a block that was pushed out, and when.
    passed_by: (f64, Instant),
}

#[derive(Debug)]
struct Entry {
    block: Block,
    used: Instant,
}

/// How often each run of a block was given to its end, by its first byte.
#[derive(Debug, Default)]
pub(super) struct ReaderProgress(Mutex<HashMap<u64, u32>>);

impl ReaderProgress {
    pub(super) fn note(&self, run_start: u64) {
        *self.0.lock().entry(run_start).or_default() += 1;
    }

    /// How many have passed, on the average of the runs that anybody did.
    fn times(&self) -> f64 {
        let passed = self.0.lock();
        let times: u32 = passed.values().sum();
        f64::from(times) / passed.len().max(1) as f64
    }
}

impl PartitionedLru {
    pub(super) fn new(bytes_max: u64) -> Self {
        let passed_by = (0.0, Instant::now());
        let kept = |share| Kept { share, bytes: 0, blocks: LruCache::unbounded(), passed_by };
        let shares = [bytes_max / 2, bytes_max / 4, bytes_max / 4];
        Self { bytes_max, partitions: Mutex::new(shares.map(kept)) }
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().iter().map(|kept| kept.bytes).sum()
    }

    /// Whichever of the shelves has it, where it becomes the last to go.
    pub(super) fn get(&self, partitions: &[CachePartition], id: BlockId) -> Option<Block> {
        let mut kept = self.lock();
        partitions.iter().find_map(|shelf| {
            let entry = kept[*shelf as usize].blocks.get_mut(&id)?;
            entry.used = Instant::now();
            Some(entry.block.clone())
        })
    }

    /// Somebody was given a run of a block to its end.
    pub(super) fn record_progress(&self, id: BlockId, run_start: u64) {
        let kept = self.lock();
        if let Some(entry) = kept[CachePartition::CatchUp as usize].blocks.peek(&id) {
            entry.block.passed.note(run_start);
        }
    }

    /// Whether `coming` more blocks of history push out only what nobody is coming to.
    pub(super) fn has_room_for_history(&self, coming: usize) -> bool {
        let partitions = self.lock();
        let history = &partitions[CachePartition::CatchUp as usize];
        let each = history.bytes / history.blocks.len().max(1) as u64;
        let kept = partitions.iter().map(|kept| kept.bytes).sum::<u64>();
        let Some(over) = (kept + coming as u64 * each).checked_sub(self.bytes_max) else {
            return true;
        };
        // What the other shelves have beyond their shares goes when this one is within its own.
        let missing = over.div_ceil(each.max(1)) as usize;
        !history.is_over_share() || history.spare().take(missing).count() == missing
    }

    /// Whether several readers of history are at about the same place.
    pub(super) fn history_is_shared(&self) -> bool {
        self.lock()[CachePartition::CatchUp as usize].readers() >= 2.0
    }

    /// Keeps it, unless it is larger than all of the memory.
    pub(super) fn insert(&self, shelf: CachePartition, id: BlockId, block: Block) {
        if weight(&block) > self.bytes_max {
            return;
        }
        let mut partitions = self.lock();
        partitions[shelf as usize].insert(id, block);
        while partitions.iter().map(|kept| kept.bytes).sum::<u64>() > self.bytes_max {
            // The shares are no more than the memory, so somebody has more than its own.
            let greedy = EVICTED.into_iter().find(|s| partitions[*s as usize].is_over_share());
            let Some(greedy) = greedy else { return };
            match greedy {
                CachePartition::CatchUp => partitions[greedy as usize].evict_history(),
                CachePartition::Written | CachePartition::Tailing => {
                    partitions[greedy as usize].evict()
                }
            }
        }
    }

    pub(super) fn remove(&self, partitions: &[CachePartition], id: BlockId) {
        let mut kept = self.lock();
        partitions.iter().for_each(|shelf| kept[*shelf as usize].remove(id));
    }

    fn lock(&self) -> MutexGuard<'_, [Kept; 3]> {
        self.partitions.lock()
    }
}

impl Kept {
    fn is_over_share(&self) -> bool {
        self.bytes > self.share
    }

    fn insert(&mut self, id: BlockId, block: Block) {
        self.bytes += weight(&block);
        if let Some(before) = self.blocks.put(id, Entry { block, used: Instant::now() }) {
            self.bytes -= weight(&before.block);
        }
    }

    /// How many have passed the block that most have passed, of those that are here or were of late.
    fn readers(&self) -> f64 {
        let (times, at) = self.passed_by;
        let of_late = if at.elapsed() < READERS_REMEMBERED { times } else { 1.0 };
        let times = |entry: &Entry| entry.block.passed.times().round();
        self.blocks.iter().map(|(_, entry)| times(entry)).fold(of_late.max(1.0), f64::max)
    }

    /// What nobody is coming to, the longest unused first.
    fn spare(&self) -> impl Iterator<Item = BlockId> {
        let readers = self.readers();
        let is_spare = move |entry: &Entry| {
            entry.block.passed.times() >= readers || entry.used.elapsed() >= IDLE
        };
        self.blocks.iter().rev().filter(move |(_, entry)| is_spare(entry)).map(|(id, _)| *id)
    }

    fn remove(&mut self, id: BlockId) {
        if let Some(entry) = self.blocks.pop(&id) {
            self.bytes -= weight(&entry.block);
        }
    }

    fn evict(&mut self) {
        if let Some((_, entry)) = self.blocks.pop_lru() {
            self.bytes -= weight(&entry.block);
        }
    }

    /// What nobody is coming to, if there is such, before what was only not used for longest.
    fn evict_history(&mut self) {
        let Some(id) = self.spare().next() else { return self.evict() };
        let times = self.blocks.peek(&id).map_or(0.0, |entry| entry.block.passed.times().round());
        if times >= self.passed_by.0 || self.passed_by.1.elapsed() >= READERS_REMEMBERED {
            self.passed_by = (times, Instant::now());
        }
        self.remove(id);
    }
}

fn weight(block: &Block) -> u64 {
    block.bytes.len() as u64 + ENTRY_BYTES
}
