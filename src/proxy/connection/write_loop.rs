//! Pays what the client is owed, in the order of its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::broker_reader::BrokerReader;
use super::outbound::{ClientWriter, OutboundBuffer};
use super::{Endpoint, PendingResponse};
use crate::proxy::response::{CloseReason, ResponseFrame};
use crate::proxy::upstream::CALL_TIMEOUT;

/// Bytes that gather before they are written although more is at hand.
const WRITE_BUFFER_BYTES: usize = 256 << 10;

pub(super) struct WriteLoop {
    endpoint: Endpoint,
    outbound: OutboundBuffer,
    responses: mpsc::Receiver<PendingResponse>,
    upstream: Option<BrokerReader>,
    /// Whether the client spoke SASL with the broker.
    authenticated: Arc<AtomicBool>,
}

impl WriteLoop {
    pub(super) fn new(
        endpoint: Endpoint,
        client: ClientWriter,
        responses: mpsc::Receiver<PendingResponse>,
        authenticated: Arc<AtomicBool>,
    ) -> Self {
        Self {
            endpoint,
            outbound: OutboundBuffer::new(client),
            responses,
            upstream: None,
            authenticated,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), CloseReason> {
        loop {
            let responses = match self.responses.try_recv() {
                Ok(responses) => responses,
                Err(TryRecvError::Disconnected) => return self.outbound.flush().await,
                Err(TryRecvError::Empty) => {
                    self.outbound.flush().await?;
                    match self.next_pending().await? {
                        Some(responses) => responses,
                        None => return Ok(()),
                    }
                }
            };
            match responses {
                PendingResponse::BrokerConnected(read, alive, cross_zone) => {
                    self.upstream = Some(BrokerReader::new(read, alive, cross_zone));
                }
                PendingResponse::Forward { api_key, correlation_id } => {
                    self.forward_response(api_key, correlation_id).await?;
                }
                PendingResponse::Edit { api_key, correlation_id, edit } => {
                    let frame = self.broker_response(correlation_id).await?;
                    let reply = edit(frame).await?;
                    self.outbound.push(api_key, reply);
                }
                PendingResponse::Rpc { correlation_id, reply } => {
                    self.complete_rpc(correlation_id, reply).await?;
                }
                PendingResponse::Local { api_key, mut response } => {
                    let reply = match (&mut response).now_or_never() {
                        Some(reply) => reply,
                        None => {
                            self.outbound.flush().await?;
                            response.await
                        }
                    };
                    if let Some(close) = self.push_result(api_key, reply) {
                        return self.finish(close).await;
                    }
                }
                PendingResponse::Deferred { api_key, response } => {
                    self.outbound.flush().await?;
                    if let Some(close) = self.push_result(api_key, response.await) {
                        return self.finish(close).await;
                    }
                }
                PendingResponse::CloseReason(close) => return self.finish(close).await,
            }
            if self.outbound.remaining() > WRITE_BUFFER_BYTES {
                self.outbound.flush().await?;
            }
        }
    }

    /// Gives the client an answer, if it wants one; or says why the connection ends.
    fn push_result(
        &mut self,
        api_key: i16,
        reply: Result<Option<ResponseFrame>, CloseReason>,
    ) -> Option<CloseReason> {
        match reply {
            Ok(reply) => {
                reply.into_iter().for_each(|reply| self.outbound.push(api_key, reply));
                None
            }
            Err(close) => Some(close),
        }
    }

    async fn finish(mut self, close: CloseReason) -> Result<(), CloseReason> {
        self.outbound.flush().await?;
        Err(close)
    }

    /// Waits for the next debt, with an eye on the broker, which owes nothing now.
    async fn next_pending(&mut self) -> Result<Option<PendingResponse>, CloseReason> {
        loop {
            let Some(upstream) = self.upstream.as_mut().filter(|up| !up.has_bytes()) else {
                return Ok(self.responses.recv().await);
            };
            tokio::select! {
                biased;
                responses = self.responses.recv() => return Ok(responses),
                read = upstream.read() => if let Err(close) = read {
                    self.upstream = None;
                    self.close_or_detach(close)?;
                },
            }
        }
    }

    /// A classic endpoint is the broker's; a diskless node lives on without, unless the client
    /// authenticated to this very connection: then it has to do so again.
    fn close_or_detach(&self, close: CloseReason) -> Result<(), CloseReason> {
        let is_node = matches!(self.endpoint, Endpoint::Node(_));
        if is_node && !self.authenticated.load(Ordering::Acquire) { Ok(()) } else { Err(close) }
    }

    /// Hands the reader what the broker said to its question. A broker that is gone or silent
    /// leaves it without an answer.
    async fn complete_rpc(
        &mut self,
        correlation_id: i32,
        reply: oneshot::Sender<Bytes>,
    ) -> Result<(), CloseReason> {
        self.outbound.flush().await?;
        let response = tokio::time::timeout(CALL_TIMEOUT, self.broker_response(correlation_id));
        let silent = || CloseReason::Upstream("the broker did not answer in time".to_owned());
        match response.await.unwrap_or_else(|_| Err(silent())) {
            Ok(frame) => {
                // The reader may have ended meanwhile.
                let _received = reply.send(frame);
                Ok(())
            }
            Err(close) => {
                if let Some(upstream) = self.upstream.take() {
                    upstream.mark_dead();
                }
                self.close_or_detach(close)
            }
        }
    }

    async fn forward_response(
        &mut self,
        api_key: i16,
        correlation_id: i32,
    ) -> Result<(), CloseReason> {
        let Some(upstream) = &mut self.upstream else { return Err(no_upstream()) };
        let mut remaining_bytes = loop {
            if let Some(length) = upstream.frame_length(correlation_id)? {
                break 4 + length;
            }
            self.outbound.flush().await?;
            upstream.read().await?;
        };
        loop {
            let piece = upstream.take(remaining_bytes);
            remaining_bytes -= piece.len();
            self.outbound.push_piece(api_key, piece);
            if remaining_bytes == 0 {
                return Ok(());
            }
            // Forward what is there before the rest comes.
            self.outbound.flush().await?;
            upstream.read().await?;
        }
    }

    async fn broker_response(&mut self, correlation_id: i32) -> Result<Bytes, CloseReason> {
        self.outbound.flush().await?;
        let Some(upstream) = &mut self.upstream else { return Err(no_upstream()) };
        upstream.whole_frame(correlation_id).await
    }
}

fn no_upstream() -> CloseReason {
    CloseReason::Upstream("the broker closed the connection".to_owned())
}
