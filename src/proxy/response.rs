//! Responses of the proxy.

use bytes::Bytes;
use futures::future::BoxFuture;
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Encodable, HeaderVersion};

use crate::engine::memory::MemoryPermit;
use crate::wire::frame;

/// Reason that a connection is closed. Like a broker, the proxy closes without a response.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    /// The client sent a request that no broker would respond to.
    #[error("{0}")]
    Client(String),
    /// A broker closed the connection, or its response is malformed.
    #[error("{0}")]
    Upstream(String),
    /// A response could not be produced because of a bug.
    #[error("{0}")]
    Internal(String),
    /// A produce with acks=0 failed. Closing the connection is the only way to report it, as brokers
    /// do.
    #[error("a produce with acks=0 failed")]
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
    /// The bytes of the frame in order, length prefix included.
    pub slices: Vec<Bytes>,
    /// The memory that the slices hold until they are written.
    pub permit: Option<MemoryPermit>,
    /// Reads the frame again if the client does not read it now.
    pub reload: Option<BodyReloader>,
}

/// Turns a broker's response, without its length prefix, into the client's.
pub(crate) type ResponseEdit =
    Box<dyn FnOnce(Bytes) -> BoxFuture<'static, Result<ResponseFrame, CloseReason>> + Send>;

/// Reads a response again: the same slices, with memory for them. Returns `None` if that fails.
pub struct BodyReloader(Box<ReloadBody>);

type ReloadBody = dyn Fn() -> BoxFuture<'static, Option<(Vec<Bytes>, MemoryPermit)>> + Send + Sync;

impl BodyReloader {
    /// Reads by calling `read`.
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

/// Encodes a response with a given header version. ApiVersions responds with version 0 to an unknown
/// version.
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
