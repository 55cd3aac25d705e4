//! Cache of object bytes: objects that this replica wrote, and blocks that it read.
//!
//! Objects are read in blocks of 16 MiB, usually whole: readers of one partition of an object are
//! seldom alone, and a request costs more than its bytes. A block has at most one read in flight.
//! Each run is verified once, on first access: its batches by their checksums, its partition by the
//! object's footer.

mod block;
mod partitioned_lru;
mod reader;
mod source;
mod verify;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;

use self::block::{BLOCK_BYTES, Block, BlockId, block_indices, slice_blocks};
use self::partitioned_lru::{CachePartition, PartitionedLru};
pub use self::reader::ReadClass;
use self::reader::{BlockReader, ReadPath};
use self::source::read_error;
pub use self::source::{ObjectSource, StoreSource};
use self::verify::{ObjectLayout, verify_batches};
use crate::log::batch::Run;
use crate::log::ids::{ObjectId, TopicPartition};
use crate::metrics::{CacheOutcome, Metrics};
use crate::store::{StoreError, StoreErrorKind};
use crate::tasks;

/// Deadline of [`ObjectCache::read`].
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// Reads and verifies runs through a memory-bounded cache.
#[derive(Debug)]
pub struct ObjectCache {
    cache: Arc<PartitionedLru>,
    reader: BlockReader,
}

impl ObjectCache {
    /// Creates a cache of at most `cache_bytes` bytes above `source`. Half of it is guaranteed to
    /// objects that this replica wrote, a quarter each to tailing and to catch-up reads; each may
    /// use what the others leave free.
    pub fn new(source: Arc<dyn ObjectSource>, cache_bytes: u64) -> Self {
        let cache = Arc::new(PartitionedLru::new(cache_bytes));
        Self { reader: BlockReader::new(source, Arc::clone(&cache)), cache }
    }

    /// Sets the source for requests of peers and for objects that this replica owns. It must query
    /// no peer.
    #[must_use]
    pub fn with_peer_source(mut self, source: Arc<dyn ObjectSource>) -> Self {
        self.reader.set_store(source);
        self
    }

