//! Notices that Redis lost metadata, says so, and notices that the right one is back.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::Readiness;
use crate::coordinator::CoordinatorError;
use crate::coordinator::redis::RedisCoordinator;
use crate::coordinator::redis::loss_detection::object_store::ObservedPositionObjects;
use crate::metrics::Metrics;
use crate::tasks;

/// Between two looks. Also how soon an idle replica tells a Redis that began anew what it has seen.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a drain waits for what was seen to be kept.
const SAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What an operator is told; behind it stands what is missing.
const REMEDY: &str = "bring the Redis back that has it (fail back to the old master, or restore its \
                      newest append-only file), and everything goes on by itself; nothing diskless \
                      is served meanwhile, and no offset is given twice";

/// A Redis, and what is kept of it beside the objects.
#[derive(Debug)]
pub(super) struct MonitoredRedis {
    pub(super) coordinator: Arc<RedisCoordinator>,
    pub(super) positions: Arc<ObservedPositionObjects>,
}

/// Takes note of what the coordinator said; says so where that is news.
pub(super) fn note(readiness: &Readiness, error: Option<&CoordinatorError>) {
    match error {
        None => {
            if readiness.set_metadata_loss(None) {
                tracing::info!("the metadata is whole again");
            }
        }
        Some(CoordinatorError::MetadataLost(detail)) => {
            if readiness.set_metadata_loss(Some(format!("lost: {detail}; {REMEDY}"))) {
                tracing::error!(detail, "the batch coordinator lost its metadata: {REMEDY}");
            }
        }
        // Whoever cannot be asked lost nothing that we know of, and found nothing again.
        Some(_) => {}
    }
}

/// Looks after the metadata for as long as the process lives.
pub(super) fn watch(monitored: &MonitoredRedis, readiness: Arc<Readiness>, metrics: Arc<Metrics>) {
    let (coordinator, positions) =
        (Arc::clone(&monitored.coordinator), Arc::clone(&monitored.positions));
    tasks::spawn_critical("metadata", async move {
        let (mut settlements, mut swept) = (0, false);
        loop {
            let checked = coordinator.check().await;
            let was_lost = readiness.is_metadata_lost();
            note(&readiness, checked.as_ref().err());
            metrics.coordinator.metadata_lost.set(i64::from(readiness.is_metadata_lost()));
            let verified = coordinator.verifications();
            metrics.coordinator.verifications.inc_by(verified.saturating_sub(settlements));
            settlements = verified;
            // At a loss at once: we may be the only one who knows.
            let is_urgent = readiness.is_metadata_lost() && !was_lost;
            match coordinator.save_observed_positions(is_urgent).await {
                Ok(()) if !swept => {
                    swept = true;
                    if let Err(error) = positions.delete_old().await {
                        tracing::warn!(%error, "cannot delete the observed positions of former replicas");
                    }
                }
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "cannot save the observed positions"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
}

/// Keeps what was seen before the process ends.
pub(super) async fn keep(monitored: &MonitoredRedis) {
    let kept =
        tokio::time::timeout(SAVE_TIMEOUT, monitored.coordinator.save_observed_positions(true))
            .await;
    if !matches!(kept, Ok(Ok(()))) {
        tracing::warn!("the observed positions were not saved at shutdown");
    }
}
