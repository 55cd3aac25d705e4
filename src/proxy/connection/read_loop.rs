//! Reads requests from the client and queues their responses.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use futures::FutureExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::cross_zone::CrossZoneTraffic;
use super::frame_memory::{FrameMemory, RequestMemory, WaitingMemory};
use super::incoming::IncomingFrame;
use super::login::{LOGIN_FORWARD_TIMEOUT, LOGIN_FRAME_BYTES_MAX, LOGIN_READ_BYTES, Login};
use crate::engine::memory::ShuttingDown;
use crate::engine::produce::ConnectionId;
use crate::metrics::Expiry;
use crate::proxy::apis;
use crate::proxy::broker::client_status::ClientStatus;
use crate::proxy::broker::response_queue::PendingResponse;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::client_addresses::client_key;
use crate::proxy::context::Proxy;
use crate::proxy::endpoint::Endpoint;
use crate::proxy::handlers;
use crate::proxy::request::{Action, OwnedRequestHeader, Request, ResponseHandling};
use crate::proxy::response::{CloseReason, ResponseEdit};
use crate::proxy::routing::client_zone::ClientOrigin;
use crate::tasks;
use crate::wire::frame::{FrameError, FrameReader};

/// Frames up to this length are read without a memory permit: a read buffer is as large.
const UNACCOUNTED_BYTES: usize = 64 << 10;

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
    memory: FrameMemory,
    incoming: IncomingFrame,
    /// Set until the client is admitted.
    login: Option<Login>,
    broker: BrokerSession,
    shutdown: CancellationToken,
    session: handlers::ConnectionState,
}

