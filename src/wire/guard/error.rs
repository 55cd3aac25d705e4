//! The errors of the guard and of decoding behind it.

/// The reason that the guard rejects a message. A broker closes the connection for each of these errors.
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
    /// A string of more than 32,767 bytes.
    #[error("string of {0} bytes: expected at most 32767")]
    Text(usize),
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

/// The reason that a message cannot be decoded.
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
