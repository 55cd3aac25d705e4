//! The bytes of objects: what this replica wrote, and what it read, kept in bounded memory.
//!
//! Objects are read in blocks, mostly whole: who reads one partition of an object is seldom alone,
//! and a request costs more than its bytes. Each block is read at most once at a time, and each
//! run is checked once, when it is first looked at: its batches by their checksums, and whose they
//! are by the object's footer.

mod partitioned_lru;
mod reader;
mod source;
mod verify;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;

use self::partitioned_lru::{CachePartition, PartitionedLru};
pub use self::reader::ReadClass;
use self::reader::{BLOCK_BYTES, Block, BlockId, BlockReader, ReadPath};
pub use self::source::{ObjectSource, StoreSource};
use crate::log::batch::Run;
use crate::log::ids::{ObjectId, TopicPartition};
use crate::log::object_format::wal_key;
use crate::metrics::{CacheOutcome, Metrics};
use crate::store::{Certainty, StoreError, StoreErrorKind};
use crate::tasks;
use verify::{ObjectLayout, check_batches};

/// How long a reader waits for a block, before it tells its client that there is trouble.
const READ_WITHIN: Duration = Duration::from_secs(15);

/// Reads runs.
#[derive(Debug)]
pub struct ObjectCache {
    memory: Arc<PartitionedLru>,
    blocks: BlockReader,
}

impl ObjectCache {
    /// Keeps at most `cache_bytes` bytes of objects in memory: half of it is for what this replica
    /// wrote, a quarter each for what tail readers and readers of history read, and what one does
    /// not need the others use. `source` is asked for what is not there.
    pub fn new(source: Arc<dyn ObjectSource>, cache_bytes: u64) -> Self {
        let memory = Arc::new(PartitionedLru::new(cache_bytes));
        Self { blocks: BlockReader::new(source, Arc::clone(&memory)), memory }
    }

    /// Peers are served from `origin`, and so is what is this replica's to read for all; it must
    /// ask no peer.
    #[must_use]
    pub fn with_peer_source(mut self, origin: Arc<dyn ObjectSource>) -> Self {
        self.blocks.store = origin;
        self
    }

    /// Takes note of what readers find where.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.blocks.metrics = metrics;
        self
    }

    /// Bytes of objects in memory.
    pub fn cached_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Remembers an object that this replica has just written, so that its tail readers need no GET.
    pub fn insert_written(&self, object: ObjectId, bytes: Bytes) {
        self.memory.insert(
            CachePartition::Written,
            BlockId { object, number: 0 },
            Block::new(bytes),
        );
    }

    /// The bytes of a partition's run, exactly `run.bytes` long, every batch checked.
    ///
    /// # Errors
    /// What the store answers; [`StoreErrorKind::InvalidRange`] for fewer bytes than the run has,
    /// [`StoreErrorKind::Corrupt`] for batches that are not those that were written, or not to
    /// this partition; [`StoreErrorKind::Unavailable`] after 15 s.
    ///
    /// # Cancel safety
    /// May be dropped at any point; others that wait for the same block go on.
    pub async fn read(
        &self,
        partition: TopicPartition,
        run: &Run,
        read_class: ReadClass,
    ) -> Result<Bytes, StoreError> {
        let wanted = RequestedRun::new(partition, run);
        if let Some(own) = self.own(run.object)
            && wanted.range.end <= own.bytes.len() as u64
        {
            self.blocks.metrics.fetch.cache_lookup(CacheOutcome::own);
            return wanted.of_own(&own).await;
        }
        let read = async {
            match self.read_checked(&wanted, read_class, ReadPath::Zone).await {
                // Damaged on its way here, perhaps, or by the neighbour, and not in the store.
                Err(error) if error.kind == StoreErrorKind::Corrupt => {
                    tracing::warn!(%error, "reading an object again");
                    for number in numbers(&wanted.range) {
                        self.blocks.forget(BlockId { object: run.object, number });
                    }
                    self.read_checked(&wanted, read_class, ReadPath::Store).await
                }
                done => done,
            }
        };
        tokio::time::timeout(READ_WITHIN, read).await.unwrap_or_else(|_| {
            let kind = StoreErrorKind::Unavailable;
            Err(error(kind, run.object, format!("not read within {READ_WITHIN:?}")))
        })
    }

    /// Begins to read what will be wanted next, and waits for nothing.
    pub fn read_ahead(self: &Arc<Self>, partition: TopicPartition, run: Run) {
        let wanted = RequestedRun::new(partition, &run);
        let missing = |number: &u64| {
            self.blocks.cached(BlockId { object: run.object, number: *number }).is_none()
        };
        if self.own(run.object).is_some() || !numbers(&wanted.range).any(|n| missing(&n)) {
            return;
        }
        // What is pushed out before anybody came to it was read in vain, and will be again.
        if !self.blocks.has_room_ahead() {
            return;
        }
        let objects = Arc::clone(self);
        tasks::spawn("read ahead", async move {
            // Whoever comes to it reads it again, and meets the error.
            let _ahead = objects.read(partition, &run, ReadClass::CatchUp).await;
        });
    }

    /// A reader of history was given a run to its end, and goes on behind it.
    pub fn record_progress(&self, run: &Run) {
        for number in numbers(&(run.start..run.start.saturating_add(run.bytes))) {
            self.blocks.record_progress(BlockId { object: run.object, number }, run.start);
        }
    }

    /// Bytes of an object for another replica of the zone, which asks because this one is to read
    /// the object for all; so no peer is asked in turn. Fewer where the object ends.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn read_for_peer(
        &self,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        if let Some(own) = self.own(object) {
            let end = range.end.min(own.bytes.len() as u64);
            return Ok(own.bytes.slice(range.start.min(end) as usize..end as usize));
        }
        let read = |number| {
            self.blocks.read(BlockId { object, number }, ReadClass::Tailing, ReadPath::Store)
        };
        let blocks = try_join_all(numbers(&range).map(read)).await?;
        Ok(cut(&blocks, &range))
    }

    fn own(&self, object: ObjectId) -> Option<Block> {
        self.memory.get(&[CachePartition::Written], BlockId { object, number: 0 })
    }

    async fn read_checked(
        &self,
        wanted: &RequestedRun,
        read_class: ReadClass,
        path: ReadPath,
    ) -> Result<Bytes, StoreError> {
        let RequestedRun { partition, object, range } = wanted;
        let object = *object;
        let read = |number| self.blocks.read(BlockId { object, number }, read_class, path);
        let blocks = try_join_all(numbers(range).map(read)).await?;
        let bytes = cut(&blocks, range);
        let asked = range.end - range.start;
        if bytes.len() as u64 != asked {
            let detail = format!("at {}: {asked} bytes asked, {} given", range.start, bytes.len());
            return Err(error(StoreErrorKind::InvalidRange, object, detail));
        }
        let Some(Block { verified, .. }) = blocks.first() else { return Ok(bytes) };
        if verified.knows(*partition, range) {
            return Ok(bytes);
        }
        check_batches(&bytes).map_err(|detail| wanted.corrupt(&detail))?;
        let contents = || self.contents(object, &blocks, numbers(range).end, read_class, path);
        match verified.check_owner(*partition, range, contents).await? {
            true => Ok(bytes),
            false => {
                Err(wanted.corrupt("the object says that these bytes are of another partition"))
            }
        }
    }

    /// What the object's footer says; it lies behind the run, mostly in the same block. `end` is
    /// the number of the block behind the last of `blocks`.
    async fn contents(
        &self,
        object: ObjectId,
        blocks: &[Block],
        end: u64,
        read_class: ReadClass,
        path: ReadPath,
    ) -> Result<ObjectLayout, StoreError> {
        let mut tail: Vec<Block> = blocks.last().cloned().into_iter().collect();
        let mut end = end;
        while tail.last().is_some_and(|last| last.bytes.len() as u64 == BLOCK_BYTES) {
            match self.blocks.read(BlockId { object, number: end }, read_class, path).await {
                Ok(next) => tail.push(next),
                // It ends where the block does.
                Err(error) if error.kind == StoreErrorKind::InvalidRange => break,
                Err(error) => return Err(error),
            }
            end += 1;
        }
        // A footer begins in the block before the last at the earliest.
        let tail = &tail[tail.len().saturating_sub(2)..];
        let first = (end - tail.len() as u64) * BLOCK_BYTES;
        let bytes = cut(tail, &(first..end * BLOCK_BYTES));
        ObjectLayout::read(object, first + bytes.len() as u64, &bytes)
            .map_err(|detail| error(StoreErrorKind::Corrupt, object, format!("its end: {detail}")))
    }
}

