//! Blocks of objects: read once for all who want them at the same time, and kept for a while.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use super::source::Source;
use super::verified::Verified;
use crate::log::ids::ObjectId;
use crate::store::{StoreError, StoreErrorKind};
use crate::tasks;

/// The unit of reading. An object of the usual 8 MiB is one block, and so one GET.
pub(super) const BLOCK_BYTES: u64 = 16 << 20;
/// GETs of history that may run at once: the tail's never wait for them.
const HISTORY_GETS_MAX: usize = 8;

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
}

impl Block {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, verified: Arc::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ByBytes;

impl Weighter<BlockId, Block> for ByBytes {
    fn weight(&self, _: &BlockId, block: &Block) -> u64 {
        block.bytes.len() as u64 + 64
    }
}

impl Weighter<ObjectId, Block> for ByBytes {
    fn weight(&self, _: &ObjectId, block: &Block) -> u64 {
        block.bytes.len() as u64 + 64
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
    tail: Arc<Cache<BlockId, Block, ByBytes>>,
    history: Arc<Cache<BlockId, Block, ByBytes>>,
    flights: Arc<Mutex<HashMap<(BlockId, Via), Flight>>>,
    history_gets: Arc<Semaphore>,
}

/// A cache that splits itself into pieces, each of which takes no value larger than itself: so the
/// pieces must be few.
pub(super) fn cache_of<K, V>(bytes: u64) -> Cache<K, V, ByBytes>
where
    K: Eq + std::hash::Hash + Clone,
    V: Clone,
    ByBytes: Weighter<K, V> + Clone,
{
    let expected = (bytes / (2 << 20)).clamp(32, 1 << 20) as usize;
    Cache::with_weighter(expected, bytes, ByBytes)
}

impl Blocks {
    pub(super) fn new(source: Arc<dyn Source>, tail_bytes: u64, history_bytes: u64) -> Self {
        Self {
            zone: Arc::clone(&source),
            store: source,
            tail: Arc::new(cache_of(tail_bytes)),
            history: Arc::new(cache_of(history_bytes)),
            flights: Arc::default(),
            history_gets: Arc::new(Semaphore::new(HISTORY_GETS_MAX)),
        }
    }

    /// A block in memory.
    pub(super) fn cached(&self, id: BlockId) -> Option<Block> {
        self.tail.get(&id).or_else(|| self.history.get(&id))
    }

    /// Drops what turned out to be damaged.
    pub(super) fn forget(&self, id: BlockId) {
        self.tail.remove(&id);
        self.history.remove(&id);
    }

    /// Reads a block, together with whoever wants it now; also its failure is shared.
    pub(super) async fn read(
        &self,
        id: BlockId,
        lane: Lane,
        via: Via,
    ) -> Result<Block, StoreError> {
        if let Some(block) = self.cached(id) {
            return Ok(block);
        }
        let via = if self.zone.is_mine(id.object) { Via::Store } else { via };
        let flight =
            self.lock().entry((id, via)).or_insert_with(|| self.begin(id, lane, via)).clone();
        flight.await
    }

    fn begin(&self, id: BlockId, lane: Lane, via: Via) -> Flight {
        let source = match via {
            Via::Zone => Arc::clone(&self.zone),
            Via::Store => Arc::clone(&self.store),
        };
        let cache = match lane {
            Lane::Tail => Arc::clone(&self.tail),
            Lane::History => Arc::clone(&self.history),
        };
        let (flights, gets) = (Arc::clone(&self.flights), Arc::clone(&self.history_gets));
        let read = async move {
            let _turn = match lane {
                Lane::Tail => None,
                Lane::History => gets.acquire_owned().await.ok(),
            };
            let read = source.read(id.object, id.range()).await;
            let block = read.map(Block::new);
            if let Ok(block) = &block {
                cache.insert(id, block.clone());
            }
            // Only now, so that whoever comes next finds it here or there.
            flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&(id, via));
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
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
