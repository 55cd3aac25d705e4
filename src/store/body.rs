//! Bodies and ranges, with the rules that all adapters share.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::{StoreError, StoreErrorKind};

/// Concatenates chunks. A single chunk is not copied.
pub(super) fn concat(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() == 1
        && let Some(only) = chunks.pop()
    {
        return only;
    }
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in chunks {
        whole.extend_from_slice(&chunk);
    }
    whole.freeze()
}

/// Returns the part of a range that exists in an object of `size` bytes.
///
/// # Errors
/// [`StoreErrorKind::InvalidRange`] if the range is reversed or starts at or after the end.
pub(super) fn clip(key: &str, range: &Range<u64>, size: u64) -> Result<Range<u64>, StoreError> {
    if range.start > range.end || range.start >= size {
        return Err(invalid_range(key, range, &format!("of {size} bytes")));
    }
    Ok(range.start..range.end.min(size))
}

/// Returns the error for a range that an object does not have.
pub(super) fn invalid_range(key: &str, range: &Range<u64>, detail: &str) -> StoreError {
    let detail = format!("no range {}..{} {detail}", range.start, range.end);
    StoreError::determinate(StoreErrorKind::InvalidRange, "get", key, detail)
}
