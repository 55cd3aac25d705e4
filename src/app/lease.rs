//! This replica's lease in the coordinator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::cut_off::RenewalHistory;
use super::membership::{LEASE_DURATION, MembershipUpdate, MembershipView};
use crate::coordinator::{Coordinator, Member, Membership};
use crate::entropy::Entropy;
use crate::metrics::Metrics;
use crate::retry::RetryPolicy;
use crate::tasks;

/// The time between two renewals, without jitter: one that takes its whole time may fail before
/// the lease expires.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(2);
/// The time between a failed renewal and the next one, without jitter.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The greatest jitter of an interval, so that replicas that started together do not renew in step.
const JITTER_MS: u64 = 250;
/// The timeout of a release during a drain; after it the lease expires by itself.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Renews this replica's lease and publishes the members that each renewal reports.
#[derive(Debug)]
pub(super) struct LeaseRenewer {
    coordinator: Arc<dyn Coordinator>,
    me: Member,
    view: MembershipView,
    updates: watch::Sender<Option<MembershipUpdate>>,
    renewals: watch::Sender<RenewalHistory>,
    entropy: Arc<Entropy>,
    metrics: Arc<Metrics>,
    /// [`Member::settings`], which may change.
    settings: Arc<AtomicU64>,
}

impl LeaseRenewer {
    pub(super) fn new(
        coordinator: Arc<dyn Coordinator>,
        me: Member,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let settings = Arc::new(AtomicU64::new(me.settings));
        let (view, updates) = (MembershipView::default(), watch::Sender::new(None));
        let renewals = watch::Sender::new(RenewalHistory::default());
        Self { coordinator, me, view, updates, renewals, entropy, metrics, settings }
    }

    /// Returns a receiver of the latest update; `None` before the first response.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<MembershipUpdate>> {
        self.updates.subscribe()
    }

    /// Returns a receiver of the results of the last renewals.
    pub(super) fn subscribe_renewals(&self) -> watch::Receiver<RenewalHistory> {
        self.renewals.subscribe()
    }

    /// Returns the digest of the settings, which renewals report from the next one on.
    pub(super) fn settings(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.settings)
    }

    /// Returns this replica with the current digest of its settings.
    fn me(&self) -> Member {
        Member { settings: self.settings.load(Ordering::Relaxed), ..self.me.clone() }
    }

    /// Returns this replica as it reads the membership without having a lease.
    fn guest(&self) -> Member {
        Member { nodes: 0, ..self.me.clone() }
    }

    /// Reads the membership without joining it; retries until the coordinator responds.
    pub(super) async fn read_members(&mut self) {
        let guest = self.guest();
        let mut delays = RetryPolicy::STARTUP.delays_without_jitter();
        while self.request(&guest, LEASE_DURATION).await.is_none() {
            delays.wait().await;
        }
    }

    /// Acquires the lease, retrying until the coordinator responds, and renews it from then on.
    pub(super) async fn acquire(mut self) -> Lease {
        let mut delays = RetryPolicy::STARTUP.delays_without_jitter();
        while !self.renew().await {
            delays.wait().await;
        }
        let (end, stop, updates) =
            (CancellationToken::new(), CancellationToken::new(), self.subscribe());
        let (ended, stopped) = (end.clone(), stop.clone());
        let (released, release) = oneshot::channel();
        let renewer = tasks::spawn("lease", async move {
            while self.wait_for_renewal(&ended).await {
                self.renew().await;
            }
            let me = self.me();
            if me.hosts() && self.request(&me, Duration::ZERO).await.is_none() {
                tracing::warn!("cannot release the lease; it expires by itself");
            }
            let _awaited = released.send(());
            // It still commits, and must not be recovered by others.
            let guest = self.guest();
            while self.wait_for_renewal(&stopped).await {
                self.request(&guest, LEASE_DURATION).await;
            }
            self.request(&guest, Duration::ZERO).await;
        });
        Lease { end, stop, release, renewer, updates }
    }

    /// Waits until the next renewal is due; returns false if there is none, because of `end`.
    async fn wait_for_renewal(&self, end: &CancellationToken) -> bool {
        let jitter = Duration::from_millis(self.entropy.next_u64() % JITTER_MS);
        let interval = match self.renewals.borrow().failures {
            0 => RENEWAL_INTERVAL,
            _ => RETRY_INTERVAL,
        };
        tokio::select! {
            () = tokio::time::sleep(interval + jitter) => true,
            () = end.cancelled() => false,
        }
    }

    async fn renew(&mut self) -> bool {
        let me = self.me();
        let Some(reported) = self.request(&me, LEASE_DURATION).await else { return false };
        self.metrics.coordinator.lease_renewals.inc();
        if me.hosts() && !reported.members.contains(&me) {
            tracing::error!(
                replica = me.replica,
                "another replica with this name started later, so no client is sent here; give each \
                 its own `replica`"
            );
        }
        true
    }

    /// Renews the lease of `member` and publishes the response; `None` if the call failed.
    async fn request(&mut self, member: &Member, ttl: Duration) -> Option<Membership> {
        // The response is at least as old as the request.
        let sent = Instant::now();
        let leases_valid_until = sent + LEASE_DURATION;
        let renewed = self.coordinator.renew(member, ttl).await;
        self.renewals.send_modify(|history| history.record(sent, renewed.as_ref().err()));
        match renewed {
            Ok(reported) => {
                let effective = self.view.merge(&reported);
                let update =
                    MembershipUpdate { reported: reported.clone(), leases_valid_until, effective };
                self.updates.send_replace(Some(update));
                Some(reported)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot renew the lease");
                self.view.failed();
                None
            }
        }
    }
}

/// A lease that is renewed until it is released. After that this process still counts as running,
/// until it is stopped.
#[derive(Debug)]
pub(super) struct Lease {
    end: CancellationToken,
    stop: CancellationToken,
    release: oneshot::Receiver<()>,
    renewer: JoinHandle<()>,
    updates: watch::Receiver<Option<MembershipUpdate>>,
}

impl Lease {
    /// Releases the lease, so that the other replicas no longer count this one as a member. It
    /// still serves. Returns the latest effective members, which are those of the release unless
    /// it failed.
    pub(super) async fn end(&mut self) -> Option<Membership> {
        self.end.cancel();
        let _expires_by_itself = timeout(LEAVE_TIMEOUT, &mut self.release).await;
        self.updates.borrow().as_ref().map(|update| update.effective.clone())
    }

    /// Tells the other replicas that this process commits nothing more.
    pub(super) async fn stop(&mut self) {
        self.end.cancel();
        self.stop.cancel();
        let _expires_by_itself = timeout(LEAVE_TIMEOUT, &mut self.renewer).await;
    }
}

/// A lease that cannot be released any more is not renewed either.
impl Drop for Lease {
    fn drop(&mut self) {
        self.end.cancel();
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
