//! A minimal Kafka client: one socket, with sequential or pipelined requests.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use odradek::wire::guard::decode_response;
use odradek::wire::header::ResponseHeader;

/// The maximum wait for a response.
const LIMIT: Duration = Duration::from_secs(30);

/// Input from a peer.
#[derive(Debug)]
pub(crate) enum Received {
    /// A frame without its length prefix.
    Frame(Bytes),
    /// The end of the connection.
    Closed,
    /// Neither within the given time.
    Timeout,
}

#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
    client_id: &'static str,
}

impl Client {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, correlation_id: 0, client_id: "raw" }
    }

    /// Connects like [`Client::connect`], with another client id.
    pub(crate) fn named(address: &str, client_id: &'static str) -> Self {
        Self { client_id, ..Self::connect(address) }
    }

    /// Sends a request and returns its response.
    pub(crate) fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let correlation_id = self.send(request, version);
        self.receive::<R>(correlation_id, version)
    }

    /// Sends a request; returns the correlation id of its response.
    pub(crate) fn send<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap_or_else(|e| panic!("{} v{version}: {e}", R::KEY));
        self.send_body(R::KEY, version, &body)
    }

    /// Lets writes that the peer does not take in time fail.
    pub(crate) fn limit_writes(&self, time: Duration) {
        self.stream.set_write_timeout(Some(time)).expect("a limit");
    }

    /// Sends a request; returns whether the connection took it.
    pub(crate) fn try_send<R: Request>(&mut self, request: &R, version: i16) -> bool {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap_or_else(|e| panic!("{} v{version}: {e}", R::KEY));
        self.correlation_id += 1;
        let frame = frame_of(self.client_id, R::KEY, version, self.correlation_id, &body);
        self.stream.write_all(&frame).is_ok()
    }

    /// Sends a request with the given body; returns whether the connection took it.
    pub(crate) fn try_send_body(&mut self, key: i16, version: i16, body: &[u8]) -> bool {
        self.correlation_id += 1;
        let frame = frame_of(self.client_id, key, version, self.correlation_id, body);
        self.stream.write_all(&frame).is_ok()
    }

    /// Closes the sending side of the connection.
    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("it is open");
    }

    /// Sends a request with the given body.
    pub(crate) fn send_body(&mut self, key: i16, version: i16, body: &[u8]) -> i32 {
        self.correlation_id += 1;
        let frame = frame_of(self.client_id, key, version, self.correlation_id, body);
        self.send_bytes(&frame);
        self.correlation_id
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the peer takes it");
    }

    /// Returns the next response, which must have the correlation id.
    pub(crate) fn receive<R: Request>(&mut self, correlation_id: i32, version: i16) -> R::Response {
        let frame = self.receive_frame(R::KEY, version);
        let header = ResponseHeader::parse(&frame, R::KEY, version).expect("a header");
        assert_eq!(header.correlation_id, correlation_id, "responses come in request order");
        let body = frame.slice(header.bytes..);
        let decoded = decode_response::<R>(version, body.clone());
        decoded.unwrap_or_else(|e| panic!("{} v{version}: {e}: {body:?}", R::KEY))
    }

    /// Receives like [`Client::receive`], from a peer that may take minutes.
    pub(crate) fn receive_patiently<R: Request>(
        &mut self,
        correlation_id: i32,
        version: i16,
    ) -> R::Response {
        self.stream.set_read_timeout(Some(10 * LIMIT)).expect("a limit");
        self.receive::<R>(correlation_id, version)
    }

    /// Returns the next frame without its length prefix.
    pub(crate) fn receive_frame(&mut self, key: i16, version: i16) -> Bytes {
        let mut length = [0; 4];
        let read = self.stream.read_exact(&mut length);
        read.unwrap_or_else(|e| panic!("no answer to key {key} v{version}: {e}"));
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("a whole frame");
        frame.into()
    }

    /// Returns the next frame if it arrives in time; `None` also if the peer closes the connection.
    pub(crate) fn frame_within(&mut self, time: Duration) -> Option<Bytes> {
        self.stream.set_read_timeout(Some(time)).expect("a limit");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("a whole frame");
        Some(frame.into())
    }

    /// Returns what arrives next within `time`.
    pub(crate) fn receive_within(&mut self, time: Duration) -> Received {
        self.stream.set_read_timeout(Some(time)).expect("a limit");
        let mut length = [0; 4];
        let read = self.stream.read_exact(&mut length);
        self.stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        match read {
            Ok(()) => {
                let mut frame = vec![0; u32::from_be_bytes(length) as usize];
                self.stream.read_exact(&mut frame).expect("a whole frame");
                Received::Frame(frame.into())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Timeout,
            Err(_) => Received::Closed,
        }
    }

    /// Sends like [`Client::send_bytes`], to a peer that may be gone.
    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) {
        // The outcome shows when the next frame is received.
        let _sent = self.stream.write_all(bytes);
    }

    /// Returns whether the peer closes the connection without a response.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Ok(_) => panic!("unexpected response"),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Returns whether nothing arrives within `time`.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("a limit");
        let read = self.stream.read(&mut [0; 1]);
        self.stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

/// Returns an encoded request.
pub(crate) fn frame(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Bytes {
    frame_of("raw", key, version, correlation_id, body)
}

fn frame_of(
    client_id: &'static str,
    key: i16,
    version: i16,
    correlation_id: i32,
    body: &[u8],
) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str(client_id)));
    let header_version = odradek::wire::header::request_header_version(key, version).unwrap_or(1);
    let mut out = BytesMut::new();
    out.put_i32(0);
    header.encode(&mut out, header_version).expect("a header");
    out.put_slice(body);
    let length = i32::try_from(out.len() - 4).expect("a short frame");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}
