//! The guard before the decoder: no byte reaches the `kafka-protocol` crate unchecked.
//!
//! The crate allocates memory for as many elements as an array's count announces: five bytes make
//! the process abort, which cannot be caught. The guard walks a message by Kafka's own schema
//! first, as a broker would read it. It rejects what is incomplete or would take too much memory
//! once decoded (`docs/adr/0005-guard-before-decode.md`).
//!
//! # Guarantees
//!
//! What the guard accepts decodes into at most [`decoded_bytes_max`] of memory: 64 KiB, plus 64
//! bytes for every byte of the message (an empty topic name takes one byte, its handle 32), and
//! never more than [`REQUEST_BYTES_MAX`] or [`RESPONSE_BYTES_MAX`]. Strings, bytes and records are
//! slices of the frame and take none. The walk itself allocates nothing.
//!
//! [`decode_request`] and [`decode_response`] are the only ways to the crate's decoders in this
//! code base; `clippy.toml` bans the others.

mod error;
#[cfg(any(test, feature = "test-util"))]
pub mod sample;
#[rustfmt::skip]
pub(in crate::wire) mod schema;
mod table;
#[cfg(test)]
mod tests;
mod walk;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Request};

pub use error::{DecodeError, GuardError};

use table::MessageSchema;
use walk::Walker;

/// The maximum memory in bytes of one decoded request, whatever its length.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;
/// The maximum memory in bytes of one decoded response: a cluster's metadata may be large, and
/// comes from a broker, not from a client.
pub const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Returns the memory in bytes that a decoded message may take, from the length of its body and the
/// limit of its direction.
pub fn decoded_bytes_max(body_bytes: usize, direction_max: usize) -> usize {
    body_bytes.saturating_mul(64).saturating_add(64 << 10).min(direction_max)
}

/// Walks the body of a request without its header, and returns the number of bytes it uses. Like a
/// broker, it allows further bytes.
///
/// # Errors
/// [`GuardError`] if the message must not be decoded.
pub fn check_request(api_key: i16, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let memory_max = decoded_bytes_max(body.len(), REQUEST_BYTES_MAX);
    check(&schema::REQUESTS, api_key, version, body, memory_max)
}

/// Walks the body of a response without its header, and returns the number of bytes it uses.
///
/// # Errors
/// [`GuardError`] if the message must not be decoded.
pub fn check_response(api_key: i16, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let memory_max = decoded_bytes_max(body.len(), RESPONSE_BYTES_MAX);
    check(&schema::RESPONSES, api_key, version, body, memory_max)
}

/// Checks the body of a request and decodes it. Strings and records are slices of `body`, and keep
/// its whole frame in memory.
///
/// # Errors
/// [`DecodeError`] if the guard or the decoder rejects it.
pub fn decode_request<T: Request>(version: i16, body: Bytes) -> Result<T, DecodeError> {
    let used = check_request(T::KEY, version, &body)?;
    decode(version, body, used)
}

/// Checks the body of a response to request `T` and decodes it.
///
/// # Errors
/// [`DecodeError`] if the guard or the decoder rejects it.
pub fn decode_response<T: Request>(version: i16, body: Bytes) -> Result<T::Response, DecodeError> {
    let used = check_response(T::KEY, version, &body)?;
    decode(version, body, used)
}

fn check(
    table: &[MessageSchema],
    api_key: i16,
    version: i16,
    body: &[u8],
    memory_max: usize,
) -> Result<usize, GuardError> {
    let found = table.binary_search_by_key(&api_key, |m| m.key);
    let message = found.ok().and_then(|at| table.get(at)).ok_or(GuardError::UnknownApi(api_key))?;
    if !message.versions.contain(version) {
        return Err(GuardError::UnknownVersion { api_key, version });
    }
    Walker::new(body, version, version >= message.first_flexible, memory_max).run(message.root)
}

/// The only call of the crate's decoders. It gets only bytes that the guard has walked.
fn decode<T: Decodable>(version: i16, mut body: Bytes, walked: usize) -> Result<T, DecodeError> {
    body.truncate(walked);
    #[expect(clippy::disallowed_methods, reason = "the one place, behind the guard")]
    let decoded =
        T::decode(&mut body, version).map_err(|error| DecodeError::Codec(error.to_string()))?;
    if body.is_empty() {
        Ok(decoded)
    } else {
        Err(DecodeError::Length { walked, decoded: walked - body.len() })
    }
}
