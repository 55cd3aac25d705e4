//! Opens the object store and checks its capabilities.

use std::sync::Arc;

use anyhow::{Context, bail};

use crate::config::Settings;
use crate::entropy::Entropy;
use crate::metrics::Metrics;
use crate::retry::retry_until_ok;
use crate::store::Store;
use crate::store::memory::MemoryStore;
use crate::store::open::OpenedStore;
use crate::store::probe::probe;

/// The prefix of the key that start-up writes to learn the store's capabilities; deleted at once.
const PROBE_PREFIX: &str = "meta/probe-";

/// Opens the store; returns it with and without retries. A replica without a writer gets an empty
/// store.
pub(super) async fn open_store(
    settings: &Settings,
    entropy: &Arc<Entropy>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Arc<dyn Store>, Arc<dyn Store>)> {
    if !settings.writer {
        let empty: Arc<dyn Store> = Arc::new(MemoryStore::new());
        return Ok((Arc::clone(&empty), empty));
    }
    let (url, s3) = (settings.objects_url(), settings.s3_options());
    let (of_store, counted) = (Arc::clone(entropy), Arc::clone(metrics));
    let opening = tokio::task::spawn_blocking(move || {
        crate::store::open::open(&url, &s3, of_store, &counted)
    });
    let opened = opening.await?.with_context(|| format!("store {}", settings.objects_url()))?;
    check_store(settings, &opened, entropy).await?;
    Ok((opened.store, opened.without_retries))
}

/// Probes the capabilities of the store.
///
/// # Errors
/// The store has no conditional writes.
async fn check_store(
    settings: &Settings,
    opened: &OpenedStore,
    entropy: &Entropy,
) -> anyhow::Result<()> {
    let key = format!("{PROBE_PREFIX}{:016x}", entropy.next_u64());
    let attempt = || probe(&*opened.store, opened.s3.as_ref(), &key);
    let capabilities = retry_until_ok("the object store", attempt).await;
    if !capabilities.conditional_create {
        bail!(
            "{} overwrites existing objects in spite of If-None-Match, so two replicas could claim \
             the same object; choose a store that supports conditional writes",
            settings.objects_url()
        );
    }
    if !capabilities.checksums {
        tracing::warn!(
            store = %settings.objects_url(),
            "the store does not verify the CRC32C of objects: corruption in transit is detected only \
             when the object is read"
        );
    }
    Ok(())
}
