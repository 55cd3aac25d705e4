//! The rule for keys, shared by all adapters.

use super::{StoreError, StoreErrorKind};

/// The maximum length of a key in bytes. S3 allows 1,024; the rest is reserved for the store's
/// prefix.
const KEY_BYTES_MAX: usize = 512;

/// The maximum length of a segment between two slashes in bytes: a file name may have 255.
const SEGMENT_BYTES_MAX: usize = 200;

/// Checks that every adapter can store a key, and that it stays inside the store's tree.
///
/// # Errors
/// [`StoreErrorKind::Denied`], which is determinate.
pub(super) fn check_key(operation: &'static str, key: &str) -> Result<(), StoreError> {
    match violation(key) {
        None => Ok(()),
        Some(violation) => Err(invalid_key(operation, key, violation)),
    }
}

/// Checks that a key can start with a listing's prefix, and follow its starting point.
///
/// # Errors
/// [`StoreErrorKind::Denied`], which is determinate.
pub(super) fn check_listing(prefix: &str, after: Option<&str>) -> Result<(), StoreError> {
    for bound in [Some(prefix), after].into_iter().flatten() {
        if bound.len() > KEY_BYTES_MAX || !bound.bytes().all(is_allowed) || bound.contains("..") {
            return Err(invalid_key("list", bound, "no key starts with this"));
        }
    }
    Ok(())
}

/// Returns whether a key that was found in a listing is one that this store could have written.
pub(super) fn is_valid(key: &str) -> bool {
    violation(key).is_none()
}

fn violation(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("a key must not be empty");
    }
    if key.len() > KEY_BYTES_MAX {
        return Some("a key has at most 512 bytes");
    }
    if !key.bytes().all(is_allowed) {
        return Some("a key consists of [A-Za-z0-9._/-]");
    }
    if key.contains("..") {
        return Some("a key must not contain `..`");
    }
    for segment in key.split('/') {
        if segment.is_empty() || segment == "." {
            return Some("a key must not have an empty segment or the segment `.`");
        }
        if segment.len() > SEGMENT_BYTES_MAX {
            return Some("a segment of a key has at most 200 bytes");
        }
    }
    None
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-')
}

fn invalid_key(operation: &'static str, key: &str, violation: &str) -> StoreError {
    // The key may be hostile or very long; its beginning is enough to recognise it.
    let shown: String = key.escape_debug().take(80).collect();
    StoreError::determinate(StoreErrorKind::Denied, operation, &shown, violation)
}
