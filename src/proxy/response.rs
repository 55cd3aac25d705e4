//! Frames that we answer with.

use bytes::Bytes;
use futures::future::BoxFuture;
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use crate::engine::memory::MemoryPermit;
use crate::wire::frame;

/// Why the connection ends. A broker says nothing either, it closes.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    /// The client sent what no broker would answer.
    #[error("{0}")]
    Client(String),
    /// A broker broke off or answered what cannot be read.
    #[error("{0}")]
    Upstream(String),
    /// An answer could not be written: our mistake.
    #[error("{0}")]
    Internal(String),
    /// A produce with acks=0 failed: closing is the only way to tell (as a broker does).
    #[error("a produce that wants no answer failed")]
    UnacknowledgedFailure,
}

impl From<crate::wire::guard::DecodeError> for CloseReason {
    fn from(error: crate::wire::guard::DecodeError) -> Self {
        Self::Client(error.to_string())
    }
}

/// A response frame.
#[derive(Debug, Default)]
pub struct ResponseFrame {
    /// Slices to be laid end to end, length prefix first.
    pub slices: Vec<Bytes>,
    /// The memory that they take, until they are written.
    pub permit: Option<MemoryPermit>,
    /// How it is read once more, should the client not take it now.
    pub reload: Option<BodyReloader>,
}

/// Turns a broker's response, without its length prefix, into the client's.
pub(crate) type ResponseEdit =
    Box<dyn FnOnce(Bytes) -> BoxFuture<'static, Result<ResponseFrame, CloseReason>> + Send>;

/// Reads an answer once more: the same slices, with memory for them. `None` when it cannot be had.
pub struct BodyReloader(Box<ReloadBody>);

type ReloadBody = dyn Fn() -> BoxFuture<'static, Option<(Vec<Bytes>, MemoryPermit)>> + Send + Sync;

impl BodyReloader {
    /// By a call of `read`.
    pub fn new<F>(read: F) -> Self
    where
        F: Fn() -> BoxFuture<'static, Option<(Vec<Bytes>, MemoryPermit)>> + Send + Sync + 'static,
    {
        Self(Box::new(read))
    }

    pub(crate) async fn read(&self) -> Option<(Vec<Bytes>, MemoryPermit)> {
        (self.0)().await
    }
}

impl std::fmt::Debug for BodyReloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Again")
    }
}

/// Encodes a response in the version of its request.
pub fn encode<T: Encodable + HeaderVersion>(
    correlation_id: i32,
    version: i16,
    body: &T,
) -> Result<ResponseFrame, CloseReason> {
    encode_as(correlation_id, T::header_version(version), version, body)
}

/// As [`encode`], with the header version given: ApiVersions answers an unknown version with
/// version 0.
pub fn encode_as<T: Encodable>(
    correlation_id: i32,
    header_version: i16,
    version: i16,
    body: &T,
) -> Result<ResponseFrame, CloseReason> {
    let ours = |error: &dyn std::fmt::Display| CloseReason::Internal(format!("response: {error}"));
    let mut out = frame::begin();
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header.encode(&mut out, header_version).map_err(|e| ours(&e))?;
    body.encode(&mut out, version).map_err(|e| ours(&e))?;
    let frame = frame::finish(out).map_err(|e| ours(&e))?;
    Ok(ResponseFrame { slices: vec![frame], ..ResponseFrame::default() })
}
