//! Decides whether clients are sent away from this replica because the coordinator responds to the
//! other replicas of its zone, and not to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::coordinator::CoordinatorError;
use crate::engine::fetch::LongPolls;
use crate::proxy::routing::topology::SharedTopology;
use crate::tasks;
use crate::zone_cache::ZoneHosts;

/// Consecutive renewals that must have failed …
const FAILURES_MIN: u32 = 2;
/// … and the time since the last successful one was sent.
const SILENCE_MIN: Duration = Duration::from_secs(3);
/// Consecutive renewals that must have succeeded before the nodes return.
const SUCCESSES_MIN: u32 = 2;

/// The results of the last renewals of the lease.
#[derive(Clone, Debug, Default)]
pub(super) struct RenewalHistory {
    /// Consecutive failures up to the last renewal.
    pub(super) failures: u32,
    /// Consecutive successes up to the last renewal.
    successes: u32,
    /// When the last successful renewal was sent.
    renewed_at: Option<Instant>,
    /// When the first of the consecutive failures was known.
    failed_since: Option<Instant>,
    /// One of the failures was a response: the coordinator can be reached, and refuses.
    was_refused: bool,
}

impl RenewalHistory {
    /// Adds the result of a renewal that was sent at `sent`.
    pub(super) fn record(&mut self, sent: Instant, error: Option<&CoordinatorError>) {
        let Some(error) = error else {
            let successes = self.successes.saturating_add(1);
            *self = Self { successes, renewed_at: Some(sent), ..Self::default() };
            return;
        };
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        self.failed_since.get_or_insert_with(Instant::now);
        let is_silent =
            matches!(error, CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_));
        self.was_refused |= !is_silent;
    }

    /// Returns since when no renewal has succeeded, if that may be because the coordinator cannot
    /// be reached.
    fn silent_since(&self) -> Option<Instant> {
        let is_long = self.renewed_at.is_some_and(|at| at.elapsed() >= SILENCE_MIN);
        let is_silent = self.failures >= FAILURES_MIN && is_long && !self.was_refused;
        self.failed_since.filter(|_| is_silent)
    }
}

/// Sends clients away while a replica is cut off alone from a coordinator with `shards` shards, until
/// the renewer is dropped.
pub(super) fn follow(
    renewals: watch::Receiver<RenewalHistory>,
    shards: u16,
    long_polls: &Arc<LongPolls>,
    topology: &Arc<SharedTopology>,
    hosts: ZoneHosts,
) {
    let (long_polls, topology) = (Arc::clone(long_polls), Arc::clone(topology));
    let connectivity = Connectivity { renewals, shards, long_polls, topology, hosts };
    tasks::spawn_critical("connectivity", connectivity.follow());
}

/// Follows the renewals of the lease.
#[derive(Debug)]
struct Connectivity {
    renewals: watch::Receiver<RenewalHistory>,
    shards: u16,
    long_polls: Arc<LongPolls>,
    topology: Arc<SharedTopology>,
    hosts: ZoneHosts,
}

impl Connectivity {
    async fn follow(mut self) {
        let mut is_cut_off = false;
        while self.renewals.changed().await.is_ok() {
            let history = self.renewals.borrow_and_update().clone();
            let next = match is_cut_off {
                true => history.successes < SUCCESSES_MIN,
                false => self.is_cut_off(&history).await,
            };
            if next != is_cut_off {
                log(next);
                is_cut_off = next;
                self.topology.set_cut_off(is_cut_off);
            }
        }
    }

    /// Returns whether the coordinator responds to another host of the zone, and to this replica
    /// for no shard. An outage for all replicas must change nothing: they would send their clients
    /// to each other.
    async fn is_cut_off(&self, history: &RenewalHistory) -> bool {
        let Some(since) = history.silent_since() else { return false };
        self.long_polls.disconnected_shards() >= self.shards
            && self.hosts.any_renewed_since(since).await
    }
}

fn log(is_cut_off: bool) {
    match is_cut_off {
        true => tracing::warn!(
            "the coordinator responds to another replica of the zone and not to this one; clients \
             are sent there"
        ),
        false => tracing::info!("the coordinator responds again; clients return"),
    }
}

#[cfg(test)]
mod tests;