    /// Sets the metrics in which lookups are counted.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.reader.set_metrics(metrics);
        self
    }

    /// Returns the size of the cached objects and blocks, in bytes.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.used_bytes()
    }

    /// Caches an object that this replica has written, so that tailing reads of it need no GET.
    pub fn insert_written(&self, object: ObjectId, bytes: Bytes) {
        let id = BlockId { object, index: 0 };
        self.cache.insert(CachePartition::Written, id, Block::new(bytes));
    }

    /// Reads a run of a partition and verifies it. The result is exactly `run.bytes` long.
    ///
    /// # Errors
    /// The store's error, or
    /// - [`StoreErrorKind::InvalidRange`] if the object ends before the run does;
    /// - [`StoreErrorKind::Corrupt`] if a checksum does not match, or if the run belongs to another
    ///   partition;
    /// - [`StoreErrorKind::Unavailable`] after 15 s.
    ///
    /// # Cancel safety
    /// May be dropped at any point; other readers of the same block are not affected.
    pub async fn read(
        &self,
        partition: TopicPartition,
        run: &Run,
        class: ReadClass,
    ) -> Result<Bytes, StoreError> {
        let requested = RequestedRun::new(partition, run);
        if let Some(written) = self.written(run.object)
            && requested.range.end <= written.bytes.len() as u64
        {
            self.reader.count_lookup(CacheOutcome::own);
            return requested.verify_written(&written).await;
        }
        let read = async {
            match self.read_verified(&requested, class, ReadPath::Zone).await {
                // The block may be intact in the store and damaged by a peer or on the way.
                Err(error) if error.kind == StoreErrorKind::Corrupt => {
                    tracing::warn!(%error, "object is corrupt; reading it again from the store");
                    for index in block_indices(&requested.range) {
                        self.reader.invalidate(BlockId { object: run.object, index });
                    }
                    self.read_verified(&requested, class, ReadPath::Store).await
                }
                done => done,
            }
        };
        tokio::time::timeout(READ_TIMEOUT, read).await.unwrap_or_else(|_| {
            let detail = format!("not read within {READ_TIMEOUT:?}");
            Err(read_error(StoreErrorKind::Unavailable, run.object, detail))
        })
    }

    /// Starts to read a run that will be requested next, unless it is cached, or caching it would
    /// evict blocks that are still needed. Returns immediately.
    pub fn read_ahead(self: &Arc<Self>, partition: TopicPartition, run: Run) {
        let requested = RequestedRun::new(partition, &run);
        let object = run.object;
        let is_missing = |index| self.reader.cached(BlockId { object, index }).is_none();
        if self.written(object).is_some() || !block_indices(&requested.range).any(is_missing) {
            return;
        }
        // A block that is evicted before it is requested would have to be read twice.
        if !self.reader.may_read_ahead() {
            return;
        }
        let cache = Arc::clone(self);
        tasks::spawn("read ahead", async move {
            // The request for the run reads it again and reports the error.
            let _ignored = cache.read(partition, &run, ReadClass::CatchUp).await;
        });
    }

    /// Records that a catch-up reader has read a run to its end.
    pub fn record_progress(&self, run: &Run) {
        for index in block_indices(&(run.start..run.start.saturating_add(run.bytes))) {
            self.reader.record_progress(BlockId { object: run.object, index }, run.start);
        }
    }

    /// Reads a byte range of an object for a peer in the same zone. Queries no peer in turn. The
    /// result is shorter where the object ends.
    ///
    /// # Errors
    /// The store's error.
    pub async fn read_for_peer(
        &self,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        if let Some(written) = self.written(object) {
            let end = range.end.min(written.bytes.len() as u64);
            return Ok(written.bytes.slice(range.start.min(end) as usize..end as usize));
        }
        let blocks = self.read_blocks(object, &range, ReadClass::Tailing, ReadPath::Store).await?;
        Ok(slice_blocks(&blocks, &range))
    }

    fn written(&self, object: ObjectId) -> Option<Block> {
        self.cache.get(&[CachePartition::Written], BlockId { object, index: 0 })
    }

    async fn read_blocks(
        &self,
        object: ObjectId,
        range: &Range<u64>,
        class: ReadClass,
        path: ReadPath,
    ) -> Result<Vec<Block>, StoreError> {
        let read = |index| self.reader.read(BlockId { object, index }, class, path);
        try_join_all(block_indices(range).map(read)).await
    }

    async fn read_verified(
        &self,
        requested: &RequestedRun,
        class: ReadClass,
        path: ReadPath,
    ) -> Result<Bytes, StoreError> {
        let RequestedRun { partition, object, ref range } = *requested;
        let blocks = self.read_blocks(object, range, class, path).await?;
        let bytes = slice_blocks(&blocks, range);
        let length = range.end - range.start;
        if bytes.len() as u64 != length {
            let (start, available) = (range.start, bytes.len());
            let detail =
                format!("at byte {start}: {length} bytes requested, {available} available");
            return Err(read_error(StoreErrorKind::InvalidRange, object, detail));
        }
        let Some(Block { verified, .. }) = blocks.first() else { return Ok(bytes) };
        if verified.contains(partition, range) {
            return Ok(bytes);
        }
        verify_batches(&bytes).map_err(|detail| requested.corrupt(&detail))?;
        let read_layout =
            || self.read_layout(object, &blocks, block_indices(range).end, class, path);
        match verified.verify_owner(partition, range, read_layout).await? {
            true => Ok(bytes),
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
        class: ReadClass,
        path: ReadPath,
    ) -> Result<ObjectLayout, StoreError> {
        let mut tail: Vec<Block> = blocks.last().cloned().into_iter().collect();
        while tail.last().is_some_and(|last| last.bytes.len() as u64 == BLOCK_BYTES) {
            match self.reader.read(BlockId { object, index: next_index }, class, path).await {
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
        let bytes = slice_blocks(tail, &(start..next_index * BLOCK_BYTES));
        let layout = ObjectLayout::decode(object, start + bytes.len() as u64, &bytes);
        layout.map_err(|detail| {
            read_error(StoreErrorKind::Corrupt, object, format!("invalid footer: {detail}"))
        })
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
    async fn verify_written(&self, written: &Block) -> Result<Bytes, StoreError> {
        let bytes = written.bytes.slice(self.range.start as usize..self.range.end as usize);
        let read_layout = async || {
            ObjectLayout::decode(self.object, written.bytes.len() as u64, &written.bytes)
                .map_err(|detail| self.corrupt(&detail))
        };
        let verified = &written.verified;
        if verified.contains(self.partition, &self.range)
            || verified.verify_owner(self.partition, &self.range, read_layout).await?
        {
            return Ok(bytes);
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