/// A run, and whose it is to be.
#[derive(Debug)]
struct RequestedRun {
    partition: TopicPartition,
    object: ObjectId,
    range: Range<u64>,
}

impl RequestedRun {
    fn new(partition: TopicPartition, run: &Run) -> Self {
        let range = run.start..run.start.saturating_add(run.bytes);
        Self { partition, object: run.object, range }
    }

    /// From an object that this replica wrote: nothing can have damaged it, but the index may be
    /// wrong.
    async fn of_own(&self, own: &Block) -> Result<Bytes, StoreError> {
        let bytes = own.bytes.slice(self.range.start as usize..self.range.end as usize);
        let contents = async || {
            ObjectLayout::read(self.object, own.bytes.len() as u64, &own.bytes)
                .map_err(|detail| self.corrupt(&detail))
        };
        let known = own.verified.knows(self.partition, &self.range);
        if known || own.verified.check_owner(self.partition, &self.range, contents).await? {
            return Ok(bytes);
        }
        Err(self.corrupt("it was written to another partition"))
    }

    fn corrupt(&self, detail: &str) -> StoreError {
        let TopicPartition { topic, partition } = self.partition;
        let detail = format!("at {}, for {topic}-{partition}: {detail}", self.range.start);
        error(StoreErrorKind::Corrupt, self.object, detail)
    }
}

/// The blocks that a range lies in.
fn numbers(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES).max(range.start / BLOCK_BYTES + 1)
}

/// What there is of a range in the blocks that it lies in: a slice, or a copy where it spans some.
fn cut(blocks: &[Block], range: &Range<u64>) -> Bytes {
    let first = range.start / BLOCK_BYTES * BLOCK_BYTES;
    let part = |block: &Block, from: u64| {
        let start = range.start.saturating_sub(from).min(block.bytes.len() as u64);
        let end = range.end.saturating_sub(from).min(block.bytes.len() as u64);
        block.bytes.slice(start as usize..end.max(start) as usize)
    };
    if let [block] = blocks {
        return part(block, first);
    }
    let mut out = BytesMut::new();
    for (index, block) in (0_u64..).zip(blocks) {
        out.extend_from_slice(&part(block, first + index * BLOCK_BYTES));
    }
    out.freeze()
}

fn error(kind: StoreErrorKind, object: ObjectId, detail: String) -> StoreError {
    let (certainty, key) = (Certainty::Determinate, wal_key(object));
    StoreError { kind, certainty, operation: "get", key, detail }
}

#[cfg(test)]
mod tests;
