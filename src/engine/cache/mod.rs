//! Cache of object bytes: objects that this replica wrote, and blocks that it read.
//!
//! Objects are read in blocks of 16 MiB, usually whole: readers of one partition of an object are
//! seldom alone, and a request costs more than its bytes. A block has at most one read in flight,
//! and takes memory of the cache from the start of the read ([`admission`]).
//! Each run is verified once, on first access: its batches by their checksums, its partition by the
//! object's footer.

mod admission;
mod block;
mod catch_up;
mod hedged_source;
mod partitioned_lru;
mod reader;
mod serving;
mod source;
mod verify;

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use self::admission::Purpose;
pub use self::admission::ReadClass;
pub use self::block::RunBytes;
use self::block::{BLOCK_BYTES, Block, BlockId, block_indices, slice_blocks};
use self::catch_up::{ExpectedRun, PositionReport};
pub use self::hedged_source::HedgedSource;
use self::partitioned_lru::{CachePartition, PartitionedLru};
use self::reader::{BlockReader, READ_PARTITIONS, ReadPath};
use self::serving::{ServingMemory, with_permit};
use self::source::read_error;
pub use self::source::{ObjectSource, StoreSource};
use self::verify::{ObjectLayout, verify_batches};
use super::memory::ReaderId;
use crate::log::batch::Run;
use crate::log::ids::{ObjectId, TopicPartition};
use crate::metrics::{CacheOutcome, Metrics};
use crate::store::{StoreError, StoreErrorKind};

/// Deadline of [`ObjectCache::read`].
const READ_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest wait of a peer's request for memory. The peer reads from the store instead.
const SERVE_WAIT_MAX: Duration = Duration::from_secs(1);
/// Part of the memory for what is being sent to peers.
const SERVING_PART: u64 = 8;
/// Bounds of the number of objects that a catch-up fetch reads at once.
const WINDOW_OBJECTS: RangeInclusive<usize> = 4..=64;
/// The objects of one fetch take at most this part of the memory for catch-up reads: the rest is
/// for what is read ahead.
const WINDOW_SHARE: u64 = 2;

/// Reads and verifies runs through a memory-bounded cache.
#[derive(Debug)]
pub struct ObjectCache {
    cache_bytes: u64,
    cache: Arc<PartitionedLru>,
    serving: ServingMemory,
    reader: BlockReader,
}

impl ObjectCache {
    /// Creates a cache of at most `cache_bytes` bytes above `source`. The parts for objects that this
    /// replica wrote, for tailing and for catch-up reads, and for peers may use what the others
    /// leave free.
    pub fn new(source: Arc<dyn ObjectSource>, cache_bytes: u64) -> Self {
        let cache = Arc::new(PartitionedLru::new(cache_bytes));
        let reader = BlockReader::new(source, Arc::clone(&cache));
        Self { cache_bytes, serving: ServingMemory::new(0), reader, cache }
    }

    /// Sets the source for requests of peers and for objects that this replica owns. It must query
    /// no peer. An eighth of the memory is for what is being sent to peers.
    #[must_use]
    pub fn with_peer_source(self, source: Arc<dyn ObjectSource>) -> Self {
        let for_serving = self.cache_bytes / SERVING_PART;
        let cache = Arc::new(PartitionedLru::new(self.cache_bytes - for_serving));
        let reader = self.reader.rebuild(source, Arc::clone(&cache));
        Self { serving: ServingMemory::new(for_serving), reader, cache, ..self }
    }

