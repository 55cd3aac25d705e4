//! Reads the footers of objects.

use super::{Store, StoreError, StoreErrorKind};
use crate::log::encoding::FormatError;
use crate::log::ids::ObjectId;
use crate::log::object_format::{
    Footer, HEADER, TAIL_BYTES, TRAILER_BYTES, decode_footer, footer_range, wal_key,
};

/// Reads the footer of a WAL object of `size` bytes.
///
/// # Errors
/// [`StoreErrorKind::UnsupportedFormat`] for an object of another version,
/// [`StoreErrorKind::Corrupt`] for a damaged one or a copy of another one; otherwise the store's.
pub async fn read_footer(
    store: &dyn Store,
    object: ObjectId,
    size: u64,
) -> Result<Footer, StoreError> {
    let key = wal_key(object);
    let corrupt =
        |detail: String| StoreError::determinate(StoreErrorKind::Corrupt, "read", &key, detail);
    let undecodable = |error: FormatError| match error.is_unsupported() {
        true => {
            let kind = StoreErrorKind::UnsupportedFormat;
            StoreError::determinate(kind, "read", &key, error.to_string())
        }
        false => corrupt(error.to_string()),
    };
    if size < (HEADER.len() + TRAILER_BYTES) as u64 {
        return Err(corrupt("truncated".to_owned()));
    }
    let mut from = size.saturating_sub(TAIL_BYTES);
    let mut tail = store.get(&key, Some(from..size)).await?;
    let range = footer_range(size, &tail).map_err(undecodable)?;
    if range.start < from {
        from = range.start;
        tail = store.get(&key, Some(from..size)).await?;
    }
    let footer = decode_footer(size, &tail).map_err(undecodable)?;
    if footer.object != object {
        return Err(corrupt(format!("its footer has the id {}", footer.object)));
    }
    Ok(footer)
}
