//! What is asked of the store.

use std::ops::Range;

use hyper::http::request::Parts;
use hyper::{Method, Uri, header};

/// The five calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Put,
    Get,
    Head,
    Delete,
    List,
}

impl Verb {
    /// All of them, each at the place of its number.
    pub(crate) const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Head, Self::Delete, Self::List];

    /// As the control API calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }

    /// The verb of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

/// One call, path style: `/bucket/key`.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) verb: Verb,
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
    /// Reads a request's head; None when it is nothing that a store of ours is asked.
    pub(crate) fn of(head: &Parts) -> Option<Self> {
        let path = percent_decode(head.uri.path());
        let path = path.strip_prefix('/')?;
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let verb = match head.method {
            Method::PUT => Verb::Put,
            Method::GET if key.is_empty() => Verb::List,
            Method::GET => Verb::Get,
            Method::HEAD => Verb::Head,
            Method::DELETE => Verb::Delete,
            _ => return None,
        };
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let mut call = Self {
            verb,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            start_after: String::new(),
            max_keys: 1_000,
            range: text(header::RANGE).and_then(parse_range),
            create: text(header::IF_NONE_MATCH) == Some("*"),
            checksum: text("x-amz-checksum-crc32c".parse().ok()?).map(str::to_owned),
            content_length: text(header::CONTENT_LENGTH).and_then(|n| n.parse().ok()).unwrap_or(0),
        };
        if verb == Verb::List {
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

/// `bytes=a-b` and `bytes=a-`; what else there is, S3 may ignore.
fn parse_range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let end = if last.is_empty() { u64::MAX } else { last.parse::<u64>().ok()?.checked_add(1)? };
    Some(first.parse().ok()?..end)
}

/// A query's parameters in their order; one without a value has an empty one.
pub(crate) fn query(uri: &Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    // A form's plus is a space; S3's keys send theirs as %2B.
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
    fn ranges_and_escapes_are_read() {
        assert_eq!(parse_range("bytes=0-9"), Some(0..10));
        assert_eq!(parse_range("bytes=5-"), Some(5..u64::MAX));
        assert_eq!(parse_range("bytes=-5"), None);
        assert_eq!(percent_decode("a%2Fb%20c%"), "a/b c%");
        let pairs = query(&"/x?a=b%26&lost&c=+d".parse().expect("a URI"));
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "b&"), ("lost", ""), ("c", " d")]);
    }
}
