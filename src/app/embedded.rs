//! Maintains the embedded coordinator: checkpoints, and the end of a process that was replaced.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::WallClock;
use crate::coordinator::CoordinatorError;
use crate::coordinator::embedded::EmbeddedCoordinator;
use crate::tasks;

/// The interval of the checks. A process that was replaced acknowledges nothing in the meantime,
/// but may serve what it knew.
const INTERVAL: Duration = Duration::from_secs(5);
/// The time limit of the last checkpoint of a process.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Maintains the coordinator for the lifetime of the process; ends the process once another one
/// has taken over its store.
pub(super) fn maintain(coordinator: &Arc<EmbeddedCoordinator>, clock: &Arc<dyn WallClock>) {
    let (coordinator, clock) = (Arc::clone(coordinator), Arc::clone(clock));
    tasks::spawn_critical("embedded coordinator", async move {
        loop {
            match coordinator.maintain(&*clock).await {
                Ok(()) => {}
                Err(CoordinatorError::Fenced(detail)) => {
                    tracing::error!(detail, "this process was replaced and ends");
                    std::process::exit(1);
                }
                Err(error) => tracing::warn!(%error, "cannot maintain the embedded coordinator"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    });
}

/// Writes a checkpoint of everything that was committed, so that the next start reads no object.
pub(super) async fn write_last_checkpoint(
    coordinator: &EmbeddedCoordinator,
    clock: &dyn WallClock,
) {
    let write = coordinator.write_checkpoint(clock, 1);
    match tokio::time::timeout(DRAIN_TIMEOUT, write).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "no checkpoint was written at shutdown"),
        Err(_) => tracing::warn!("no checkpoint was written at shutdown: the store was too slow"),
    }
}
