//! Connections of the proxy itself to brokers: one request at a time, each with a deadline.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::codec::{decode_response, encode_request};
use super::error::{SaslError, UpstreamError};
use super::sasl::SaslCredentials;
use crate::proxy::socket;
use crate::wire::frame::FrameReader;

/// Time in which a broker has to respond.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Time in which a broker has to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Connects to `host:port`.
///
/// # Errors
/// [`UpstreamError::Timeout`] after 5 seconds, else [`UpstreamError::Io`].
pub async fn connect(address: &str) -> Result<TcpStream, UpstreamError> {
    let io = |source| UpstreamError::Io { address: address.to_owned(), source };
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream =
        connecting.await.map_err(|_| UpstreamError::Timeout(address.to_owned()))?.map_err(io)?;
    socket::prepare_broker(&stream).map_err(io)?;
    Ok(stream)
}

/// A connection to one broker.
#[derive(Debug)]
pub struct BrokerConnection {
    address: String,
    stream: TcpStream,
    reader: FrameReader,
    correlation_id: i32,
}

impl BrokerConnection {
    /// Connects to `host:port` and authenticates if credentials are given.
    ///
    /// # Errors
    /// The broker does not accept the connection or rejects the credentials.
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

    /// Returns the broker's `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Sends SaslHandshake and as many SaslAuthenticate requests as the mechanism needs (KIP-152).
    async fn authenticate(&mut self, credentials: &SaslCredentials) -> Result<(), UpstreamError> {
        let address = self.address.clone();
        let rejected = |source| UpstreamError::Sasl { address: address.clone(), source };
        let name = StrBytes::from_static_str(credentials.mechanism.name());
        let handshake = self.call(&SaslHandshakeRequest::default().with_mechanism(name), 1).await?;
        if handshake.error_code != 0 {
            let offered = handshake.mechanisms.iter().map(|name| name.as_str());
            let offered = offered.collect::<Vec<_>>().join(", ");
            return Err(rejected(SaslError::Mechanism(offered)));
        }
        let mut exchange = credentials.begin();
        let mut challenge = Bytes::new();
        while let Some(token) = exchange.next(&challenge).map_err(rejected)? {
            let request = SaslAuthenticateRequest::default().with_auth_bytes(token);
            let response = self.call(&request, 1).await?;
            if response.error_code != 0 {
                let message = response.error_message.as_deref().unwrap_or("no reason given");
                return Err(rejected(SaslError::Refused(message.to_owned())));
            }
            challenge = response.auth_bytes;
        }
        Ok(())
    }

    /// Sends a request and returns the response. After an error the connection must be dropped.
    ///
    /// # Errors
    /// [`UpstreamError::Timeout`] after [`CALL_TIMEOUT`]; else the request could not be sent or the
    /// response not be read.
    pub async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, UpstreamError> {
        let response = timeout(CALL_TIMEOUT, self.round_trip(request, version)).await;
        let frame = response.map_err(|_| UpstreamError::Timeout(self.address.clone()))??;
        let (correlation_id, response) = decode_response::<R>(&frame, version)?;
        if correlation_id != self.correlation_id {
            return Err(UpstreamError::Correlation(self.address.clone()));
        }
        Ok(response)
    }

    /// Sends a request and reads the next frame.
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
                return Ok(frame);
            }
            if self.stream.read_buf(self.reader.buffer()).await.map_err(io)? == 0 {
                return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}
