//! This replica's lease, what it hears of the others by it, and the zone cache.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::RETRY_DELAY;
use super::backends::OpenedCoordinator;
use super::membership_view::MembershipView;
use crate::config::Settings;
use crate::coordinator::{Attachment, Coordinator, Member, Membership};
use crate::engine::Components;
use crate::engine::cache::{ObjectCache, ObjectSource, StoreSource};
use crate::entropy::Entropy;
use crate::metrics::Metrics;
use crate::proxy::listener::Listeners;
use crate::proxy::topology::SharedTopology;
use crate::tasks;
use crate::zone_cache::{PeerRing, PeerServer, ZoneSource};

/// How long a replica counts as alive after it was last heard of.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(6);
/// Between two renewals, more or less: one that takes its whole time may fail before the lease
/// ends.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(2);
/// Added at random, so that replicas that started together do not renew in step.
const JITTER_MS: u64 = 250;
/// How long a drain waits for the lease's end; after that it ends by itself.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// So long after a lease was ended everybody has heard of it: one renewal and a moment.
pub(super) const LEAVE_PROPAGATION: Duration = Duration::from_millis(3_250);

/// What this replica tells others of itself.
pub(super) fn member(
    settings: &Settings,
    attachment: &Attachment,
    opened: &OpenedCoordinator,
) -> Member {
    Member {
        replica: settings.replica.clone(),
        incarnation: opened.incarnation,
        process_id: opened.process_id,
        zone: attachment.zone_index,
        zone_name: settings.zone.clone(),
        peer: settings.peers.as_ref().map(crate::config::PeerSettings::address),
        advertised_host: settings.listeners.advertised_host.clone(),
        node_ports: settings.listeners.node_ports,
        broker_ports: settings.listeners.broker_ports,
        nodes: match settings.writer {
            true => settings.diskless.nodes_per_zone.into(),
            false => 0,
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        settings: settings.digest(),
    }
}

/// The objects, read through the zone if there is to be a port for peers.
pub(super) async fn objects(
    settings: &Settings,
    components: &Components,
    zone: &Arc<PeerRing>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Arc<ObjectCache>> {
    let store: Arc<dyn ObjectSource> = Arc::new(StoreSource(Arc::clone(&components.store)));
    let cache_bytes = settings.memory.cache;
    let Some(peers) = &settings.peers else {
        return Ok(Arc::new(
            ObjectCache::new(store, cache_bytes).with_metrics(Arc::clone(metrics)),
        ));
    };
    let (bind, clock) = (peers.bind, Arc::clone(&components.clock));
    // Before the lease, so that nobody asks in vain.
    let listening = TcpListener::bind(bind).await;
    let listener = listening.with_context(|| format!("peers.bind: cannot listen at {bind}"))?;
    let through = ZoneSource::new(
        Arc::clone(zone),
        Arc::clone(&store),
        Arc::clone(&clock),
        Arc::clone(metrics),
    );
    let objects = ObjectCache::new(Arc::new(through), cache_bytes).with_peer_source(store);
    let objects = Arc::new(objects.with_metrics(Arc::clone(metrics)));
    let server = PeerServer {
        objects: Arc::clone(&objects),
        zone: Arc::clone(zone),
        clock,
        metrics: Arc::clone(metrics),
    };
    Arc::new(server).start(listener);
    Ok(objects)
}

/// What the coordinator said of who is there.
#[derive(Debug)]
pub(super) struct MembershipUpdate {
    /// As it said it.
    pub(super) reported: Membership,
    /// Until when its members' leases hold at least, had they been renewed when it was asked.
    pub(super) valid_until: Instant,
    /// With those whom an outage may have cost their leases.
    pub(super) effective: Membership,
}

/// Whoever wants to know.
#[async_trait]
pub(super) trait MembershipObserver: Send + Sync + Debug {
    async fn observe(&self, update: MembershipUpdate);
}

/// The parts of this replica that want to know.
#[derive(Debug)]
pub(super) struct MembershipSubscribers {
    pub(super) zone: Arc<PeerRing>,
    pub(super) nodes: Arc<SharedTopology>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) metrics: Arc<Metrics>,
    /// The greatest number of nodes that was heard of.
    pub(super) nodes_reported: AtomicU16,
}

#[async_trait]
impl MembershipObserver for MembershipSubscribers {
    async fn observe(&self, update: MembershipUpdate) {
        let me = self.zone.local();
        let own = update.reported.zones.get(usize::from(me.zone)).map_or(0, |zone| zone.nodes);
        if me.hosts() && own > self.nodes_reported.swap(own, Ordering::AcqRel) && own > me.nodes {
            let asked = me.nodes;
            tracing::warn!(
                "diskless.nodesPerZone is {asked} here, and zone {} has {own} nodes, which never \
                 become fewer: {own} are served; write {own}",
                me.zone_name
            );
        }
        // Before anybody is sent there from here.
        if me.hosts()
            && let Err(error) = self.listeners.open_nodes(own.max(me.nodes)).await
        {
            tracing::error!(%error, "a diskless node is not open; others send clients there");
        }
        for (index, zone) in (0..).zip(&update.reported.zones) {
            let here = update.reported.members.iter().filter(|member| member.zone == index);
            self.metrics.clients.members(&zone.name, here.count());
        }
        self.nodes.update(update.effective);
        self.zone.update_membership(update.reported, update.valid_until);
    }
}

/// Renews, and tells what it hears by it.
#[derive(Debug)]
pub(super) struct LeaseRenewer {
    coordinator: Arc<dyn Coordinator>,
    me: Member,
    membership_view: MembershipView,
    observer: Arc<dyn MembershipObserver>,
    entropy: Arc<Entropy>,
    metrics: Arc<Metrics>,
    /// [`Member::settings`], which may change.
    settings: Arc<AtomicU64>,
}

impl LeaseRenewer {
    pub(super) fn new(
        coordinator: Arc<dyn Coordinator>,
        me: Member,
        observer: Arc<dyn MembershipObserver>,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let settings = Arc::new(AtomicU64::new(me.settings));
        Self {
            coordinator,
            me,
            membership_view: MembershipView::default(),
            observer,
            entropy,
            metrics,
            settings,
        }
    }

    /// What is told of the settings from the next renewal on.
    pub(super) fn settings(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.settings)
    }

    /// This replica as it is now.
    fn me(&self) -> Member {
        Member { settings: self.settings.load(Ordering::Relaxed), ..self.me.clone() }
    }

    /// Hears who is there without being counted in, however long the coordinator is away.
    pub(super) async fn read_members(&mut self) {
        let guest = Member { nodes: 0, ..self.me.clone() };
        while self.request(&guest, LEASE_DURATION).await.is_none() {
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Takes the lease, however long the coordinator is away, and keeps it from then on.
    pub(super) async fn acquire(mut self) -> Lease {
        while !self.renew().await {
            tokio::time::sleep(RETRY_DELAY).await;
        }
        let end = CancellationToken::new();
        let ended = end.clone();
        let renewer = tasks::spawn("lease", async move {
            loop {
                let jitter = Duration::from_millis(self.entropy.next_u64() % JITTER_MS);
                tokio::select! {
                    () = tokio::time::sleep(RENEWAL_INTERVAL + jitter) => {
                        self.renew().await;
                    }
                    () = ended.cancelled() => break,
                }
            }
            let me = self.me();
            if me.hosts() && self.request(&me, Duration::ZERO).await.is_none() {
                tracing::warn!("the lease was not ended; it ends by itself");
            }
        });
        Lease { end, renewer }
    }

    async fn renew(&mut self) -> bool {
        let me = self.me();
        let Some(reported) = self.request(&me, LEASE_DURATION).await else { return false };
        self.metrics.coordinator.lease_renewals.inc();
        if me.hosts() && !reported.members.contains(&me) {
            tracing::error!(
                replica = me.replica,
                "another replica has this name and is the newer one, so nobody is sent here; give \
                 each its own `replica`"
            );
        }
        true
    }

    /// What the coordinator told; `None` when it could not be asked.
    async fn request(&mut self, member: &Member, ttl: Duration) -> Option<Membership> {
        // What is heard is as old as the question.
        let valid_until = Instant::now() + LEASE_DURATION;
        match self.coordinator.renew(member, ttl).await {
            Ok(reported) => {
                let effective = self.membership_view.merge(&reported);
                self.observer
                    .observe(MembershipUpdate {
                        reported: reported.clone(),
                        valid_until,
                        effective,
                    })
                    .await;
                Some(reported)
            }
            Err(error) => {
                tracing::warn!(%error, "the lease was not renewed");
                self.membership_view.failed();
                None
            }
        }
    }
}

/// Keeps the lease until it is ended.
#[derive(Debug)]
pub(super) struct Lease {
    end: CancellationToken,
    renewer: JoinHandle<()>,
}

impl Lease {
    /// Tells the others that this replica is gone, while it may still answer them.
    pub(super) async fn end(&mut self) {
        self.end.cancel();
        let _ends_by_itself = timeout(LEAVE_TIMEOUT, &mut self.renewer).await;
    }
}

#[cfg(test)]
mod tests;
