//! Asks other hosts of the zone whether the coordinator responds to them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, timeout};

use super::client::PeerClient;
use super::ring::PeerRing;
use crate::clock::WallClock;

/// Limit of one request.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The other replicas that may host the nodes of this zone.
#[derive(Debug)]
pub struct ZoneHosts {
    ring: Arc<PeerRing>,
    client: PeerClient,
    clock: Arc<dyn WallClock>,
}

impl ZoneHosts {
    /// Creates a client without connections.
    ///
    /// # Errors
    /// Fails if the TLS backend cannot be initialised.
    pub fn new(ring: Arc<PeerRing>, clock: Arc<dyn WallClock>) -> reqwest::Result<Self> {
        Ok(Self { ring, client: PeerClient::new()?, clock })
    }

    /// Returns whether the coordinator has responded to a renewal that another host sent after
    /// `since`. Hosts that do not answer, and those without `peers.bind`, do not count.
    pub async fn any_renewed_since(&self, since: Instant) -> bool {
        let hosts = self.ring.last_known_hosts();
        let ages = hosts.iter().map(|host| async {
            let asked = Instant::now();
            let age = self.client.renewal_age(host, self.clock.now_ms());
            match timeout(TIMEOUT, age).await {
                // The peer's clock is not involved; the request's own time is.
                Ok(Ok(age)) => asked.checked_sub(age).is_some_and(|renewed| renewed > since),
                Ok(Err(failure)) => {
                    tracing::debug!(peer = host.address, detail = failure.detail, "cannot ask");
                    false
                }
                Err(_elapsed) => false,
            }
        });
        join_all(ages).await.contains(&true)
    }
}
