//! Asks one peer.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use crc_fast::crc32_iscsi;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::protocol::{CHECKSUM_BYTES, IDLE_MAX};
use super::ring::Peer;
use crate::log::ids::ObjectId;
use crate::metrics::PeerOutcome;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_CONNECTIONS: usize = 16;

/// Why a peer's answer is of no use; for the log.
#[derive(Debug)]
pub(super) struct PeerFailure {
    pub(super) outcome: PeerOutcome,
    pub(super) detail: String,
}

impl PeerFailure {
    fn broken(error: &dyn std::error::Error) -> Self {
        let mut detail = error.to_string();
        if let Some(source) = error.source() {
            detail = format!("{detail}: {source}");
        }
        Self { outcome: PeerOutcome::failed, detail }
    }

    fn damaged(detail: &str) -> Self {
        Self { outcome: PeerOutcome::corrupt, detail: detail.to_owned() }
    }
}

/// Connections to peers, pooled.
#[derive(Debug)]
pub(super) struct PeerClient(legacy::Client<HttpConnector, Empty<Bytes>>);

impl PeerClient {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(connector);
        Self(http)
    }

    /// The head of the answer: from then on the peer is known to be at work on it.
    pub(super) async fn ask(
        &self,
        peer: &Peer,
        object: ObjectId,
        range: &Range<u64>,
        now_ms: i64,
    ) -> Result<Response<Incoming>, PeerFailure> {
        let target = format!("/objects/{object}?start={}&end={}", range.start, range.end);
        let mut request = Request::new(Empty::new());
        *request.headers_mut() = peer.key.sign(&Method::GET, &target, now_ms);
        let uri = format!("http://{}{target}", peer.address).parse();
        *request.uri_mut() = uri.map_err(|error| PeerFailure::broken(&error))?;
        let answer = self.0.request(request).await.map_err(|error| PeerFailure::broken(&error))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            status => {
                let detail = status.to_string();
                Err(PeerFailure { outcome: PeerOutcome::rejected, detail })
            }
        }
    }

    /// The body, whole and as the peer sent it.
    pub(super) async fn body(
        answer: Response<Incoming>,
        range: &Range<u64>,
    ) -> Result<Bytes, PeerFailure> {
        let mut body = answer.into_body();
        let room = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let most = room.saturating_add(CHECKSUM_BYTES);
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| PeerFailure::broken(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > most {
                return Err(PeerFailure::damaged("more bytes than were asked for"));
            }
            if bytes.is_empty() {
                bytes.reserve(most);
            }
            bytes.extend_from_slice(&data);
        }
        let mut bytes = bytes.freeze();
        if bytes.len() < CHECKSUM_BYTES {
            return Err(PeerFailure::damaged("no checksum"));
        }
        match bytes.get_u32() == crc32_iscsi(&bytes) {
            true => Ok(bytes),
            false => Err(PeerFailure::damaged("the checksum is of other bytes")),
        }
    }
}
