//! Takes frames from the client, and queues what each one is owed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::crossing::Crossing;
use super::{ClientBroker, Endpoint, Pending};
use crate::engine::budget::{Room, Share};
use crate::engine::produce::ConnectionId;
use crate::proxy::Proxy;
use crate::proxy::apis;
use crate::proxy::handlers::{self, Head, OnResponse, Request, Step};
use crate::proxy::placement::Client;
use crate::proxy::reply::Close;
use crate::tasks;
use crate::wire::frame::FrameReader;

/// Frames up to this length are read without asking for room: a read buffer is as large.
const FREE_BYTES: usize = 64 << 10;
/// Within this time, and another second for each MiB, a frame that holds memory must have come:
/// who announces much and sends little keeps others from producing.
const FRAME_WITHIN: Duration = Duration::from_secs(30);
const PRODUCE: i16 = 0;

/// How the reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed the connection or it broke.
    Gone,
    /// No more is read; what was read is to be answered.
    Finish,
}

pub(super) struct Reader {
    proxy: Arc<Proxy>,
    endpoint: Endpoint,
    connection: ConnectionId,
    client: ClientRead,
    frames: FrameReader,
    share: Share,
    /// Memory for the frame that is being read, and when it must be there.
    room: Option<(Room, Instant)>,
    broker: ClientBroker,
    drain: watch::Receiver<bool>,
    session: handlers::SessionState,
}

/// The client's side, and who it is.
pub(super) struct ClientRead {
    pub(super) read: OwnedReadHalf,
    pub(super) client: Client,
    pub(super) crossing: Arc<Crossing>,
}

impl Reader {
    pub(super) fn new(
        proxy: Arc<Proxy>,
        endpoint: Endpoint,
        connection: ConnectionId,
        client: ClientRead,
        broker: ClientBroker,
        drain: watch::Receiver<bool>,
    ) -> Self {
        let budget = match endpoint {
            Endpoint::Node(_) => &proxy.budget,
            Endpoint::Bootstrap | Endpoint::Broker(_) => &proxy.classic_budget,
        };
        Self {
            share: budget.share(proxy.settings.connection_bytes_max),
            room: None,
            frames: FrameReader::new(proxy.settings.frame_bytes_max),
            session: handlers::SessionState::new(&proxy),
            proxy,
            endpoint,
            connection,
            client,
            broker,
            drain,
        }
    }

    pub(super) async fn run(mut self) -> End {
        loop {
            let frame = match self.frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => match self.read_more().await {
                    Some(end) => return end,
                    None => continue,
                },
                Err(error) => return self.close(Close::Client(error.to_string())).await,
            };
            if let Err(close) = self.take(frame).await {
                return self.close(close).await;
            }
        }
    }

    /// Reads what there is, once there is memory for the frame that it belongs to; `Some` when
    /// nothing more will come or is wanted.
    async fn read_more(&mut self) -> Option<End> {
        let announced = self.frames.pending_frame_bytes().filter(|bytes| *bytes > FREE_BYTES);
        if let (Some(bytes), None) = (announced, &self.room) {
            let room = tokio::select! {
                biased;
                _ = self.drain.wait_for(|drain| *drain) => return Some(End::Finish),
                room = self.share.take(bytes) => room,
            };
            let Ok(room) = room else { return Some(End::Finish) };
            let within = FRAME_WITHIN + Duration::from_secs(bytes as u64 >> 20);
            self.room = Some((room, Instant::now() + within));
        }
        let deadline = self.room.as_ref().map(|(_, deadline)| *deadline);
        self.frames.release_buffer();
        tokio::select! {
            biased;
            _ = self.drain.wait_for(|drain| *drain) => return Some(End::Finish),
            ready = self.client.read.readable() => if ready.is_err() { return Some(End::Gone) },
            () = sleep_until(deadline) => {
                tracing::info!(bytes = announced, "a frame did not arrive in time; closing");
                return Some(End::Gone);
            }
        }
        match self.client.read.try_read_buf(self.frames.buffer()) {
            Ok(1..) => None,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
            Ok(0) | Err(_) => Some(End::Gone),
        }
    }

    /// Lets the writer answer what came before, then close.
    async fn close(self, close: Close) -> End {
        // A writer that is gone has closed already.
        let _gone = self.broker.owe(Pending::Close(close)).await;
        End::Finish
    }

    async fn take(&mut self, frame: Bytes) -> Result<(), Close> {
        let header = Head::parse(&frame).map_err(|error| Close::Client(error.to_string()))?;
        let (api_key, correlation_id) = (header.api_key, header.correlation_id);
        let api = apis::lookup(header.api_key).map_or("other", |api| api.name);
        self.proxy.metrics.clients.request(api, self.endpoint.kind());
        // Held until the frame is with the broker; what is produced here holds it for longer.
        let mut room = self.room.take().map(|(room, _)| room);
        let produced = matches!(self.endpoint, Endpoint::Node(_)) && header.api_key == PRODUCE;
        if produced && room.is_none() {
            let taken = self.share.take(frame.len()).await;
            room = Some(taken.map_err(|closed| Close::Upstream(closed.to_string()))?);
        }
        let now = Instant::now();
        let waited = room.as_ref().map(|room| room.waited);
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
            room: if produced { room.take() } else { None },
            received,
        };
        let zone = request.place().zone;
        let is_elsewhere = zone.is_some_and(|zone| zone != self.proxy.nodes.zone());
        self.client.crossing.received(api_key, is_elsewhere, request.frame.len());
        match handlers::dispatch(request, &mut self.session, &mut self.broker).await? {
            Step::Forward { frames, response } => {
                self.broker.forward(&frames).await?;
                if is_sasl {
                    self.broker.authenticates();
                }
                match response {
                    OnResponse::Nothing => Ok(()),
                    OnResponse::Relay => {
                        self.broker.owe(Pending::Relay { api_key, correlation_id }).await
                    }
                    OnResponse::Edit(edit) => {
                        self.broker.owe(Pending::Edit { api_key, correlation_id, edit }).await
                    }
                }
            }
            Step::Answer(answer) => {
                // It makes progress while the writer is busy with what came before, and ends with
                // the connection: a long poll of a client that is gone waits for nobody.
                let running = AbortOnDropHandle::new(tasks::spawn("answer", answer));
                let joined = running.map(|joined| {
                    joined.unwrap_or_else(|error| Err(Close::Ours(format!("handler: {error}"))))
                });
                self.broker.owe(Pending::Answer { api_key, answer: joined.boxed() }).await
            }
            Step::AnswerInTurn(answer) => {
                self.broker.owe(Pending::AnswerInTurn { api_key, answer }).await
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
