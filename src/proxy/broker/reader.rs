//! Reads the responses of a broker.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;

use super::response_queue::BrokerReadHalf;
use crate::proxy::response::CloseReason;

/// The largest response that is buffered whole. Forwarded responses may have any length.
const BUFFERED_RESPONSE_BYTES_MAX: usize = 256 << 20;
/// The size of one read: many small responses, or a piece of a large one.
const READ_BYTES: usize = 128 << 10;

pub(crate) struct BrokerReader {
    read: OwnedReadHalf,
    alive: Arc<AtomicBool>,
    buffer: BytesMut,
    /// Counts received bytes if the broker is in another zone.
    cross_zone: Option<Counter>,
}

impl BrokerReader {
    pub(crate) fn new(broker: BrokerReadHalf) -> Self {
        let BrokerReadHalf { read, alive, cross_zone } = broker;
        Self { read, alive, buffer: BytesMut::new(), cross_zone }
    }

    /// Marks the connection as unusable.
    pub(crate) fn mark_dead(&self) {
        self.alive.store(false, Ordering::Release);
    }

    /// Returns when the broker has closed the connection. Reads a limited number of bytes ahead to
    /// notice, into a buffer that an idle connection does not have.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing that was read is lost.
    pub(crate) async fn lost(&mut self) -> CloseReason {
        loop {
            if self.buffer.len() >= READ_BYTES {
                return std::future::pending().await;
            }
            if let Err(error) = self.read.readable().await {
                return self.broken(&error);
            }
            self.buffer.reserve(READ_BYTES);
            match self.read.try_read_buf(&mut self.buffer) {
                // What has arrived is still to be taken.
                Ok(0) if !self.buffer.is_empty() => return std::future::pending().await,
                Ok(0) => return self.closed(),
                Ok(bytes) => self.count(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return self.broken(&error),
            }
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
        self.buffer.reserve(READ_BYTES);
        match self.read.read_buf(&mut self.buffer).await {
            Ok(0) => Err(self.closed()),
            Ok(bytes) => {
                self.count(bytes);
                Ok(())
            }
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
        self.buffer.split_to(taken).freeze()
    }

    /// Reads a whole frame, without its length prefix.
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
        let mut frame = self.buffer.split_to(4 + length).freeze();
        Ok(frame.split_off(4))
    }
}
