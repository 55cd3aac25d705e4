//! Serves objects of this replica to authenticated peers.

use std::convert::Infallible;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crc_fast::crc32_iscsi;
use futures::StreamExt as _;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::auth::PeerKey;
use super::protocol::{IDLE_MAX, LEASE_TARGET, RANGE_BYTES_MAX};
use super::ring::PeerRing;
use crate::accept::Connections;
use crate::clock::WallClock;
use crate::engine::cache::ObjectCache;
use crate::log::ids::ObjectId;
use crate::metrics::Metrics;
use crate::store::StoreError;

/// Connections served at once; further ones wait.
const CONNECTIONS_MAX: usize = 256;
/// Deadline of a request's head, including the idle time before it: longer than the client keeps an
/// idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10).saturating_add(IDLE_MAX);

type Body = UnsyncBoxBody<Bytes, StoreError>;

/// HTTP server for peers.
#[derive(Debug)]
pub struct PeerServer {
    /// Cache and source of the objects.
    pub cache: Arc<ObjectCache>,
    /// Ring whose key authenticates requests.
    pub ring: Arc<PeerRing>,
    /// Clock against which the age of requests is checked.
    pub clock: Arc<dyn WallClock>,
    /// Metrics in which rejected requests are counted.
    pub metrics: Arc<Metrics>,
}

impl PeerServer {
    /// Serves until the process ends.
    pub fn start(self: Arc<Self>, listener: TcpListener) {
        // Never cancelled: peers read objects of this replica until the process ends.
        let connections = Connections::new(CONNECTIONS_MAX, CancellationToken::new());
        connections.accept("peers", listener, move |stream, _| {
            let server = Arc::clone(&self);
            async move {
                if let Err(error) = server.serve(stream).await {
                    tracing::debug!(%error, "peer connection failed");
                }
            }
        });
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) -> Result<(), io::Error> {
        stream.set_nodelay(true)?;
        let service = service_fn(move |request| {
            let response = self.respond(&request);
            std::future::ready(Ok::<_, Infallible>(response))
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(io::Error::other)
    }

    /// Responds with the head immediately, which tells the client that the peer is working; the body
    /// follows when the bytes are available, and ends early if they are not.
    fn respond(&self, request: &Request<Incoming>) -> Response<Body> {
        let (method, uri, now_ms) = (request.method(), request.uri(), self.clock.now_ms());
        let is_peer = |key: &PeerKey| key.verify(method, uri, request.headers(), now_ms);
        if !self.ring.key().as_ref().is_some_and(is_peer) {
            self.metrics.fetch.peer_rejected_requests.inc();
            return rejection(StatusCode::UNAUTHORIZED);
        }
        if method == Method::GET && uri.path() == LEASE_TARGET {
            return self.respond_renewal_age();
        }
        let requested = (method == Method::GET).then(|| parse_target(uri)).flatten();
        let Some((object, range)) = requested else { return rejection(StatusCode::NOT_FOUND) };
        if range.end.saturating_sub(range.start) > RANGE_BYTES_MAX {
            return rejection(StatusCode::BAD_REQUEST);
        }
        let cache = Arc::clone(&self.cache);
        let read = async move {
            match cache.read_for_peer(object, range).await {
                Ok(bytes) => {
                    let checksum = Bytes::copy_from_slice(&crc32_iscsi(&bytes).to_be_bytes());
                    vec![Ok(Frame::data(checksum)), Ok(Frame::data(bytes))]
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot read an object for a peer");
                    vec![Err(error)]
                }
            }
        };
        let frames = stream::once(read).flat_map(stream::iter);
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

impl PeerServer {
    /// Responds with the microseconds, rounded up, since this replica sent the last renewal to which
    /// the coordinator responded.
    fn respond_renewal_age(&self) -> Response<Body> {
        let Some(age) = self.ring.renewal_age() else {
            return rejection(StatusCode::SERVICE_UNAVAILABLE);
        };
        let body = Full::from((age.as_micros() + 1).to_string());
        Response::new(body.map_err(|never: Infallible| match never {}).boxed_unsync())
    }
}

/// Returns a response with an empty body.
fn rejection(status: StatusCode) -> Response<Body> {
    let empty = Empty::new().map_err(|never: Infallible| match never {});
    let mut response = Response::new(empty.boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Parses `/objects/{id}?start=..&end=..`.
fn parse_target(uri: &Uri) -> Option<(ObjectId, Range<u64>)> {
    let object = ObjectId::parse(uri.path().strip_prefix("/objects/")?)?;
    let (start, end) = uri.query()?.split_once('&')?;
    let start = start.strip_prefix("start=")?.parse().ok()?;
    let end = end.strip_prefix("end=")?.parse().ok()?;
    (start < end).then_some((object, start..end))
}
