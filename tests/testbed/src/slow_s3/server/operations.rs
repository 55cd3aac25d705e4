//! The five operations.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use hyper::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue};
use hyper::{Response, StatusCode};

use super::Server;
use super::answer::{Answer, error, escape, text};
use super::call::{Call, Operation};
use super::counters::CallRecord;
use super::faults::Effect;

impl Server {
    /// Performs a call without latency; counts in `record` that it took effect.
    pub(super) fn act(
        &self,
        call: Call,
        body: Vec<Bytes>,
        effect: &Effect,
        record: &mut CallRecord,
    ) -> Response<Answer> {
        let sent = body.iter().map(|chunk| chunk.len() as u64).sum();
        let operation = call.operation;
        let response = match operation {
            Operation::Put => self.put(call, body, effect),
            Operation::Get => self.get(&call, record),
            Operation::Head => self.head(&call),
            Operation::Delete => {
                self.objects.borrow_mut().delete(&path(&call));
                let mut response = Response::new(Answer::default());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
            Operation::List => self.list(&call),
        };
        if response.status().is_success() {
            record.landed(if operation == Operation::Put { sent } else { response.body().len() });
        }
        response
    }

    fn put(&self, call: Call, body: Vec<Bytes>, effect: &Effect) -> Response<Answer> {
        if call.key.is_empty() {
            // Any bucket exists.
            return Response::new(Answer::default());
        }
        let wrong = call.checksum.as_ref().is_some_and(|sent| *sent != checksum(&body));
        if wrong && !effect.lenient_checksum {
            let message = "the CRC32C does not match the body";
            return error(StatusCode::BAD_REQUEST, "BadDigest", message);
        }
        let mut objects = self.objects.borrow_mut();
        if call.create && !effect.ignore_if_none_match && objects.get(&path(&call)).is_some() {
            let message = "the object exists";
            return error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message);
        }
        let version = objects.put(path(&call), body);
        let mut response = Response::new(Answer::default());
        response.headers_mut().insert(ETAG, etag(version));
        response
    }

    fn get(&self, call: &Call, record: &CallRecord) -> Response<Answer> {
        let objects = self.objects.borrow();
        let Some(object) = objects.get(&path(call)) else { return no_such_key() };
        let range = call.range.clone().unwrap_or(0..u64::MAX);
        let range = range.start..range.end.min(object.len);
        if call.range.is_some() && range.start >= range.end {
            let message = "the range begins after the end of the object";
            return error(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message);
        }
        let Some(chunks) = object.slice(range.clone()) else {
            record.forgotten();
            let message = "dropped: older than what --keep-bytes keeps";
            return error(StatusCode::NOT_FOUND, "NoSuchKey", message);
        };
        let mut response = Response::new(Answer::of(chunks));
        if call.range.is_some() {
            let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, object.len);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            response.headers_mut().insert(CONTENT_RANGE, ascii(&content_range));
        }
        response.headers_mut().insert(ETAG, etag(object.version));
        response
    }

    fn head(&self, call: &Call) -> Response<Answer> {
        let mut response = Response::new(Answer::default());
        if call.key.is_empty() {
            return response;
        }
        let objects = self.objects.borrow();
        let Some(object) = objects.get(&path(call)) else {
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, object.len.into());
        headers.insert(ETAG, etag(object.version));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        response
    }

    fn list(&self, call: &Call) -> Response<Answer> {
        let objects = self.objects.borrow();
        let (prefix, start) = (path(call), format!("{}/{}", call.bucket, call.start_after));
        let mut rows = objects.after(&prefix, &start);
        let (mut contents, mut last) = (String::new(), String::new());
        for (key, object) in rows.by_ref().take(call.max_keys) {
            last = escape(&key[call.bucket.len() + 1..]);
            let _ = write!(
                contents,
                "<Contents><Key>{last}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{:x}&quot;</ETag><Size>{}</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents>",
                object.version, object.len
            );
        }
        let truncated = rows.next().is_some();
        let next = if truncated {
            format!("<NextContinuationToken>{last}</NextContinuationToken>")
        } else {
            String::new()
        };
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{}</Name>\
             <Prefix>{}</Prefix><MaxKeys>{}</MaxKeys><IsTruncated>{truncated}</IsTruncated>\
             {next}{contents}</ListBucketResult>",
            escape(&call.bucket),
            escape(&call.key),
            call.max_keys
        );
        text(StatusCode::OK, xml)
    }
}

fn path(call: &Call) -> String {
    format!("{}/{}", call.bucket, call.key)
}

fn no_such_key() -> Response<Answer> {
    error(StatusCode::NOT_FOUND, "NoSuchKey", "the object does not exist")
}

fn etag(version: u64) -> HeaderValue {
    ascii(&format!("\"{version:x}\""))
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and punctuation")
}

/// Returns the CRC32C of a body in S3's encoding: base64 of the big-endian number.
fn checksum(chunks: &[Bytes]) -> String {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for chunk in chunks {
        digest.update(chunk);
    }
    STANDARD.encode((digest.finalize() as u32).to_be_bytes())
}
