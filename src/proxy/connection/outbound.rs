//! Buffers responses to the client and writes them in as few system calls as possible.
//!
//! A response that the client does not read releases its memory, and is read again from the objects,
//! which never change, when the socket accepts more bytes. So a stalled client holds only what is in
//! its socket buffer.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, timeout};

use super::cross_zone::CrossZoneTraffic;
use crate::engine::memory::MemoryPermit;
use crate::proxy::broker::client_status::ClientStatus;
use crate::proxy::response::{BodyReloader, CloseReason, ResponseFrame};

/// If a client reads no byte for this time, the memory of its responses is released. Reading again
/// what is still cached costs little.
const STALL_TIMEOUT: Duration = Duration::from_millis(250);
/// If a client reads slowly, the memory of its responses is released after this time.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// Time for which a broker's response is still awaited after the client has left. The broker may wait
/// for as long as the client requested.
const DEPARTED_GRACE: Duration = Duration::from_secs(10);

/// The client's socket, and the counters of its bytes.
#[derive(Debug)]
pub(super) struct ClientWriter {
    write: OwnedWriteHalf,
    cross_zone: Arc<CrossZoneTraffic>,
}

impl ClientWriter {
    pub(super) fn new(write: OwnedWriteHalf, cross_zone: Arc<CrossZoneTraffic>) -> Self {
        Self { write, cross_zone }
    }
}

/// Responses on their way to the client.
#[derive(Debug)]
pub(super) struct OutboundBuffer {
    client: ClientWriter,
    status: Arc<ClientStatus>,
    queue: SliceQueue,
    /// Since when a memory permit is held.
    held_since: Option<Instant>,
}

impl OutboundBuffer {
    pub(super) fn new(client: ClientWriter, status: Arc<ClientStatus>) -> Self {
        Self { client, status, queue: SliceQueue::default(), held_since: None }
    }

    /// Returns the number of buffered bytes.
    pub(super) fn remaining(&self) -> usize {
        self.queue.remaining()
    }

    /// Appends a piece of a broker's response.
    pub(super) fn push_piece(&mut self, api_key: i16, piece: Bytes) {
        self.client.cross_zone.sent(api_key, piece.len());
        self.queue.push_piece(piece);
    }

    /// Appends a response of the proxy.
    pub(super) fn push(&mut self, api_key: i16, frame: ResponseFrame) {
        let bytes = frame.slices.iter().map(Bytes::len).sum();
        self.client.cross_zone.sent(api_key, bytes);
        self.queue.push(frame);
    }

    /// Writes everything to the client's socket.
    ///
    /// # Errors
    /// The client is gone, or a response cannot be read again.
    pub(super) async fn flush(&mut self) -> Result<(), CloseReason> {
        while self.queue.has_pending() {
            if self.queue.is_evicted() {
                self.reload_first().await?;
            }
            // Like a broker, waits without limit if no memory is held meanwhile.
            let within = match self.queue.holds_memory() {
                true => {
                    let since = *self.held_since.get_or_insert_with(Instant::now);
                    STALL_TIMEOUT.min(HOLD_MAX.saturating_sub(since.elapsed()))
                }
                false => Duration::MAX,
            };
            let written = timeout(within, self.client.write.write_buf(&mut self.queue)).await;
            match written {
                Ok(Ok(0)) => return Err(CloseReason::Upstream("the client is gone".to_owned())),
                Ok(Ok(_)) => self.status.touch(),
                Ok(Err(error)) => return Err(CloseReason::Upstream(format!("client: {error}"))),
                Err(_) => {
                    self.held_since = None;
                    self.queue.evict();
                }
            }
        }
        self.held_since = None;
        Ok(())
    }

    /// Returns when the client has closed its side of the connection, although requests that it
    /// sent before may still have to be read.
    pub(super) async fn client_departed(&self) {
        #[cfg(target_os = "linux")]
        // Ready once the peer has closed, or the connection has failed; not for bytes to read.
        if self.client.write.ready(Interest::PRIORITY).await.is_ok() {
            return;
        }
        std::future::pending().await
    }

