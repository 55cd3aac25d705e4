//! Reads requests from the client and queues their responses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::messages::ApiKey;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::cross_zone::CrossZoneTraffic;
use crate::engine::memory::{ConnectionQuota, MemoryPermit};
use crate::engine::produce::ConnectionId;
use crate::proxy::apis;
use crate::proxy::broker::response_queue::PendingResponse;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::endpoint::Endpoint;
use crate::proxy::handlers;
use crate::proxy::request::{Action, OwnedRequestHeader, Request, ResponseHandling};
use crate::proxy::response::CloseReason;
use crate::proxy::routing::client_zone::ClientOrigin;
use crate::tasks;
use crate::wire::frame::FrameReader;

/// Frames up to this length are read without a memory permit: a read buffer is as large.
const UNACCOUNTED_BYTES: usize = 64 << 10;
/// A frame that holds memory must arrive within this time and another second for each MiB, or else
/// a client that announces much and sends little would keep others from producing.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Reason that the read loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The client closed the connection, or it broke.
    Disconnected,
    /// No more requests are read; those read so far still get responses.
    Stopped,
}

pub(super) struct ReadLoop {
    proxy: Arc<Proxy>,
    endpoint: Endpoint,
    connection: ConnectionId,
    client: ClientReader,
    frames: FrameReader,
    quota: ConnectionQuota,
    /// The memory of the frame that is being read, and the deadline for the frame.
    permit: Option<(MemoryPermit, Instant)>,
    broker: BrokerSession,
    shutdown: CancellationToken,
    session: handlers::ConnectionState,
}

/// The client's side of the connection.
pub(super) struct ClientReader {
    pub(super) read: OwnedReadHalf,
    pub(super) origin: ClientOrigin,
    pub(super) cross_zone: Arc<CrossZoneTraffic>,
}

impl ReadLoop {
    pub(super) fn new(
        proxy: Arc<Proxy>,
        endpoint: Endpoint,
        connection: ConnectionId,
        client: ClientReader,
        broker: BrokerSession,
        shutdown: CancellationToken,
    ) -> Self {
        let memory = match endpoint {
            Endpoint::Node(_) => &proxy.produce_memory,
            Endpoint::Bootstrap | Endpoint::Broker(_) => &proxy.classic_memory,
        };
        Self {
            quota: memory.quota(proxy.settings.connection_bytes_max),
            permit: None,
            frames: FrameReader::new(proxy.settings.frame_bytes_max),
            session: handlers::ConnectionState::new(&proxy),
            proxy,
            endpoint,
            connection,
            client,
            broker,
            shutdown,
        }
    }

