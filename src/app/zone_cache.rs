//! Builds the object cache, with the zone cache behind it where peers are configured.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::config::Settings;
use crate::engine::Components;
use crate::engine::cache::{HedgedSource, ObjectCache, ObjectSource, StoreSource};
use crate::metrics::Metrics;
use crate::zone_cache::{PeerRing, PeerServer, ZoneHosts, ZoneSource};

/// Builds the cache. With `peers.bind` it reads through the zone, and serves peers at that port.
///
/// # Errors
/// The port cannot be opened.
pub(super) async fn objects(
    settings: &Settings,
    components: &Components,
    zone: &Arc<PeerRing>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Arc<ObjectCache>> {
    let store = Arc::new(StoreSource(Arc::clone(&components.store)));
    let store: Arc<dyn ObjectSource> = Arc::new(HedgedSource::new(store));
    let cache_bytes = settings.memory.cache.bytes();
    let Some(peers) = &settings.peers else {
        return Ok(Arc::new(
            ObjectCache::new(store, cache_bytes).with_metrics(Arc::clone(metrics)),
        ));
    };
    let (bind, clock) = (peers.bind, Arc::clone(&components.clock));
    // The port opens before the lease is acquired, so that peers can connect once they know of it.
    let listening = TcpListener::bind(bind).await;
    let listener = listening.with_context(|| format!("peers.bind: cannot listen at {bind}"))?;
    let through = ZoneSource::new(
        Arc::clone(zone),
        Arc::clone(&store),
        Arc::clone(&clock),
        Arc::clone(metrics),
    )
    .context("cannot create the HTTP client for peers")?;
    let objects = ObjectCache::new(Arc::new(through), cache_bytes).with_peer_source(store);
    let objects = Arc::new(objects.with_metrics(Arc::clone(metrics)));
    let server = PeerServer {
        cache: Arc::clone(&objects),
        ring: Arc::clone(zone),
        clock,
        metrics: Arc::clone(metrics),
    };
    Arc::new(server).start(listener);
    Ok(objects)
}

/// Returns the other hosts of the zone, to be asked about their leases.
///
/// # Errors
/// The HTTP client cannot be created.
pub(super) fn hosts(components: &Components, zone: &Arc<PeerRing>) -> anyhow::Result<ZoneHosts> {
    let hosts = ZoneHosts::new(Arc::clone(zone), Arc::clone(&components.clock));
    hosts.context("cannot create the HTTP client for peers")
}