    /// Returns some time after the client has closed its side of the connection: what a broker has to
    /// do for its last requests is done by then.
    pub(super) async fn client_gone(&self) -> CloseReason {
        self.client_departed().await;
        tokio::time::sleep(DEPARTED_GRACE).await;
        CloseReason::Upstream("the client is gone".to_owned())
    }

    /// Reads the first response again when the client accepts bytes again.
    async fn reload_first(&mut self) -> Result<(), CloseReason> {
        let gone = |error| CloseReason::Upstream(format!("client: {error}"));
        self.client.write.writable().await.map_err(gone)?;
        self.queue.reload_first().await
    }
}

/// Responses in their order, each a list of slices, which vectored writes need not join.
#[derive(Debug, Default)]
struct SliceQueue {
    responses: VecDeque<OutboundResponse>,
}

#[derive(Debug, Default)]
struct OutboundResponse {
    slices: VecDeque<Bytes>,
    /// Bytes that are not yet written.
    remaining_bytes: usize,
    written: usize,
    permit: Option<MemoryPermit>,
    /// Memory of the permit beyond the bytes of the response: of the buffers of which they are
    /// slices.
    excess_bytes: usize,
    reload: Option<BodyReloader>,
}

impl OutboundResponse {
    /// Returns whether the bytes were released.
    fn is_evicted(&self) -> bool {
        self.slices.is_empty() && self.remaining_bytes > 0
    }

    fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.remaining_bytes += slice.len();
            self.slices.push_back(slice);
        }
    }

    /// Sets the memory that the bytes hold, all of which have been pushed.
    fn hold(&mut self, permit: Option<MemoryPermit>) {
        let held = permit.as_ref().map_or(0, MemoryPermit::bytes);
        self.excess_bytes = held.saturating_sub(self.remaining_bytes);
        self.permit = permit;
    }

    /// Removes bytes that are written, and releases their memory.
    fn advance(&mut self, mut count: usize) {
        self.remaining_bytes -= count;
        self.written += count;
        if let Some(permit) = &mut self.permit {
            permit.shrink_to(self.remaining_bytes + self.excess_bytes);
        }
        while count > 0 {
            let Some(front) = self.slices.front_mut() else { return };
            if front.len() > count {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.slices.pop_front();
        }
    }
}

impl SliceQueue {
    fn push_piece(&mut self, piece: Bytes) {
        match self.responses.back_mut().filter(|last| last.permit.is_none() && !last.is_evicted()) {
            Some(last) => last.push(piece),
            None => self.push(ResponseFrame { slices: vec![piece], ..ResponseFrame::default() }),
        }
    }

    fn push(&mut self, reply: ResponseFrame) {
        let mut response = OutboundResponse { reload: reply.reload, ..OutboundResponse::default() };
        reply.slices.into_iter().for_each(|slice| response.push(slice));
        response.hold(reply.permit);
        self.responses.push_back(response);
    }

    fn has_pending(&mut self) -> bool {
        while self.responses.front().is_some_and(|first| first.remaining_bytes == 0) {
            self.responses.pop_front();
        }
        !self.responses.is_empty()
    }

    fn holds_memory(&self) -> bool {
        self.responses.iter().any(|response| response.permit.is_some())
    }

    fn is_evicted(&self) -> bool {
        self.responses.front().is_some_and(OutboundResponse::is_evicted)
    }

    fn evict(&mut self) {
        for response in &mut self.responses {
            if response.reload.is_some() {
                response.slices = VecDeque::new();
            }
            response.permit = None;
        }
    }

