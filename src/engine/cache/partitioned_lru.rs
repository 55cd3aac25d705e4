//! Memory-bounded LRU cache of blocks, partitioned by the reason why a block is cached.
//!
//! # Partitions
//! The capacity C, in bytes, is divided into guaranteed shares: 3/8 C for
//! [`CachePartition::Written`], C/4 each for [`CachePartition::Tailing`] and
//! [`CachePartition::CatchUp`], C/8 for [`CachePartition::Peers`]. A partition may use capacity that
//! the others leave free. When the cache is full, a partition that is above its share gives up a
//! block: `CatchUp` first, then `Peers`, `Tailing`, `Written`.
//!
//! # Blocks in flight
//! A read reserves the expected size of its block before it starts ([`PartitionedLru::reserve`]),
//! and the block takes the place of the reservation. Cached blocks and reservations together never
//! exceed C: what is inserted while the rest is reserved takes the place of its own partition's
//! blocks, also below the share. A block in flight that is larger than expected exceeds C by the
//! difference until it has arrived.
//!
//! # Eviction
//! `Written`, `Tailing` and `Peers` evict the least recently used block. Recency serves log readers
//! better than frequency: a block is read often for a short time and then never again, so a cache
//! that prefers frequently used blocks keeps the past and drops what was just read ahead.
//!
//! `CatchUp` serves readers that walk through the same objects at a distance from each other: the
//! partitions of one consumer, and several groups (ADR 15). It evicts, in LRU order, the blocks that
//! no reader still needs ([`CatchUpReaders`]). If there are none, read-ahead is refused, and another
//! read first waits (see `reader.rs`) and then evicts the block that was read most recently: its
//! reader has it, and the others need the ones behind it first. Least recently used blocks would be
//! the very ones that they need next.

use std::future::Future;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::block::{Block, BlockId};
use super::catch_up::{CatchUpReaders, PositionReport};
use crate::engine::memory::ReaderId;

/// Reason why a block is cached. Each has a guaranteed share of the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CachePartition {
    /// Whole objects that this replica wrote, as block 0.
    Written,
    /// Blocks read near the high watermark.
    Tailing,
    /// Blocks of older data.
    CatchUp,
    /// Blocks read for other replicas of the zone.
    Peers,
}

/// Order in which partitions above their share give up blocks.
const EVICTION_ORDER: [CachePartition; 4] = [
    CachePartition::CatchUp,
    CachePartition::Peers,
    CachePartition::Tailing,
    CachePartition::Written,
];
/// Shares of the partitions in eighths of the capacity, in the order of [`CachePartition`].
const SHARES: [u64; 4] = [3, 2, 2, 1];
/// Approximate overhead of an entry, in bytes.
const ENTRY_BYTES: u64 = 256;
/// Number of partitions whose positions are reported under one lock.
const REPORTS_AT_ONCE: usize = 32;
/// Number of blocks among which the one read most recently is looked for.
const RECENT_MAX: usize = 64;

/// Blocks that a reservation may evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Evict {
    /// Those that no catch-up reader still needs.
    Unneeded,
    /// Any, within the shares of the partitions.
    Any,
}

/// The cache. See the module's documentation for its policy.
#[derive(Debug)]
pub(super) struct PartitionedLru {
    capacity_bytes: u64,
    state: Mutex<CacheState>,
    /// Notified when capacity may have become available.
    freed: Notify,
}

#[derive(Debug)]
struct CacheState {
    partitions: [Partition; 4],
    readers: CatchUpReaders,
    /// Bytes of all partitions.
    used_bytes: u64,
    /// Reserved bytes by partition.
    reserved: [u64; 4],
}

/// The blocks of one [`CachePartition`].
#[derive(Debug)]
struct Partition {
    share_bytes: u64,
    /// Bytes of the blocks and of the reservations.
    used_bytes: u64,
    /// Blocks that a catch-up reader still needs.
    needed: LruCache<BlockId, LruEntry>,
    unneeded: LruCache<BlockId, LruEntry>,
}

#[derive(Debug)]
struct LruEntry {
    block: Block,
    weight: u64,
    /// True if it was requested, and not only read ahead.
    is_read: bool,
}

/// Capacity for a block that is being read. It is returned when this is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    cache: Arc<PartitionedLru>,
    partition: CachePartition,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.cache.state.lock().unreserve(self.partition, self.bytes);
        self.cache.freed.notify_waiters();
    }
}

impl Reservation {
    /// Caches the block in place of the reservation. `is_read` states whether it was requested, and
    /// not only read ahead.
    pub(super) fn fill(self, id: BlockId, block: Block, is_read: bool) {
        let (cache, partition) = (Arc::clone(&self.cache), self.partition);
        drop(self);
        cache.insert(partition, id, block, is_read);
    }
}

