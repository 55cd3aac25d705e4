//! The members of the cluster, as far as this replica can know them, and where they are used.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{PeerSettings, Settings};
use crate::coordinator::{Member, Membership};
use crate::metrics::Metrics;
use crate::proxy::listener::Listeners;
use crate::proxy::routing::topology::SharedTopology;
use crate::zone_cache::PeerRing;

/// The time that a member counts as alive after its last renewal.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(6);
/// After this time every other member has observed the end of a lease: one renewal interval with
/// its jitter, and a second.
pub(super) const LEAVE_PROPAGATION: Duration = Duration::from_millis(3_250);

/// Returns this replica as the other members see it.
pub(super) fn member(
    settings: &Settings,
    zone_index: u16,
    incarnation: u64,
    process_id: u32,
) -> Member {
    Member {
        replica: settings.replica.clone(),
        incarnation,
        process_id,
        zone: zone_index,
        zone_name: settings.zone.clone(),
        peer: settings.peers.as_ref().map(PeerSettings::address),
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

/// One response of the coordinator to a renewal.
#[derive(Clone, Debug)]
pub(super) struct MembershipUpdate {
    /// The members and zones that the coordinator reported.
    pub(super) reported: Membership,
    /// The reported leases hold at least until this time, as if they had been renewed when the
    /// request was sent.
    pub(super) leases_valid_until: Instant,
    /// The reported members, and those whose leases an outage of the coordinator may have ended.
    pub(super) effective: Membership,
}

/// The members that are considered alive. An outage of the coordinator ends every lease, and the
/// first replica that renews after it gets no other member reported. So a replica whose renewal
/// failed retains all members until the others had the duration of a lease to renew as well.
#[derive(Debug, Default)]
pub(super) struct MembershipView {
    previous: Vec<Member>,
    was_unreachable: bool,
    retain_until: Option<Instant>,
}

impl MembershipView {
    /// Records that a renewal failed.
    pub(super) fn failed(&mut self) {
        self.was_unreachable = true;
    }

    /// Returns the reported members, with those that an outage may have cost their leases.
    pub(super) fn merge(&mut self, reported: &Membership) -> Membership {
        let now = Instant::now();
        if std::mem::take(&mut self.was_unreachable) {
            self.retain_until = Some(now + LEASE_DURATION);
        }
        let mut membership = reported.clone();
        match self.retain_until {
            Some(until) if now < until => {
                let is_reported = |previous: &&Member| {
                    reported.members.iter().any(|member| member.replica == previous.replica)
                };
                let retained = self.previous.iter().filter(|previous| !is_reported(previous));
                membership.members.extend(retained.cloned());
                membership.members.sort_unstable_by(|a, b| a.replica.cmp(&b.replica));
            }
            _ => self.retain_until = None,
        }
        self.previous.clone_from(&membership.members);
        membership
    }
}

/// Applies membership updates to the parts of this replica that depend on them.
#[derive(Debug)]
pub(super) struct MembershipSubscriber {
    pub(super) updates: watch::Receiver<Option<MembershipUpdate>>,
    pub(super) peers: Arc<PeerRing>,
    pub(super) topology: Arc<SharedTopology>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) metrics: Arc<Metrics>,
    /// The greatest number of nodes of this zone that was reported.
    pub(super) nodes_reported: u16,
}

impl MembershipSubscriber {
    /// Applies every update until the sender is dropped.
    pub(super) async fn run(mut self) {
        while self.updates.changed().await.is_ok() {
            self.apply_latest().await;
        }
    }

    /// Applies the latest update, if there is one.
    pub(super) async fn apply_latest(&mut self) {
        let latest = self.updates.borrow_and_update().clone();
        if let Some(update) = latest {
            self.apply(update).await;
        }
    }

    async fn apply(&mut self, update: MembershipUpdate) {
        let me = self.peers.local();
        let nodes = update.reported.zones.get(usize::from(me.zone)).map_or(0, |zone| zone.nodes);
        let is_news = nodes > std::mem::replace(&mut self.nodes_reported, nodes);
        if me.hosts() && is_news && nodes > me.nodes {
            let configured = me.nodes;
            tracing::warn!(
                "diskless.nodesPerZone is {configured} here, but zone {} has {nodes} nodes, and \
                 their number never decreases: {nodes} are served; set it to {nodes}",
                me.zone_name
            );
        }
        // The ports are opened before this replica sends any client there.
        if me.hosts()
            && let Err(error) = self.listeners.open_nodes(nodes.max(me.nodes)).await
        {
            tracing::error!(%error, "a diskless node is not open, but others send clients there");
        }
        for (index, zone) in (0..).zip(&update.reported.zones) {
            let here = update.reported.members.iter().filter(|member| member.zone == index);
            self.metrics.clients.members(&zone.name, here.count());
        }
        self.topology.update(update.effective);
        if let Some(sent) = update.leases_valid_until.checked_sub(LEASE_DURATION) {
            self.peers.renewed(sent);
        }
        self.peers.update_membership(update.reported, update.leases_valid_until);
    }
}
