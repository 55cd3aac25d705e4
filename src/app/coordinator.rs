//! Opens the batch coordinator, and binds its metadata to the object store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::membership::LEASE_DURATION;
use super::metadata_health::{self, MonitoredRedis};
use super::process_positions::ProcessPositions;
use crate::admin::Readiness;
use crate::clock::WallClock;
use crate::config::{CoordinatorSettings, Settings};
use crate::coordinator::embedded::EmbeddedCoordinator;
use crate::coordinator::measured::MeasuredCoordinator;
use crate::coordinator::redis::loss_detection::object_store::ObservedPositionObjects;
use crate::coordinator::redis::loss_detection::observed_position::ObservedPositionStore;
use crate::coordinator::redis::loss_detection::recorded::RecoverablePositions;
use crate::coordinator::redis::{RedisCoordinator, RedisSettings, default_shards};
use crate::coordinator::{Attachment, Coordinator, CoordinatorError};
use crate::engine::processes::SharedRecorder;
use crate::entropy::Entropy;
use crate::log::ids::ProcessIdentity;
use crate::metrics::Metrics;
use crate::retry::{RetryPolicy, retry_until_ok};
use crate::store::record::RecordFormat;
use crate::store::{PutMode, Store, StoreErrorKind};

/// The timeout of a call to Redis, after which its outcome is unknown.
const REDIS_TIMEOUT: Duration = Duration::from_secs(2);
/// The key of the object that contains the metadata id of the store's objects.
const METADATA_ID_KEY: &str = "meta/metadata-id";
const METADATA_ID: RecordFormat =
    RecordFormat { what: "the record of the metadata id", version: 1 };
/// Exists if an embedded coordinator stores its records here.
const EMBEDDED_KEY: &str = "embedded/cluster.json";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetadataIdRecord {
    metadata_id: String,
}

/// The coordinator, and what the ids of new objects are made of.
pub(super) struct OpenedCoordinator {
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) incarnation: u64,
    pub(super) process_id: u32,
    /// The Redis that can lose the metadata; `None` if the metadata is stored with the objects.
    pub(super) redis: Option<MonitoredRedis>,
    /// The embedded coordinator, which is to be maintained.
    pub(super) embedded: Option<Arc<EmbeddedCoordinator>>,
}

