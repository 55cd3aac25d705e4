//! The one rule for keys, shared by all adapters.

use super::{StoreError, StoreErrorKind};

/// The longest key in bytes. S3 allows 1,024; the rest is left to the store's own prefix.
const KEY_BYTES_MAX: usize = 512;

/// The longest stretch between two slashes in bytes: a file name may have 255.
const SEGMENT_BYTES_MAX: usize = 200;

/// Refuses a key that some adapter could not hold, or that could leave the store's own tree.
///
/// # Errors
/// [`StoreErrorKind::Denied`], certainly without effect.
pub(super) fn check_key(operation: &'static str, key: &str) -> Result<(), StoreError> {
    match violation(key) {
        None => Ok(()),
        Some(violation) => Err(invalid_key(operation, key, violation)),
    }
}

/// Refuses a listing's prefix or starting point that no key could have.
///
/// # Errors
/// [`StoreErrorKind::Denied`], certainly without effect.
pub(super) fn check_listing(prefix: &str, after: Option<&str>) -> Result<(), StoreError> {
    for bound in [Some(prefix), after].into_iter().flatten() {
        if bound.len() > KEY_BYTES_MAX || !bound.bytes().all(is_allowed) || bound.contains("..") {
            return Err(invalid_key("list", bound, "no key begins like this"));
        }
    }
    Ok(())
}

/// Whether a key that a listing found is one that we could have written.
pub(super) fn is_valid(key: &str) -> bool {
    violation(key).is_none()
}

fn violation(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("a key is never empty");
    }
    if key.len() > KEY_BYTES_MAX {
        return Some("a key has at most 512 bytes");
    }
    if !key.bytes().all(is_allowed) {
        return Some("a key consists of [A-Za-z0-9._/-]");
    }
    if key.contains("..") {
        return Some("a key is without `..`");
    }
    for segment in key.split('/') {
        if segment.is_empty() || segment == "." {
            return Some("between two slashes of a key stands a name");
        }
        if segment.len() > SEGMENT_BYTES_MAX {
            return Some("between two slashes of a key stand at most 200 bytes");
        }
    }
    None
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/' | b'-')
}

fn invalid_key(operation: &'static str, key: &str, violation: &str) -> StoreError {
    // What was refused may be hostile or huge; a person needs to recognise it only.
    let shown: String = key.escape_debug().take(80).collect();
    StoreError::determinate(StoreErrorKind::Denied, operation, &shown, violation)
}
