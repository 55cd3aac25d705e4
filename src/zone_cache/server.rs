//! Serves this replica's peers, and nobody else.

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
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::ring::PeerRing;
use super::{IDLE_MAX, RANGE_BYTES_MAX};
use crate::accept::Connections;
use crate::clock::WallClock;
use crate::engine::cache::ObjectCache;
use crate::log::ids::ObjectId;
use crate::metrics::Metrics;
use crate::store::StoreError;

/// Connections at once; of one more the request waits.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may take to send a head, or lie idle: longer than the asking side lets it.
const HEAD_MAX: Duration = Duration::from_secs(10).saturating_add(IDLE_MAX);

type Body = UnsyncBoxBody<Bytes, StoreError>;

/// What peers are served from.
#[derive(Debug)]
pub struct PeerServer {
    /// The bytes.
    pub objects: Arc<ObjectCache>,
    /// Whose secret lets peers in.
    pub zone: Arc<PeerRing>,
    /// The time that requests are held against.
    pub clock: Arc<dyn WallClock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl PeerServer {
    /// Serves for as long as the process lives.
    pub fn start(self: Arc<Self>, listener: TcpListener) {
        // Never cancelled: peers read objects of this replica until the process ends.
        let connections = Connections::new(CONNECTIONS_MAX, CancellationToken::new());
        connections.accept("peers", listener, move |stream, _| {
            let server = Arc::clone(&self);
            async move {
                if let Err(error) = server.serve(stream).await {
                    tracing::debug!(%error, "peer connection");
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
            .header_read_timeout(HEAD_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .await
            .map_err(io::Error::other)
    }

    /// The head goes out at once and says that the peer is at work; the body follows when the
    /// bytes are there, and ends early when they cannot be had.
    fn respond(&self, request: &Request<Incoming>) -> Response<Body> {
        let (method, uri, now_ms) = (request.method(), request.uri(), self.clock.now_ms());
        let is_peer = |key: &super::PeerKey| key.verify(method, uri, request.headers(), now_ms);
        if !self.zone.key().as_ref().is_some_and(is_peer) {
            self.metrics.fetch.peer_rejected_requests.inc();
            return refusal(StatusCode::UNAUTHORIZED);
        }
        let asked = (method == Method::GET).then(|| parse(uri)).flatten();
        let Some((object, range)) = asked else { return refusal(StatusCode::NOT_FOUND) };
        if range.end.saturating_sub(range.start) > RANGE_BYTES_MAX {
            return refusal(StatusCode::BAD_REQUEST);
        }
        let objects = Arc::clone(&self.objects);
        let read = async move {
            match objects.read_for_peer(object, range).await {
                Ok(bytes) => {
                    let checksum = Bytes::copy_from_slice(&crc32_iscsi(&bytes).to_be_bytes());
                    vec![Ok(Frame::data(checksum)), Ok(Frame::data(bytes))]
                }
                Err(error) => {
                    tracing::debug!(%error, "not given to a peer");
                    vec![Err(error)]
                }
            }
        };
        let frames = stream::once(read).flat_map(stream::iter);
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn refusal(status: StatusCode) -> Response<Body> {
    let empty = Empty::new().map_err(|never: Infallible| match never {});
    let mut response = Response::new(empty.boxed_unsync());
    *response.status_mut() = status;
    response
}

/// `/objects/{id}?start=..&end=..`.
fn parse(uri: &Uri) -> Option<(ObjectId, Range<u64>)> {
    let object = ObjectId::parse(uri.path().strip_prefix("/objects/")?)?;
    let (start, end) = uri.query()?.split_once('&')?;
    let start = start.strip_prefix("start=")?.parse().ok()?;
    let end = end.strip_prefix("end=")?.parse().ok()?;
    (start < end).then_some((object, start..end))
}
