//! What the replica asks of itself between calls: is everything there still, and is what was seen
//! of it kept?

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use super::floors::ObservedPositions;
use super::{RedisCoordinator, merge};
use crate::coordinator::CoordinatorError;

/// Floors that rise are kept so often at most: what was seen in the meantime dies with the process.
const KEPT_EVERY: Duration = Duration::from_secs(10);

/// What was kept last, and when.
#[derive(Debug, Default)]
pub(super) struct Kept(Option<(ObservedPositions, Instant)>);

impl RedisCoordinator {
    /// Asks every shard whether all that this replica has seen is there still, and tells a Redis
    /// that began to live anew what that was, busy or not.
    ///
    /// # Errors
    /// [`CoordinatorError::MetadataLost`] until the right Redis is back; anything else says nothing about
    /// the metadata.
    pub async fn check(&self) -> Result<(), CoordinatorError> {
        let attached = self.attached()?;
        let shell = &self.shell;
        let each =
            attached.tags().map(|tag| shell.call(&attached, tag, &shell.scripts.touch, Vec::new()));
        merge(join_all(each).await).map(drop)
    }

    /// How often a Redis that began to live anew was settled.
    pub fn verifications(&self) -> u64 {
        self.attached().map_or(0, |attached| attached.verifications.load(Ordering::Acquire))
    }

    /// Keeps what was seen where no Redis forgets it, if there is more of it than was kept; not
    /// more often than every 10 seconds, unless it is urgent.
    ///
    /// # Errors
    /// [`CoordinatorError::Unavailable`] when it is not kept.
    pub async fn save_observed_positions(&self, is_urgent: bool) -> Result<(), CoordinatorError> {
        let Some(store) = &self.shell.floors else { return Ok(()) };
        let attached = self.attached()?;
        let mut kept = attached.kept.lock().await;
        let floors = attached.floors();
        if let Some((last, at)) = &kept.0
            && (*last == floors || (!is_urgent && at.elapsed() < KEPT_EVERY))
        {
            return Ok(());
        }
        let failed = |detail| CoordinatorError::Unavailable(format!("floors: {detail}"));
        store.keep(&floors).await.map_err(failed)?;
        kept.0 = Some((floors, Instant::now()));
        Ok(())
    }
}