    pub(super) async fn run(mut self) -> ReadEnd {
        loop {
            let frame = match self.frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => match self.read_more().await {
                    Some(end) => return end,
                    None => continue,
                },
                Err(error) => return self.close(CloseReason::Client(error.to_string())).await,
            };
            if let Err(close) = self.handle_frame(frame).await {
                return self.close(close).await;
            }
        }
    }

    /// Reads available bytes after taking memory for the frame to which they belong. Returns `Some`
    /// if reading ends.
    async fn read_more(&mut self) -> Option<ReadEnd> {
        let announced =
            self.frames.pending_frame_bytes().filter(|bytes| *bytes > UNACCOUNTED_BYTES);
        if let (Some(bytes), None) = (announced, &self.permit) {
            let permit = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Some(ReadEnd::Stopped),
                permit = self.quota.acquire(bytes) => permit,
            };
            let Ok(permit) = permit else { return Some(ReadEnd::Stopped) };
            let within = FRAME_TIMEOUT + Duration::from_secs(bytes as u64 >> 20);
            self.permit = Some((permit, Instant::now() + within));
        }
        let deadline = self.permit.as_ref().map(|(_, deadline)| *deadline);
        self.frames.release_buffer();
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Some(ReadEnd::Stopped),
            ready = self.client.read.readable() => if ready.is_err() { return Some(ReadEnd::Disconnected) },
            () = sleep_until(deadline) => {
                tracing::info!(bytes = announced, "closing connection: a frame did not arrive in time");
                return Some(ReadEnd::Disconnected);
            }
        }
        match self.client.read.try_read_buf(self.frames.buffer()) {
            Ok(1..) => None,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Ok(0) | Err(_) => Some(ReadEnd::Disconnected),
        }
    }

    /// Closes the connection after earlier responses are written.
    async fn close(self, close: CloseReason) -> ReadEnd {
        // A write loop that has ended has closed the connection.
        let _ended = self.broker.responses().push(PendingResponse::Close(close)).await;
        ReadEnd::Stopped
    }

    /// Handles one frame: parses the header, takes memory, decides what happens to the request, and
    /// queues its response.
    async fn handle_frame(&mut self, frame: Bytes) -> Result<(), CloseReason> {
        let header = OwnedRequestHeader::parse(&frame)
            .map_err(|error| CloseReason::Client(error.to_string()))?;
        let (api_key, correlation_id) = (header.api_key, header.correlation_id);
        let api = apis::lookup(api_key).map_or("other", |api| api.name);
        self.proxy.metrics.clients.request(api, self.endpoint.kind());
        // Held until the frame is with the broker. A produce to a diskless node holds it longer.
        let mut permit = self.frame_permit(&header, frame.len()).await?;
        let request = self.request(header, frame, &mut permit);
        let zone = request.client_zone().zone;
        let is_remote = zone.is_some_and(|zone| zone != self.proxy.topology.zone());
        self.client.cross_zone.received(api_key, is_remote, request.frame.len());
        let action = handlers::dispatch(request, &mut self.session, &mut self.broker).await?;
        self.perform(action, api_key, correlation_id).await
    }

    /// Returns the memory that a frame holds. Small frames hold none, except those produced to a
    /// diskless node.
    async fn frame_permit(
        &mut self,
        header: &OwnedRequestHeader,
        bytes: usize,
    ) -> Result<Option<MemoryPermit>, CloseReason> {
        match self.permit.take() {
            Some((permit, _)) => Ok(Some(permit)),
            None if self.is_diskless_produce(header) => {
                let permit = self.quota.acquire(bytes).await;
                permit.map(Some).map_err(|closed| CloseReason::Upstream(closed.to_string()))
            }
            None => Ok(None),
        }
    }

    fn is_diskless_produce(&self, header: &OwnedRequestHeader) -> bool {
        matches!(self.endpoint, Endpoint::Node(_)) && header.api_key == ApiKey::Produce as i16
    }

    /// Builds the request. One produced to a diskless node takes the permit along.
    fn request(
        &self,
        header: OwnedRequestHeader,
        frame: Bytes,
        permit: &mut Option<MemoryPermit>,
    ) -> Request {
        let now = Instant::now();
        let waited = permit.as_ref().map(|permit| permit.waited);
        let received = waited.and_then(|waited| now.checked_sub(waited)).unwrap_or(now);
        let permit = if self.is_diskless_produce(&header) { permit.take() } else { None };
        Request {
            proxy: Arc::clone(&self.proxy),
            endpoint: self.endpoint,
            client: self.client.origin.clone(),
            connection: self.connection,
            body: frame.slice(header.bytes..),
            header,
            frame,
            permit,
            received,
        }
    }

    /// Forwards a request or starts its response, and queues what the client gets.
    async fn perform(
        &mut self,
        action: Action,
        api_key: i16,
        correlation_id: i32,
    ) -> Result<(), CloseReason> {
        let response = match action {
            Action::Forward { frames, response } => {
                self.broker.forward(&frames).await?;
                if apis::is_sasl(api_key) {
                    self.broker.mark_authenticated();
                }
                match response {
                    ResponseHandling::NotExpected => return Ok(()),
                    ResponseHandling::Forward => {
                        PendingResponse::Forward { api_key, correlation_id }
                    }
                    ResponseHandling::Edit(edit) => {
                        PendingResponse::Edit { api_key, correlation_id, edit }
                    }
                }
            }
            Action::Respond(response) => {
                // It makes progress while the write loop is busy with earlier responses, and ends
                // with the connection: a long poll does not outlive its client.
                let running = AbortOnDropHandle::new(tasks::spawn("response", response));
                let joined = running.map(|joined| {
                    joined.unwrap_or_else(|error| {
                        Err(CloseReason::Internal(format!("handler: {error}")))
                    })
                });
                PendingResponse::Local { api_key, response: joined.boxed() }
            }
            Action::RespondInTurn(response) => PendingResponse::Deferred { api_key, response },
        };
        self.broker.responses().push(response).await
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
