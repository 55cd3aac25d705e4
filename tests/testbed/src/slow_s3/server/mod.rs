//! The server: handles the requests of a connection one after the other, each with its latency and
//! its fault.
//!
//! Everything runs on one thread, in a `LocalSet`.

mod answer;
mod call;
mod control;
mod counters;
mod faults;
mod latency;
mod objects;
mod operations;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::net::{TcpListener, TcpStream};

use answer::{Answer, Closed};
use call::Call;
pub(crate) use call::Operation;
use counters::{CallRecord, Counters, Hang};
use faults::{Faults, Outcome, Rule};
pub(crate) use latency::Latency;
use objects::Objects;

/// The settings of a server.
#[derive(Debug)]
pub(crate) struct Options {
    /// Bytes of objects that are kept; `None`: all.
    pub(crate) keep_bytes: Option<u64>,
    latencies: [Latency; 5],
    seed: u64,
}

impl Options {
    /// Returns settings without latency that keep everything.
    pub(crate) fn new(seed: u64) -> Self {
        Self { keep_bytes: None, latencies: [Latency::default(); 5], seed }
    }

    /// Sets the latency of an operation.
    pub(crate) fn set_latency(&mut self, operation: Operation, latency: Latency) {
        self.latencies[operation as usize] = latency;
    }
}

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    objects: RefCell<Objects>,
    latencies: [Cell<Latency>; 5],
    rng: RefCell<StdRng>,
    faults: Faults,
    counters: Rc<Counters>,
}

impl Server {
    pub(crate) fn new(options: Options) -> Rc<Self> {
        Rc::new(Self {
            objects: RefCell::new(Objects::new(options.keep_bytes)),
            latencies: options.latencies.map(Cell::new),
            rng: RefCell::new(StdRng::seed_from_u64(options.seed)),
            faults: Faults::default(),
            counters: Rc::default(),
        })
    }

    /// Serves connections until the future is dropped.
    pub(crate) async fn serve(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::task::spawn_local(Rc::clone(&self).connection(stream));
                }
                // Most likely out of file descriptors; others will be closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn connection(self: Rc<Self>, stream: TcpStream) {
        // Otherwise a small response waits for the client's delayed ack. A failure only costs time.
        let _ = stream.set_nodelay(true);
        let serve = service_fn(move |request| Rc::clone(&self).respond(request));
        // Connections end by the client or by a scripted fault.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), serve)
            .await;
    }

    async fn respond(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Answer>, Closed> {
        if let Some(path) = request.uri().path().strip_prefix("/_control/") {
            return Ok(self.control(path, request.uri()));
        }
        let (head, body) = request.into_parts();
        let Some(call) = Call::of(&head) else {
            let message = "slow-s3 supports PUT, GET, HEAD, DELETE and ListObjectsV2";
            return Ok(answer::error(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message));
        };
        let rule = self.faults.take(&call);
        let record = CallRecord::begin(&self.counters, call.operation, &call.key);
        let outcome = rule.as_ref().and_then(|rule| rule.effect.outcome.as_ref());
        if outcome == Some(&Outcome::Refuse) {
            return Err(Closed);
        }
        let half = outcome == Some(&Outcome::Partial) && call.operation == Operation::Put;
        let bytes_max = if half { call.content_length / 2 } else { u64::MAX };
        let body = read(body, bytes_max).await?;
        // A task of its own: a complete request takes effect even when its client gives up.
        let performed = tokio::task::spawn_local(self.perform(call, body, rule, record));
        performed.await.unwrap_or(Err(Closed))
    }

    /// Performs a call once its request has been read.
    async fn perform(
        self: Rc<Self>,
        call: Call,
        body: Vec<Bytes>,
        rule: Option<Rc<Rule>>,
        mut record: CallRecord,
    ) -> Result<Response<Answer>, Closed> {
        let latency = self.latencies[call.operation as usize].get();
        let latency = latency.draw(&mut self.rng.borrow_mut());
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let effect = rule.as_ref().map(|rule| rule.effect.clone()).unwrap_or_default();
        if let Some(rule) = &rule {
            hang(rule, &record, Hang::Before, effect.hang_before).await;
        }
        if let Some(Outcome::Status(status, code)) = &effect.outcome {
            record.answered(*status);
            return Ok(answer::error(*status, code, "scripted"));
        }
        let mut response = self.act(call, body, &effect, &mut record);
        if let Some(rule) = &rule {
            hang(rule, &record, Hang::After, effect.hang_after).await;
        }
        match effect.outcome {
            Some(Outcome::Lost) => return Err(Closed),
            Some(Outcome::Partial) => {
                response.body_mut().cut();
                return Ok(response);
            }
            Some(Outcome::Corrupt) => response.body_mut().corrupt(),
            _ => {}
        }
        record.answered(response.status());
        Ok(response)
    }
}

async fn hang(rule: &Rule, record: &CallRecord, place: Hang, length: Duration) {
    if !length.is_zero() {
        record.hangs(place, true);
        rule.hang(length).await;
        record.hangs(place, false);
    }
}

/// Reads a body; fails when it has `bytes_max` bytes or more.
async fn read(mut body: Incoming, bytes_max: u64) -> Result<Vec<Bytes>, Closed> {
    let (mut chunks, mut len) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|_broken| Closed)?.into_data() else { continue };
        len += chunk.len() as u64;
        if len > bytes_max {
            return Err(Closed);
        }
        chunks.push(chunk);
    }
    if len >= bytes_max { Err(Closed) } else { Ok(chunks) }
}
