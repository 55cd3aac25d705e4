//! Monitors the metadata in Redis: reports its loss, and its recovery.

use std::sync::Arc;
use std::time::Duration;

use crate::admin::Readiness;
use crate::coordinator::redis::loss_detection::object_store::ObservedPositionObjects;
use crate::coordinator::redis::{RedisCoordinator, SweepPosition};
use crate::coordinator::{CoordinatorError, CoordinatorResult};
use crate::engine::processes::SharedRecorder;
use crate::metrics::Metrics;
use crate::tasks;

/// The interval of the checks, in which an idle replica also reports its observed positions to a
/// Redis with a new replication id.
const INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of saving the observed positions during a drain.
const SAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The remedy that follows the detail in logs and at `/readyz`.
const REMEDY: &str = "restore the Redis that has the metadata (fail back to the old master, or restore \
                      its newest append-only file); replicas then resume without a restart. Until \
                      then diskless topics are not served, and no offset is assigned twice";

/// A Redis whose metadata is monitored, and the positions observed in it.
#[derive(Debug)]
pub(super) struct MonitoredRedis {
    pub(super) coordinator: Arc<RedisCoordinator>,
    pub(super) positions: Arc<ObservedPositionObjects>,
    /// The recorder of this process, which names the histories of the metadata.
    pub(super) recorder: Arc<SharedRecorder>,
}

/// Records the result of a call to the coordinator in `readiness`, and logs a change.
pub(super) fn note(readiness: &Readiness, error: Option<&CoordinatorError>) {
    match error {
        None => {
            if readiness.set_metadata_loss(None) {
                tracing::info!("the metadata is complete again");
            }
        }
        Some(CoordinatorError::MetadataLost(detail)) => {
            if readiness.set_metadata_loss(Some(format!("lost: {detail}; {REMEDY}"))) {
                tracing::error!(detail, "the batch coordinator lost its metadata: {REMEDY}");
            }
        }
        // As serious for the clients, and only a newer program, or the older metadata, ends it.
        Some(CoordinatorError::UnsupportedVersion(detail)) => {
            if readiness.set_metadata_loss(Some(detail.clone())) {
                tracing::error!(detail, "the batch coordinator cannot be used");
            }
        }
        // A coordinator that is unavailable has neither lost nor recovered metadata.
        Some(_) => {}
    }
}

/// Returns why this replica cannot serve at all: the registry is lost, or every shard. A replica
/// that serves some shards stays ready, because its clients have no better one.
fn serving_problem(checked: &[CoordinatorResult<()>]) -> Option<&CoordinatorError> {
    let (registry, shards) = checked.split_first()?;
    let serves = shards.is_empty() || shards.iter().any(Result::is_ok);
    let is_lost = |error: &&CoordinatorError| matches!(error, CoordinatorError::MetadataLost(_));
    let failures = || shards.iter().filter_map(|shard| shard.as_ref().err());
    match registry {
        Err(error) => Some(error),
        Ok(()) if serves => None,
        // One that is away tells nothing about the loss of all.
        Ok(()) => failures().find(|error| !is_lost(error)).or_else(|| failures().next()),
    }
}

fn lost_shards(checked: &[CoordinatorResult<()>]) -> Vec<String> {
    let detail = |result: &CoordinatorResult<()>| match result {
        Err(CoordinatorError::MetadataLost(detail)) => Some(detail.clone()),
        _ => None,
    };
    checked.iter().filter_map(detail).collect()
}

fn report_lost_shards(lost: &[String]) {
    match lost {
        [] => tracing::info!("no shard lacks metadata any longer"),
        lost => {
            tracing::error!(?lost, "shards of the metadata are lost, others are served: {REMEDY}")
        }
    }
}

/// Monitors the metadata for the lifetime of the process.
pub(super) fn watch(monitored: &MonitoredRedis, readiness: Arc<Readiness>, metrics: Arc<Metrics>) {
    let (coordinator, positions) =
        (Arc::clone(&monitored.coordinator), Arc::clone(&monitored.positions));
    tasks::spawn_critical("metadata", async move {
        let (mut counted, mut is_swept, mut known_lost) = (0, false, Vec::new());
        let mut expired = SweepPosition::default();
        loop {
            let checked = coordinator.check_each().await.unwrap_or_default();
            let (was_lost, lost) = (readiness.is_metadata_lost(), lost_shards(&checked));
            note(&readiness, serving_problem(&checked));
            if lost != known_lost {
                report_lost_shards(&lost);
            }
            let is_lost = !lost.is_empty() || readiness.is_metadata_lost();
            metrics.coordinator.metadata_lost.set(i64::from(is_lost));
            let is_new = lost.len() > known_lost.len();
            known_lost = lost;
            let verified = coordinator.verifications();
            metrics.coordinator.verifications.inc_by(verified.saturating_sub(counted));
            counted = verified;
            // A loss is saved at once: this replica may be the only one that observed it.
            let is_urgent = is_new || (readiness.is_metadata_lost() && !was_lost);
            match coordinator.save_observed_positions(is_urgent).await {
                Ok(()) if !is_swept => {
                    is_swept = true;
                    if let Err(error) = positions.delete_old().await {
                        tracing::warn!(%error, "cannot delete the observed positions of former replicas");
                    }
                }
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "cannot save the observed positions"),
            }
            // One short script a second, so that producers of idle partitions expire.
            if let Err(error) = coordinator.sweep_producers(&mut expired).await {
                tracing::debug!(%error, "expired producers were not deleted");
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
}

/// Saves the observed positions before the process ends.
pub(super) async fn save(monitored: &MonitoredRedis) {
    let saved =
        tokio::time::timeout(SAVE_TIMEOUT, monitored.coordinator.save_observed_positions(true))
            .await;
    if !matches!(saved, Ok(Ok(()))) {
        tracing::warn!("the observed positions were not saved at shutdown");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_is_ready_while_it_serves_a_shard() {
        let lost = || Err(CoordinatorError::MetadataLost("x".to_owned()));
        let away = || Err(CoordinatorError::Unavailable("x".to_owned()));
        let is_lost = |checked: &[CoordinatorResult<()>]| {
            let readiness = Readiness::default();
            note(&readiness, serving_problem(checked));
            readiness.is_metadata_lost()
        };
        assert!(!is_lost(&[Ok(()), Ok(()), lost()]));
        assert!(!is_lost(&[Ok(()), away(), lost()]));
        assert!(is_lost(&[lost(), Ok(()), Ok(())]), "the registry");
        assert!(is_lost(&[Ok(()), lost(), lost()]), "every shard");
        assert!(!is_lost(&[away(), Ok(()), Ok(())]));
        assert!(!is_lost(&[]));
        assert_eq!(lost_shards(&[Ok(()), away(), lost()]), ["x"]);
    }
}
