//! Pays what the client is owed, in the order of its requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::out::{ClientWrite, Out};
use super::upstream_reader::UpstreamReader;
use super::{Endpoint, Pending};
use crate::proxy::reply::{Close, Reply};
use crate::proxy::upstream::CALL_TIMEOUT;

/// Bytes that gather before they are written although more is at hand.
const GATHER_BYTES: usize = 256 << 10;

pub(super) struct Writer {
    endpoint: Endpoint,
    out: Out,
    pending: mpsc::Receiver<Pending>,
    upstream: Option<UpstreamReader>,
    /// Whether the client spoke SASL with the broker.
    authenticated: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn new(
        endpoint: Endpoint,
        client: ClientWrite,
        pending: mpsc::Receiver<Pending>,
        authenticated: Arc<AtomicBool>,
    ) -> Self {
        Self { endpoint, out: Out::new(client), pending, upstream: None, authenticated }
    }

    pub(super) async fn run(mut self) -> Result<(), Close> {
        loop {
            let pending = match self.pending.try_recv() {
                Ok(pending) => pending,
                Err(TryRecvError::Disconnected) => return self.out.flush().await,
                Err(TryRecvError::Empty) => {
                    self.out.flush().await?;
                    match self.idle().await? {
                        Some(pending) => pending,
                        None => return Ok(()),
                    }
                }
            };
            match pending {
                Pending::Upstream(read, alive, crossing) => {
                    self.upstream = Some(UpstreamReader::new(read, alive, crossing));
                }
                Pending::Relay { api_key, correlation_id } => {
                    self.relay(api_key, correlation_id).await?;
                }
                Pending::Edit { api_key, correlation_id, edit } => {
                    let frame = self.answer_of_broker(correlation_id).await?;
                    let reply = edit(frame).await?;
                    self.out.push(api_key, reply);
                }
                Pending::Ask { correlation_id, reply } => {
                    self.answer_question(correlation_id, reply).await?;
                }
                Pending::Answer { api_key, mut answer } => {
                    let reply = match (&mut answer).now_or_never() {
                        Some(reply) => reply,
                        None => {
                            self.out.flush().await?;
                            answer.await
                        }
                    };
                    if let Some(close) = self.give(api_key, reply) {
                        return self.finish(close).await;
                    }
                }
                Pending::AnswerInTurn { api_key, answer } => {
                    self.out.flush().await?;
                    if let Some(close) = self.give(api_key, answer.await) {
                        return self.finish(close).await;
                    }
                }
                Pending::Close(close) => return self.finish(close).await,
            }
            if self.out.remaining() > GATHER_BYTES {
                self.out.flush().await?;
            }
        }
    }

    /// Gives the client an answer, if it wants one; or says why the connection ends.
    fn give(&mut self, api_key: i16, reply: Result<Option<Reply>, Close>) -> Option<Close> {
        match reply {
            Ok(reply) => {
                reply.into_iter().for_each(|reply| self.out.push(api_key, reply));
                None
            }
            Err(close) => Some(close),
        }
    }

    async fn finish(mut self, close: Close) -> Result<(), Close> {
        self.out.flush().await?;
        Err(close)
    }

    /// Waits for the next debt, with an eye on the broker, which owes nothing now.
    async fn idle(&mut self) -> Result<Option<Pending>, Close> {
        loop {
            let Some(upstream) = self.upstream.as_mut().filter(|up| !up.has_bytes()) else {
                return Ok(self.pending.recv().await);
            };
            tokio::select! {
                biased;
                pending = self.pending.recv() => return Ok(pending),
                read = upstream.read() => if let Err(close) = read {
                    self.upstream = None;
                    self.survive(close)?;
                },
            }
        }
    }

    /// A classic endpoint is the broker's; a diskless node lives on without, unless the client
    /// authenticated to this very connection: then it has to do so again.
    fn survive(&self, close: Close) -> Result<(), Close> {
        let is_node = matches!(self.endpoint, Endpoint::Node(_));
        if is_node && !self.authenticated.load(Ordering::Acquire) { Ok(()) } else { Err(close) }
    }

    /// Hands the reader what the broker said to its question. A broker that is gone or silent
    /// leaves it without an answer.
    async fn answer_question(
        &mut self,
        correlation_id: i32,
        reply: oneshot::Sender<Bytes>,
    ) -> Result<(), Close> {
        self.out.flush().await?;
        let answer = tokio::time::timeout(CALL_TIMEOUT, self.answer_of_broker(correlation_id));
        let silent = || Close::Upstream("the broker did not answer in time".to_owned());
        match answer.await.unwrap_or_else(|_| Err(silent())) {
            Ok(frame) => {
                // The reader may have ended meanwhile.
                let _received = reply.send(frame);
                Ok(())
            }
            Err(close) => {
                if let Some(upstream) = self.upstream.take() {
                    upstream.give_up();
                }
                self.survive(close)
            }
        }
    }

    async fn relay(&mut self, api_key: i16, correlation_id: i32) -> Result<(), Close> {
        let Some(upstream) = &mut self.upstream else { return Err(no_upstream()) };
        let mut left = loop {
            if let Some(length) = upstream.frame_length(correlation_id)? {
                break 4 + length;
            }
            self.out.flush().await?;
            upstream.read().await?;
        };
        loop {
            let piece = upstream.take(left);
            left -= piece.len();
            self.out.push_piece(api_key, piece);
            if left == 0 {
                return Ok(());
            }
            // Forward what is there before the rest comes.
            self.out.flush().await?;
            upstream.read().await?;
        }
    }

    async fn answer_of_broker(&mut self, correlation_id: i32) -> Result<Bytes, Close> {
        self.out.flush().await?;
        let Some(upstream) = &mut self.upstream else { return Err(no_upstream()) };
        upstream.whole_frame(correlation_id).await
    }
}

fn no_upstream() -> Close {
    Close::Upstream("the broker closed the connection".to_owned())
}
