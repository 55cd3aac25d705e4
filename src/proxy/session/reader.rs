//! Takes frames from the client, and queues what each one is owed.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{ClientBroker, Endpoint, Pending};
use crate::engine::produce::ConnectionId;
use crate::proxy::Proxy;
use crate::proxy::apis;
use crate::proxy::handlers::{self, Head, OnResponse, Request, Step};
use crate::proxy::reply::Close;
use crate::tasks;
use crate::wire::frame::FrameReader;

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
    client: OwnedReadHalf,
    frames: FrameReader,
    broker: ClientBroker,
    drain: watch::Receiver<bool>,
    session: handlers::SessionState,
}

impl Reader {
    pub(super) fn new(
        proxy: Arc<Proxy>,
        endpoint: Endpoint,
        connection: ConnectionId,
        client: OwnedReadHalf,
        broker: ClientBroker,
        drain: watch::Receiver<bool>,
    ) -> Self {
        Self {
            frames: FrameReader::new(proxy.settings.frame_bytes_max),
            session: handlers::SessionState::new(&proxy.topics),
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

    /// Reads what there is; `Some` when nothing more will come or is wanted.
    async fn read_more(&mut self) -> Option<End> {
        tokio::select! {
            biased;
            _ = self.drain.wait_for(|drain| *drain) => Some(End::Finish),
            read = self.client.read_buf(self.frames.buffer()) => match read {
                Ok(0) | Err(_) => Some(End::Gone),
                Ok(_) => None,
            },
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
        let correlation_id = header.correlation_id;
        let api = apis::lookup(header.api_key).map_or("other", |api| api.name);
        self.proxy.metrics.request(api, self.endpoint.kind());
        let is_sasl = apis::is_sasl(header.api_key);
        let request = Request {
            proxy: Arc::clone(&self.proxy),
            endpoint: self.endpoint,
            connection: self.connection,
            body: frame.slice(header.bytes..),
            header,
            frame,
        };
        match handlers::dispatch(request, &mut self.session, &mut self.broker).await? {
            Step::Forward { frames, response } => {
                self.broker.forward(&frames).await?;
                if is_sasl {
                    self.broker.authenticates();
                }
                match response {
                    OnResponse::Nothing => Ok(()),
                    OnResponse::Relay => self.broker.owe(Pending::Relay { correlation_id }).await,
                    OnResponse::Edit(edit) => {
                        self.broker.owe(Pending::Edit { correlation_id, edit }).await
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
                self.broker.owe(Pending::Answer(joined.boxed())).await
            }
        }
    }
}
