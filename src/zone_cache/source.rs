//! Reads objects from the zone: from a peer that has them or whose they are to read, or the store.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::RANGE_BYTES_MAX;
use super::client::{PeerClient, PeerFailure};
use super::ring::{Owner, Peer, PeerRing};
use crate::clock::WallClock;
use crate::engine::cache::ObjectSource;
use crate::log::ids::ObjectId;
use crate::metrics::{Metrics, PeerOutcome};
use crate::store::StoreError;

/// A peer that has not begun to answer by then gets the store beside it.
const HEAD_MAX: Duration = Duration::from_millis(300);
/// A peer that has not answered by then is given up.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The zone's memory before object storage.
#[derive(Debug)]
pub struct ZoneSource {
    zone: Arc<PeerRing>,
    store: Arc<dyn ObjectSource>,
    client: PeerClient,
    clock: Arc<dyn WallClock>,
    metrics: Arc<Metrics>,
}

impl ZoneSource {
    /// `store` is the way out when no peer helps; it must ask none. Must be made inside a Tokio
    /// runtime.
    pub fn new(
        zone: Arc<PeerRing>,
        store: Arc<dyn ObjectSource>,
        clock: Arc<dyn WallClock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { zone, store, client: PeerClient::new(), clock, metrics }
    }

    async fn read_from(
        &self,
        peer: &Peer,
        object: ObjectId,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let deadline = Instant::now() + ANSWER_MAX;
        let head = self.client.ask(peer, object, &range, self.clock.now_ms());
        let mut head = std::pin::pin!(head);
        tokio::select! {
            head = &mut head => {
                let body = async { PeerClient::body(head?, &range).await };
                match in_time(deadline, body).await {
                    Ok(bytes) => return Ok(self.took(PeerOutcome::ok, bytes)),
                    Err(failure) => self.failed(peer, &failure),
                }
                return self.store.read(object, range.clone()).await;
            }
            () = sleep(HEAD_MAX) => {}
        }
        let late = async { PeerClient::body(head.await?, &range).await };
        let mut late = std::pin::pin!(in_time(deadline, late));
        let mut stored = self.store.read(object, range.clone());
        tokio::select! {
            late = &mut late => match late {
                Ok(bytes) => Ok(self.took(PeerOutcome::late, bytes)),
                Err(failure) => {
                    self.failed(peer, &failure);
                    stored.await
                }
            },
            read = &mut stored => match (read, &mut late) {
                (Ok(bytes), _) => {
                    let detail = "the store was faster".to_owned();
                    self.failed(peer, &PeerFailure { outcome: PeerOutcome::slow, detail });
                    Ok(bytes)
                }
                (Err(error), late) => match late.await {
                    Ok(bytes) => Ok(self.took(PeerOutcome::late, bytes)),
                    Err(failure) => {
                        self.failed(peer, &failure);
                        Err(error)
                    }
                },
            },
        }
    }

    fn took(&self, outcome: PeerOutcome, bytes: Bytes) -> Bytes {
        self.metrics.fetch.peer_request(outcome);
        self.metrics.fetch.peer_bytes.inc_by(bytes.len() as u64);
        if outcome == PeerOutcome::ok {
            self.metrics.fetch.gets_avoided.inc();
        }
        bytes
    }

    fn failed(&self, peer: &Peer, failure: &PeerFailure) {
        let (outcome, detail) = (failure.outcome, &failure.detail);
        tracing::warn!(peer = peer.address, ?outcome, detail, "a peer is left alone for a while");
        self.metrics.fetch.peer_request(outcome);
        self.zone.open_circuit(peer);
    }
}

async fn in_time(
    deadline: Instant,
    answer: impl Future<Output = Result<Bytes, PeerFailure>>,
) -> Result<Bytes, PeerFailure> {
    timeout_at(deadline, answer).await.unwrap_or_else(|_| {
        let detail = format!("no answer within {ANSWER_MAX:?}");
        Err(PeerFailure { outcome: PeerOutcome::slow, detail })
    })
}

#[async_trait]
impl ObjectSource for ZoneSource {
    fn is_local_owner(&self, object: ObjectId) -> bool {
        matches!(self.zone.owner(object), Owner::Local)
    }

    async fn read(&self, object: ObjectId, range: Range<u64>) -> Result<Bytes, StoreError> {
        if range.end.saturating_sub(range.start) > RANGE_BYTES_MAX {
            return self.store.read(object, range).await;
        }
        match self.zone.owner(object) {
            Owner::Local => {}
            Owner::CircuitOpen => self.metrics.fetch.peer_request(PeerOutcome::circuit_open),
            Owner::Peer(peer) => return self.read_from(&peer, object, range).await,
        }
        self.store.read(object, range).await
    }
}
