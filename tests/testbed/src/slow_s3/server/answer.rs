//! Responses and their bodies.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Response, StatusCode};
use tokio::time::Sleep;

/// Time in which the first half of a response has to be sent before the connection is closed.
const CUT_PAUSE: Duration = Duration::from_millis(20);

/// The connection is closed without a response.
#[derive(Debug)]
pub(crate) struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is closed by a scripted fault")
    }
}

impl std::error::Error for Closed {}

/// The body of a response: chunks, sent uncopied, all or only half of them.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    chunks: VecDeque<Bytes>,
    /// Announced bytes that are not sent yet; more than the chunks have when the body is truncated.
    left: u64,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Answer {
    pub(crate) fn of(chunks: Vec<Bytes>) -> Self {
        let left = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self { chunks: chunks.into(), left, pause: None }
    }

    /// Returns how many bytes it announces.
    pub(crate) fn len(&self) -> u64 {
        self.left
    }

    /// Ends the body and its connection after half of the announced bytes.
    pub(crate) fn cut(&mut self) {
        let mut room = (self.left / 2) as usize;
        for chunk in &mut self.chunks {
            chunk.truncate(room);
            room -= chunk.len();
        }
        self.chunks.retain(|chunk| !chunk.is_empty());
    }

    /// Flips a bit of the byte in the middle.
    pub(crate) fn corrupt(&mut self) {
        let middle = self.chunks.len() / 2;
        if let Some(chunk) = self.chunks.get_mut(middle).filter(|chunk| !chunk.is_empty()) {
            let mut bytes = chunk.to_vec();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            *chunk = bytes.into();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Closed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Closed>>> {
        if let Some(chunk) = self.chunks.pop_front() {
            self.left -= chunk.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if self.left == 0 {
            return Poll::Ready(None);
        }
        // What was written so far is flushed meanwhile.
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(CUT_PAUSE)));
        ready!(pause.as_mut().poll(cx));
        Poll::Ready(Some(Err(Closed)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Returns a response with a status and a text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Answer> {
    let mut response = Response::new(Answer::of(vec![text.into()]));
    *response.status_mut() = status;
    response
}

/// Returns an error in S3's XML.
pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Response<Answer> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <Error><Code>{}</Code><Message>{}</Message></Error>",
        escape(code),
        escape(message)
    );
    text(status, xml)
}

/// Escapes text for XML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
