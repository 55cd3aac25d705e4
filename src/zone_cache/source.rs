//! Reads objects through the zone: from the peer that owns them, else from the store.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{PeerClient, PeerFailure};
use super::protocol::RANGE_BYTES_MAX;
use super::ring::{Owner, Peer, PeerRing};
use crate::clock::WallClock;
use crate::engine::cache::ObjectSource;
use crate::log::ids::ObjectId;
use crate::metrics::{Metrics, PeerOutcome};
use crate::store::StoreError;

/// Time after which a peer that has not started to respond is hedged with a read from the store.
const HEDGE_AFTER: Duration = Duration::from_millis(300);
/// Deadline of a peer's response.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads from the zone's peers in preference to object storage.
#[derive(Debug)]
pub struct ZoneSource {
    ring: Arc<PeerRing>,
    store: Arc<dyn ObjectSource>,
    client: PeerClient,
    clock: Arc<dyn WallClock>,
    metrics: Arc<Metrics>,
}

impl ZoneSource {
    /// Creates a source that falls back to `store`, which must query no peer.
    ///
    /// # Errors
    /// Fails if the HTTP client cannot be created.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(
        ring: Arc<PeerRing>,
        store: Arc<dyn ObjectSource>,
        clock: Arc<dyn WallClock>,
        metrics: Arc<Metrics>,
    ) -> reqwest::Result<Self> {
        Ok(Self { ring, store, client: PeerClient::new()?, clock, metrics })
    }

    async fn read_from(
        &self,
        peer: &Peer,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let deadline = Instant::now() + PEER_TIMEOUT;
        let head = self.client.ask(peer, object, &range, self.clock.now_ms());
        let mut head = std::pin::pin!(head);
        tokio::select! {
            head = &mut head => {
                let body = async { PeerClient::body(head?, &range).await };
                match before(deadline, body).await {
                    Ok(bytes) => return Ok(self.record_success(PeerOutcome::ok, bytes)),
                    Err(failure) => self.record_failure(peer, &failure),
                }
                return self.store.read(object, range.clone()).await;
            }
            () = sleep(HEDGE_AFTER) => {}
        }
        let late = async { PeerClient::body(head.await?, &range).await };
        let mut late = std::pin::pin!(before(deadline, late));
        let mut stored = self.store.read(object, range.clone());
        tokio::select! {
            late = &mut late => match late {
                Ok(bytes) => Ok(self.record_success(PeerOutcome::late, bytes)),
                Err(failure) => {
                    self.record_failure(peer, &failure);
                    stored.await
                }
            },
            read = &mut stored => match (read, &mut late) {
                (Ok(bytes), _) => {
                    let detail = "the store responded first".to_owned();
                    self.record_failure(peer, &PeerFailure { outcome: PeerOutcome::slow, detail });
                    Ok(bytes)
                }
                (Err(error), late) => match late.await {
                    Ok(bytes) => Ok(self.record_success(PeerOutcome::late, bytes)),
                    Err(failure) => {
                        self.record_failure(peer, &failure);
                        Err(error)
                    }
                },
            },
        }
    }

    fn record_success(&self, outcome: PeerOutcome, bytes: Bytes) -> Bytes {
        self.metrics.fetch.peer_request(outcome);
        self.metrics.fetch.peer_bytes.inc_by(bytes.len() as u64);
        if outcome == PeerOutcome::ok {
            self.metrics.fetch.gets_avoided.inc();
        }
        bytes
    }

    fn record_failure(&self, peer: &Peer, failure: &PeerFailure) {
        let (outcome, detail) = (failure.outcome, &failure.detail);
        tracing::warn!(
            peer = peer.address,
            ?outcome,
            detail,
            "peer failed; circuit breaker opened"
        );
        self.metrics.fetch.peer_request(outcome);
        self.ring.open_circuit(peer);
    }
}

/// Awaits a response until `deadline`.
async fn before(
    deadline: Instant,
    response: impl Future<Output = Result<Bytes, PeerFailure>>,
) -> Result<Bytes, PeerFailure> {
    timeout_at(deadline, response).await.unwrap_or_else(|_| {
        let detail = format!("no response within {PEER_TIMEOUT:?}");
        Err(PeerFailure { outcome: PeerOutcome::slow, detail })
    })
}

#[async_trait]
impl ObjectSource for ZoneSource {
    fn is_local_owner(&self, object: ObjectId) -> bool {
        matches!(self.ring.owner(object), Owner::Local)
    }

    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.end.saturating_sub(range.start) > RANGE_BYTES_MAX {
            return self.store.read(object, range).await;
        }
        match self.ring.owner(object) {
            Owner::Local => {}
            Owner::CircuitOpen => self.metrics.fetch.peer_request(PeerOutcome::circuit_open),
            Owner::Peer(peer) => return self.read_from(&peer, object, range).await,
        }
        self.store.read(object, range).await
    }
}
