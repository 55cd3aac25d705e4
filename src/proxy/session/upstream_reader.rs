//! The answers of a broker, as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

use crate::proxy::reply::Close;

/// The largest answer that is read whole; relayed ones may be of any length.
const EDITED_BYTES_MAX: usize = 256 << 20;
/// Room for one read: many small answers, or a piece of a large one.
const READ_BYTES: usize = 128 << 10;

pub(super) struct UpstreamReader {
    read: OwnedReadHalf,
    alive: Arc<AtomicBool>,
    buffer: BytesMut,
    /// Of bytes that come from another zone.
    crossing: Option<Counter>,
}

impl UpstreamReader {
    pub(super) fn new(
        read: OwnedReadHalf,
        alive: Arc<AtomicBool>,
        crossing: Option<Counter>,
    ) -> Self {
        Self { read, alive, buffer: BytesMut::new(), crossing }
    }

    /// Whether the next answer has begun to arrive.
    pub(super) fn has_bytes(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The connection is of no use any more.
    pub(super) fn give_up(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// Reads once.
    pub(super) async fn read(&mut self) -> Result<(), Close> {
        self.buffer.reserve(READ_BYTES);
        match self.read.read_buf(&mut self.buffer).await {
            Ok(0) => {
                self.alive.store(false, Ordering::Release);
                Err(Close::Upstream("the broker closed the connection".to_owned()))
            }
            Ok(bytes) => {
                if let Some(crossing) = &self.crossing {
                    crossing.inc_by(bytes as u64);
                }
                Ok(())
            }
            Err(error) => {
                self.alive.store(false, Ordering::Release);
                Err(Close::Upstream(format!("broker: {error}")))
            }
        }
    }

    /// Once eight bytes are there: the length of the frame behind its prefix, when the frame
    /// answers the request with this correlation id.
    pub(super) fn frame_length(&self, correlation_id: i32) -> Result<Option<usize>, Close> {
        let Some((head, _)) = self.buffer.split_first_chunk::<8>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *head;
        let length = i32::from_be_bytes([a, b, c, d]);
        let answered = i32::from_be_bytes([e, f, g, h]);
        if length < 4 || answered != correlation_id {
            return Err(Close::Upstream(format!(
                "the broker answered request {answered} with {length} bytes, not {correlation_id}"
            )));
        }
        Ok(Some(length.unsigned_abs() as usize))
    }

    /// Takes up to `limit` of the bytes that are there.
    pub(super) fn take(&mut self, limit: usize) -> Bytes {
        let taken = limit.min(self.buffer.len());
        self.buffer.split_to(taken).freeze()
    }

    /// Reads a whole frame, without its prefix.
    pub(super) async fn whole_frame(&mut self, correlation_id: i32) -> Result<Bytes, Close> {
        let length = loop {
            if let Some(length) = self.frame_length(correlation_id)? {
                break length;
            }
            self.read().await?;
        };
        if length > EDITED_BYTES_MAX {
            return Err(Close::Upstream(format!("an answer of {length} bytes")));
        }
        while self.buffer.len() < 4 + length {
            self.read().await?;
        }
        let mut frame = self.buffer.split_to(4 + length).freeze();
        Ok(frame.split_off(4))
    }
}