impl PartitionedLru {
    /// Creates an empty cache of `capacity_bytes` bytes, a sixteenth of which is for what is known
    /// about readers.
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let of_readers = capacity_bytes / 16;
        let capacity_bytes = capacity_bytes - of_readers;
        let partition = |eighths: u64| Partition {
            share_bytes: capacity_bytes / 8 * eighths,
            used_bytes: 0,
            needed: LruCache::unbounded(),
            unneeded: LruCache::unbounded(),
        };
        let state = CacheState {
            partitions: SHARES.map(partition),
            readers: CatchUpReaders::new(of_readers),
            used_bytes: 0,
            reserved: [0; 4],
        };
        Self { capacity_bytes, state: Mutex::new(state), freed: Notify::new() }
    }

    /// Returns the size of the cached blocks and of the reservations, in bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes
    }

    /// Returns the guaranteed share of a partition, in bytes.
    pub(super) fn share(&self, partition: CachePartition) -> u64 {
        self.capacity_bytes / 8 * SHARES[partition as usize]
    }

    /// Returns a block from the first of the given partitions that holds it, and marks it as most
    /// recently used.
    pub(super) fn get(&self, candidates: &[CachePartition], id: BlockId) -> Option<Block> {
        let mut state = self.state.lock();
        candidates.iter().find_map(|candidate| state.partitions[*candidate as usize].get(id))
    }

    /// Returns whether one of the given partitions holds a block, without marking it as used.
    pub(super) fn holds(&self, candidates: &[CachePartition], id: BlockId) -> bool {
        let mut state = self.state.lock();
        let mut holds = |candidate| state.partitions[candidate as usize].entry(id).is_some();
        candidates.iter().any(|candidate| holds(*candidate))
    }

    /// Reports positions of a catch-up reader.
    pub(super) fn report(&self, reader: ReaderId, positions: &[PositionReport]) {
        let mut changed = Vec::new();
        // Look-ups of others need not wait for all partitions of a large fetch.
        for reports in positions.chunks(REPORTS_AT_ONCE) {
            changed.clear();
            let mut state = self.state.lock();
            for report in reports {
                state.readers.report(reader, report, &mut changed);
            }
            state.apply(&changed);
            drop(state);
            if !changed.is_empty() {
                self.freed.notify_waiters();
            }
        }
    }

    /// Returns the number of active catch-up readers.
    pub(super) fn active_readers(&self) -> usize {
        let mut state = self.state.lock();
        state.expire_readers();
        state.readers.active()
    }

    /// Returns a future that completes when capacity may have become available after this call.
    pub(super) fn freed(&self) -> impl Future<Output = ()> {
        self.freed.notified()
    }

    /// Reserves capacity for a block of about `bytes` bytes. Returns `None` if there is none without
    /// evicting blocks that `evict` excludes, or because too much is reserved. A block larger than
    /// the partition's share reserves the share.
    pub(super) fn reserve(
        self: &Arc<Self>,
        partition: CachePartition,
        bytes: u64,
        evict: Evict,
    ) -> Option<Reservation> {
        // More than its share could not be had while the other partitions use theirs.
        let bytes = (bytes + ENTRY_BYTES).min(self.share(partition));
        let mut state = self.state.lock();
        if !state.may_reserve(partition, bytes, self.capacity_bytes) {
            return None;
        }
        state.add(partition, bytes);
        state.reserved[partition as usize] += bytes;
        if !state.shrink(self.capacity_bytes, evict) {
            state.unreserve(partition, bytes);
            return None;
        }
        drop(state);
        Some(Reservation { cache: Arc::clone(self), partition, bytes })
    }

    /// Caches a block, evicting others as necessary. A block larger than the capacity is ignored.
    pub(super) fn insert(
        &self,
        partition: CachePartition,
        id: BlockId,
        block: Block,
        is_read: bool,
    ) {
        let weight = weight(&block);
        if weight > self.capacity_bytes {
            return;
        }
        let mut state = self.state.lock();
        state.remove(partition, id);
        state.add(partition, weight);
        let is_needed = partition == CachePartition::CatchUp && state.readers.is_needed(id);
        let entry = LruEntry { block, weight, is_read };
        state.partitions[partition as usize].list(is_needed).put(id, entry);
        if partition == CachePartition::CatchUp {
            state.readers.cached(id);
        }
        state.shrink_also(partition, self.capacity_bytes);
    }

    /// Weighs a block again whose layout has become known.
    pub(super) fn reweigh(&self, candidates: &[CachePartition], id: BlockId) {
        let mut state = self.state.lock();
        for candidate in candidates {
            let Some(entry) = state.partitions[*candidate as usize].entry(id) else { continue };
            let (before, after) = (entry.weight, weight(&entry.block));
            entry.weight = after;
            state.release(*candidate, before);
            state.add(*candidate, after);
            state.shrink_also(*candidate, self.capacity_bytes);
            return;
        }
    }

    /// Removes a block from the given partitions.
    pub(super) fn remove(&self, candidates: &[CachePartition], id: BlockId) {
        let mut state = self.state.lock();
        candidates.iter().for_each(|candidate| state.remove(*candidate, id));
    }

    #[cfg(test)]
    pub(super) fn reader_steps(&self) -> u64 {
        self.state.lock().readers.steps
    }
}

