//! Connections of our own to a broker: one request at a time, each with a deadline.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{RequestHeader, SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::sasl::{SaslCredentials, SaslError};
use crate::wire::frame::{self, FrameError, FrameReader};
use crate::wire::guard::{DecodeError, decode_response};
use crate::wire::header::{HeaderError, ResponseHeader};

/// How long a broker may take to accept a connection or to answer.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Why a broker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The connection could not be made, or broke.
    #[error("broker {address}: {source}")]
    Io {
        /// The broker's `host:port`.
        address: String,
        /// What happened.
        source: std::io::Error,
    },
    /// No answer within the deadline.
    #[error("broker {0} did not answer in time")]
    Timeout(String),
    /// The broker did not let us in, or is not the one that knows our password.
    #[error("broker {address} refuses the user of kafka.sasl: {source}")]
    SaslCredentials {
        /// The broker's `host:port`.
        address: String,
        /// Why.
        source: SaslError,
    },
    /// The answer is not one to the question.
    #[error("broker {0} answered another request")]
    Correlation(String),
    /// The frame cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The answer's header cannot be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The message cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The message cannot be written in that version.
    #[error("request cannot be encoded: {0}")]
    Encode(String),
    /// No broker is known or reachable.
    #[error("no broker is reachable")]
    NoBroker,
    /// The broker lacks the API or the version that is needed.
    #[error("the brokers do not serve api key {0} in a version known here")]
    Unsupported(i16),
}

/// Opens a connection without delay for small writes.
pub async fn connect(address: &str) -> Result<TcpStream, UpstreamError> {
    let io = |source| UpstreamError::Io { address: address.to_owned(), source };
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream =
        connecting.await.map_err(|_| UpstreamError::Timeout(address.to_owned()))?.map_err(io)?;
    stream.set_nodelay(true).map_err(io)?;
    Ok(stream)
}

/// A frame of a request, length prefix included.
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

/// One connection to one broker.
#[derive(Debug)]
pub struct BrokerConnection {
    address: String,
    stream: TcpStream,
    reader: FrameReader,
    correlation_id: i32,
}

impl BrokerConnection {
    /// Connects to `host:port`, and authenticates if there is a login.
    pub async fn open(
        address: &str,
        credentials: Option<&SaslCredentials>,
    ) -> Result<Self, UpstreamError> {
        let mut connection = Self {
            address: address.to_owned(),
            stream: connect(address).await?,
            reader: FrameReader::new(RESPONSE_BYTES_MAX),
            correlation_id: 0,
        };
        if let Some(credentials) = credentials {
            connection.authenticate(credentials).await?;
        }
        Ok(connection)
    }

    /// SaslHandshake and as many SaslAuthenticate as the mechanism takes (KIP-152).
    async fn authenticate(&mut self, credentials: &SaslCredentials) -> Result<(), UpstreamError> {
        let address = self.address.clone();
        let refused = |source| UpstreamError::SaslCredentials { address: address.clone(), source };
        let name = StrBytes::from_static_str(credentials.mechanism.name());
        let handshake = self.call(&SaslHandshakeRequest::default().with_mechanism(name), 1).await?;
        if handshake.error_code != 0 {
            let offered = handshake.mechanisms.iter().map(|name| name.as_str());
            let offered = offered.collect::<Vec<_>>().join(", ");
            return Err(refused(SaslError::Mechanism(offered)));
        }
        let mut round_trip = credentials.begin();
        let mut answer = Bytes::new();
        while let Some(token) = round_trip.next(&answer).map_err(refused)? {
            let request = SaslAuthenticateRequest::default().with_auth_bytes(token);
            let response = self.call(&request, 1).await?;
            if response.error_code != 0 {
                let message = response.error_message.as_deref().unwrap_or("no reason given");
                return Err(refused(SaslError::Refused(message.to_owned())));
            }
            answer = response.auth_bytes;
        }
        Ok(())
    }

    /// Sends a request and waits for its answer. After an error the connection is of no use.
    pub async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, UpstreamError> {
        let body = timeout(CALL_TIMEOUT, self.round_trip(request, version))
            .await
            .map_err(|_| UpstreamError::Timeout(self.address.clone()))??;
        Ok(decode_response::<R>(version, body)?)
    }

    async fn round_trip<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<Bytes, UpstreamError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let client_id = Some(StrBytes::from_static_str("odradek"));
        let frame = encode_request(request, version, self.correlation_id, client_id)?;
        let io = |source| UpstreamError::Io { address: self.address.clone(), source };
        self.stream.write_all(&frame).await.map_err(io)?;
        loop {
            if let Some(frame) = self.reader.next_frame()? {
                let header = ResponseHeader::parse(&frame, R::KEY, version)?;
                if header.correlation_id != self.correlation_id {
                    return Err(UpstreamError::Correlation(self.address.clone()));
                }
                return Ok(frame.slice(header.bytes..));
            }
            if self.stream.read_buf(self.reader.buffer()).await.map_err(io)? == 0 {
                return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
