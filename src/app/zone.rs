//! This replica's lease, and the zone cache.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::backends::Ordering;
use crate::config::Settings;
use crate::coordinator::{Attachment, Coordinator, Member};
use crate::engine::Components;
use crate::engine::objects::{FromStore, Objects, Source};
use crate::entropy::Entropy;
use crate::metrics::Metrics;
use crate::peers::{FromZone, Server, Zone};
use crate::tasks;

/// How long a replica counts as alive after it was last heard of.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// Between two renewals, more or less: three may fail before the lease ends.
const RENEWAL: Duration = Duration::from_secs(3);
/// Added at random, so that replicas that started together do not renew in step.
const JITTER_MS: u64 = 500;
/// How long a drain waits for the lease's end; after that it ends by itself.
const LEAVE_MAX: Duration = Duration::from_secs(2);

/// What this replica tells others of itself.
pub(super) fn member(settings: &Settings, attachment: &Attachment, ordering: &Ordering) -> Member {
    Member {
        replica: settings.replica.clone(),
        incarnation: ordering.incarnation,
        replica_tag: ordering.replica_tag,
        zone: attachment.zone_index,
        zone_name: settings.zone.clone(),
        peer: settings.peers.as_ref().map(crate::config::PeerSettings::address),
        advertised_host: settings.listeners.advertised_host.clone(),
        node_ports: settings.listeners.node_ports,
    }
}

/// Takes the lease, and opens the port for peers if there is to be one; the objects, then read
/// through the zone.
pub(super) async fn join(
    settings: &Settings,
    components: &Components,
    member: Member,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Arc<Objects>, Lease)> {
    let zone = Arc::new(Zone::new(member));
    let store: Arc<dyn Source> = Arc::new(FromStore(Arc::clone(&components.store)));
    let cache_bytes = settings.memory.cache;
    let objects = match &settings.peers {
        None => Arc::new(Objects::new(store, cache_bytes)),
        Some(peers) => {
            let (bind, clock) = (peers.bind, Arc::clone(&components.clock));
            // Before the lease, so that nobody asks in vain.
            let listening = TcpListener::bind(bind).await;
            let listener =
                listening.with_context(|| format!("peers.bind: cannot listen at {bind}"))?;
            let through = FromZone::new(
                Arc::clone(&zone),
                Arc::clone(&store),
                Arc::clone(&clock),
                Arc::clone(metrics),
            );
            let objects =
                Arc::new(Objects::new(Arc::new(through), cache_bytes).serving_from(store));
            let server = Server {
                objects: Arc::clone(&objects),
                zone: Arc::clone(&zone),
                clock,
                metrics: Arc::clone(metrics),
            };
            Arc::new(server).start(listener);
            objects
        }
    };
    let (coordinator, entropy) =
        (Arc::clone(&components.coordinator), Arc::clone(&components.entropy));
    let lease = Lease::take(coordinator, zone, entropy, Arc::clone(metrics)).await;
    Ok((objects, lease))
}

/// Keeps the lease until it is ended.
#[derive(Debug)]
pub(super) struct Lease {
    end: watch::Sender<bool>,
    keeper: JoinHandle<()>,
}

impl Lease {
    /// Takes the lease, or tries to, and keeps it from then on.
    pub(super) async fn take(
        coordinator: Arc<dyn Coordinator>,
        zone: Arc<Zone>,
        entropy: Arc<Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        renew(&*coordinator, &zone, &metrics).await;
        let (end, mut ended) = watch::channel(false);
        let keeper = tasks::spawn("lease", async move {
            loop {
                let jitter = Duration::from_millis(entropy.next_u64() % JITTER_MS);
                tokio::select! {
                    () = tokio::time::sleep(RENEWAL + jitter) => {
                        renew(&*coordinator, &zone, &metrics).await;
                    }
                    // Also when nobody can end it any more.
                    _ = ended.changed() => break,
                }
            }
            if let Err(error) = coordinator.renew(zone.me(), Duration::ZERO).await {
                tracing::warn!(%error, "the lease was not ended; it ends by itself");
            }
        });
        Self { end, keeper }
    }

    /// Tells the others that this replica is gone, while it may still answer them.
    pub(super) async fn end(&mut self) {
        self.end.send_replace(true);
        let _ends_by_itself = timeout(LEAVE_MAX, &mut self.keeper).await;
    }
}

async fn renew(coordinator: &dyn Coordinator, zone: &Zone, metrics: &Metrics) {
    // What is heard is as old as the question.
    let until = Instant::now() + LEASE;
    match coordinator.renew(zone.me(), LEASE).await {
        Ok(membership) => {
            metrics.lease_renewals.inc();
            zone.hear(membership, until);
        }
        Err(error) => tracing::warn!(%error, "the lease was not renewed"),
    }
}
