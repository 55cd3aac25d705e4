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

use table::MessageSchema;
use walk::Walker;

/// The maximum memory in bytes of one decoded request, whatever its length.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;
/// The maximum memory in bytes of one decoded response: a cluster's metadata may be large, and
/// comes from a broker, not from a client.
pub const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Why the guard rejects a message. A broker closes the connection for each of these errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The API is not decoded by the proxy.
    #[error("api key {0} is not decoded here")]
    UnknownApi(i16),
    /// The message has no such version.
    #[error("unknown version {version} of api key {api_key}")]
    UnknownVersion {
        /// The API.
        api_key: i16,
        /// The unsupported version.
        version: i16,
    },
    /// A field extends beyond the message.
    #[error("the message ends within a field")]
    Truncated,
    /// An array or tag section announces more elements than bytes are left.
    #[error("{count} elements announced, but only {remaining} bytes left")]
    Count {
        /// The announced elements.
        count: usize,
        /// The bytes left.
        remaining: usize,
    },
    /// A negative length or count other than −1.
    #[error("invalid length {0}: expected -1 or more")]
    Negative(i32),
    /// Null in a field that is not nullable.
    #[error("null in a field that is not nullable")]
    Null,
    /// A nullable struct with a presence byte other than 1 and −1.
    #[error("invalid presence byte {0} of a nullable struct: expected 1 or 255")]
    Presence(u8),
    /// A varint that does not end with its fifth byte.
    #[error("varint of more than five bytes")]
    Varint,
    /// A tagged field that is longer or shorter than its announced size.
    #[error("tagged field {0} differs from its announced size")]
    TagSize(u32),
    /// Decoding would take more memory than the message's length or the absolute limit allows.
    #[error("the decoded message would take too much memory")]
    Memory,
}

/// Why a message cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The guard rejects it.
    #[error("the message is malformed")]
    Guard(#[from] GuardError),
    /// The crate rejects it: a string that is not UTF-8, or an unsupported version.
    #[error("the message cannot be decoded: {0}")]
    Codec(String),
    /// The crate read another number of bytes than the guard: their schemas differ, and the result
    /// cannot be trusted.
    #[error("the decoder read {decoded} bytes of a message of {walked}")]
    Length {
        /// The bytes that the guard walked.
        walked: usize,
        /// The bytes that the crate read.
        decoded: usize,
    },
}

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
