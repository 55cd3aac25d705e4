//! Reads blocks through the cache, with one read in flight per block.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::{Admission, Purpose};
use super::block::{Block, BlockId};
use super::partitioned_lru::{CachePartition, PartitionedLru, Reservation};
use super::source::{ObjectSource, read_error};
use crate::metrics::{CacheOutcome, Metrics};
use crate::store::{StoreError, StoreErrorKind};
use crate::tasks;

/// Catch-up reads that may run at once. Other reads never wait for them.
const CATCH_UP_READS_MAX: usize = 16;
/// Partitions that hold blocks read from a source.
pub(super) const READ_PARTITIONS: [CachePartition; 3] =
    [CachePartition::Tailing, CachePartition::CatchUp, CachePartition::Peers];

/// Route by which a block is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReadPath {
    /// Through the zone cache: peers may be queried.
    Zone,
    /// From the store alone.
    Store,
}

/// A block and the route by which it is read.
type ReadKey = (BlockId, ReadPath);
type SharedRead = Shared<BoxFuture<'static, Result<Block, StoreError>>>;
type InFlightReads = Arc<Mutex<HashMap<ReadKey, InFlightRead>>>;

/// A read in flight.
#[derive(Clone, Debug)]
struct InFlightRead {
    /// Distinguishes the read from others of the same block.
    number: u64,
    /// The class whose memory it waits for, until it has started.
    partition: CachePartition,
    has_started: Arc<AtomicBool>,
    read: SharedRead,
}

impl InFlightRead {
    /// Returns whether a reader with this purpose waits for the read no longer than for one of its
    /// own: catch-up reads have the least memory.
    fn serves(&self, purpose: Purpose) -> bool {
        let partition = purpose.partition();
        self.has_started.load(Ordering::Acquire)
            || partition == self.partition
            || partition == CachePartition::CatchUp
    }
}

/// Capacity and permit of a read that may start at once.
type Admitted = (Reservation, OwnedSemaphorePermit);

/// Reads blocks. Concurrent reads of a block share one request to its source.
#[derive(Debug)]
pub(super) struct BlockReader {
    zone: Arc<dyn ObjectSource>,
    /// Queries no peer.
    store: Arc<dyn ObjectSource>,
    cache: Arc<PartitionedLru>,
    in_flight: InFlightReads,
    reads: AtomicU64,
    catch_up_reads: Arc<Semaphore>,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
}

impl BlockReader {
    /// Creates a reader that uses `source` for both routes.
    pub(super) fn new(source: Arc<dyn ObjectSource>, cache: Arc<PartitionedLru>) -> Self {
        Self {
            zone: Arc::clone(&source),
            store: source,
            admission: Arc::new(Admission::new(Arc::clone(&cache))),
            cache,
            in_flight: Arc::default(),
            reads: AtomicU64::new(0),
            catch_up_reads: Arc::new(Semaphore::new(CATCH_UP_READS_MAX)),
            metrics: Arc::default(),
        }
    }

    /// Returns a reader above another cache, with `store` as the source of [`ReadPath::Store`].
    pub(super) fn rebuild(self, store: Arc<dyn ObjectSource>, cache: Arc<PartitionedLru>) -> Self {
        let metrics = self.metrics;
        Self { store, metrics, ..Self::new(self.zone, cache) }
    }

    pub(super) fn set_metrics(&mut self, metrics: Arc<Metrics>) {
        self.metrics = metrics;
    }

    /// Counts the outcome of a cache lookup.
    pub(super) fn count_lookup(&self, outcome: CacheOutcome) {
        self.metrics.fetch.cache_lookup(outcome);
    }

    /// Returns the size that a block is expected to have, in bytes.
    pub(super) fn expected_bytes(&self) -> u64 {
        self.admission.expected_bytes()
    }

    /// Expects blocks of 1 MiB.
    #[cfg(test)]
    pub(super) fn shrink_expected_bytes(&self) {
        (0..200).for_each(|_| self.admission.record_size(1 << 20));
    }

    /// Returns a block that is cached.
    pub(super) fn cached(&self, id: BlockId) -> Option<Block> {
        self.cache.get(&READ_PARTITIONS, id)
    }

    /// Removes a block from the cache, because it is corrupt.
    pub(super) fn invalidate(&self, id: BlockId) {
        self.cache.remove(&READ_PARTITIONS, id);
    }

    /// Starts to read a block that will be requested next, unless it is cached or being read.
    /// Returns false if caching it would evict blocks that are still needed, or if too many
    /// catch-up reads are running.
    pub(super) fn read_ahead(&self, id: BlockId) -> bool {
        let path = self.path(id, ReadPath::Zone);
        let mut in_flight = self.in_flight.lock();
        let Entry::Vacant(slot) = in_flight.entry((id, path)) else { return true };
        if self.cache.holds(&READ_PARTITIONS, id) {
            return true;
        }
        let Ok(permit) = Arc::clone(&self.catch_up_reads).try_acquire_owned() else { return false };
        let Some(reservation) = self.admission.reserve_unneeded(CachePartition::CatchUp) else {
            return false;
        };
        let purpose = Purpose::CatchUp(None);
        slot.insert(self.start_read(id, purpose, path, Some((reservation, permit))));
        true
    }