    async fn reload_first(&mut self) -> Result<(), CloseReason> {
        let Some(first) = self.responses.front_mut() else { return Ok(()) };
        let Some(reload) = &first.reload else { return Ok(()) };
        let cannot = || CloseReason::Upstream("a response cannot be read again".to_owned());
        let (slices, permit) = reload.read().await.ok_or_else(cannot)?;
        let (remaining_bytes, written) = (first.remaining_bytes, first.written);
        (first.remaining_bytes, first.written) = (0, 0);
        slices.into_iter().for_each(|slice| first.push(slice));
        if first.remaining_bytes != remaining_bytes + written {
            return Err(CloseReason::Internal(
                "a response has a different length when read again".to_owned(),
            ));
        }
        first.hold(Some(permit));
        first.advance(written);
        Ok(())
    }

    /// Returns the responses that can be written now.
    fn ready(&self) -> impl Iterator<Item = &OutboundResponse> {
        self.responses.iter().take_while(|response| !response.is_evicted())
    }
}

impl Buf for SliceQueue {
    fn remaining(&self) -> usize {
        self.ready().map(|response| response.remaining_bytes).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.ready().find_map(|response| response.slices.front()).map_or(&[], |slice| slice)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let slices = self.ready().flat_map(|response| &response.slices);
        dst.iter_mut().zip(slices).map(|(to, slice)| *to = IoSlice::new(slice)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(first) = self.responses.front_mut() else { return };
            let taken = count.min(first.remaining_bytes);
            first.advance(taken);
            count -= taken;
            if first.remaining_bytes == 0 {
                self.responses.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::engine::memory::MemoryLimiter;
    use crate::metrics::Metrics;
    use crate::proxy::endpoint::Endpoint;
    use crate::tasks;

    fn of(pieces: &[&'static str]) -> Vec<Bytes> {
        pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect()
    }

    #[test]
    fn buffer_advances_across_slices() {
        let mut queue = SliceQueue::default();
        queue.push(ResponseFrame { slices: of(&["ab", "", "cde"]), ..ResponseFrame::default() });
        queue.push(ResponseFrame { slices: of(&["f"]), ..ResponseFrame::default() });
        queue.push_piece(Bytes::from_static(b"gh"));
        assert_eq!((queue.remaining(), queue.responses.len()), (8, 2));
        queue.advance(3);
        assert_eq!((queue.remaining(), queue.chunk()), (5, b"de".as_slice()));
        queue.advance(3);
        assert_eq!(queue.chunk(), b"gh");
        queue.advance(2);
        assert!(!queue.has_pending() && queue.chunk().is_empty());
    }

    /// Returns a response of `bytes` bytes that holds all of the memory and counts how often it is read.
    async fn large_response(
        budget: &Arc<MemoryLimiter>,
        bytes: usize,
        reads: &Arc<AtomicUsize>,
    ) -> ResponseFrame {
        let quota = Arc::new(budget.quota(usize::MAX));
        let slices = move || -> Vec<Bytes> {
            (0..bytes >> 10).map(|n| Bytes::from(vec![n as u8; 1 << 10])).collect()
        };
        let permit = quota.acquire(usize::MAX).await.ok();
        let reads = Arc::clone(reads);
        let reload = BodyReloader::new(move || {
            reads.fetch_add(1, Ordering::Relaxed);
            let quota = Arc::clone(&quota);
            async move { Some((slices(), quota.acquire(usize::MAX).await.ok()?)) }.boxed()
        });
        ResponseFrame { slices: slices(), permit, reload: Some(reload) }
    }

    #[tokio::test]
    async fn memory_is_released_as_bytes_leave() {
        let limiter = MemoryLimiter::new(1 << 20, Arc::default());
        let quota = limiter.quota(1 << 20);
        let slices = vec![Bytes::from(vec![0; 100 << 10]); 2];
        // Of them and of the buffers of which they are a part.
        let permit = quota.acquire(300 << 10).await.ok();
        let mut queue = SliceQueue::default();
        queue.push(ResponseFrame { slices, permit, ..ResponseFrame::default() });
        let held = || limiter.bytes() - limiter.available();
        let before = held();
        queue.advance(150 << 10);
        assert_eq!(held(), before - (150 << 10));
        queue.advance(50 << 10);
        assert_eq!(held(), 0);
    }

    /// Returns both sides of a connection with small buffers.
    async fn connection() -> (TcpStream, OwnedWriteHalf) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8 << 10).unwrap();
        let (client, accepted) = tokio::join!(socket.connect(address), listener.accept());
        let accepted = accepted.unwrap().0;
        socket2::SockRef::from(&accepted).set_send_buffer_size(16 << 10).unwrap();
        (client.unwrap(), accepted.into_split().1)
    }

    #[tokio::test]
    async fn slow_readers_delay_neither_a_tail_reader_nor_each_other_for_long() {
        const BYTES: usize = 3_500 << 10;
        let limiter = MemoryLimiter::for_responses(32 << 20, Arc::default());
        let cross_zone = Arc::new(CrossZoneTraffic::new(&Metrics::default(), Endpoint::Bootstrap));
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (mut client, write) = connection().await;
            let writer = ClientWriter::new(write, Arc::clone(&cross_zone));
            let mut outbound = OutboundBuffer::new(writer, Arc::new(ClientStatus::new()));
            let permit = limiter.quota(BYTES * 2).acquire(BYTES).await.ok();
            let slices = (0..350).map(|_| Bytes::from(vec![0; 10 << 10])).collect();
            outbound.push(1, ResponseFrame { slices, permit, reload: None });
            readers.spawn(async move {
                let slowly = async {
                    // They read all the time, so that they do not stall.
                    while client.read_exact(&mut [0; 4 << 10]).await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                };
                tokio::join!(outbound.flush(), slowly).0.is_ok()
            });
        }
        let rest = limiter.quota(1 << 20);
        let _rest = rest.acquire(663 << 10).now_or_never().expect("the rest");
        for _ in 0..10 {
            let tail = limiter.quota(1 << 20).acquire(100 << 10).now_or_never();
            assert!(tail.is_some_and(|permit| permit.is_ok()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let other = limiter.quota(1 << 20);
        let other = timeout(HOLD_MAX / 3, other.acquire(1 << 20)).await;
        assert!(other.is_ok_and(|permit| permit.is_ok()), "memory of bytes that left is held");
    }

    #[tokio::test]
    async fn stalled_client_holds_no_memory_and_still_receives_every_byte() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, ensure_accepted) =
            tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, (_, write)) = (client.unwrap(), ensure_accepted.unwrap().0.into_split());
        let budget = MemoryLimiter::new(1 << 20, Arc::default());
        let reads = Arc::new(AtomicUsize::new(0));
        // More than any socket buffer takes.
        const BYTES: usize = 64 << 20;
        let cross_zone = CrossZoneTraffic::new(&Metrics::default(), Endpoint::Bootstrap);
        let mut outbound = OutboundBuffer::new(
            ClientWriter::new(write, Arc::new(cross_zone)),
            Arc::new(ClientStatus::new()),
        );
        outbound.push(1, ResponseFrame { slices: of(&["before"]), ..ResponseFrame::default() });
        outbound.push(1, large_response(&budget, BYTES, &reads).await);
        outbound.push(1, ResponseFrame { slices: of(&["after"]), ..ResponseFrame::default() });
        assert_eq!(budget.available(), 0);
        let flushed = tasks::spawn("flush", async move { outbound.flush().await.is_ok() });
        let begun = Instant::now();
        while budget.available() == 0 {
            assert!(begun.elapsed() < HOLD_MAX, "the memory is held too long");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(reads.load(Ordering::Relaxed), 0, "not read before it is needed");

        let mut taken = vec![0; 6 + BYTES + 5];
        client.read_exact(&mut taken).await.unwrap();
        assert!(taken.starts_with(b"before") && taken.ends_with(b"after"));
        let body = &taken[6..6 + BYTES];
        assert!((0..BYTES).all(|at| body[at] == (at >> 10) as u8), "each byte once, at its offset");
        assert!(flushed.await.unwrap());
        assert_eq!((reads.load(Ordering::Relaxed), budget.available()), (1, 1 << 20));
    }
}
