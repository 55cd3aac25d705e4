//! Takes frames from the client, and queues what each one is owed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::cross_zone::CrossZoneTraffic;
use super::{BrokerLink, Endpoint, PendingResponse};
use crate::engine::memory::{ConnectionQuota, MemoryPermit};
use crate::engine::produce::ConnectionId;
use crate::proxy::Proxy;
use crate::proxy::apis;
use crate::proxy::client_zone::ClientOrigin;
use crate::proxy::handlers::{self, Action, OwnedRequestHeader, Request, ResponseHandling};
use crate::proxy::response::CloseReason;
use crate::tasks;
use crate::wire::frame::FrameReader;

/// Frames up to this length are read without asking for room: a read buffer is as large.
const UNACCOUNTED_BYTES: usize = 64 << 10;
/// Within this time, and another second for each MiB, a frame that holds memory must have come:
/// who announces much and sends little keeps others from producing.
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
const PRODUCE: i16 = 0;

/// How the reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// The client closed the connection or it broke.
    Disconnected,
    /// No more is read; what was read is to be answered.
    Stopped,
}

pub(super) struct ReadLoop {
    proxy: Arc<Proxy>,
    endpoint: Endpoint,
    connection: ConnectionId,
    client: ClientReader,
    frames: FrameReader,
    quota: ConnectionQuota,
    /// Memory for the frame that is being read, and when it must be there.
    permit: Option<(MemoryPermit, Instant)>,
    broker: BrokerLink,
    shutdown: CancellationToken,
    session: handlers::SessionState,
}

/// The client's side, and who it is.
pub(super) struct ClientReader {
    pub(super) read: OwnedReadHalf,
    pub(super) client: ClientOrigin,
    pub(super) cross_zone: Arc<CrossZoneTraffic>,
}

impl ReadLoop {
    pub(super) fn new(
        proxy: Arc<Proxy>,
        endpoint: Endpoint,
        connection: ConnectionId,
        client: ClientReader,
        broker: BrokerLink,
        shutdown: CancellationToken,
    ) -> Self {
        let budget = match endpoint {
            Endpoint::Node(_) => &proxy.produce_memory,
            Endpoint::Bootstrap | Endpoint::Broker(_) => &proxy.classic_memory,
        };
        Self {
            quota: budget.quota(proxy.settings.connection_bytes_max),
            permit: None,
            frames: FrameReader::new(proxy.settings.frame_bytes_max),
            session: handlers::SessionState::new(&proxy),
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
            if let Err(close) = self.take(frame).await {
                return self.close(close).await;
            }
        }
    }

    /// Reads what there is, once there is memory for the frame that it belongs to; `Some` when
    /// nothing more will come or is wanted.
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
                tracing::info!(bytes = announced, "a frame did not arrive in time; closing");
                return Some(ReadEnd::Disconnected);
            }
        }
        match self.client.read.try_read_buf(self.frames.buffer()) {
            Ok(1..) => None,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Ok(0) | Err(_) => Some(ReadEnd::Disconnected),
        }
    }

    /// Lets the writer answer what came before, then close.
    async fn close(self, close: CloseReason) -> ReadEnd {
        // A writer that is gone has closed already.
        let _gone = self.broker.enqueue(PendingResponse::CloseReason(close)).await;
        ReadEnd::Stopped
    }

    async fn take(&mut self, frame: Bytes) -> Result<(), CloseReason> {
        let header = OwnedRequestHeader::parse(&frame)
            .map_err(|error| CloseReason::Client(error.to_string()))?;
        let (api_key, correlation_id) = (header.api_key, header.correlation_id);
        let api = apis::lookup(header.api_key).map_or("other", |api| api.name);
        self.proxy.metrics.clients.request(api, self.endpoint.kind());
        // Held until the frame is with the broker; what is produced here holds it for longer.
        let mut permit = self.permit.take().map(|(permit, _)| permit);
        let produced = matches!(self.endpoint, Endpoint::Node(_)) && header.api_key == PRODUCE;
        if produced && permit.is_none() {
            let taken = self.quota.acquire(frame.len()).await;
            permit = Some(taken.map_err(|closed| CloseReason::Upstream(closed.to_string()))?);
        }
        let now = Instant::now();
        let waited = permit.as_ref().map(|permit| permit.waited);
        let received = waited.and_then(|waited| now.checked_sub(waited)).unwrap_or(now);
        let is_sasl = apis::is_sasl(header.api_key);
        let request = Request {
            proxy: Arc::clone(&self.proxy),
            endpoint: self.endpoint,
            client: self.client.client.clone(),
            connection: self.connection,
            body: frame.slice(header.bytes..),
            header,
            frame,
            room: if produced { permit.take() } else { None },
            received,
        };
        let zone = request.client_zone().zone;
        let is_remote = zone.is_some_and(|zone| zone != self.proxy.topology.zone());
        self.client.cross_zone.received(api_key, is_remote, request.frame.len());
        match handlers::dispatch(request, &mut self.session, &mut self.broker).await? {
            Action::Forward { frames, response } => {
                self.broker.forward(&frames).await?;
                if is_sasl {
                    self.broker.mark_authenticated();
                }
                match response {
                    ResponseHandling::NotExpected => Ok(()),
                    ResponseHandling::Forward => {
                        self.broker
                            .enqueue(PendingResponse::Forward { api_key, correlation_id })
                            .await
                    }
                    ResponseHandling::Edit(edit) => {
                        self.broker
                            .enqueue(PendingResponse::Edit { api_key, correlation_id, edit })
                            .await
                    }
                }
            }
            Action::Respond(response) => {
                // It makes progress while the writer is busy with what came before, and ends with
                // the connection: a long poll of a client that is gone waits for nobody.
                let running = AbortOnDropHandle::new(tasks::spawn("answer", response));
                let joined = running.map(|joined| {
                    joined.unwrap_or_else(|error| {
                        Err(CloseReason::Internal(format!("handler: {error}")))
                    })
                });
                self.broker
                    .enqueue(PendingResponse::Local { api_key, response: joined.boxed() })
                    .await
            }
            Action::RespondInTurn(response) => {
                self.broker.enqueue(PendingResponse::Deferred { api_key, response }).await
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
