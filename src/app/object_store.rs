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

/// The store as it is read, and bare, as it is written. A replica without a writer has none, and
/// asks for none.
pub(super) async fn open_store(
    settings: &Settings,
    entropy: &Arc<Entropy>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Arc<dyn Store>, Arc<dyn Store>)> {
    if !settings.writer {
        let empty: Arc<dyn Store> = Arc::new(MemoryStore::new());
        return Ok((Arc::clone(&empty), empty));
    }
    let (url, s3) = (settings.objects_url(), settings.store.s3.clone());
    let (of_store, counted) = (Arc::clone(entropy), Arc::clone(metrics));
    let opening = tokio::task::spawn_blocking(move || {
        crate::store::open::open(&url, &s3, of_store, &counted)
    });
    let opened = opening.await?.with_context(|| format!("store {}", settings.objects_url()))?;
    check_store(settings, &opened, entropy).await?;
    Ok((opened.store, opened.without_retries))
}

/// Asks the store what it honours, and refuses to rely on what it does not.
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
            "{} overwrites objects that it was told to leave alone (PUT with If-None-Match), so \
             two replicas could take it for theirs; choose a store that honours it",
            settings.objects_url()
        );
    }
    if !capabilities.checksums {
        tracing::warn!(
            store = %settings.objects_url(),
            "the store does not check the CRC32C of what it is sent: damage on the way to it will \
             be noticed only when the object is read"
        );
    }
    Ok(())
}
