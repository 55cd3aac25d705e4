//! Commits what an earlier process stored and may have acknowledged, after the coordinator lost the
//! latest commits.
//!
//! The objects of a process are durable before they are committed, and a commit is repeated with
//! the same ids. So whatever the coordinator knows already keeps its offsets, and whatever it lost
//! is appended once. Parts that were answered with an error are reported as withdrawn by a later
//! object, and left out.

use std::collections::BTreeSet;

use futures::stream::StreamExt as _;
use tokio::time::{Duration, Instant};

use crate::coordinator::{
    BindRule, Coordinator, CoordinatorError, Registration, TopicBinding, TopicType,
};
use crate::log::ids::{ObjectId, TopicId};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

mod absence;
mod arrange;
mod objects;
mod order;
mod reported;
mod result;
mod takeover;

pub use absence::{LAPSED_AFTER, OBSERVATION_GAP_MAX};
use arrange::RecoveredPart;
use objects::{footers, list};
use order::Recommit;
use reported::Reported;
pub use result::Recovery;
pub use takeover::Takeover;

/// The number of parts that are put in order and committed together. It bounds the memory.
const WINDOW_PARTS: usize = if cfg!(test) { 7 } else { 1 << 18 };
/// The time between two messages of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// A failed recovery, which may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// An object cannot be listed or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry cannot be read or changed.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
}

/// Commits the objects of a process from `next` on, which ended or lost its lease, in the shards
/// that may have lost commits of it. An object that is deleted is left out. A shard that fails
/// affects only its own partitions.
///
/// # Errors
/// [`RecoveryError`], before anything is committed: an object that is damaged or of another format
/// version may have parts of any partition.
pub async fn recover(
    store: &dyn Store,
    coordinator: &dyn Coordinator,
    next: ObjectId,
    may_lack: &(dyn Fn(u16) -> bool + Sync),
    metrics: &Metrics,
) -> Result<Recovery, RecoveryError> {
    let objects = list(store, next).await?;
    // Reports follow what they report, so all are read first.
    let (mut reported, mut topics) = (Reported::new(next), BTreeSet::new());
    let mut read = footers(store, &objects);
    while let Some(footer) = read.next().await {
        let Some(footer) = footer? else { continue };
        reported.add(&footer);
        topics.extend(footer.parts.iter().map(|part| part.partition.topic));
    }
    drop(read);
    bind_again(coordinator, topics).await?;

    let mut recommit = Recommit::new(coordinator);
    let mut window: Vec<RecoveredPart> = Vec::new();
    let mut logged_at = Instant::now();
    let mut read = footers(store, &objects);
    while let Some(footer) = read.next().await {
        let Some(footer) = footer? else { continue };
        recommit.recovery.objects += 1;
        metrics.coordinator.recovery.objects.inc();
        let (object, sealed_ms) = (footer.object, footer.sealed_ms);
        for part in footer.parts {
            if !may_lack(coordinator.shard(part.partition)) {
                // What is not committed there was not acknowledged.
                continue;
            }
            if reported.is_withdrawn(object, part.index) {
                recommit.recovery.withdrawn += 1;
            } else {
                let offset = reported.offset(object, part.index);
                window.push(RecoveredPart { object, sealed_ms, part, offset });
            }
        }
        if window.len() >= WINDOW_PARTS {
            recommit.commit(std::mem::take(&mut window)).await;
        }
        if logged_at.elapsed() >= PROGRESS_INTERVAL {
            logged_at = Instant::now();
            let (done, all) = (recommit.recovery.objects, objects.len());
            tracing::info!(process = %next.process(), done, all, "recovering the objects of an earlier process");
        }
    }
    recommit.commit(window).await;
    metrics.coordinator.recovery.parts.inc_by(recommit.recovery.parts as u64);
    Ok(recommit.recovery)
}

/// Binds topics again whose binding is lost: a topic with parts in an object is diskless.
async fn bind_again(
    coordinator: &dyn Coordinator,
    topics: BTreeSet<TopicId>,
) -> Result<(), CoordinatorError> {
    if topics.is_empty() {
        return Ok(());
    }
    let bound: BTreeSet<TopicId> =
        coordinator.topics().await?.into_iter().map(|binding| binding.topic).collect();
    let registration = |topic: &TopicId| Registration {
        binding: TopicBinding {
            topic: *topic,
            name: String::new(),
            topic_type: TopicType::Diskless,
        },
        rule: BindRule::FirstWins,
    };
    let missing: Vec<_> = topics.difference(&bound).map(registration).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let results = coordinator.register(missing).await?;
    let again = results.iter().flatten().count();
    tracing::warn!(topics = again, "bound topics again that earlier objects contain");
    Ok(())
}

#[cfg(test)]
mod tests;
