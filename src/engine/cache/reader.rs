//! Reads blocks through the cache, with one read in flight per block.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::block::{Block, BlockId};
use super::partitioned_lru::{CachePartition, PartitionedLru};
use super::source::{ObjectSource, read_error};
use crate::metrics::{CacheOutcome, Metrics};
use crate::store::{StoreError, StoreErrorKind};
use crate::tasks;

/// Catch-up reads that may run at once. Tailing reads never wait for them.
const CATCH_UP_READS_MAX: usize = 8;
/// Longest wait of a catch-up reader for the readers behind it.
const CATCH_UP_WAIT_MAX: Duration = Duration::from_secs(1);
/// Interval at which it checks whether they have caught up.
const CATCH_UP_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Partitions that hold blocks read from a source.
const READ_PARTITIONS: [CachePartition; 2] = [CachePartition::Tailing, CachePartition::CatchUp];

/// Class of a read. Each class has its own share of memory and of concurrent reads, so that
/// catching up neither evicts nor delays what tailing readers need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadClass {
    /// Reads near the high watermark.
    Tailing,
    /// Reads of older data.
    CatchUp,
}

impl From<ReadClass> for CachePartition {
    fn from(class: ReadClass) -> Self {
        match class {
            ReadClass::Tailing => Self::Tailing,
            ReadClass::CatchUp => Self::CatchUp,
        }
    }
}

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
type InFlightRead = Shared<BoxFuture<'static, Result<Block, StoreError>>>;

/// Reads blocks. Concurrent reads of a block share one request to its source.
#[derive(Debug)]
pub(super) struct BlockReader {
    zone: Arc<dyn ObjectSource>,
    /// Queries no peer.
    store: Arc<dyn ObjectSource>,
    cache: Arc<PartitionedLru>,
    in_flight: Arc<Mutex<HashMap<ReadKey, InFlightRead>>>,
    catch_up_reads: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl BlockReader {
    /// Creates a reader that uses `source` for both routes.
    pub(super) fn new(source: Arc<dyn ObjectSource>, cache: Arc<PartitionedLru>) -> Self {
        Self {
            zone: Arc::clone(&source),
            store: source,
            cache,
            in_flight: Arc::default(),
            catch_up_reads: Arc::new(Semaphore::new(CATCH_UP_READS_MAX)),
            metrics: Arc::default(),
        }
    }

    /// Sets the source of [`ReadPath::Store`].
    pub(super) fn set_store(&mut self, store: Arc<dyn ObjectSource>) {
        self.store = store;
    }

    pub(super) fn set_metrics(&mut self, metrics: Arc<Metrics>) {
        self.metrics = metrics;
    }

    /// Counts the outcome of a cache lookup.
    pub(super) fn count_lookup(&self, outcome: CacheOutcome) {
        self.metrics.fetch.cache_lookup(outcome);
    }

    /// Returns a block that is cached.
    pub(super) fn cached(&self, id: BlockId) -> Option<Block> {
        self.cache.get(&READ_PARTITIONS, id)
    }

    /// Removes a block from the cache, because it is corrupt.
    pub(super) fn invalidate(&self, id: BlockId) {
        self.cache.remove(&READ_PARTITIONS, id);
    }

    /// Records that a reader has read the run at byte `run_start` of the object to its end.
    pub(super) fn record_progress(&self, id: BlockId, run_start: u64) {
        self.cache.record_progress(id, run_start);
    }

    /// Returns whether one more block can be read ahead without evicting one that is still needed.
    pub(super) fn may_read_ahead(&self) -> bool {
        self.cache.has_catch_up_capacity(reads_in_flight(&self.catch_up_reads) + 1)
    }

    /// Reads a block, from the cache or its source. Concurrent callers share the read, and its
    /// error.
    ///
    /// # Errors
    /// The source's error.
    ///
    /// # Cancel safety
    /// May be dropped at any point; the read continues for other callers and fills the cache.
    pub(super) async fn read(
        &self,
        id: BlockId,
        class: ReadClass,
        path: ReadPath,
    ) -> Result<Block, StoreError> {
        if let Some(block) = self.cached(id) {
            self.count_lookup(CacheOutcome::hit);
            return Ok(block);
        }
        let path = if self.zone.is_local_owner(id.object) { ReadPath::Store } else { path };
        let read = match self.in_flight.lock().entry((id, path)) {
            Entry::Occupied(read) => {
                self.count_lookup(CacheOutcome::coalesced);
                read.get().clone()
            }
            Entry::Vacant(slot) => {
                // The read may have completed between the lookup above and the lock.
                if let Some(block) = self.cached(id) {
                    self.count_lookup(CacheOutcome::hit);
                    return Ok(block);
                }
                self.count_lookup(CacheOutcome::miss);
                slot.insert(self.start_read(id, class, path)).clone()
            }
        };
        read.await
    }

    fn start_read(&self, id: BlockId, class: ReadClass, path: ReadPath) -> InFlightRead {
        let source = match path {
            ReadPath::Zone => Arc::clone(&self.zone),
            ReadPath::Store => Arc::clone(&self.store),
        };
        let (cache, catch_up_reads) = (Arc::clone(&self.cache), Arc::clone(&self.catch_up_reads));
        let guard = InFlightGuard { in_flight: Arc::clone(&self.in_flight), key: (id, path) };
        let read = async move {
            // Dropped last, so that at any time the block is either in flight or cached.
            let _guard = guard;
            let _permit = match class {
                ReadClass::Tailing => None,
                ReadClass::CatchUp => {
                    let permit = Arc::clone(&catch_up_reads).acquire_owned().await.ok();
                    let slower = wait_for_slower_readers(&cache, &catch_up_reads);
                    let _timed_out = timeout(CATCH_UP_WAIT_MAX, slower).await;
                    permit
                }
            };
            let block = source.read(id.object, id.range()).await.map(Block::new);
            if let Ok(block) = &block {
                cache.insert(class.into(), id, block.clone());
            }
            block
        };
        // A task of its own: a caller that is cancelled neither aborts the read nor leaks a permit.
        let task = tasks::spawn("read block", read);
        let aborted = move |error| {
            let detail = format!("the read task ended: {error}");
            Err(read_error(StoreErrorKind::Unavailable, id.object, detail))
        };
        task.map(move |read| read.unwrap_or_else(aborted)).boxed().shared()
    }
}

/// Waits until the next block evicts none that slower readers still need.
async fn wait_for_slower_readers(cache: &PartitionedLru, reads: &Semaphore) {
    while cache.is_catch_up_shared() && !cache.has_catch_up_capacity(reads_in_flight(reads)) {
        tokio::time::sleep(CATCH_UP_POLL_INTERVAL).await;
    }
}

fn reads_in_flight(reads: &Semaphore) -> usize {
    CATCH_UP_READS_MAX - reads.available_permits()
}

/// Removes a read from the in-flight map when it ends, also by a panic.
struct InFlightGuard {
    in_flight: Arc<Mutex<HashMap<ReadKey, InFlightRead>>>,
    key: ReadKey,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight.lock().remove(&self.key);
    }
}
