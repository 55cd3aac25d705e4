//! Blocks of objects: read once for all who want them at the same time, and kept for a while.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::partitioned_lru::{CachePartition, PartitionedLru, ReaderProgress};
use super::source::ObjectSource;
use super::verify::VerifiedRuns;
use crate::log::ids::ObjectId;
use crate::metrics::{CacheOutcome, Metrics};
use crate::store::{StoreError, StoreErrorKind};
use crate::tasks;

/// The unit of reading. An object of the usual 8 MiB is one block, and so one GET.
pub(super) const BLOCK_BYTES: u64 = 16 << 20;
/// GETs of history that may run at once: the tail's never wait for them.
const HISTORY_GETS_MAX: usize = 8;
/// How long a reader of history waits for those behind it, and how often it looks.
const WAITS_FOR_OTHERS: Duration = Duration::from_secs(1);
const LOOKS: Duration = Duration::from_millis(5);

/// Why a block is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadClass {
    /// Somebody reads what was written just now.
    Tailing,
    /// Somebody catches up: in memory and at the store it has a share of its own, so that it
    /// neither evicts nor delays the tail.
    CatchUp,
}

/// A block of an object, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockId {
    pub(super) object: ObjectId,
    pub(super) number: u64,
}

impl BlockId {
    fn range(self) -> Range<u64> {
        self.number * BLOCK_BYTES..(self.number + 1) * BLOCK_BYTES
    }
}

/// A block's bytes; fewer than [`BLOCK_BYTES`] where the object ends.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) bytes: Bytes,
    pub(super) verified: Arc<VerifiedRuns>,
    pub(super) passed: Arc<ReaderProgress>,
}

impl Block {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, verified: Arc::default(), passed: Arc::default() }
    }
}

/// Where a block is read from: the zone's other replicas may be asked, or the store alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReadPath {
    Zone,
    Store,
}

type InFlightRead = Shared<BoxFuture<'static, Result<Block, StoreError>>>;

/// The blocks in memory, and those on their way.
#[derive(Debug)]
pub(super) struct BlockReader {
    zone: Arc<dyn ObjectSource>,
    /// Asks no peer.
    pub(super) store: Arc<dyn ObjectSource>,
    memory: Arc<PartitionedLru>,
    in_flight: Arc<Mutex<HashMap<(BlockId, ReadPath), InFlightRead>>>,
    history_gets: Arc<Semaphore>,
    pub(super) metrics: Arc<Metrics>,
}

impl BlockReader {
    pub(super) fn new(source: Arc<dyn ObjectSource>, memory: Arc<PartitionedLru>) -> Self {
        Self {
            zone: Arc::clone(&source),
            store: source,
            memory,
            in_flight: Arc::default(),
            history_gets: Arc::new(Semaphore::new(HISTORY_GETS_MAX)),
            metrics: Arc::default(),
        }
    }

    /// A block in memory.
    pub(super) fn cached(&self, id: BlockId) -> Option<Block> {
        self.memory.get(&[CachePartition::Tailing, CachePartition::CatchUp], id)
    }

    /// Drops what turned out to be damaged.
    pub(super) fn forget(&self, id: BlockId) {
        self.memory.remove(&[CachePartition::Tailing, CachePartition::CatchUp], id);
    }

    /// Somebody was given a run in this block to its end.
    pub(super) fn record_progress(&self, id: BlockId, run_start: u64) {
        self.memory.record_progress(id, run_start);
    }

    /// Whether something may be read that nobody waits for yet.
    pub(super) fn has_room_ahead(&self) -> bool {
        self.memory.has_room_for_history(gets_under_way(&self.history_gets) + 1)
    }

    /// Reads a block, together with whoever wants it now; also its failure is shared.
    pub(super) async fn read(
        &self,
        id: BlockId,
        read_class: ReadClass,
        path: ReadPath,
    ) -> Result<Block, StoreError> {
        let found = |outcome| self.metrics.fetch.cache_lookup(outcome);
        if let Some(block) = self.cached(id) {
            found(CacheOutcome::hit);
            return Ok(block);
        }
        let path = if self.zone.is_local_owner(id.object) { ReadPath::Store } else { path };
        let in_flight_read = match self.lock().entry((id, path)) {
            Entry::Occupied(in_flight_read) => {
                found(CacheOutcome::coalesced);
                in_flight_read.get().clone()
            }
            Entry::Vacant(place) => {
                // It may have landed between the look above and the lock.
                if let Some(block) = self.cached(id) {
                    found(CacheOutcome::hit);
                    return Ok(block);
                }
                found(CacheOutcome::miss);
                place.insert(self.begin(id, read_class, path)).clone()
            }
        };
        in_flight_read.await
    }

    fn begin(&self, id: BlockId, read_class: ReadClass, path: ReadPath) -> InFlightRead {
        let source = match path {
            ReadPath::Zone => Arc::clone(&self.zone),
            ReadPath::Store => Arc::clone(&self.store),
        };
        let memory = Arc::clone(&self.memory);
        let partition = match read_class {
            ReadClass::Tailing => CachePartition::Tailing,
            ReadClass::CatchUp => CachePartition::CatchUp,
        };
        let gets = Arc::clone(&self.history_gets);
        let guard = InFlightGuard { in_flight: Arc::clone(&self.in_flight), key: (id, path) };
        let read = async move {
            // Dropped last, so that whoever comes next finds the block here or there.
            let _landed = guard;
            let _turn = match read_class {
                ReadClass::Tailing => None,
                ReadClass::CatchUp => {
                    let turn = Arc::clone(&gets).acquire_owned().await.ok();
                    let _waited_in_vain = timeout(WAITS_FOR_OTHERS, others(&memory, &gets)).await;
                    turn
                }
            };
            let read = source.read(id.object, id.range()).await;
            let block = read.map(Block::new);
            if let Ok(block) = &block {
                memory.insert(partition, id, block.clone());
            }
            block
        };
        // By a task of its own: readers that give up leave no turn of the others' taken.
        let reading = tasks::spawn("read block", read);
        let ended = move |error| {
            let detail = format!("the reading task ended: {error}");
            Err(super::error(StoreErrorKind::Unavailable, id.object, detail))
        };
        reading.map(move |read| read.unwrap_or_else(ended)).boxed().shared()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(BlockId, ReadPath), InFlightRead>> {
        self.in_flight.lock()
    }
}

/// Waits until the block to be read pushes out of the memory nothing that others are coming to.
async fn others(memory: &PartitionedLru, gets: &Semaphore) {
    while memory.history_is_shared() && !memory.has_room_for_history(gets_under_way(gets)) {
        tokio::time::sleep(LOOKS).await;
    }
}

fn gets_under_way(gets: &Semaphore) -> usize {
    HISTORY_GETS_MAX - gets.available_permits()
}

/// Takes a flight off the list at its end, also when its task panics.
struct InFlightGuard {
    in_flight: Arc<Mutex<HashMap<(BlockId, ReadPath), InFlightRead>>>,
    key: (BlockId, ReadPath),
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight.lock().remove(&self.key);
    }
}
