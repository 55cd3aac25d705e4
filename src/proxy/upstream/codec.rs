//! Encodes requests to brokers and decodes their responses.

use bytes::Bytes;
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Encodable, Request, StrBytes};

use super::error::UpstreamError;
use crate::wire::header::ResponseHeader;
use crate::wire::{frame, guard};

/// Encodes a request as a frame, length prefix included.
///
/// # Errors
/// [`UpstreamError::Encode`] if the version cannot express the request.
pub fn encode_request<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<StrBytes>,
) -> Result<Bytes, UpstreamError> {
    let encode = |error: &dyn std::fmt::Display| UpstreamError::Encode(error.to_string());
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(client_id);
    let mut out = frame::begin();
    header.encode(&mut out, R::header_version(version)).map_err(|e| encode(&e))?;
    request.encode(&mut out, version).map_err(|e| encode(&e))?;
    frame::finish(out).map_err(|e| encode(&e))
}

/// Decodes a response frame without its length prefix. Returns the correlation id and the response.
///
/// # Errors
/// The header or the body is malformed.
pub fn decode_response<R: Request>(
    frame: &Bytes,
    version: i16,
) -> Result<(i32, R::Response), UpstreamError> {
    let header = ResponseHeader::parse(frame, R::KEY, version)?;
    let response = guard::decode_response::<R>(version, frame.slice(header.bytes..))?;
    Ok((header.correlation_id, response))
}
