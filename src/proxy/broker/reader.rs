//! Reads the responses of a broker.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use tokio::net::tcp::OwnedReadHalf;

use super::response_queue::BrokerReadHalf;
use crate::proxy::response::CloseReason;

/// The largest response that is buffered whole. Forwarded responses may have any length.
const BUFFERED_RESPONSE_BYTES_MAX: usize = 256 << 20;
/// The size of a read after one that filled half of its buffer: many small responses, or a piece of a
/// large one.
const READ_BYTES: usize = 128 << 10;
/// The size of every other read. Most responses fit, and most connections wait for one.
const FIRST_READ_BYTES: usize = 8 << 10;

pub(crate) struct BrokerReader {
    read: OwnedReadHalf,
    address: String,
    alive: Arc<AtomicBool>,
    /// Allocated only while a response arrives.
    buffer: BytesMut,
    /// The size of the next read.
    read_bytes: usize,
    /// Counts received bytes if the broker is in another zone.
    cross_zone: Option<Counter>,
}

impl BrokerReader {
    pub(crate) fn new(broker: BrokerReadHalf) -> Self {
        let BrokerReadHalf { read, address, alive, cross_zone } = broker;
        let (buffer, read_bytes) = (BytesMut::new(), FIRST_READ_BYTES);
        Self { read, address, alive, buffer, read_bytes, cross_zone }
    }

    /// Returns the broker's `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Marks the connection as unusable.
    pub(crate) fn mark_dead(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// Returns when the broker has closed the connection. Reads a limited number of bytes ahead to
    /// notice.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing that was read is lost.
    pub(crate) async fn lost(&mut self) -> CloseReason {
        loop {
            if self.buffer.len() >= READ_BYTES {
                return std::future::pending().await;
            }
            match self.receive().await {
                // What has arrived is still to be taken.
                Ok(0) if !self.buffer.is_empty() => return std::future::pending().await,
                Ok(0) => return self.closed(),
                Ok(_) => {}
                Err(error) => return self.broken(&error),
            }
        }
    }

    /// Appends what the socket has once it has something; 0 bytes at its end.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing was read.
    async fn receive(&mut self) -> std::io::Result<usize> {
        loop {
            self.read.readable().await?;
            self.buffer.reserve(self.read_bytes);
            let room = self.buffer.capacity() - self.buffer.len();
            match self.read.try_read_buf(&mut self.buffer) {
                Ok(bytes) => {
                    self.count(bytes);
                    self.read_bytes = if 2 * bytes < room { FIRST_READ_BYTES } else { READ_BYTES };
                    return Ok(bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.release_buffer(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Releases the buffer if it is empty: there are many connections that wait.
    fn release_buffer(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    fn closed(&self) -> CloseReason {
        self.mark_dead();
        CloseReason::Upstream("the broker closed the connection".to_owned())
    }

    fn broken(&self, error: &std::io::Error) -> CloseReason {
        self.mark_dead();
        CloseReason::Upstream(format!("broker: {error}"))
    }

    fn count(&self, bytes: usize) {
        if let Some(cross_zone) = &self.cross_zone {
            cross_zone.inc_by(bytes as u64);
        }
    }

    /// Reads once from the socket.
    pub(crate) async fn read(&mut self) -> Result<(), CloseReason> {
        match self.receive().await {
            Ok(0) => Err(self.closed()),
            Ok(_) => Ok(()),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Returns the length of the next frame without its prefix; `None` before eight bytes have
    /// arrived.
    ///
    /// # Errors
    /// The frame has another correlation id.
    pub(crate) fn frame_length(&self, correlation_id: i32) -> Result<Option<usize>, CloseReason> {
        let Some((head, _)) = self.buffer.split_first_chunk::<8>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *head;
        let length = i32::from_be_bytes([a, b, c, d]);
        let answered = i32::from_be_bytes([e, f, g, h]);
        if length < 4 || answered != correlation_id {
            return Err(CloseReason::Upstream(format!(
                "the broker responded to request {answered} with {length} bytes instead of {correlation_id}"
            )));
        }
        Ok(Some(length.unsigned_abs() as usize))
    }

    /// Takes up to `limit` of the bytes that have arrived.
    pub(crate) fn take(&mut self, limit: usize) -> Bytes {
        let taken = limit.min(self.buffer.len());
        let piece = self.buffer.split_to(taken).freeze();
        self.release_buffer();
        piece
    }

    /// Reads a whole frame, without its length prefix.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing that was read is lost.
    pub(crate) async fn whole_frame(&mut self, correlation_id: i32) -> Result<Bytes, CloseReason> {
        let length = loop {
            if let Some(length) = self.frame_length(correlation_id)? {
                break length;
            }
            self.read().await?;
        };
        if length > BUFFERED_RESPONSE_BYTES_MAX {
            return Err(CloseReason::Upstream(format!("a response of {length} bytes")));
        }
        while self.buffer.len() < 4 + length {
            self.read().await?;
        }
        let mut frame = self.take(4 + length);
        Ok(frame.split_off(4))
    }
}
