//! An object store in S3, or in a store that implements its protocol.
//!
//! `rust-s3` signs requests, and its pooled HTTP client sends them. A PUT goes to a presigned URL,
//! so its body is neither hashed nor copied; a signed CRC32C lets the store verify the body
//! (`docs/adr/0002-s3-signer-and-checksums.md`).

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, RANGE,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use s3::Bucket;
use s3::creds::Credentials;
use s3::region::Region;

use super::body::{clip, invalid_range};
use super::key::{check_key, check_listing, is_valid};
use super::{Certainty, ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};

mod body;
mod error;

/// The validity of a presigned URL in seconds: it is used at once, but this machine's clock may be
/// behind the store's.
const URL_EXPIRY_SECS: u32 = 900;

/// The maximum number of rows in one response of S3.
const LIST_PAGE_ROWS_MAX: usize = 1_000;

const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-checksum-crc32c");

/// The endpoint, region and credentials of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Options {
    /// A server other than AWS, as `http://host:port`.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Puts the bucket into the path instead of the host name.
    pub path_style: bool,
    /// The credentials that sign requests.
    pub credentials: S3Credentials,
    /// The timeout of one request, including its body.
    pub request_timeout: Duration,
}

/// The source of credentials.
#[derive(Clone, PartialEq, Eq)]
pub enum S3Credentials {
    /// AWS's default chain: `AWS_*` variables, profile, web identity, container, instance.
    Chain,
    /// A key pair.
    Keys {
        /// The id of the key.
        access_key_id: String,
        /// The secret of the key.
        secret_access_key: String,
    },
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain => f.write_str("Chain"),
            Self::Keys { access_key_id, .. } => {
                f.debug_struct("Keys").field("access_key_id", access_key_id).finish_non_exhaustive()
            }
        }
    }
}

/// A bucket, or a prefix of one.
pub struct S3Store {
    bucket: Bucket,
    client: Client,
    /// Empty, or ends with `/`.
    prefix: String,
    request_timeout: Duration,
}

