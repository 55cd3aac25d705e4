//! The client of the zone cache: reads an object from one peer.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use crc_fast::crc32_iscsi;
use reqwest::{Method, Response, StatusCode, redirect};

use super::protocol::{CHECKSUM_BYTES, IDLE_MAX, LEASE_TARGET};
use super::ring::Peer;
use crate::log::ids::ObjectId;
use crate::metrics::PeerOutcome;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_CONNECTIONS: usize = 16;

/// A failed request to a peer: its outcome for the metrics, and a detail for the log.
#[derive(Debug)]
pub(super) struct PeerFailure {
    pub(super) outcome: PeerOutcome,
    pub(super) detail: String,
}

impl PeerFailure {
    fn broken(error: &dyn std::error::Error) -> Self {
        let mut detail = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            detail = format!("{detail}: {cause}");
            source = cause.source();
        }
        Self { outcome: PeerOutcome::failed, detail }
    }

    fn damaged(detail: &str) -> Self {
        Self { outcome: PeerOutcome::corrupt, detail: detail.to_owned() }
    }
}

/// Pooled connections to peers.
#[derive(Debug)]
pub(super) struct PeerClient(reqwest::Client);

impl PeerClient {
    /// Creates a client without connections.
    ///
    /// # Errors
    /// Fails if the TLS backend cannot be initialised.
    pub(super) fn new() -> reqwest::Result<Self> {
        let http = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .tcp_nodelay(true)
            .tcp_keepalive(None)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build()?;
        Ok(Self(http))
    }

    /// Sends a request and returns the head of the response; the peer is then reading the object.
    ///
    /// # Errors
    /// Fails if the peer cannot be reached or responds with another status than 200.
    pub(super) async fn ask(
        &self,
        peer: &Peer,
        object: ObjectId,
        range: &Range<u64>,
        now_ms: i64,
    ) -> Result<Response, PeerFailure> {
        let target = format!("/objects/{object}?start={}&end={}", range.start, range.end);
        self.get(peer, &target, now_ms).await
    }

    /// Returns the time since the coordinator last responded to a peer.
    ///
    /// # Errors
    /// Fails if the peer cannot be reached or does not know it.
    pub(super) async fn renewal_age(
        &self,
        peer: &Peer,
        now_ms: i64,
    ) -> Result<Duration, PeerFailure> {
        let mut answer = self.get(peer, LEASE_TARGET, now_ms).await?;
        let body = answer.chunk().await.map_err(|error| PeerFailure::broken(&error))?;
        let micros = body.and_then(|body| std::str::from_utf8(&body).ok()?.parse().ok());
        micros
            .map(Duration::from_micros)
            .ok_or_else(|| PeerFailure::damaged("the age of the renewal is not a number"))
    }

    async fn get(&self, peer: &Peer, target: &str, now_ms: i64) -> Result<Response, PeerFailure> {
        let signature = peer.key.sign(&Method::GET, target, now_ms);
        let request = self.0.get(format!("http://{}{target}", peer.address)).headers(signature);
        let answer = request.send().await.map_err(|error| PeerFailure::broken(&error))?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            status => {
                let detail = status.to_string();
                Err(PeerFailure { outcome: PeerOutcome::rejected, detail })
            }
        }
    }

    /// Reads the whole body of a response and verifies its checksum.
    ///
    /// # Errors
    /// Fails if the connection breaks, the body is longer than `range`, or the checksum differs.
    pub(super) async fn body(
        mut answer: Response,
        range: &Range<u64>,
    ) -> Result<Bytes, PeerFailure> {
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let most = length.saturating_add(CHECKSUM_BYTES);
        let mut bytes = BytesMut::new();
        let broken = |error: reqwest::Error| PeerFailure::broken(&error);
        while let Some(data) = answer.chunk().await.map_err(broken)? {
            if bytes.len() + data.len() > most {
                return Err(PeerFailure::damaged("the body is longer than the requested range"));
            }
            if bytes.is_empty() {
                bytes.reserve(most);
            }
            bytes.extend_from_slice(&data);
        }
        let mut bytes = bytes.freeze();
        if bytes.len() < CHECKSUM_BYTES {
            return Err(PeerFailure::damaged("the body has no checksum"));
        }
        match bytes.get_u32() == crc32_iscsi(&bytes) {
            true => Ok(bytes),
            false => Err(PeerFailure::damaged("the checksum does not match")),
        }
    }
}
