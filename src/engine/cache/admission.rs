//! Waits for memory before a block is read.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::block::BLOCK_BYTES;
use super::partitioned_lru::{CachePartition, Evict, PartitionedLru, Reservation};
use crate::engine::memory::ReaderId;

/// Longest wait of a catch-up reader for the readers behind it.
const SLOWER_WAIT_MAX: Duration = Duration::from_millis(500);
/// Longest wait for memory. Memory that blocks in flight take is returned when they have arrived.
const MEMORY_WAIT_MAX: Duration = Duration::from_secs(10);
/// Interval at which a waiting reader looks whether the others are still active. Memory that
/// becomes available is notified.
const RECHECK_AFTER: Duration = Duration::from_millis(100);

/// Class of a read. Each class has its own share of memory and of concurrent reads, so that
/// catching up neither evicts nor delays what tailing readers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadClass {
    /// Reads near the high watermark.
    Tailing,
    /// Reads of older data.
    CatchUp,
}

/// Reason why a block is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Tailing,
    /// For a catch-up reader, if one is known.
    CatchUp(Option<ReaderId>),
    /// For another replica of the zone.
    Peer,
}

impl Purpose {
    pub(super) fn new(class: ReadClass, reader: Option<ReaderId>) -> Self {
        match class {
            ReadClass::Tailing => Self::Tailing,
            ReadClass::CatchUp => Self::CatchUp(reader),
        }
    }

    pub(super) fn partition(self) -> CachePartition {
        match self {
            Self::Tailing => CachePartition::Tailing,
            Self::CatchUp(_) => CachePartition::CatchUp,
            Self::Peer => CachePartition::Peers,
        }
    }
}

/// Number of blocks after which a size counts as old. Writers with different objects take turns.
const SIZES_MAX: u32 = 64;

/// Sizes of recent blocks, in bytes.
#[derive(Debug)]
struct RecentSizes {
    /// The largest of the current blocks, at most [`SIZES_MAX`].
    largest: u64,
    count: u32,
    /// The largest of as many blocks before.
    largest_before: u64,
}

/// Admits reads within the memory of the cache.
#[derive(Debug)]
pub(super) struct Admission {
    cache: Arc<PartitionedLru>,
    sizes: Mutex<RecentSizes>,
    /// Readers that wait for memory, with the number of their reads.
    waiting: Mutex<HashMap<ReaderId, usize>>,
}

impl Admission {
    pub(super) fn new(cache: Arc<PartitionedLru>) -> Self {
        let sizes = RecentSizes { largest: 0, count: 0, largest_before: BLOCK_BYTES / 2 };
        Self { cache, sizes: Mutex::new(sizes), waiting: Mutex::default() }
    }

    /// Returns the size that a block is expected to have, in bytes: the largest of recent ones.
    pub(super) fn expected_bytes(&self) -> u64 {
        let sizes = self.sizes.lock();
        sizes.largest.max(sizes.largest_before)
    }

    /// Records the size of a block, in bytes.
    pub(super) fn record_size(&self, bytes: u64) {
        let mut sizes = self.sizes.lock();
        sizes.largest = sizes.largest.max(bytes);
        sizes.count += 1;
        if sizes.count == SIZES_MAX {
            *sizes = RecentSizes { largest: 0, count: 0, largest_before: sizes.largest };
        }
    }

    /// Reserves memory for a block without evicting one that is still needed.
    pub(super) fn reserve_unneeded(&self, partition: CachePartition) -> Option<Reservation> {
        self.cache.reserve(partition, self.expected_bytes(), Evict::Unneeded)
    }

    /// Reserves memory for about `bytes` bytes. A catch-up reader evicts blocks that others still need only if
    /// no other is going to free memory: all of them wait too, or they have not done so for half a
    /// second. Returns `None` after ten seconds.
    pub(super) async fn reserve(&self, purpose: Purpose, bytes: u64) -> Option<Reservation> {
        let started = Instant::now();
        let mut waiting = None;
        while started.elapsed() < MEMORY_WAIT_MAX {
            let freed = self.cache.freed();
            let evict = match purpose {
                Purpose::CatchUp(Some(_)) if self.others_may_free(started) => Evict::Unneeded,
                _ => Evict::Any,
            };
            if let Some(reservation) = self.cache.reserve(purpose.partition(), bytes, evict) {
                return Some(reservation);
            }
            if let (Purpose::CatchUp(Some(reader)), None) = (purpose, &waiting) {
                waiting = Some(WaitingReader::new(self, reader));
                continue;
            }
            let _freed_or_due = timeout(RECHECK_AFTER, freed).await;
        }
        None
    }

    /// Returns whether a reader that does not wait may pass blocks soon.
    fn others_may_free(&self, since: Instant) -> bool {
        since.elapsed() < SLOWER_WAIT_MAX && self.cache.active_readers() > self.waiting.lock().len()
    }
}

/// A reader that waits for memory, while this exists.
struct WaitingReader<'a> {
    admission: &'a Admission,
    reader: ReaderId,
}

impl<'a> WaitingReader<'a> {
    fn new(admission: &'a Admission, reader: ReaderId) -> Self {
        *admission.waiting.lock().entry(reader).or_default() += 1;
        Self { admission, reader }
    }
}

impl Drop for WaitingReader<'_> {
    fn drop(&mut self) {
        let mut waiting = self.admission.waiting.lock();
        if let Some(count) = waiting.get_mut(&self.reader) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.reader);
            }
        }
    }
}
