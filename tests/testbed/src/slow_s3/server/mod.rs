//! The server: a connection's requests, one after the other, each with its latency and its fault.
//!
//! Everything runs on one thread, in a `LocalSet`.

mod answer;
mod call;
mod control;
mod counters;
mod faults;
mod latency;
mod objects;
mod verbs;

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
pub(crate) use call::Verb;
use counters::{Counters, Hang, Tally};
use faults::{Faults, Outcome, Rule};
pub(crate) use latency::Latency;
use objects::Objects;

/// What it is started with.
#[derive(Debug)]
pub(crate) struct Options {
    /// How many bytes of objects are kept; None: all.
    pub(crate) keep_bytes: Option<u64>,
    latencies: [Latency; 5],
    seed: u64,
}

impl Options {
    /// As fast as can be, and everything kept.
    pub(crate) fn new(seed: u64) -> Self {
        Self { keep_bytes: None, latencies: [Latency::default(); 5], seed }
    }

    /// How long calls of a verb take.
    pub(crate) fn set_latency(&mut self, verb: Verb, latency: Latency) {
        self.latencies[verb as usize] = latency;
    }
}

/// What all connections share.
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

    /// Serves until it is dropped.
    pub(crate) async fn serve(self: Rc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::task::spawn_local(Rc::clone(&self).connection(stream));
                }
                // Out of descriptors, most likely: others will be given back.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn connection(self: Rc<Self>, stream: TcpStream) {
        // Without it a small answer waits for the client's delayed ack; and it is no loss if not.
        let _ = stream.set_nodelay(true);
        let serve = service_fn(move |request| Rc::clone(&self).respond(request));
        // How a connection ends is the client's affair, or was scripted.
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
            let message = "slow-s3 knows PUT, GET, HEAD, DELETE and ListObjectsV2";
            return Ok(answer::error(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message));
        };
        let rule = self.faults.take(&call);
        let tally = Tally::begin(&self.counters, call.verb);
        let outcome = rule.as_ref().and_then(|rule| rule.effect.outcome.as_ref());
        if outcome == Some(&Outcome::Refuse) {
            return Err(Closed);
        }
        let half = outcome == Some(&Outcome::Partial) && call.verb == Verb::Put;
        let bytes_max = if half { call.content_length / 2 } else { u64::MAX };
        let body = read(body, bytes_max).await?;
        // A task of its own: what arrived whole happens, though the client gives up meanwhile.
        let performed = tokio::task::spawn_local(self.perform(call, body, rule, tally));
        performed.await.unwrap_or(Err(Closed))
    }

    /// Everything that follows once a request has been read.
    async fn perform(
        self: Rc<Self>,
        call: Call,
        body: Vec<Bytes>,
        rule: Option<Rc<Rule>>,
        mut tally: Tally,
    ) -> Result<Response<Answer>, Closed> {
        let latency = self.latencies[call.verb as usize].get();
        let latency = latency.draw(&mut self.rng.borrow_mut());
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let effect = rule.as_ref().map(|rule| rule.effect.clone()).unwrap_or_default();
        if let Some(rule) = &rule {
            hang(rule, &tally, Hang::Before, effect.hang_before).await;
        }
        if let Some(Outcome::Status(status, code)) = &effect.outcome {
            tally.answered(*status);
            return Ok(answer::error(*status, code, "scripted"));
        }
        let mut response = self.act(call, body, &effect, &mut tally);
        if let Some(rule) = &rule {
            hang(rule, &tally, Hang::After, effect.hang_after).await;
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
        tally.answered(response.status());
        Ok(response)
    }
}

async fn hang(rule: &Rule, tally: &Tally, place: Hang, length: Duration) {
    if !length.is_zero() {
        tally.hangs(place, true);
        rule.hang(length).await;
        tally.hangs(place, false);
    }
}

/// Reads a body; with more than `bytes_max` of it the connection is to be closed.
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
