//! The URL of a store, and how it is opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::file::FileStore;
use super::measured::MeasuredStore;
use super::memory::MemoryStore;
use super::retry::RetryStore;
use super::s3::{S3Options, S3Store};
use super::{Store, StoreError};
use crate::entropy::Entropy;
use crate::metrics::Metrics;

/// The location of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`: the memory of this process.
    Memory,
    /// `file:///absolute/path`: a directory of this machine.
    File(PathBuf),
    /// `s3://bucket/prefix`: a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The prefix of all keys, without leading or trailing slashes; may be empty.
        prefix: String,
    },
}

/// A text that is not a valid store URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// The text starts with none of the three schemes.
    #[error("expected `s3://bucket/prefix`, `file:///path` or `memory:`")]
    Scheme,
    /// A relative path, or one with a host.
    #[error("expected an absolute path, such as `file:///var/lib/odradek`")]
    RelativePath,
    /// The bucket's name is not 3 to 63 lower-case letters, digits, `.` and `-`.
    #[error("expected a bucket name of 3–63 characters of a–z, 0–9, `.` and `-`")]
    Bucket,
    /// The prefix is not a valid key of a [`Store`], or longer than 256 bytes.
    #[error(
        "expected a prefix of at most 256 characters of A–Z, a–z, 0–9, `.`, `_`, `-` and `/`, without \
         `..` or `//`"
    )]
    Prefix,
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        if matches!(text, "memory:" | "memory://") {
            return Ok(Self::Memory);
        }
        if let Some(path) = text.strip_prefix("file://") {
            let absolute = path.starts_with('/') && path.len() > 1;
            return if absolute {
                Ok(Self::File(path.into()))
            } else {
                Err(StoreUrlError::RelativePath)
            };
        }
        let rest = text.strip_prefix("s3://").ok_or(StoreUrlError::Scheme)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(valid) {
            return Err(StoreUrlError::Bucket);
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix.len() > 256 || !(prefix.is_empty() || super::key::is_valid(prefix)) {
            return Err(StoreUrlError::Prefix);
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl StoreUrl {
    /// Returns the location `name` below this one, such as a cluster's.
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Memory => Self::Memory,
            Self::File(path) => Self::File(path.join(name)),
            Self::S3 { bucket, prefix } => {
                let prefix =
                    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
                Self::S3 { bucket: bucket.clone(), prefix }
            }
        }
    }
}

/// An opened store.
#[derive(Clone, Debug)]
pub struct OpenedStore {
    /// The store that repeats calls after transient faults.
    pub store: Arc<dyn Store>,
    /// The store without retries, for callers with their own retries.
    pub without_retries: Arc<dyn Store>,
    /// The adapter if it is S3, for probing its capabilities.
    pub s3: Option<Arc<S3Store>>,
}

/// Opens a store whose calls are counted in `metrics`. The jitter of retries comes from `entropy`.
/// Blocks while a directory is prepared or credentials are fetched: call it before the runtime
/// serves, or from a blocking task. Each call with `memory:` opens a new store.
///
/// # Errors
/// [`super::StoreErrorKind::Denied`] if the store cannot be used at all.
pub fn open(
    url: &StoreUrl,
    s3: &S3Options,
    entropy: Arc<Entropy>,
    metrics: &Arc<Metrics>,
) -> Result<OpenedStore, StoreError> {
    let measured = |store: Arc<dyn Store>| -> Arc<dyn Store> {
        Arc::new(MeasuredStore::new(store, Arc::clone(metrics)))
    };
    // Neither memory nor a directory has transient faults: a call that failed fails again.
    let local = |store: Arc<dyn Store>| {
        let without_retries = measured(store);
        OpenedStore { store: Arc::clone(&without_retries), without_retries, s3: None }
    };
    match url {
        StoreUrl::Memory => Ok(local(Arc::new(MemoryStore::new()))),
        StoreUrl::File(path) => Ok(local(Arc::new(FileStore::open(path)?))),
        StoreUrl::S3 { bucket, prefix } => {
            let s3 = Arc::new(S3Store::new(bucket, prefix, s3)?);
            let without_retries = measured(Arc::clone(&s3) as Arc<dyn Store>);
            let retrying = RetryStore::new(Arc::clone(&without_retries), entropy);
            Ok(OpenedStore { store: Arc::new(retrying), without_retries, s3: Some(s3) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_and_displayed_alike() {
        let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        let rows = [
            ("memory:", Ok(StoreUrl::Memory)),
            ("file:///var/lib/odradek", Ok(StoreUrl::File("/var/lib/odradek".into()))),
            ("s3://logs", Ok(s3("logs", ""))),
            ("s3://logs/a/b", Ok(s3("logs", "a/b"))),
            ("file://var/lib", Err(StoreUrlError::RelativePath)),
            ("file:///", Err(StoreUrlError::RelativePath)),
            ("gs://logs", Err(StoreUrlError::Scheme)),
            ("", Err(StoreUrlError::Scheme)),
            ("s3://", Err(StoreUrlError::Bucket)),
            ("s3://Logs/a", Err(StoreUrlError::Bucket)),
            ("s3://logs//a", Err(StoreUrlError::Prefix)),
            ("s3://logs/../a", Err(StoreUrlError::Prefix)),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse(), expected, "{text}");
            if let Ok(url) = expected {
                assert_eq!(url.to_string(), text);
            }
        }
        assert_eq!("s3://logs/a/".parse(), Ok(s3("logs", "a")));
        assert_eq!(s3("logs", "").join("prod"), s3("logs", "prod"));
        assert_eq!(s3("logs", "a").join("prod"), s3("logs", "a/prod"));
    }
}