impl CacheState {
    fn add(&mut self, partition: CachePartition, bytes: u64) {
        self.partitions[partition as usize].used_bytes += bytes;
        self.used_bytes += bytes;
    }

    fn release(&mut self, partition: CachePartition, bytes: u64) {
        self.partitions[partition as usize].used_bytes -= bytes;
        self.used_bytes -= bytes;
    }

    /// Returns whether reservations leave enough to others: catch-up reads take at most half of the
    /// capacity, and no reader takes the share of peers, because this replica may wait for a peer
    /// that waits for this replica.
    fn may_reserve(&self, partition: CachePartition, bytes: u64, capacity: u64) -> bool {
        let of = |partition| self.reserved[partition as usize];
        let of_readers = of(CachePartition::Tailing) + of(CachePartition::CatchUp);
        match partition {
            CachePartition::Written | CachePartition::Peers => true,
            _ if of(partition) == 0 => true,
            CachePartition::CatchUp => of(partition) + bytes <= capacity / 2,
            CachePartition::Tailing => of_readers + bytes <= capacity / 8 * 7,
        }
    }

    fn unreserve(&mut self, partition: CachePartition, bytes: u64) {
        self.release(partition, bytes);
        self.reserved[partition as usize] -= bytes;
    }

    fn remove(&mut self, partition: CachePartition, id: BlockId) {
        let blocks = &mut self.partitions[partition as usize];
        let Some(entry) = blocks.needed.pop(&id).or_else(|| blocks.unneeded.pop(&id)) else {
            return;
        };
        self.release(partition, entry.weight);
        if partition == CachePartition::CatchUp {
            self.readers.evicted(id);
        }
    }

    /// Evicts blocks until `capacity` is not exceeded; returns whether that was possible.
    fn shrink(&mut self, capacity: u64, evict: Evict) -> bool {
        while self.used_bytes > capacity {
            let above = EVICTION_ORDER.into_iter().filter_map(|partition| {
                let blocks = &self.partitions[partition as usize];
                let victim = match evict {
                    _ if blocks.used_bytes <= blocks.share_bytes => None,
                    Evict::Unneeded => blocks.unneeded.peek_lru().map(|(id, _)| *id),
                    Evict::Any => blocks.victim(),
                };
                Some((partition, victim?))
            });
            let Some((partition, victim)) = { above }.next() else { return false };
            self.remove(partition, victim);
        }
        true
    }

    /// Evicts blocks until `capacity` is not exceeded. If the rest of it is reserved, evicts those of
    /// `partition`.
    fn shrink_also(&mut self, partition: CachePartition, capacity: u64) {
        let is_within = self.shrink(capacity, Evict::Any);
        while !is_within && self.used_bytes > capacity {
            let Some(victim) = self.partitions[partition as usize].victim() else { return };
            self.remove(partition, victim);
        }
    }

    fn expire_readers(&mut self) {
        let mut changed = Vec::new();
        self.readers.expire(&mut changed);
        self.apply(&changed);
    }

    /// Moves blocks to the list to which they now belong.
    fn apply(&mut self, changed: &[BlockId]) {
        let blocks = &mut self.partitions[CachePartition::CatchUp as usize];
        for id in changed {
            let is_needed = self.readers.is_needed(*id);
            if let Some(entry) = blocks.list(!is_needed).pop(id) {
                blocks.list(is_needed).put(*id, entry);
            }
            if blocks.entry(*id).is_some() {
                self.readers.cached(*id);
            }
        }
    }
}

impl Partition {
    fn list(&mut self, is_needed: bool) -> &mut LruCache<BlockId, LruEntry> {
        if is_needed { &mut self.needed } else { &mut self.unneeded }
    }

    fn entry(&mut self, id: BlockId) -> Option<&mut LruEntry> {
        self.needed.peek_mut(&id).or_else(|| self.unneeded.peek_mut(&id))
    }

    fn get(&mut self, id: BlockId) -> Option<Block> {
        let entry = self.needed.get_mut(&id).or_else(|| self.unneeded.get_mut(&id))?;
        entry.is_read = true;
        Some(entry.block.clone())
    }

    /// Returns the block to be evicted next.
    fn victim(&self) -> Option<BlockId> {
        let unneeded = self.unneeded.peek_lru().map(|(id, _)| *id);
        unneeded.or_else(|| {
            let mut recent = self.needed.iter().take(RECENT_MAX);
            let read = recent.find(|(_, entry)| entry.is_read).map(|(id, _)| *id);
            read.or_else(|| self.needed.peek_lru().map(|(id, _)| *id))
        })
    }
}

/// Returns what a block counts against the capacity, in bytes.
fn weight(block: &Block) -> u64 {
    block.memory() + ENTRY_BYTES
}
