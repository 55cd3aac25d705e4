//! The bytes of objects: what this replica wrote, and what it read, kept in bounded memory.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::log::batch::Run;
use crate::log::ids::ObjectId;
use crate::log::object_format::wal_key;
use crate::store::{StoreError, StoreErrorKind};
use crate::wire::record_batch;

mod source;

pub use source::{FromStore, Source};

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
    source: Arc<dyn Source>,
    /// For whoever must not be sent on to another replica.
    origin: Arc<dyn Source>,
    cache: Cache<Piece, Bytes, ByBytes>,
}

impl Objects {
    /// Keeps at most `cache_bytes` bytes of objects in memory.
    pub fn new(source: Arc<dyn Source>, cache_bytes: u64) -> Self {
        // The cache splits itself by the number of cores, but into pieces of 32 expected items at
        // least; a piece takes no object larger than itself, so the pieces must be large.
        let objects_expected = (cache_bytes / (2 << 20)).clamp(32, 1 << 20) as usize;
        let cache = Cache::with_weighter(objects_expected, cache_bytes, ByBytes);
        Self { origin: Arc::clone(&source), source, cache }
    }

    /// Peers are served from `origin`, which must ask none of them.
    #[must_use]
    pub fn serving_from(self, origin: Arc<dyn Source>) -> Self {
        Self { origin, ..self }
    }

    /// Remembers an object that this replica has just written, so that its tail readers need no GET.
    pub fn remember(&self, object: ObjectId, bytes: Bytes) {
        self.cache.insert(Piece::Whole(object), bytes);
    }

    /// The bytes of a run, exactly `run.bytes` long.
    ///
    /// # Errors
    /// What the source answers; [`StoreErrorKind::InvalidRange`] for fewer bytes than the run has,
    /// [`StoreErrorKind::Corrupt`] for batches that are not those that were written.
    pub async fn read(&self, run: &Run) -> Result<Bytes, StoreError> {
        let range = run.start..run.start.saturating_add(run.bytes);
        self.through(&*self.source, run.object, range).await
    }

    /// The bytes of an object in a range, for a peer: own writes, the cache, then the store; never
    /// another peer.
    ///
    /// # Errors
    /// As [`Objects::read`].
    pub async fn serve(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.through(&*self.origin, object, range).await
    }

    /// From memory, else from `source`; whoever wants the same meanwhile waits for it.
    async fn through(
        &self,
        source: &dyn Source,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        if let Some(whole) = self.cache.get(&Piece::Whole(object))
            && let (Ok(from), Ok(to)) = (usize::try_from(range.start), usize::try_from(range.end))
            && from <= to
            && to <= whole.len()
        {
            return Ok(whole.slice(from..to));
        }
        let piece = Piece::Range(object, range.start, range.end.saturating_sub(range.start));
        self.cache
            .get_or_insert_async(&piece, async {
                match get(source, object, range.clone()).await {
                    // Damaged on its way here, perhaps, and not in the store.
                    Err(error) if error.kind == StoreErrorKind::Corrupt => {
                        get(source, object, range.clone()).await
                    }
                    done => done,
                }
            })
            .await
    }
}

/// One read, and the checks of what came: its length, and the checksum of every batch, which was
/// right when its producer sent it.
async fn get(
    source: &dyn Source,
    object: ObjectId,
    range: Range<u64>,
) -> Result<Bytes, StoreError> {
    let (start, wanted) = (range.start, range.end.saturating_sub(range.start));
    let bytes = source.read(object, range).await?;
    let wrong = |kind, detail: String| {
        let detail = format!("at {start}: {detail}");
        Err(StoreError::determinate(kind, "get", &wal_key(object), detail))
    };
    if bytes.len() as u64 != wanted {
        let detail = format!("{wanted} bytes asked, {} given", bytes.len());
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
