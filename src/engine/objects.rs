//! The bytes of objects: what this replica wrote, and what it read, kept in bounded memory.

use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::log::batch::Run;
use crate::log::ids::ObjectId;
use crate::log::object_format::wal_key;
use crate::store::{Store, StoreError, StoreErrorKind};
use crate::wire::record_batch;

/// A piece of an object in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Piece {
    /// The whole object, because this replica wrote it.
    Whole(ObjectId),
    /// A range of it, by first byte and length.
    Range(ObjectId, u64, u64),
}

#[derive(Clone, Copy, Debug)]
struct ByBytes;

impl Weighter<Piece, Bytes> for ByBytes {
    fn weight(&self, _: &Piece, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + 64
    }
}

/// Reads runs; concurrent readers of one run share one GET.
#[derive(Debug)]
pub struct Objects {
    store: Arc<dyn Store>,
    cache: Cache<Piece, Bytes, ByBytes>,
}

impl Objects {
    /// Keeps at most `cache_bytes` bytes of objects in memory.
    pub fn new(store: Arc<dyn Store>, cache_bytes: u64) -> Self {
        // The cache splits itself by the number of cores, but into pieces of 32 expected items at
        // least; a piece takes no object larger than itself, so the pieces must be large.
        let objects_expected = (cache_bytes / (2 << 20)).clamp(32, 1 << 20) as usize;
        Self { store, cache: Cache::with_weighter(objects_expected, cache_bytes, ByBytes) }
    }

    /// Remembers an object that this replica has just written, so that its tail readers need no GET.
    pub fn remember(&self, object: ObjectId, bytes: Bytes) {
        self.cache.insert(Piece::Whole(object), bytes);
    }

    /// The bytes of a run, exactly `run.bytes` long.
    ///
    /// # Errors
    /// What the store answers; [`StoreErrorKind::InvalidRange`] for fewer bytes than the run has,
    /// [`StoreErrorKind::Corrupt`] for batches that are not those that were written.
    pub async fn read(&self, run: &Run) -> Result<Bytes, StoreError> {
        let (start, end) = (run.start, run.start.saturating_add(run.bytes));
        if let Some(whole) = self.cache.get(&Piece::Whole(run.object))
            && let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end))
            && to <= whole.len()
        {
            return Ok(whole.slice(from..to));
        }
        let piece = Piece::Range(run.object, start, run.bytes);
        self.cache
            .get_or_insert_async(&piece, async {
                match self.get(run).await {
                    // Damaged on its way here, perhaps, and not in the store.
                    Err(error) if error.kind == StoreErrorKind::Corrupt => self.get(run).await,
                    done => done,
                }
            })
            .await
    }

    /// One GET, and the checks of what came: its length, and the checksum of every batch, which
    /// was right when its producer sent it.
    async fn get(&self, run: &Run) -> Result<Bytes, StoreError> {
        let key = wal_key(run.object);
        let range = run.start..run.start.saturating_add(run.bytes);
        let bytes = self.store.get(&key, Some(range)).await?;
        let wrong = |kind, detail: String| {
            let detail = format!("at {}: {detail}", run.start);
            Err(StoreError::determinate(kind, "get", &key, detail))
        };
        if bytes.len() as u64 != run.bytes {
            let detail = format!("{} bytes asked, {} given", run.bytes, bytes.len());
            return wrong(StoreErrorKind::InvalidRange, detail);
        }
        for batch in record_batch::batches(&bytes) {
            match batch {
                Ok(batch) if batch.crc_holds() => {}
                Ok(_) => return wrong(StoreErrorKind::Corrupt, "a batch's checksum".to_owned()),
                Err(error) => return wrong(StoreErrorKind::Corrupt, error.to_string()),
            }
        }
        Ok(bytes)
    }
}
