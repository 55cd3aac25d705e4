//! The client's side of a connection: answers gather, and go out in as few system calls as they
//! fit in.
//!
//! An answer that the client does not take gives its memory back, and is read once more when there
//! is room for it in the socket: objects never change. So a reader that sleeps holds what is in
//! its socket buffer.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, timeout};

use super::crossing::Crossing;
use crate::engine::budget::Room;
use crate::proxy::reply::{Again, Close, Reply};

/// A client that takes no byte for so long lets others have the memory of its answers: reading
/// again what is in memory still costs next to nothing …
const STALLED: Duration = Duration::from_millis(250);
/// … as does one that takes them too slowly, after so long.
const HELD_MAX: Duration = Duration::from_secs(10);

/// The client's socket, with what counts its bytes.
#[derive(Debug)]
pub(super) struct ClientWrite {
    write: OwnedWriteHalf,
    crossing: Arc<Crossing>,
}

impl ClientWrite {
    pub(super) fn new(write: OwnedWriteHalf, crossing: Arc<Crossing>) -> Self {
        Self { write, crossing }
    }
}

/// What is on its way to the client.
#[derive(Debug)]
pub(super) struct Out {
    client: ClientWrite,
    queue: Queue,
    /// Since when memory of a budget is held.
    held_since: Option<Instant>,
}

impl Out {
    pub(super) fn new(client: ClientWrite) -> Self {
        Self { client, queue: Queue::default(), held_since: None }
    }

    /// Bytes that wait.
    pub(super) fn remaining(&self) -> usize {
        self.queue.remaining()
    }

    /// A piece of an answer that is not ours.
    pub(super) fn push_piece(&mut self, api_key: i16, piece: Bytes) {
        self.client.crossing.sent(api_key, piece.len());
        self.queue.push_piece(piece);
    }

    pub(super) fn push(&mut self, api_key: i16, reply: Reply) {
        let bytes = reply.slices.iter().map(Bytes::len).sum();
        self.client.crossing.sent(api_key, bytes);
        self.queue.push(reply);
    }

    /// Returns when everything is with the client's socket.
    pub(super) async fn flush(&mut self) -> Result<(), Close> {
        while self.queue.is_owed() {
            if self.queue.is_put_aside() {
                self.take_up().await?;
            }
            // A broker waits for ever, and so is waited for what holds nobody up.
            let within = match self.queue.holds_memory() {
                true => {
                    let since = *self.held_since.get_or_insert_with(Instant::now);
                    STALLED.min(HELD_MAX.saturating_sub(since.elapsed()))
                }
                false => Duration::MAX,
            };
            let written = timeout(within, self.client.write.write_buf(&mut self.queue)).await;
            match written {
                Ok(Ok(0)) => return Err(Close::Upstream("the client is gone".to_owned())),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(Close::Upstream(format!("client: {error}"))),
                Err(_) => {
                    self.held_since = None;
                    self.queue.put_aside();
                }
            }
        }
        self.held_since = None;
        Ok(())
    }

    /// Reads the first answer once more, when the client takes bytes again.
    async fn take_up(&mut self) -> Result<(), Close> {
        let gone = |error| Close::Upstream(format!("client: {error}"));
        self.client.write.writable().await.map_err(gone)?;
        self.queue.take_up().await
    }
}

/// Answers in their order, each a list of slices; written with vectored writes, without joining
/// them.
#[derive(Debug, Default)]
struct Queue {
    answers: VecDeque<Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    slices: VecDeque<Bytes>,
    /// Bytes that are not written yet.
    left: usize,
    written: usize,
    room: Option<Room>,
    again: Option<Again>,
}

impl Answer {
    /// Its bytes were given back.
    fn is_aside(&self) -> bool {
        self.slices.is_empty() && self.left > 0
    }

    fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.left += slice.len();
            self.slices.push_back(slice);
        }
    }

    fn advance(&mut self, mut count: usize) {
        self.left -= count;
        self.written += count;
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

impl Queue {
    fn push_piece(&mut self, piece: Bytes) {
        match self.answers.back_mut().filter(|last| last.room.is_none() && !last.is_aside()) {
            Some(last) => last.push(piece),
            None => self.push(Reply { slices: vec![piece], ..Reply::default() }),
        }
    }

    fn push(&mut self, reply: Reply) {
        let mut answer = Answer { room: reply.room, again: reply.again, ..Answer::default() };
        reply.slices.into_iter().for_each(|slice| answer.push(slice));
        self.answers.push_back(answer);
    }

    fn is_owed(&mut self) -> bool {
        while self.answers.front().is_some_and(|first| first.left == 0) {
            self.answers.pop_front();
        }
        !self.answers.is_empty()
    }

    fn holds_memory(&self) -> bool {
        self.answers.iter().any(|answer| answer.room.is_some())
    }

    fn is_put_aside(&self) -> bool {
        self.answers.front().is_some_and(Answer::is_aside)
    }

    fn put_aside(&mut self) {
        for answer in &mut self.answers {
            if answer.again.is_some() {
                answer.slices = VecDeque::new();
            }
            answer.room = None;
        }
    }

    async fn take_up(&mut self) -> Result<(), Close> {
        let Some(first) = self.answers.front_mut() else { return Ok(()) };
        let Some(again) = &first.again else { return Ok(()) };
        let cannot = || Close::Upstream("an answer cannot be read again".to_owned());
        let (slices, room) = again.read().await.ok_or_else(cannot)?;
        let (left, written) = (first.left, first.written);
        (first.left, first.written) = (0, 0);
        slices.into_iter().for_each(|slice| first.push(slice));
        if first.left != left + written {
            return Err(Close::Ours("an answer read again has another length".to_owned()));
        }
        first.advance(written);
        first.room = Some(room);
        Ok(())
    }

    /// Those that can be written now.
    fn at_hand(&self) -> impl Iterator<Item = &Answer> {
        self.answers.iter().take_while(|answer| !answer.is_aside())
    }
}

impl Buf for Queue {
    fn remaining(&self) -> usize {
        self.at_hand().map(|answer| answer.left).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.at_hand().find_map(|answer| answer.slices.front()).map_or(&[], |slice| slice)
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let slices = self.at_hand().flat_map(|answer| &answer.slices);
        dst.iter_mut().zip(slices).map(|(to, slice)| *to = IoSlice::new(slice)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(first) = self.answers.front_mut() else { return };
            let taken = count.min(first.left);
            first.advance(taken);
            count -= taken;
            if first.left == 0 {
                self.answers.pop_front();
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
    use crate::engine::budget::Budget;
    use crate::metrics::Metrics;
    use crate::proxy::session::Endpoint;
    use crate::tasks;

    fn of(pieces: &[&'static str]) -> Vec<Bytes> {
        pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect()
    }

    #[test]
    fn slices_advance_across_their_borders() {
        let mut queue = Queue::default();
        queue.push(Reply { slices: of(&["ab", "", "cde"]), ..Reply::default() });
        queue.push(Reply { slices: of(&["f"]), ..Reply::default() });
        queue.push_piece(Bytes::from_static(b"gh"));
        assert_eq!((queue.remaining(), queue.answers.len()), (8, 2));
        queue.advance(3);
        assert_eq!((queue.remaining(), queue.chunk()), (5, b"de".as_slice()));
        queue.advance(3);
        assert_eq!(queue.chunk(), b"gh");
        queue.advance(2);
        assert!(!queue.is_owed() && queue.chunk().is_empty());
    }

    /// An answer of `bytes` bytes that holds all of the budget, and counts how often it is read.
    async fn large(budget: &Arc<Budget>, bytes: usize, reads: &Arc<AtomicUsize>) -> Reply {
        let share = Arc::new(budget.share(usize::MAX));
        let slices = move || -> Vec<Bytes> {
            (0..bytes >> 10).map(|n| Bytes::from(vec![n as u8; 1 << 10])).collect()
        };
        let room = share.take(usize::MAX).await.ok();
        let reads = Arc::clone(reads);
        let again = Again::new(move || {
            reads.fetch_add(1, Ordering::Relaxed);
            let share = Arc::clone(&share);
            async move { Some((slices(), share.take(usize::MAX).await.ok()?)) }.boxed()
        });
        Reply { slices: slices(), room, again: Some(again) }
    }

    #[tokio::test]
    async fn who_takes_nothing_holds_nothing_and_gets_every_byte_in_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut client, (_, write)) = (client.unwrap(), accepted.unwrap().0.into_split());
        let budget = Budget::new(1 << 20, Arc::default());
        let reads = Arc::new(AtomicUsize::new(0));
        // More than any socket buffer takes.
        const BYTES: usize = 64 << 20;
        let crossing = Crossing::new(&Metrics::default(), Endpoint::Bootstrap);
        let mut out = Out::new(ClientWrite::new(write, Arc::new(crossing)));
        out.push(1, Reply { slices: of(&["before"]), ..Reply::default() });
        out.push(1, large(&budget, BYTES, &reads).await);
        out.push(1, Reply { slices: of(&["after"]), ..Reply::default() });
        assert_eq!(budget.available(), 0);
        let flushed = tasks::spawn("flush", async move { out.flush().await.is_ok() });
        let begun = Instant::now();
        while budget.available() == 0 {
            assert!(begun.elapsed() < HELD_MAX, "it is held for ever");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(reads.load(Ordering::Relaxed), 0, "it is not read before it is wanted");

        let mut taken = vec![0; 6 + BYTES + 5];
        client.read_exact(&mut taken).await.unwrap();
        assert!(taken.starts_with(b"before") && taken.ends_with(b"after"));
        let body = &taken[6..6 + BYTES];
        assert!((0..BYTES).all(|at| body[at] == (at >> 10) as u8), "each byte once, in its place");
        assert!(flushed.await.unwrap());
        assert_eq!((reads.load(Ordering::Relaxed), budget.available()), (1, 1 << 20));
    }
}
