//! Object storage: a port of five operations, its adapters and its decorators.

mod body;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
#[cfg(any(test, feature = "test-util"))]
pub mod faulty;
pub mod file;
pub mod footer;
mod key;
pub mod measured;
pub mod memory;
pub mod open;
pub mod probe;
pub mod record;
pub mod retry;
pub mod s3;

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

/// The behaviour of a PUT if the key exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Replaces the object.
    Overwrite,
    /// Fails with [`StoreErrorKind::AlreadyExists`] and leaves the object unchanged.
    Create,
}

/// One row of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The object's key, relative to the store's prefix.
    pub key: String,
    /// The object's size in bytes.
    pub size: u64,
}

/// The class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// No object has this key.
    NotFound,
    /// The key exists already ([`PutMode::Create`]).
    AlreadyExists,
    /// The range starts at or after the object's end, or is reversed.
    InvalidRange,
    /// The store denies access: credentials, policy, or a bucket that does not exist.
    Denied,
    /// The object is larger than the store accepts.
    TooLarge,
    /// The bytes differ from those that were written.
    Corrupt,
    /// The bytes have a format that this program does not know.
    UnsupportedFormat,
    /// A transient fault: a retry may succeed.
    Unavailable,
    /// A transient fault, with a request to reduce the rate (S3's 503 and 429).
    SlowDown,
}

/// The effect of a failed call on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// The call changed nothing.
    Determinate,
    /// The call may have taken effect.
    Indeterminate,
}

/// A call that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} {key}: {detail}")]
pub struct StoreError {
    /// The class of the failure.
    pub kind: StoreErrorKind,
    /// The effect of the call on the store.
    pub certainty: Certainty,
    /// The operation that failed, in lower case.
    pub operation: &'static str,
    /// The key of the call.
    pub key: String,
    /// The store's message.
    pub detail: String,
}

impl StoreErrorKind {
    /// Returns whether a retry may succeed.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::SlowDown)
    }
}

impl StoreError {
    /// Creates the error of a call that changed nothing.
    pub fn determinate(
        kind: StoreErrorKind,
        operation: &'static str,
        key: &str,
        detail: impl Into<String>,
    ) -> Self {
        let certainty = Certainty::Determinate;
        Self { kind, certainty, operation, key: key.to_owned(), detail: detail.into() }
    }

    /// Creates the error of a call that met a transient fault and may have taken effect.
    pub fn indeterminate(operation: &'static str, key: &str, detail: impl Into<String>) -> Self {
        let (kind, certainty) = (StoreErrorKind::Unavailable, Certainty::Indeterminate);
        Self { kind, certainty, operation, key: key.to_owned(), detail: detail.into() }
    }
}

/// Object storage.
///
/// A key has 1 to 512 bytes of `[A-Za-z0-9._/-]` and does not contain `..`. Its segments, separated
/// by `/`, have 1 to 200 bytes and are not `.`, so that every key is also a path. Any other key
/// fails with [`StoreErrorKind::Denied`]. Callers do not use a key together with one that extends
/// it by a slash: MinIO lists only one of `a` and `a/b`.
///
/// # Guarantees
/// A reader observes an object completely or not at all. After a PUT returned, every GET and every
/// listing that starts later observes it, in every process, and a crash of the machine does not
/// undo it. An error states whether the call may have taken effect.
///
/// # Cancel safety
/// A dropped PUT or DELETE may still take effect.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Writes an object from chunks, which are concatenated.
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError>;

    /// Reads an object, or a range of its bytes. A range that extends past the object's end returns
    /// the bytes up to the end; one that starts at or after the end fails with
    /// [`StoreErrorKind::InvalidRange`].
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError>;

    /// Returns the size of an object in bytes.
    async fn head(&self, key: &str) -> Result<u64, StoreError>;

    /// Lists at most `limit` objects whose keys start with `prefix` and sort after `after`, in the
    /// byte order of their keys. Returns fewer than `limit` only at the end.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Deletes an object. Succeeds if it does not exist.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
}
