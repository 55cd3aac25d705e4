//! Periodic checks for lost data, and the saving of observed positions.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::super::coordinator::RedisCoordinator;
use super::super::shards::merge_results;
use super::observed_position::{ObservedPosition, PositionTracker};
use crate::coordinator::{CoordinatorError, CoordinatorResult};

/// The least time between two saves that are not urgent. Positions observed in between are lost
/// with the process.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

impl RedisCoordinator {
    /// Checks that every shard has what this replica observed, and verifies a Redis whose
    /// replication id changed, also while no other calls are made.
    ///
    /// # Errors
    /// [`CoordinatorError::MetadataLost`] until a Redis that has the data is back; any other error
    /// says nothing about the metadata.
    pub async fn check(&self) -> Result<(), CoordinatorError> {
        merge_results(self.check_each().await?).map(drop)
    }

    /// As [`RedisCoordinator::check`], with one result for the registry and then one for each
    /// shard: a lost shard affects only its own partitions.
    ///
    /// # Errors
    /// [`CoordinatorError::Unavailable`] before the first attach.
    pub async fn check_each(&self) -> CoordinatorResult<Vec<CoordinatorResult<()>>> {
        let attached = self.attached()?;
        let shards = &self.shards;
        let calls = attached.hash_tags().map(|hash_tag| async move {
            let attached = &*self.attached()?;
            shards.call(attached, hash_tag, &shards.scripts.check, Vec::new()).await.map(drop)
        });
        Ok(join_all(calls).await)
    }

    /// Returns how many verifications this process completed, of the registry and of shards.
    pub fn verifications(&self) -> u64 {
        self.attached().map_or(0, |attached| attached.completed_verifications())
    }

    /// Returns the observed positions of the registry and of each shard; none before the first
    /// attach.
    pub fn observed_positions(&self) -> Vec<Option<ObservedPosition>> {
        self.attached().map(|attached| attached.positions().positions).unwrap_or_default()
    }

    /// Returns the replication ids under which the registry and each shard are verified; empty for
    /// one that is not verified by this process, or whose server has no replication id; and none
    /// before the first attach.
    pub fn replication_ids(&self) -> Vec<String> {
        let Ok(attached) = self.attached() else { return Vec::new() };
        let ids = attached.trackers().iter().map(|tracker| tracker.current().0);
        ids.map(|id| if identifies_history(&id) { id } else { String::new() }).collect()
    }

    /// Returns the positions of the last changes that are in no object, and when they were
    /// observed: the newest one of the registry, and the last trim or deletion in each shard.
    pub fn pinned_positions(&self) -> Vec<Option<(Instant, ObservedPosition)>> {
        let Ok(attached) = self.attached() else { return Vec::new() };
        let pinned = |(index, tracker): (usize, &PositionTracker)| match index {
            0 => tracker.position().map(|position| (Instant::now(), position)),
            _ => tracker.pinned(),
        };
        attached.trackers().iter().enumerate().map(pinned).collect()
    }

    /// Saves the observed positions outside of Redis if they changed; at most every 10 seconds,
    /// unless `is_urgent`.
    ///
    /// # Errors
    /// [`CoordinatorError::Unavailable`] when they are not saved.
    pub async fn save_observed_positions(&self, is_urgent: bool) -> Result<(), CoordinatorError> {
        let Some(store) = &self.shards.position_store else { return Ok(()) };
        let attached = self.attached()?;
        let mut last_saved = attached.last_saved.lock().await;
        let failed =
            |detail| CoordinatorError::Unavailable(format!("observed positions: {detail}"));
        attached.inherit_positions(&**store).await.map_err(failed)?;
        let positions = attached.positions();
        if let Some((last, at)) = &last_saved.0
            && (*last == positions || (!is_urgent && at.elapsed() < SAVE_INTERVAL))
        {
            return Ok(());
        }
        store.save(&positions).await.map_err(failed)?;
        last_saved.0 = Some((positions, Instant::now()));
        Ok(())
    }
}

/// Returns whether an id is that of one history. What stands in for a replication id may come back
/// with a server that was a replica meanwhile, and took over another history.
pub(super) fn identifies_history(id: &str) -> bool {
    id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitute_of_a_replication_id_identifies_no_history() {
        let id = "0123456789abcdef0123456789abcdef01234567";
        assert!(identifies_history(id));
        for substitute in ["", "unknown", &id[1..], &format!("{id}r")] {
            assert!(!identifies_history(substitute), "{substitute}");
        }
    }
}
