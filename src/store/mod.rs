//! Object storage: a port of five verbs, its adapters and decorators.

mod body;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
#[cfg(any(test, feature = "test-util"))]
pub mod faulty;
pub mod file;
mod key;
pub mod measured;
pub mod memory;
pub mod open;
pub mod probe;
pub mod retry;
pub mod s3;

use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

/// What a PUT does with a key that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Replaces it.
    Overwrite,
    /// Fails with [`StoreErrorKind::AlreadyExists`], and leaves it as it is.
    Create,
}

/// One row of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The object's key, below the store's own prefix.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// No object has this key.
    NotFound,
    /// The key exists already ([`PutMode::Create`]).
    AlreadyExists,
    /// The range lies beyond the object's end.
    InvalidRange,
    /// The store refuses us: credentials, policy, a bucket that does not exist.
    Denied,
    /// The bytes are not the ones that were written.
    Corrupt,
    /// A passing fault: asking again may help.
    Unavailable,
    /// A passing fault, and a request to ask less often (S3's 503 and 429).
    SlowDown,
}

/// Whether a call that failed may have changed the store all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// It certainly changed nothing.
    Determinate,
    /// It may have happened.
    Indeterminate,
}

/// A call that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} {key}: {detail}")]
pub struct StoreError {
    /// What went wrong.
    pub kind: StoreErrorKind,
    /// Whether it may have happened.
    pub certainty: Certainty,
    /// The verb that failed.
    pub operation: &'static str,
    /// The key that it concerned.
    pub key: String,
    /// What the store said; for people.
    pub detail: String,
}

impl StoreErrorKind {
    /// Whether asking again may help.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::SlowDown)
    }
}

impl StoreError {
    /// A call that certainly changed nothing.
    pub fn determinate(
        kind: StoreErrorKind,
        operation: &'static str,
        key: &str,
        detail: impl Into<String>,
    ) -> Self {
        let certainty = Certainty::Determinate;
        Self { kind, certainty, operation, key: key.to_owned(), detail: detail.into() }
    }

    /// A passing fault of a call that may have happened.
    pub fn indeterminate(operation: &'static str, key: &str, detail: impl Into<String>) -> Self {
        let (kind, certainty) = (StoreErrorKind::Unavailable, Certainty::Indeterminate);
        Self { kind, certainty, operation, key: key.to_owned(), detail: detail.into() }
    }
}

/// Object storage.
///
/// Keys are `/`-separated, of `[A-Za-z0-9._/-]`, never empty, without `..`, at most 512 bytes;
/// what lies between two slashes is neither empty nor `.`, and at most 200 bytes, so that every
/// key is also a path. Any other key is refused with [`StoreErrorKind::Denied`]. Callers keep no
/// object at a key that another key continues with a slash: MinIO lists only one of `a` and `a/b`.
///
/// # Guarantees
/// A reader sees an object whole or not at all. After a PUT returned, every GET and every listing
/// that begins later sees it, whatever process it runs in, and a crash of the machine does not
/// undo it. An error says whether the call may have happened.
///
/// # Cancel safety
/// A dropped PUT or DELETE may still happen.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Writes an object from chunks laid end to end.
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError>;

    /// Reads an object, or a range of its bytes. A range that only begins inside the object gives
    /// what there is; one that begins at or beyond its end is [`StoreErrorKind::InvalidRange`].
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError>;

    /// The size of an object in bytes.
    async fn head(&self, key: &str) -> Result<u64, StoreError>;

    /// At most `limit` objects whose keys begin with `prefix` and sort after `after`, in the byte
    /// order of their keys; fewer than `limit` only at the end.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Deletes an object; one that does not exist is no error.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;
}
