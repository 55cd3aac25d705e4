//! Lists the objects of a process, and reads their footers.

use futures::stream::{self, Stream, StreamExt as _};

use crate::log::ids::ObjectId;
use crate::log::object_format::{Footer, parse_wal_key, wal_key, wal_process_prefix};
use crate::store::footer::read_footer;
use crate::store::{Store, StoreError, StoreErrorKind};

const PAGE_KEYS: usize = 1_000;
/// The number of concurrent reads, and so of footers in memory.
const CONCURRENCY: usize = 16;

/// Returns the objects of a process from `next` on, in the order of their sequences, with their
/// sizes.
pub(super) async fn list(
    store: &dyn Store,
    next: ObjectId,
) -> Result<Vec<(ObjectId, u64)>, StoreError> {
    let prefix = wal_process_prefix(next);
    let mut after = next.sequence.checked_sub(1).map(|s| wal_key(ObjectId { sequence: s, ..next }));
    let mut objects = Vec::new();
    loop {
        let page = store.list(&prefix, after.as_deref(), PAGE_KEYS).await?;
        let of_page = page.iter().filter_map(|meta| Some((parse_wal_key(&meta.key)?, meta.size)));
        objects.extend(of_page);
        if page.len() < PAGE_KEYS {
            return Ok(objects);
        }
        after = page.last().map(|meta| meta.key.clone());
    }
}

/// Reads the footers of objects, in order; `None` for an object that was deleted meanwhile.
pub(super) fn footers<'a>(
    store: &'a dyn Store,
    objects: &'a [(ObjectId, u64)],
) -> impl Stream<Item = Result<Option<Footer>, StoreError>> + Unpin + use<'a> {
    let read = move |&(object, size): &(ObjectId, u64)| async move {
        match read_footer(store, object, size).await {
            Ok(footer) => Ok(Some(footer)),
            Err(error) if error.kind == StoreErrorKind::NotFound => {
                tracing::warn!(%object, "an object of an earlier process is deleted; it is left out");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    };
    Box::pin(stream::iter(objects).map(read).buffered(CONCURRENCY))
}