pub(super) async fn open_coordinator(
    settings: &Settings,
    store: &Arc<dyn Store>,
    clock: &Arc<dyn WallClock>,
    entropy: &Arc<Entropy>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<OpenedCoordinator> {
    let measured = |coordinator: Arc<dyn Coordinator>| -> Arc<dyn Coordinator> {
        Arc::new(MeasuredCoordinator::new(coordinator, Arc::clone(metrics)))
    };
    match &settings.coordinator {
        CoordinatorSettings::Embedded => {
            let opened = EmbeddedCoordinator::open(&**clock, entropy, Arc::clone(store)).await;
            let coordinator = opened.context("cannot start the embedded coordinator")?;
            let (incarnation, process_id) = (coordinator.incarnation(), coordinator.process_id());
            let embedded = Arc::new(coordinator);
            Ok(OpenedCoordinator {
                coordinator: measured(Arc::clone(&embedded) as Arc<dyn Coordinator>),
                incarnation,
                process_id,
                redis: None,
                embedded: Some(embedded),
            })
        }
        CoordinatorSettings::Redis { url, replicas, shards } => {
            if retry_until_ok("the object store", || exists(&**store, EMBEDDED_KEY)).await {
                bail!(
                    "{} belongs to an embedded coordinator, whose offsets are not in Redis; choose \
                     another store prefix or cluster name, or coordinator: embedded",
                    settings.objects_url()
                );
            }
            let (kept, clock_of) = (Arc::clone(store), Arc::clone(clock));
            let positions =
                Arc::new(ObservedPositionObjects::new(kept, clock_of, &settings.replica));
            let process = ProcessIdentity {
                incarnation: u64::try_from(clock.now_ms()).unwrap_or(0),
                process_id: (entropy.next_u64() >> 32) as u32,
            };
            let recorder = Arc::new(SharedRecorder::default());
            let redis = RedisSettings {
                url: url.expose().to_owned(),
                cluster: settings.cluster.clone(),
                metadata_id: stored_metadata_id(&**store).await?,
                shards: shards.unwrap_or_else(|| default_shards(url.expose())),
                timeout: REDIS_TIMEOUT,
                replica: settings.replica.clone(),
                may_verify: settings.writer,
                lease: LEASE_DURATION,
                replicas: *replicas,
                position_store: Some(position_store(
                    settings,
                    store,
                    &positions,
                    (process, &recorder),
                )),
                clock: None,
            };
            let coordinator = Arc::new(RedisCoordinator::new(entropy, redis)?);
            Ok(OpenedCoordinator {
                coordinator: measured(Arc::clone(&coordinator) as Arc<dyn Coordinator>),
                incarnation: process.incarnation,
                process_id: process.process_id,
                redis: Some(MonitoredRedis { coordinator, positions, recorder }),
                embedded: None,
            })
        }
    }
}

/// Returns the store of positions of a replica: one that writes objects recovers what its
/// predecessors stored.
fn position_store(
    settings: &Settings,
    store: &Arc<dyn Store>,
    positions: &Arc<ObservedPositionObjects>,
    (process, recorder): (ProcessIdentity, &Arc<SharedRecorder>),
) -> Arc<dyn ObservedPositionStore> {
    let saved = Arc::clone(positions) as Arc<dyn ObservedPositionStore>;
    if !settings.writer {
        return saved;
    }
    let records = ProcessPositions::new(Arc::clone(store), Arc::clone(recorder));
    Arc::new(RecoverablePositions::new(saved, Arc::new(records), process))
}

/// Attaches to the coordinator, retrying until it responds.
///
/// # Errors
/// The metadata belongs to another Kafka cluster, or has an unknown format version.
pub(super) async fn attach(
    settings: &Settings,
    coordinator: &dyn Coordinator,
    cluster_id: &str,
    readiness: &Readiness,
) -> anyhow::Result<Attachment> {
    let mut delays = RetryPolicy::STARTUP.delays_without_jitter();
    loop {
        let attached = coordinator.attach(cluster_id, &settings.zone).await;
        metadata_health::note(readiness, attached.as_ref().err());
        match attached {
            Ok(attachment) => return Ok(attachment),
            Err(error @ CoordinatorError::OtherCluster { .. }) => {
                return Err(error).context(
                    "point kafka.bootstrapServers at the cluster that the metadata belongs to, or \
                     choose another `cluster` name",
                );
            }
            Err(error @ CoordinatorError::UnsupportedVersion(_)) => {
                return Err(error).context("cannot use the batch coordinator");
            }
            // `note` has logged it, with the remedy.
            Err(CoordinatorError::MetadataLost(_)) => {}
            Err(error) => tracing::error!(%error, "waiting for the batch coordinator"),
        }
        delays.wait().await;
    }
}

/// Warns of a number of shards that differs from the stored one, which is used.
pub(super) fn compare_shards(settings: &Settings, redis: &RedisCoordinator) {
    let CoordinatorSettings::Redis { shards: Some(configured), .. } = &settings.coordinator else {
        return;
    };
    if let Some(stored) = redis.shards()
        && stored != *configured
    {
        tracing::warn!(
            configured,
            stored,
            "coordinator.shards differs from the number with which the cluster was set up, which is \
             used: live keys are never moved to another number of shards"
        );
    }
}

/// Stores the metadata id with the objects, so that a Redis that lost everything is recognised.
///
/// # Errors
/// The objects belong to other metadata.
pub(super) async fn store_metadata_id(
    settings: &Settings,
    store: &dyn Store,
    attachment: &Attachment,
) -> anyhow::Result<()> {
    if settings.coordinator == CoordinatorSettings::Embedded || !settings.writer {
        return Ok(());
    }
    let record = MetadataIdRecord { metadata_id: attachment.metadata_id.clone() };
    let mut delays = RetryPolicy::STARTUP.delays_without_jitter();
    loop {
        match METADATA_ID.save(store, METADATA_ID_KEY, &record, PutMode::Create).await {
            Ok(()) => return Ok(()),
            Err(error) if error.kind == StoreErrorKind::AlreadyExists => break,
            Err(error) => tracing::error!(%error, "waiting for the object store"),
        }
        delays.wait().await;
    }
    let stored = stored_metadata_id(store).await?;
    if stored.as_deref() != Some(attachment.metadata_id.as_str()) {
        bail!(
            "Redis and {} have different metadata ids: configure the Redis that this store was \
             written with",
            settings.objects_url()
        );
    }
    Ok(())
}

/// Returns the metadata id of the store's objects, retrying until the store responds.
///
/// # Errors
/// The record has an unknown version or cannot be parsed. A retry cannot succeed.
async fn stored_metadata_id(store: &dyn Store) -> anyhow::Result<Option<String>> {
    let read = || async {
        match metadata_id(store).await {
            Err(error) if is_permanent(error.kind) => Ok(Err(error)),
            result => result.map(Ok),
        }
    };
    retry_until_ok("the object store", read).await.context("cannot use the objects of the store")
}

fn is_permanent(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::UnsupportedFormat | StoreErrorKind::Corrupt)
}

async fn metadata_id(store: &dyn Store) -> Result<Option<String>, crate::store::StoreError> {
    let record: Option<MetadataIdRecord> = METADATA_ID.load(store, METADATA_ID_KEY).await?;
    Ok(record.map(|record| record.metadata_id))
}

async fn exists(store: &dyn Store, key: &str) -> Result<bool, crate::store::StoreError> {
    match store.head(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn unusable_record_of_the_metadata_id_ends_the_start() {
        let store = MemoryStore::default();
        assert_eq!(stored_metadata_id(&store).await.unwrap(), None);
        for (body, what) in [("{\"format\": 9}", "format version 9"), ("?", "not the record")] {
            let body = vec![body.into()];
            store.put(METADATA_ID_KEY, body, PutMode::Overwrite).await.unwrap();
            let error = format!("{:#}", stored_metadata_id(&store).await.unwrap_err());
            assert!(error.contains(what), "{error}");
        }
    }
}