    /// Reads a block, from the cache or its source. Concurrent callers share the read, and its
    /// error, unless it still waits for memory of another class.
    ///
    /// # Errors
    /// The source's error, or [`StoreErrorKind::Unavailable`] if there is no memory for the block.
    ///
    /// # Cancel safety
    /// May be dropped at any point; the read continues for other callers and fills the cache.
    pub(super) async fn read(
        &self,
        id: BlockId,
        purpose: Purpose,
        path: ReadPath,
    ) -> Result<Block, StoreError> {
        if let Some(block) = self.cached(id) {
            self.count_lookup(CacheOutcome::hit);
            return Ok(block);
        }
        let path = self.path(id, path);
        let read = {
            let mut in_flight = self.in_flight.lock();
            match in_flight.get(&(id, path)) {
                Some(other) if other.serves(purpose) => {
                    self.count_lookup(CacheOutcome::coalesced);
                    other.read.clone()
                }
                _ => {
                    // The read may have completed between the lookup above and the lock.
                    if let Some(block) = self.cached(id) {
                        self.count_lookup(CacheOutcome::hit);
                        return Ok(block);
                    }
                    self.count_lookup(CacheOutcome::miss);
                    let started = self.start_read(id, purpose, path, None);
                    let read = started.read.clone();
                    in_flight.insert((id, path), started);
                    read
                }
            }
        };
        read.await
    }

    fn path(&self, id: BlockId, path: ReadPath) -> ReadPath {
        if self.zone.is_local_owner(id.object) { ReadPath::Store } else { path }
    }

    /// Starts a read. A read ahead is `admitted` already.
    fn start_read(
        &self,
        id: BlockId,
        purpose: Purpose,
        path: ReadPath,
        admitted: Option<Admitted>,
    ) -> InFlightRead {
        let source = match path {
            ReadPath::Zone => Arc::clone(&self.zone),
            ReadPath::Store => Arc::clone(&self.store),
        };
        let (admission, catch_up_reads) =
            (Arc::clone(&self.admission), Arc::clone(&self.catch_up_reads));
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        let has_started = Arc::new(AtomicBool::new(admitted.is_some()));
        let guard =
            InFlightGuard { in_flight: Arc::clone(&self.in_flight), key: (id, path), number };
        let (cache, starts) = (Arc::clone(&self.cache), Arc::clone(&has_started));
        let read = async move {
            // Dropped last, so that at any time the block is either in flight or cached.
            let guard = guard;
            let is_requested = admitted.is_none();
            let (reservation, permit) = match (admitted, purpose) {
                (Some((reservation, permit)), _) => (Some(reservation), Some(permit)),
                (None, Purpose::CatchUp(_)) => {
                    // Memory first: a read that waits for it does not take a place from others.
                    let reservation = admission.reserve(purpose, admission.expected_bytes()).await;
                    (reservation, catch_up_reads.acquire_owned().await.ok())
                }
                (None, _) => (admission.reserve(purpose, admission.expected_bytes()).await, None),
            };
            let Some(reservation) = reservation else {
                let detail = "no memory for the block".to_owned();
                return Err(read_error(StoreErrorKind::Unavailable, id.object, detail));
            };
            // A reader of another class may not have waited as long.
            if let Some(other) = guard.start(&starts) {
                drop((reservation, permit));
                return other.await;
            }
            if let Some(block) = cache.get(&READ_PARTITIONS, id).filter(|_| is_requested) {
                return Ok(block);
            }
            let bytes = source.read(id.object, id.range()).await?;
            admission.record_size(bytes.len() as u64);
            let block = Block::new(bytes);
            reservation.fill(id, block.clone(), is_requested);
            Ok(block)
        };
        // A task of its own: a caller that is cancelled neither aborts the read nor leaks a permit.
        let task = tasks::spawn("read block", read);
        let aborted = move |error| {
            let detail = format!("the read task ended: {error}");
            Err(read_error(StoreErrorKind::Unavailable, id.object, detail))
        };
        let read = task.map(move |read| read.unwrap_or_else(aborted)).boxed().shared();
        InFlightRead { number, partition: purpose.partition(), has_started, read }
    }
}

/// Removes a read from the in-flight map when it ends, also by a panic.
struct InFlightGuard {
    in_flight: InFlightReads,
    key: ReadKey,
    number: u64,
}

impl InFlightGuard {
    /// Marks the read as started, or returns another one of the block that has started already.
    fn start(&self, has_started: &AtomicBool) -> Option<SharedRead> {
        let in_flight = self.in_flight.lock();
        let other = in_flight.get(&self.key).filter(|read| read.number != self.number);
        let other = other.filter(|read| read.has_started.load(Ordering::Acquire));
        if other.is_none() {
            has_started.store(true, Ordering::Release);
        }
        other.map(|other| other.read.clone())
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let mut in_flight = self.in_flight.lock();
        if in_flight.get(&self.key).is_some_and(|read| read.number == self.number) {
            in_flight.remove(&self.key);
        }
    }
}
