//! What is kept of objects in memory: a bounded number of bytes, of which the longest unused go
//! first.
//!
//! Recency, not frequency: who reads a log moves on, and so a block is wanted often for a while and
//! then never again. A cache that favours what was wanted often keeps the past, and drops what was
//! just read ahead.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::blocks::{Block, BlockId};

/// Why something is kept. Each has a share of the memory that the others cannot take from it; what
/// one does not use, the others may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shelf {
    /// Whole objects that this replica wrote, as block 0: half of the memory.
    Own,
    /// What tail readers read: a quarter.
    Tail,
    /// What readers of history read: a quarter.
    History,
}

/// From whom is taken first what is more than its share.
const EVICTED: [Shelf; 3] = [Shelf::History, Shelf::Tail, Shelf::Own];
/// What an entry takes beside its bytes, roughly.
const ENTRY_BYTES: u64 = 256;

/// The memory, for all readers of a replica.
#[derive(Debug)]
pub(super) struct Memory {
    bytes_max: u64,
    shelves: Mutex<[Kept; 3]>,
}

#[derive(Debug)]
struct Kept {
    share: u64,
    bytes: u64,
    blocks: LruCache<BlockId, Block>,
}

impl Memory {
    pub(super) fn new(bytes_max: u64) -> Self {
        let kept = |share| Kept { share, bytes: 0, blocks: LruCache::unbounded() };
        let shares = [bytes_max / 2, bytes_max / 4, bytes_max / 4];
        Self { bytes_max, shelves: Mutex::new(shares.map(kept)) }
    }

    /// Whichever of the shelves has it, where it becomes the last to go.
    pub(super) fn get(&self, shelves: &[Shelf], id: BlockId) -> Option<Block> {
        let mut kept = self.lock();
        shelves.iter().find_map(|shelf| kept[*shelf as usize].blocks.get(&id).cloned())
    }

    /// Keeps it, unless it is larger than all of the memory.
    pub(super) fn insert(&self, shelf: Shelf, id: BlockId, block: Block) {
        if weight(&block) > self.bytes_max {
            return;
        }
        let mut shelves = self.lock();
        shelves[shelf as usize].insert(id, block);
        while shelves.iter().map(|kept| kept.bytes).sum::<u64>() > self.bytes_max {
            // The shares are no more than the memory, so somebody has more than its own.
            let greedy = EVICTED.into_iter().find(|s| shelves[*s as usize].is_over_share());
            let Some(greedy) = greedy else { return };
            shelves[greedy as usize].evict();
        }
    }

    pub(super) fn remove(&self, shelves: &[Shelf], id: BlockId) {
        let mut kept = self.lock();
        shelves.iter().for_each(|shelf| kept[*shelf as usize].remove(id));
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.lock().iter().map(|kept| kept.bytes).sum()
    }

    fn lock(&self) -> MutexGuard<'_, [Kept; 3]> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn is_over_share(&self) -> bool {
        self.bytes > self.share
    }

    fn insert(&mut self, id: BlockId, block: Block) {
        self.bytes += weight(&block);
        if let Some(before) = self.blocks.put(id, block) {
            self.bytes -= weight(&before);
        }
    }

    fn remove(&mut self, id: BlockId) {
        if let Some(block) = self.blocks.pop(&id) {
            self.bytes -= weight(&block);
        }
    }

    fn evict(&mut self) {
        if let Some((_, block)) = self.blocks.pop_lru() {
            self.bytes -= weight(&block);
        }
    }
}

fn weight(block: &Block) -> u64 {
    block.bytes.len() as u64 + ENTRY_BYTES
}
