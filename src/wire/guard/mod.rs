//! The guard before the decoder: no byte reaches the `kafka-protocol` crate unwalked.
//!
//! The crate reserves memory for as many elements as an array's count promises: five bytes make
//! the process abort, which nothing can catch. The guard walks a message by Kafka's own schema
//! first, as a broker would read it, and refuses what does not lie whole within its bytes or
//! would take too much memory once decoded (`docs/adr/0005-guard-before-decode.md`).
//!
//! # Guarantees
//!
//! What the guard accepts decodes into at most [`decoded_bytes_max`] of memory: 64 KiB, plus 64
//! bytes for every byte of the message (an empty topic name takes one byte, its handle 32), and
//! never more than [`REQUEST_BYTES_MAX`] or [`RESPONSE_BYTES_MAX`]. Strings, bytes and records
//! are slices of the frame and take none. The walk itself allocates nothing.
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

/// The most memory that one decoded request may take, whatever its length.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;
/// The most memory that one decoded response may take: a cluster's metadata may be large, and
/// comes from a broker, not from a client.
pub const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Why the guard refuses a message. A broker closes the connection for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// The API is not among those that are decoded here.
    #[error("api key {0} is not decoded here")]
    UnknownApi(i16),
    /// The message has no such version.
    #[error("api key {api_key} has no version {version}")]
    UnknownVersion {
        /// The API.
        api_key: i16,
        /// The version that it does not have.
        version: i16,
    },
    /// A field ends behind the message.
    #[error("the message ends within a field")]
    Truncated,
    /// An array or tag section promises more elements than bytes are left.
    #[error("{count} elements announced with {remaining} bytes left")]
    Count {
        /// The elements announced.
        count: usize,
        /// The bytes left.
        remaining: usize,
    },
    /// A negative length or count other than −1.
    #[error("a length of {0}")]
    Negative(i32),
    /// Null where the schema has none.
    #[error("null in a field that cannot be null")]
    Null,
    /// A nullable struct announced by a byte other than 1 and −1.
    #[error("a nullable struct with a presence byte of {0}")]
    Presence(u8),
    /// A varint that does not end with its fifth byte.
    #[error("a varint of more than five bytes")]
    Varint,
    /// A tagged field longer or shorter than it announces.
    #[error("tagged field {0} does not have the size that it announces")]
    TagSize(u32),
    /// Decoding would take more memory than the message's length or the absolute limit allows.
    #[error("the message would take too much memory once decoded")]
    Memory,
}

/// Why a message could not be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The guard refuses it.
    #[error("the message is malformed")]
    Guard(#[from] GuardError),
    /// The crate refuses it: a string that is not UTF-8, a version that it lacks.
    #[error("the message cannot be decoded: {0}")]
    Codec(String),
    /// The crate ended elsewhere than the guard: their schemas differ, nothing can be trusted.
    #[error("the decoder read {decoded} bytes of a message of {walked}")]
    Length {
        /// Bytes that the guard walked.
        walked: usize,
        /// Bytes that the crate took.
        decoded: usize,
    },
}

/// The memory that a decoded message may take, from the length of its bytes and the limit of its
/// direction.
pub fn decoded_bytes_max(body_bytes: usize, direction_max: usize) -> usize {
    body_bytes.saturating_mul(64).saturating_add(64 << 10).min(direction_max)
}

/// Walks the body of a request, the header taken off, and returns the bytes it uses; as a broker
/// does, lets others follow.
pub fn check_request(api_key: i16, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let budget = decoded_bytes_max(body.len(), REQUEST_BYTES_MAX);
    check(&schema::REQUESTS, api_key, version, body, budget)
}

/// Walks the body of a response, the header taken off, and returns the bytes it uses.
pub fn check_response(api_key: i16, version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let budget = decoded_bytes_max(body.len(), RESPONSE_BYTES_MAX);
    check(&schema::RESPONSES, api_key, version, body, budget)
}

/// Checks the body of a request and decodes it. Strings and records are slices of `body`: they
/// keep its whole frame in memory.
pub fn decode_request<T: Request>(version: i16, body: Bytes) -> Result<T, DecodeError> {
    let used = check_request(T::KEY, version, &body)?;
    decode(version, body, used)
}

/// Checks the body of a response to request `T` and decodes it.
pub fn decode_response<T: Request>(version: i16, body: Bytes) -> Result<T::Response, DecodeError> {
    let used = check_response(T::KEY, version, &body)?;
    decode(version, body, used)
}

fn check(
    table: &[MessageSchema],
    api_key: i16,
    version: i16,
    body: &[u8],
    budget: usize,
) -> Result<usize, GuardError> {
    let found = table.binary_search_by_key(&api_key, |m| m.key);
    let message = found.ok().and_then(|at| table.get(at)).ok_or(GuardError::UnknownApi(api_key))?;
    if !message.versions.contain(version) {
        return Err(GuardError::UnknownVersion { api_key, version });
    }
    Walker::new(body, version, version >= message.first_flexible, budget).run(message.root)
}

/// The only call of the crate's decoders. It gets no byte that the guard has not walked.
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
