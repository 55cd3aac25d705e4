//! The bodies of requests and responses.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use hyper::body::{Body, Frame, SizeHint};
use reqwest::Response;
use reqwest::header::HeaderValue;

use super::{StoreError, StoreErrorKind, error};

/// The maximum size of a response body in bytes, so that a store cannot exhaust the memory.
const READ_BYTES_MAX: usize = 1 << 30;

/// The maximum capacity in bytes that is reserved because of a content length.
const RESERVED_BYTES_MAX: u64 = 64 << 20;

/// The maximum number of bytes of an error response that are read.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// Returns the CRC32C of a body as S3 expects it: base64 of the big-endian number.
pub(super) fn checksum(chunks: &[Bytes]) -> HeaderValue {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for chunk in chunks {
        digest.update(chunk);
    }
    let crc = (digest.finalize() as u32).to_be_bytes();
    HeaderValue::from_str(&STANDARD.encode(crc)).expect("base64 is ASCII")
}

/// Returns chunks as the body of a request, without copying them.
pub(super) fn request_body(chunks: Vec<Bytes>) -> reqwest::Body {
    let remaining = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    reqwest::Body::wrap(Chunks { chunks: chunks.into(), remaining })
}

/// A body of concatenated chunks. The exact size hint makes the HTTP client send Content-Length,
/// which S3 requires.
struct Chunks {
    chunks: VecDeque<Bytes>,
    remaining: u64,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.pop_front();
        self.remaining -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// Reads a response of at most `bytes_max` bytes.
pub(super) async fn read(
    key: &str,
    mut response: Response,
    bytes_max: usize,
) -> Result<Bytes, StoreError> {
    let bytes_max = bytes_max.min(READ_BYTES_MAX);
    // Chunks are copied as they arrive, while they are in the processor's caches. The client then
    // reuses the memory for the next chunk instead of new pages, which the kernel must clear.
    let content_length = response.content_length().unwrap_or(0).min(RESERVED_BYTES_MAX);
    let mut whole = BytesMut::with_capacity(bytes_max.min(content_length as usize));
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(chunk)) => {
                if chunk.len() > bytes_max - whole.len() {
                    let detail = format!("the store sent more than {bytes_max} bytes");
                    let kind = StoreErrorKind::Unavailable;
                    return Err(StoreError::determinate(kind, "get", key, detail));
                }
                whole.extend_from_slice(&chunk);
            }
            Err(error) => return Err(error::from_transport("get", key, error)),
        }
    }
}

/// Reads the start of an error response, as far as it can be read.
pub(super) async fn read_text(mut response: Response) -> String {
    let mut text = BytesMut::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        text.extend_from_slice(&chunk);
        if text.len() >= TEXT_BYTES_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_matches_the_crc_catalogue() {
        // CRC-32/ISCSI of "123456789" is e3069283.
        let chunks = [Bytes::from_static(b"1234"), Bytes::new(), Bytes::from_static(b"56789")];
        assert_eq!(checksum(&chunks), STANDARD.encode([0xe3, 0x06, 0x92, 0x83]));
    }

    #[test]
    fn a_request_body_has_an_exact_size() {
        let body = request_body(vec![Bytes::from_static(b"ab"), Bytes::from_static(b"cde")]);
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(request_body(Vec::new()).size_hint().exact(), Some(0));
    }
}