    /// Sets the metrics in which lookups are counted.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.reader.set_metrics(metrics);
        self
    }

    /// Returns the size of the cached objects and blocks and of those in flight, in bytes.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.used_bytes()
    }

    /// Caches an object that this replica has written, so that tailing reads of it need no GET.
    pub fn insert_written(&self, object: ObjectId, bytes: Bytes) {
        let id = BlockId { object, index: 0 };
        self.cache.insert(CachePartition::Written, id, Block::new(bytes), false);
    }

    /// Returns how many objects a catch-up fetch may read at once, by their recent sizes.
    pub fn window_objects(&self) -> usize {
        let bytes = self.cache.share(CachePartition::CatchUp) / WINDOW_SHARE;
        let objects = usize::try_from(bytes / self.reader.expected_bytes().max(1));
        objects.unwrap_or(usize::MAX).clamp(*WINDOW_OBJECTS.start(), *WINDOW_OBJECTS.end())
    }

    /// Reports the positions of a reader: for each partition the offset from which a catch-up reader
    /// continues, or `None` if it is not one, and the runs that it will read. Their blocks are kept
    /// until every active reader has passed them, as far as the memory reaches.
    pub fn report_positions<'a>(
        &self,
        reader: ReaderId,
        positions: impl Iterator<Item = (TopicPartition, Option<i64>, [&'a [Run]; 2])>,
    ) {
        let blocks = |run: &Run| {
            let (object, end_offset) = (run.object, run.end_offset());
            let indices = block_indices(&(run.start..run.start.saturating_add(run.bytes)));
            indices.map(move |index| ExpectedRun { end_offset, block: BlockId { object, index } })
        };
        let reports = positions.map(|(partition, offset, runs)| {
            let runs = runs.into_iter().flatten().flat_map(blocks).collect();
            PositionReport { partition, offset, runs }
        });
        self.cache.report(reader, &reports.collect::<Vec<_>>());
    }

    /// Reads a run of a partition and verifies it. The result is exactly `run.bytes` long.
    /// `reader` is the catch-up reader, if it reports its positions.
    ///
    /// # Errors
    /// The store's error, or
    /// - [`StoreErrorKind::InvalidRange`] if the object ends before the run does;
    /// - [`StoreErrorKind::Corrupt`] if a checksum does not match, or if the run belongs to another
    ///   partition;
    /// - [`StoreErrorKind::Unavailable`] after 15 s, or if there is no memory for 10 s.
    ///
    /// # Cancel safety
    /// May be dropped at any point; other readers of the same block are not affected.
    pub async fn read(
        &self,
        partition: TopicPartition,
        run: &Run,
        class: ReadClass,
        reader: Option<ReaderId>,
    ) -> Result<RunBytes, StoreError> {
        let requested = RequestedRun::new(partition, run);
        if let Some(written) = self.written(run.object)
            && requested.range.end <= written.bytes.len() as u64
        {
            self.reader.count_lookup(CacheOutcome::own);
            let knew_layout = written.verified.memory() > 0;
            let bytes = requested.verify_written(&written).await;
            if !knew_layout {
                let id = BlockId { object: run.object, index: 0 };
                self.cache.reweigh(&[CachePartition::Written], id);
            }
            return bytes;
        }
        let purpose = Purpose::new(class, reader);
        let read = async {
            match self.read_verified(&requested, purpose, ReadPath::Zone).await {
                // The block may be intact in the store and damaged by a peer or on the way.
                Err(error) if error.kind == StoreErrorKind::Corrupt => {
                    tracing::warn!(%error, "object is corrupt; reading it again from the store");
                    for index in block_indices(&requested.range) {
                        self.reader.invalidate(BlockId { object: run.object, index });
                    }
                    self.read_verified(&requested, purpose, ReadPath::Store).await
                }
                done => done,
            }
        };
        tokio::time::timeout(READ_TIMEOUT, read).await.unwrap_or_else(|_| {
            let detail = format!("not read within {READ_TIMEOUT:?}");
            Err(read_error(StoreErrorKind::Unavailable, run.object, detail))
        })
    }

    /// Starts to read a run that will be requested next, unless it is cached. Returns immediately,
    /// and false if no more can be read ahead now: it would evict blocks that are still needed.
    pub fn read_ahead(&self, run: &Run) -> bool {
        let (object, range) = (run.object, run.start..run.start.saturating_add(run.bytes));
        let written = BlockId { object, index: 0 };
        self.cache.holds(&[CachePartition::Written], written)
            || block_indices(&range).all(|index| self.reader.read_ahead(BlockId { object, index }))
    }

    /// Reads a byte range of an object for a peer in the same zone. Queries no peer in turn. The
    /// result is shorter where the object ends, and counts as memory of the cache while it exists.
    ///
    /// # Errors
    /// The store's error, or [`StoreErrorKind::Unavailable`] if there is no memory for 1 s.
    pub async fn read_for_peer(
        &self,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let until = Instant::now() + SERVE_WAIT_MAX;
        if let Some(written) = self.written(object) {
            let end = range.end.min(written.bytes.len() as u64);
            let bytes = written.bytes.slice(range.start.min(end) as usize..end as usize);
            let permit = self.acquire_serving(object, bytes.len() as u64, until).await?;
            return Ok(with_permit(bytes, permit));
        }
        let expected = range.end.saturating_sub(range.start).min(self.reader.expected_bytes());
        let mut permit = self.acquire_serving(object, expected, until).await?;
        let blocks = self.read_blocks(object, &range, Purpose::Peer, ReadPath::Store).await?;
        let bytes = slice_blocks(&blocks, &range).bytes;
        let excess = self.serving.missing(&permit, bytes.len() as u64);
        if excess > 0 {
            let until = Instant::now() + SERVE_WAIT_MAX;
            permit.merge(self.acquire_serving(object, excess, until).await?);
        }
        Ok(with_permit(bytes, permit))
    }

    async fn acquire_serving(
        &self,
        object: ObjectId,
        bytes: u64,
        until: Instant,
    ) -> Result<OwnedSemaphorePermit, StoreError> {
        let permit = tokio::time::timeout_at(until, self.serving.acquire(bytes)).await;
        permit.ok().flatten().ok_or_else(|| {
            let detail = "no memory to serve peers".to_owned();
            read_error(StoreErrorKind::Unavailable, object, detail)
        })
    }

    fn written(&self, object: ObjectId) -> Option<Block> {
        self.cache.get(&[CachePartition::Written], BlockId { object, index: 0 })
    }

    async fn read_blocks(
        &self,
        object: ObjectId,
        range: &Range<u64>,
        purpose: Purpose,
        path: ReadPath,
    ) -> Result<Vec<Block>, StoreError> {
        let read = |index| self.reader.read(BlockId { object, index }, purpose, path);
        try_join_all(block_indices(range).map(read)).await
    }

    async fn read_verified(
        &self,
        requested: &RequestedRun,
        purpose: Purpose,
        path: ReadPath,
    ) -> Result<RunBytes, StoreError> {
        let RequestedRun { partition, object, ref range } = *requested;
        let blocks = self.read_blocks(object, range, purpose, path).await?;
        let run = slice_blocks(&blocks, range);
        let length = range.end - range.start;
        if run.bytes.len() as u64 != length {
            let (start, available) = (range.start, run.bytes.len());
            let detail =
                format!("at byte {start}: {length} bytes requested, {available} available");
            return Err(read_error(StoreErrorKind::InvalidRange, object, detail));
        }
        let Some(Block { verified, .. }) = blocks.first() else { return Ok(run) };
        if verified.contains(partition, range) {
            return Ok(run);
        }
        verify_batches(&run.bytes).map_err(|detail| requested.corrupt(&detail))?;
        let knew_layout = verified.memory() > 0;
        let read_layout =
            || self.read_layout(object, &blocks, block_indices(range).end, purpose, path);
        let is_owner = verified.verify_owner(partition, range, read_layout).await?;
        if !knew_layout {
            let id = BlockId { object, index: block_indices(range).start };
            self.cache.reweigh(&READ_PARTITIONS, id);
        }
        match is_owner {
            true => Ok(run),
            false => Err(requested.corrupt("the footer assigns these bytes to another partition")),
        }
    }

    /// Reads the object's footer. It follows the run, usually in the same block. `next_index` is
    /// the index of the block after the last of `blocks`.
    async fn read_layout(
        &self,
        object: ObjectId,
        blocks: &[Block],
        mut next_index: u64,
        purpose: Purpose,
        path: ReadPath,
    ) -> Result<ObjectLayout, StoreError> {
        let mut tail: Vec<Block> = blocks.last().cloned().into_iter().collect();
        while tail.last().is_some_and(|last| last.bytes.len() as u64 == BLOCK_BYTES) {
            match self.reader.read(BlockId { object, index: next_index }, purpose, path).await {
                Ok(next) => tail.push(next),
                // The object ends at the end of the last block.
                Err(error) if error.kind == StoreErrorKind::InvalidRange => break,
                Err(error) => return Err(error),
            }
            next_index += 1;
        }
        // A footer spans the last two blocks at most.
        let tail = &tail[tail.len().saturating_sub(2)..];
        let start = (next_index - tail.len() as u64) * BLOCK_BYTES;
        let bytes = slice_blocks(tail, &(start..next_index * BLOCK_BYTES)).bytes;
        let layout = ObjectLayout::decode(object, start + bytes.len() as u64, &bytes);
        layout.map_err(|(kind, detail)| read_error(kind, object, detail))
    }
}

/// A run and the partition for which it is requested.
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

    /// Returns the run from an object that this replica wrote. Its bytes cannot be damaged, but the
    /// index may be wrong about their partition.
    async fn verify_written(&self, written: &Block) -> Result<RunBytes, StoreError> {
        let slice = written.bytes.slice(self.range.start as usize..self.range.end as usize);
        let read_layout = async || {
            ObjectLayout::decode(self.object, written.bytes.len() as u64, &written.bytes)
                .map_err(|(kind, detail)| read_error(kind, self.object, detail))
        };
        let verified = &written.verified;
        if verified.contains(self.partition, &self.range)
            || verified.verify_owner(self.partition, &self.range, read_layout).await?
        {
            return Ok(RunBytes::of_block(slice, written));
        }
        Err(self.corrupt("the object was written with these bytes in another partition"))
    }

    fn corrupt(&self, detail: &str) -> StoreError {
        let TopicPartition { topic, partition } = self.partition;
        let detail = format!("at byte {}, for {topic}-{partition}: {detail}", self.range.start);
        read_error(StoreErrorKind::Corrupt, self.object, detail)
    }
}

#[cfg(test)]
mod tests;
