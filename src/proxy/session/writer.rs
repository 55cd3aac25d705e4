//! Pays what the client is owed, in the order of its requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::crossing::Crossing;
use super::upstream_reader::UpstreamReader;
use super::{Endpoint, Pending};
use crate::engine::budget::Room;
use crate::proxy::reply::{Close, Reply};
use crate::proxy::upstream::CALL_TIMEOUT;

/// Bytes that gather before they are written although more is at hand.
const GATHER_BYTES: usize = 256 << 10;
/// A client that takes no byte of a diskless answer for so long holds memory that others need.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// The client's socket, with what counts its bytes.
pub(super) struct ClientWrite {
    write: OwnedWriteHalf,
    crossing: Arc<Crossing>,
}

impl ClientWrite {
    pub(super) fn new(write: OwnedWriteHalf, crossing: Arc<Crossing>) -> Self {
        Self { write, crossing }
    }
}

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
        let out = Out { client, slices: Slices::default(), rooms: Vec::new() };
        Self { endpoint, out, pending, upstream: None, authenticated }
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
                    match reply {
                        Ok(Some(reply)) => self.out.push(api_key, reply),
                        Ok(None) => {}
                        Err(close) => return self.finish(close).await,
                    }
                }
                Pending::Close(close) => return self.finish(close).await,
            }
            if self.out.slices.remaining() > GATHER_BYTES {
                self.out.flush().await?;
            }
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
            self.out.push_slice(api_key, piece);
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

/// The client's side: slices gather, and go out in as few system calls as they fit in.
struct Out {
    client: ClientWrite,
    slices: Slices,
    /// The memory of answers that are not written whole yet.
    rooms: Vec<Room>,
}

impl Out {
    fn push(&mut self, api_key: i16, reply: Reply) {
        for slice in reply.slices {
            self.push_slice(api_key, slice);
        }
        self.rooms.extend(reply.room);
    }

    fn push_slice(&mut self, api_key: i16, slice: Bytes) {
        self.client.crossing.sent(api_key, slice.len());
        self.slices.push(slice);
    }

    async fn flush(&mut self) -> Result<(), Close> {
        while self.slices.has_remaining() {
            let written = self.client.write.write_buf(&mut self.slices);
            // A broker waits for ever, and so is waited for what is the broker's.
            let within = if self.rooms.is_empty() { Duration::MAX } else { TAKEN_WITHIN };
            let Ok(written) = tokio::time::timeout(within, written).await else {
                return Err(Close::Upstream("the client takes nothing".to_owned()));
            };
            match written {
                Ok(0) => return Err(Close::Upstream("the client is gone".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(Close::Upstream(format!("client: {error}"))),
            }
        }
        self.rooms.clear();
        Ok(())
    }
}

/// A queue of byte slices that is written with vectored writes, without joining them.
#[derive(Debug, Default)]
struct Slices {
    queue: VecDeque<Bytes>,
    bytes: usize,
}

impl Slices {
    fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.bytes += slice.len();
            self.queue.push_back(slice);
        }
    }
}

impl Buf for Slices {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.queue.front().map_or(&[], |slice| slice)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [std::io::IoSlice<'a>]) -> usize {
        let filled = dst.len().min(self.queue.len());
        for (io_slice, slice) in dst.iter_mut().zip(&self.queue) {
            *io_slice = std::io::IoSlice::new(slice);
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        while count > 0 {
            let Some(front) = self.queue.front_mut() else { return };
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.queue.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_advance_across_their_borders() {
        let mut slices = Slices::default();
        for piece in ["ab", "", "cde", "f"] {
            slices.push(Bytes::from_static(piece.as_bytes()));
        }
        assert_eq!(slices.remaining(), 6);
        slices.advance(3);
        assert_eq!((slices.remaining(), slices.chunk()), (3, b"de".as_slice()));
        slices.advance(3);
        assert!(!slices.has_remaining() && slices.chunk().is_empty());
    }
}