impl S3Store {
    /// Opens the objects below `prefix` (empty for all) in `bucket`. Sends no request to the bucket,
    /// and blocks while the credentials are fetched.
    ///
    /// # Errors
    /// [`StoreErrorKind::Denied`] if there are no credentials, or if the bucket, the prefix, the
    /// region or the endpoint is not valid.
    pub fn new(bucket: &str, prefix: &str, options: &S3Options) -> Result<Self, StoreError> {
        let denied = |detail: String| {
            StoreError::determinate(StoreErrorKind::Denied, "open", bucket, detail)
        };
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty() {
            check_key("open", prefix)?;
        }
        let region = match &options.endpoint {
            Some(endpoint) => Region::Custom {
                region: options.region.clone(),
                endpoint: endpoint.trim_end_matches('/').to_owned(),
            },
            None => options
                .region
                .parse()
                .map_err(|_unknown| denied(format!("unknown region `{}`", options.region)))?,
        };
        let credentials = match &options.credentials {
            S3Credentials::Chain => Credentials::default(),
            S3Credentials::Keys { access_key_id, secret_access_key } => {
                Credentials::new(Some(access_key_id), Some(secret_access_key), None, None, None)
            }
        };
        let credentials = credentials.map_err(|error| denied(error.to_string()))?;
        // Retries by the library would hide which attempt is indeterminate; `RetryStore` retries.
        s3::set_retries(0);
        let mut signer = *Bucket::new(bucket, region, credentials)
            .map_err(|error| denied(error::describe(error)))?;
        signer.set_request_timeout(Some(options.request_timeout));
        if options.path_style {
            signer.set_path_style();
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let client = signer.http_client();
        Ok(Self { bucket: signer, client, prefix, request_timeout: options.request_timeout })
    }

    fn path(&self, key: &str) -> String {
        format!("/{}{key}", self.prefix)
    }

    /// Sends a request and checks the status; does not read the body of a successful response.
    async fn send(
        &self,
        operation: &'static str,
        key: &str,
        request: RequestBuilder,
    ) -> Result<Response, StoreError> {
        let sent = request.timeout(self.request_timeout).send().await;
        let response = sent.map_err(|error| error::from_transport(operation, key, error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let text = body::read_text(response).await;
        Err(error::from_status(operation, key, status, &text))
    }

    /// The size of an object.
    async fn size(&self, operation: &'static str, key: &str) -> Result<u64, StoreError> {
        let head = self.bucket.head_object(self.path(key)).await;
        let (head, _) = head.map_err(|error| error::from_signer(operation, key, error))?;
        let size = head.content_length.and_then(|length| u64::try_from(length).ok());
        size.ok_or_else(|| {
            let detail = "the response has no content length";
            StoreError::determinate(StoreErrorKind::Unavailable, operation, key, detail)
        })
    }

    /// Returns the outcome of a conflict between two conditional PUTs: the object exists, or the
    /// PUT is to be repeated.
    async fn resolve_conflict(&self, key: &str, conflict: StoreError) -> StoreError {
        match self.size("put", key).await {
            Ok(_) => {
                let (kind, detail) = (StoreErrorKind::AlreadyExists, "the object exists");
                StoreError::determinate(kind, "put", key, detail)
            }
            Err(_) => conflict,
        }
    }

    /// PUTs an object with the given checksum in its header.
    async fn put_checked(
        &self,
        key: &str,
        body: Vec<Bytes>,
        mode: PutMode,
        checksum: HeaderValue,
    ) -> Result<(), StoreError> {
        check_key("put", key)?;
        let mut headers = HeaderMap::new();
        headers.insert(CHECKSUM, checksum);
        if mode == PutMode::Create {
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let signed =
            self.bucket.presign_put(self.path(key), URL_EXPIRY_SECS, Some(headers.clone()), None);
        let url = signed.await.map_err(|error| error::from_signing("put", key, error))?;
        // Set explicitly: the HTTP client omits it for an empty body, and some stores reject that.
        headers.insert(CONTENT_LENGTH, body.iter().map(Bytes::len).sum::<usize>().into());
        let request = self.client.put(url).headers(headers).body(body::request_body(body));
        self.send("put", key, request).await.map(|_| ())
    }

    /// Returns whether the store rejects an object whose CRC32C differs from its header. Some
    /// stores accept the header without checking it; then a meaningless object remains at `key`.
    pub async fn verifies_checksums(&self, key: &str) -> Result<bool, StoreError> {
        let wrong = body::checksum(&[Bytes::from_static(b"something else")]);
        let body = vec![Bytes::from_static(b"probe")];
        match self.put_checked(key, body, PutMode::Overwrite, wrong).await {
            Ok(()) => Ok(false),
            Err(error) if error::is_checksum_mismatch(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn get_range(
        &self,
        key: &str,
        url: String,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        // HTTP has no empty range, and its ranges include the last byte.
        if range.start >= range.end {
            let size = self.size("get", key).await?;
            return clip(key, &range, size).map(|_| Bytes::new());
        }
        let request = self.client.get(url);
        let request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        let response = self.send("get", key, request).await?;
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        if response.status() != StatusCode::PARTIAL_CONTENT {
            // Some gateways ignore ranges and send the whole object.
            let whole = body::read(key, response, usize::MAX).await?;
            let range = clip(key, &range, whole.len() as u64)?;
            return Ok(whole.slice(range.start as usize..range.end as usize));
        }
        let content_range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|content_range| content_range.to_str().ok());
        if !content_range.is_some_and(|content_range| {
            content_range.starts_with(&format!("bytes {}-", range.start))
        }) {
            let detail =
                format!("requested range {}.. but the response has {content_range:?}", range.start);
            let kind = StoreErrorKind::Unavailable;
            return Err(StoreError::determinate(kind, "get", key, detail));
        }
        let bytes = body::read(key, response, len).await?;
        if bytes.is_empty() { Err(invalid_range(key, &range, "")) } else { Ok(bytes) }
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the whole bucket: it contains the credentials.
        let (bucket, region) = (&self.bucket.name, self.bucket.region.to_string());
        let mut shown = f.debug_struct("S3Store");
        shown.field("bucket", bucket).field("prefix", &self.prefix).field("region", &region);
        shown.finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, key: &str, body: Vec<Bytes>, mode: PutMode) -> Result<(), StoreError> {
        let checksum = body::checksum(&body);
        match self.put_checked(key, body, mode, checksum).await {
            Err(refusal) if mode == PutMode::Create && error::is_conflict(&refusal) => {
                Err(self.resolve_conflict(key, refusal).await)
            }
            done => done,
        }
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        check_key("get", key)?;
        let signed = self.bucket.presign_get(self.path(key), URL_EXPIRY_SECS, None).await;
        let url = signed.map_err(|error| error::from_signing("get", key, error))?;
        match range {
            Some(range) => self.get_range(key, url, range).await,
            None => {
                let response = self.send("get", key, self.client.get(url)).await?;
                body::read(key, response, usize::MAX).await
            }
        }
    }

    async fn head(&self, key: &str) -> Result<u64, StoreError> {
        check_key("head", key)?;
        self.size("head", key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        check_listing(prefix, after)?;
        let mut rows = Vec::new();
        let mut start_after = after.map(|after| format!("{}{after}", self.prefix));
        while rows.len() < limit {
            let page = self.bucket.list_page(
                format!("{}{prefix}", self.prefix),
                None,
                None,
                start_after.take(),
                Some((limit - rows.len()).min(LIST_PAGE_ROWS_MAX)),
            );
            let (page, _) =
                page.await.map_err(|error| error::from_signer("list", prefix, error))?;
            // The next page starts after the last key instead of at a token: S3 treats both alike,
            // and stores differ in what their tokens may contain.
            start_after = page.contents.last().map(|row| row.key.clone());
            let rows_of_page = page.contents.into_iter().filter_map(|row| {
                // Objects whose keys are not valid belong to other writers.
                let key = row.key.strip_prefix(&self.prefix).filter(|key| is_valid(key))?;
                Some(ObjectMeta { key: key.to_owned(), size: row.size })
            });
            rows.extend(rows_of_page);
            if !page.is_truncated || start_after.is_none() {
                break;
            }
        }
        Ok(rows)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key("delete", key)?;
        let signed = self.bucket.presign_delete(self.path(key), URL_EXPIRY_SECS).await;
        let url = signed.map_err(|error| error::from_signing("delete", key, error))?;
        match self.send("delete", key, self.client.delete(url)).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            deleted => deleted.map(|_| ()),
        }
    }
}