/// The client's side of the connection.
pub(super) struct ClientReader {
    pub(super) read: Arc<OwnedReadHalf>,
    pub(super) origin: ClientOrigin,
    pub(super) cross_zone: Arc<CrossZoneTraffic>,
    pub(super) status: Arc<ClientStatus>,
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
        let address = client_key(client.origin.address);
        Self {
            memory: FrameMemory::new(Arc::clone(&proxy), endpoint, address),
            incoming: IncomingFrame::default(),
            login: Some(Login::begin()),
            frames: FrameReader::with_read_bytes(LOGIN_FRAME_BYTES_MAX, LOGIN_READ_BYTES),
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
            if self.login.is_some() && self.client.status.is_admitted() {
                self.finish_login();
            }
            let frame = match self.frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) if self.needs_admission() => match self.admit().await {
                    Ok(()) => continue,
                    Err(close) => return self.close(close).await,
                },
                Ok(None) => match self.read_more().await {
                    Some(end) => return end,
                    None => continue,
                },
                Err(FrameError::TooLarge { bytes, .. }) if self.may_be_admitted(bytes) => {
                    match self.admit().await {
                        Ok(()) => continue,
                        Err(close) => return self.close(close).await,
                    }
                }
                Err(error) => return self.close(CloseReason::Client(error.to_string())).await,
            };
            if let Some(login) = &mut self.login {
                login.has_frames = true;
            }
            // Boxed: an idle connection does not have the memory that a request needs.
            if let Err(close) = Box::pin(self.handle_frame(frame)).await {
                return self.close(close).await;
            }
        }
    }

    /// Returns whether a frame of this length is valid from a client that is admitted.
    fn may_be_admitted(&self, frame_bytes: usize) -> bool {
        self.login.is_some() && frame_bytes <= self.proxy.settings.frame_bytes_max
    }

    /// Returns whether more of the frame that is arriving may be read from an admitted client only:
    /// only requests of a login use the memory for logins.
    fn needs_admission(&self) -> bool {
        let is_large = self.frames.pending_frame_bytes().is_some_and(|b| b > LOGIN_READ_BYTES);
        let precedes_login = self.pending_api_key().is_none_or(apis::precedes_login);
        self.login.is_some() && is_large && !precedes_login
    }

    /// Returns the API of the frame that is arriving, once that is known.
    fn pending_api_key(&self) -> Option<i16> {
        self.frames.pending_frame().try_get_i16().ok()
    }

    /// Admits the client, or ends the connection: asks the broker over the client's own connection,
    /// behind what the client itself has sent.
    async fn admit(&mut self) -> Result<(), CloseReason> {
        Box::pin(self.broker.ensure_admitted()).await?;
        self.finish_login();
        Ok(())
    }

    /// Replaces the limits of clients that are not admitted. A frame of which a part has arrived
    /// keeps the memory that it has.
    fn finish_login(&mut self) {
        if self.incoming.holds_memory() {
            return;
        }
        self.memory.finish_login();
        self.frames.set_frame_bytes_max(self.proxy.settings.frame_bytes_max);
        self.login = None;
    }

    /// Reads available bytes after taking memory for them. Returns `Some` if reading ends.
    async fn read_more(&mut self) -> Option<ReadEnd> {
        let login = self.login.as_ref().filter(|_| !self.client.status.is_admitted());
        let login_deadline = login.map(|login| login.deadline);
        let shutdown = self.shutdown.clone();
        let room = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Some(ReadEnd::Stopped),
            () = sleep_until(login_deadline) => return self.login_timed_out().await,
            room = self.make_room() => room,
        };
        let Ok(room) = room else { return Some(ReadEnd::Stopped) };
        self.frames.release_buffer();
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return Some(ReadEnd::Stopped),
            ready = self.client.read.readable() => if ready.is_err() { return Some(ReadEnd::Disconnected) },
            () = sleep_until(self.incoming.deadline()) => {
                let bytes = self.frames.pending_frame_bytes();
                tracing::info!(bytes, "closing connection: a frame did not arrive in time");
                self.proxy.metrics.clients.connection_expired(Expiry::frame);
                return Some(ReadEnd::Disconnected);
            }
            () = sleep_until(login_deadline) => return self.login_timed_out().await,
        }
        match self.client.read.try_read_buf(&mut self.frames.buffer().limit(room)) {
            Ok(1..) => {
                self.client.status.touch();
                None
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Ok(0) | Err(_) => Some(ReadEnd::Disconnected),
        }
    }

    /// Acquires memory for more of the frame that is being read, and returns how many bytes may be
    /// read.
    async fn make_room(&mut self) -> Result<usize, ShuttingDown> {
        let unaccounted = if self.login.is_some() { LOGIN_READ_BYTES } else { UNACCOUNTED_BYTES };
        let arrived = self.frames.pending_bytes();
        match self.frames.pending_frame_bytes() {
            Some(announced) if announced > unaccounted && arrived >= unaccounted => {
                let begins = !self.incoming.holds_memory();
                let (api_key, broker) = (self.pending_api_key(), self.broker.broker_id());
                let quota = self.memory.arriving(api_key, broker, begins);
                self.incoming.make_room(quota, arrived, announced).await
            }
            _ => Ok(unaccounted.saturating_sub(arrived).max(1)),
        }
    }

    /// Ends a connection whose client has not logged in. One that has sent requests is admitted now
    /// if the broker lets it in: it may have nothing to do.
    async fn login_timed_out(&mut self) -> Option<ReadEnd> {
        let has_frames = self.login.as_ref().is_some_and(|login| login.has_frames);
        if has_frames {
            match self.admit().await {
                Ok(()) => return None,
                Err(close) => tracing::debug!(%close, "client has not logged in"),
            }
        }
        self.proxy.metrics.clients.connection_expired(Expiry::login);
        Some(ReadEnd::Disconnected)
    }

    /// Closes the connection after earlier responses are written.
    async fn close(&self, close: CloseReason) -> ReadEnd {
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
        let bytes = frame.len();
        let is_produce = self.memory.is_diskless_produce(api_key);
        let mut memory = self.request_memory(&header, bytes).await?;
        let request = self.request(header, frame, &mut memory);
        let zone = request.client_zone().zone;
        let is_remote = zone.is_some_and(|zone| zone != self.proxy.topology.zone());
        self.client.cross_zone.received(api_key, is_remote, request.frame.len());
        let action = handlers::dispatch(request, &mut self.session, &mut self.broker).await?;
        if action.keeps_request() && !is_produce && !memory.is_accounted() {
            memory.waiting = Some(self.acquire_waiting(bytes).await?);
        }
        self.perform(action, (api_key, correlation_id), memory).await
    }

    async fn acquire_waiting(&mut self, bytes: usize) -> Result<WaitingMemory, CloseReason> {
        let broker = self.broker.broker_id();
        let waiting = tokio::select! {
            biased;
            // Requests that were read before a shutdown are served.
            waiting = self.memory.acquire_waiting(bytes, broker) => waiting,
            () = self.shutdown.cancelled() => Err(ShuttingDown),
        };
        waiting.map_err(|closed| CloseReason::Upstream(closed.to_string()))
    }

    /// Returns the memory of a request. Small ones hold none, except those produced to a diskless
    /// node, whose client must be admitted, and those that wait there for their responses.
    async fn request_memory(
        &mut self,
        header: &OwnedRequestHeader,
        bytes: usize,
    ) -> Result<RequestMemory, CloseReason> {
        let frame = self.incoming.take();
        let is_node = matches!(self.endpoint, Endpoint::Node(_));
        if !self.memory.is_diskless_produce(header.api_key) {
            let waiting = if is_node { Some(self.acquire_waiting(bytes).await?) } else { None };
            return Ok(RequestMemory { frame, waiting });
        }
        if self.login.is_some() {
            self.admit().await?;
        }
        let frame = match frame {
            Some(permit) => Ok(permit),
            None => self.memory.produce().acquire(bytes).await,
        };
        let frame = frame.map_err(|closed| CloseReason::Upstream(closed.to_string()))?;
        Ok(RequestMemory { frame: Some(frame), waiting: None })
    }

    /// Builds the request. One produced to a diskless node takes the permit along.
    fn request(
        &self,
        header: OwnedRequestHeader,
        frame: Bytes,
        memory: &mut RequestMemory,
    ) -> Request {
        let now = Instant::now();
        let received = memory.waited().and_then(|waited| now.checked_sub(waited)).unwrap_or(now);
        let is_large = memory.is_large();
        let is_produce = self.memory.is_diskless_produce(header.api_key);
        let permit = if is_produce { memory.frame.take() } else { None };
        Request {
            proxy: Arc::clone(&self.proxy),
            endpoint: self.endpoint,
            client: self.client.origin.clone(),
            connection: self.connection,
            body: frame.slice(header.bytes..),
            header,
            frame,
            permit,
            is_large,
            received,
        }
    }

    /// Forwards a request or starts its response, and queues what the client gets.
    async fn perform(
        &mut self,
        action: Action,
        (api_key, correlation_id): (i16, i32),
        memory: RequestMemory,
    ) -> Result<(), CloseReason> {
        let response = match action {
            Action::Forward { frames, response } => {
                return self.forward(frames, response, (api_key, correlation_id), memory).await;
            }
            Action::Respond(response) => {
                // It makes progress while the write loop is busy with earlier responses, and ends
                // with the connection: a long poll does not outlive its client.
                let response = holding(memory, response);
                let running = AbortOnDropHandle::new(tasks::spawn("response", response));
                let joined = running.map(|joined| {
                    joined.unwrap_or_else(|error| {
                        Err(CloseReason::Internal(format!("handler: {error}")))
                    })
                });
                PendingResponse::Local { api_key, response: joined.boxed() }
            }
            Action::RespondInTurn(response) => {
                let turn = memory.is_large().then(|| self.client.status.wait_for_turn());
                let response = async move {
                    drop(turn);
                    response.await
                };
                let response = holding(memory, response).boxed();
                PendingResponse::Deferred { api_key, response }
            }
        };
        self.broker.responses().push(response).await
    }

    /// Sends frames to the broker, and queues the response to them. Memory is held until they are
    /// sent, or with parts of the request until the response is made.
    async fn forward(
        &mut self,
        frames: Vec<Bytes>,
        response: ResponseHandling,
        (api_key, correlation_id): (i16, i32),
        mut memory: RequestMemory,
    ) -> Result<(), CloseReason> {
        if !matches!(response, ResponseHandling::EditWithRequest(_)) {
            memory.waiting = None;
        }
        let sending = self.broker.forward(&frames);
        if self.login.is_some() && memory.frame.is_some() {
            // Others that log in wait for the memory.
            let sent = timeout(LOGIN_FORWARD_TIMEOUT, sending).await;
            sent.map_err(|_| CloseReason::Upstream("the broker accepts no login".to_owned()))??;
        } else {
            sending.await?;
        }
        drop(frames);
        if apis::is_sasl(api_key) {
            self.broker.mark_authenticated();
        }
        let pending = match response {
            ResponseHandling::NotExpected => return Ok(()),
            ResponseHandling::Forward => PendingResponse::Forward { api_key, correlation_id },
            ResponseHandling::Edit(edit) => PendingResponse::Edit { api_key, correlation_id, edit },
            ResponseHandling::EditWithRequest(edit) => {
                let edit = edit_holding(std::mem::take(&mut memory), edit);
                PendingResponse::Edit { api_key, correlation_id, edit }
            }
        };
        drop(memory);
        self.broker.responses().push(pending).await
    }
}

/// Holds the memory of a request until the response to it is made.
async fn holding<T>(memory: RequestMemory, response: impl Future<Output = T>) -> T {
    let response = response.await;
    drop(memory);
    response
}

/// The same for a response that a broker makes and the proxy edits.
fn edit_holding(memory: RequestMemory, edit: ResponseEdit) -> ResponseEdit {
    Box::new(move |frame| holding(memory, edit(frame)).boxed())
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
