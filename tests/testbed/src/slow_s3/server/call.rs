//! The requests of the S3 API.

use std::ops::Range;

use hyper::http::request::Parts;
use hyper::{Method, Uri, header};

/// The five operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Get,
    Head,
    Delete,
    List,
}

impl Operation {
    /// All operations, each at its own index.
    pub(crate) const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Head, Self::Delete, Self::List];

    /// Its name in the control API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }

    /// Returns the operation of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

/// One request, in path style: `/bucket/key`.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) bucket: String,
    /// The key, or the prefix of a listing; empty for the bucket itself.
    pub(crate) key: String,
    pub(crate) start_after: String,
    pub(crate) max_keys: usize,
    /// `Range: bytes=a-b`, its end exclusive.
    pub(crate) range: Option<Range<u64>>,
    /// `If-None-Match: *`.
    pub(crate) create: bool,
    /// `x-amz-checksum-crc32c`.
    pub(crate) checksum: Option<String>,
    pub(crate) content_length: u64,
}

impl Call {
    /// Parses a request's head; `None` when the operation is not supported.
    pub(crate) fn of(head: &Parts) -> Option<Self> {
        let path = percent_decode(head.uri.path());
        let path = path.strip_prefix('/')?;
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let operation = match head.method {
            Method::PUT => Operation::Put,
            Method::GET if key.is_empty() => Operation::List,
            Method::GET => Operation::Get,
            Method::HEAD => Operation::Head,
            Method::DELETE => Operation::Delete,
            _ => return None,
        };
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let mut call = Self {
            operation,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            start_after: String::new(),
            max_keys: 1_000,
            range: text(header::RANGE).and_then(parse_range),
            create: text(header::IF_NONE_MATCH) == Some("*"),
            checksum: text("x-amz-checksum-crc32c".parse().ok()?).map(str::to_owned),
            content_length: text(header::CONTENT_LENGTH).and_then(|n| n.parse().ok()).unwrap_or(0),
        };
        if operation == Operation::List {
            for (name, value) in query(&head.uri) {
                match name.as_str() {
                    "prefix" => call.key = value,
                    "start-after" => call.start_after = value,
                    "max-keys" => call.max_keys = value.parse::<usize>().ok()?.min(1_000),
                    _ => {}
                }
            }
        }
        Some(call)
    }
}

/// Parses `bytes=a-b` and `bytes=a-`; S3 may ignore other forms.
fn parse_range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = if last.is_empty() { u64::MAX } else { last.parse::<u64>().ok()?.checked_add(1)? };
    Some(first.parse().ok()?..end)
}

/// Parses the parameters of a query in their order; a missing value is empty.
pub(crate) fn query(uri: &Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    // A plus in a query is a space; a plus in a key is sent as %2B.
    let decode = |text: &str| percent_decode(&text.replace('+', " "));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn percent_decode(text: &str) -> String {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                decoded.push(code);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_escapes_are_parsed() {
        assert_eq!(parse_range("bytes=0-9"), Some(0..10));
        assert_eq!(parse_range("bytes=5-"), Some(5..u64::MAX));
        assert_eq!(parse_range("bytes=-5"), None);
        assert_eq!(percent_decode("a%2Fb%20c%"), "a/b c%");
        let pairs = query(&"/x?a=b%26&lost&c=+d".parse().expect("a URI"));
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "b&"), ("lost", ""), ("c", " d")]);
    }
}
