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

use super::memory::{Memory, Passed, Shelf};
use super::source::Source;
use super::verified::Verified;
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
pub enum Lane {
    /// Somebody reads what was written just now.
    Tail,
    /// Somebody catches up: in memory and at the store it has a share of its own, so that it
    /// neither evicts nor delays the tail.
    History,
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
    pub(super) verified: Arc<Verified>,
    pub(super) passed: Arc<Passed>,
}

impl Block {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, verified: Arc::default(), passed: Arc::default() }
    }
}

/// Where a block is read from: the zone's other replicas may be asked, or the store alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Via {
    Zone,
    Store,
}

type Flight = Shared<BoxFuture<'static, Result<Block, StoreError>>>;

/// The blocks in memory, and those on their way.
#[derive(Debug)]
pub(super) struct Blocks {
    zone: Arc<dyn Source>,
    /// Asks no peer.
    pub(super) store: Arc<dyn Source>,
    memory: Arc<Memory>,
    flights: Arc<Mutex<HashMap<(BlockId, Via), Flight>>>,
    history_gets: Arc<Semaphore>,
    pub(super) metrics: Arc<Metrics>,
}

impl Blocks {
    pub(super) fn new(source: Arc<dyn Source>, memory: Arc<Memory>) -> Self {
        Self {
            zone: Arc::clone(&source),
            store: source,
            memory,
            flights: Arc::default(),
            history_gets: Arc::new(Semaphore::new(HISTORY_GETS_MAX)),
            metrics: Arc::default(),
        }
    }

    /// A block in memory.
    pub(super) fn cached(&self, id: BlockId) -> Option<Block> {
        self.memory.get(&[Shelf::Tail, Shelf::History], id)
    }

    /// Drops what turned out to be damaged.
    pub(super) fn forget(&self, id: BlockId) {
        self.memory.remove(&[Shelf::Tail, Shelf::History], id);
    }

    /// Somebody was given a run in this block to its end.
    pub(super) fn note_passed(&self, id: BlockId, run_start: u64) {
        self.memory.note_passed(id, run_start);
    }

    /// Whether something may be read that nobody waits for yet.
    pub(super) fn has_room_ahead(&self) -> bool {
        self.memory.has_room_for_history(gets_under_way(&self.history_gets) + 1)
    }

    /// Reads a block, together with whoever wants it now; also its failure is shared.
    pub(super) async fn read(
        &self,
        id: BlockId,
        lane: Lane,
        via: Via,
    ) -> Result<Block, StoreError> {
        let found = |outcome| self.metrics.fetch.cache_lookup(outcome);
        if let Some(block) = self.cached(id) {
            found(CacheOutcome::hit);
            return Ok(block);
        }
        let via = if self.zone.is_mine(id.object) { Via::Store } else { via };
        let flight = match self.lock().entry((id, via)) {
            Entry::Occupied(flight) => {
                found(CacheOutcome::joined);
                flight.get().clone()
            }
            Entry::Vacant(place) => {
                // It may have landed between the look above and the lock.
                if let Some(block) = self.cached(id) {
                    found(CacheOutcome::hit);
                    return Ok(block);
                }
                found(CacheOutcome::miss);
                place.insert(self.begin(id, lane, via)).clone()
            }
        };
        flight.await
    }

    fn begin(&self, id: BlockId, lane: Lane, via: Via) -> Flight {
        let source = match via {
            Via::Zone => Arc::clone(&self.zone),
            Via::Store => Arc::clone(&self.store),
        };
        let memory = Arc::clone(&self.memory);
        let shelf = match lane {
            Lane::Tail => Shelf::Tail,
            Lane::History => Shelf::History,
        };
        let gets = Arc::clone(&self.history_gets);
        let landed = Landed { flights: Arc::clone(&self.flights), key: (id, via) };
        let read = async move {
            // Dropped last, so that whoever comes next finds the block here or there.
            let _landed = landed;
            let _turn = match lane {
                Lane::Tail => None,
                Lane::History => {
                    let turn = Arc::clone(&gets).acquire_owned().await.ok();
                    let _waited_in_vain = timeout(WAITS_FOR_OTHERS, others(&memory, &gets)).await;
                    turn
                }
            };
            let read = source.read(id.object, id.range()).await;
            let block = read.map(Block::new);
            if let Ok(block) = &block {
                memory.insert(shelf, id, block.clone());
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

    fn lock(&self) -> MutexGuard<'_, HashMap<(BlockId, Via), Flight>> {
        self.flights.lock()
    }
}

/// Waits until the block to be read pushes out of the memory nothing that others are coming to.
async fn others(memory: &Memory, gets: &Semaphore) {
    while memory.history_is_shared() && !memory.has_room_for_history(gets_under_way(gets)) {
        tokio::time::sleep(LOOKS).await;
    }
}

fn gets_under_way(gets: &Semaphore) -> usize {
    HISTORY_GETS_MAX - gets.available_permits()
}

/// Takes a flight off the list at its end, also when its task panics.
struct Landed {
    flights: Arc<Mutex<HashMap<(BlockId, Via), Flight>>>,
    key: (BlockId, Via),
}

impl Drop for Landed {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}
