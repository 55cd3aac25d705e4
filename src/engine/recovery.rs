//! Commits what an earlier process stored and may have acknowledged, after the coordinator lost the
//! latest commits.
//!
//! The objects of a process are durable before they are committed, and a commit is repeated with
//! the same ids. So whatever the coordinator knows already keeps its offsets, and whatever it lost
//! is appended once.

use std::collections::{BTreeMap, HashMap};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::coordinator::{Commit, CommitOutcome, Coordinator, CoordinatorError};
use crate::log::batch::Part;
use crate::log::ids::{ObjectId, TopicPartition};
use crate::log::object_format::{
    Footer, JournalEntry, JournalOutcome, parse_wal_key, wal_key, wal_process_prefix,
};
use crate::store::footer::read_footer;
use crate::store::{ObjectMeta, Store, StoreError};

const PAGE_KEYS: usize = 1_000;
/// The number of concurrent reads, and of partitions whose parts are committed at once.
const CONCURRENCY: usize = 16;

/// The result of a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The number of objects.
    pub objects: usize,
    /// The number of parts that the coordinator knows now.
    pub parts: usize,
    /// The number of parts below the fence of the process: they were decided long ago.
    pub fenced: usize,
    /// The number of parts that were acknowledged at other offsets than they have now.
    pub moved: usize,
}

/// A failed recovery, which may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// An object cannot be listed or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part cannot be committed.
    #[error(transparent)]
    Coordinator(CoordinatorError),
}

/// A part that is to be committed again.
#[derive(Debug)]
struct RecoveredPart {
    object: ObjectId,
    sealed_ms: i64,
    part: Part,
    /// The offset that a later object of the process reports.
    journaled: Option<i64>,
}

/// Commits the objects of a process from `next` on, which ended or lost its lease.
///
/// # Errors
/// [`RecoveryError`]; the parts of other partitions are committed all the same.
pub async fn recover(
    store: &dyn Store,
    coordinator: &dyn Coordinator,
    next: ObjectId,
) -> Result<Recovery, RecoveryError> {
    let footers = read_footers(store, next).await?;
    let mut recovery = Recovery { objects: footers.len(), ..Recovery::default() };
    let partitions = stream::iter(plan(footers)).map(|(_, parts)| async move {
        let mut of_partition = Recovery::default();
        for part in parts {
            commit(coordinator, next, part, &mut of_partition).await?;
        }
        Ok::<_, RecoveryError>(of_partition)
    });
    let mut results = partitions.buffer_unordered(CONCURRENCY);
    let mut failure = None;
    while let Some(of_partition) = results.next().await {
        match of_partition {
            Ok(of_partition) => {
                recovery.parts += of_partition.parts;
                recovery.fenced += of_partition.fenced;
                recovery.moved += of_partition.moved;
            }
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    Ok(recovery)
}

async fn read_footers(store: &dyn Store, next: ObjectId) -> Result<Vec<Footer>, StoreError> {
    let prefix = wal_process_prefix(next);
    let mut after = next.sequence.checked_sub(1).map(|s| wal_key(ObjectId { sequence: s, ..next }));
    let mut metas: Vec<ObjectMeta> = Vec::new();
    loop {
        let page = store.list(&prefix, after.as_deref(), PAGE_KEYS).await?;
        let is_last = page.len() < PAGE_KEYS;
        after = page.last().map(|meta| meta.key.clone()).or(after);
        metas.extend(page);
        if is_last {
            break;
        }
    }
    let objects = metas.into_iter().filter_map(|meta| Some((parse_wal_key(&meta.key)?, meta.size)));
    let reads: Vec<_> = objects.collect();
    stream::iter(reads)
        .map(|(object, size)| read_footer(store, object, size))
        .buffered(CONCURRENCY)
        .try_collect()
        .await
}

/// Returns the parts of each partition in the order of their commits: those with a reported offset
/// by that offset, then the others as they were sealed.
fn plan(footers: Vec<Footer>) -> BTreeMap<TopicPartition, Vec<RecoveredPart>> {
    let journaled = journaled_offsets(&footers);
    let mut partitions: BTreeMap<TopicPartition, Vec<RecoveredPart>> = BTreeMap::new();
    for footer in footers {
        let (object, sealed_ms) = (footer.object, footer.sealed_ms);
        for part in footer.parts {
            let journaled = journaled.get(&(object, part.index)).copied();
            let parts = partitions.entry(part.partition).or_default();
            parts.push(RecoveredPart { object, sealed_ms, part, journaled });
        }
    }
    for parts in partitions.values_mut() {
        // Stable: without an offset, the order of the objects stays.
        parts.sort_by_key(|part| part.journaled.unwrap_or(i64::MAX));
    }
    partitions
}

fn journaled_offsets(footers: &[Footer]) -> HashMap<(ObjectId, u32), i64> {
    let entries = footers.iter().flat_map(|footer| &footer.journal);
    let commits = entries.filter_map(|entry| match entry {
        JournalEntry::Commit(commit) => Some(commit),
        JournalEntry::Trim(_) | JournalEntry::Unknown { .. } => None,
    });
    let parts = commits.flat_map(|commit| commit.parts.iter().map(|part| (commit.object, part)));
    let offsets = parts.filter_map(|(object, part)| {
        let first = part.outcomes.iter().find_map(|outcome| match outcome {
            JournalOutcome::Committed(offset) => Some(*offset),
            JournalOutcome::Duplicate(_) | JournalOutcome::Refused => None,
        });
        first.map(|offset| ((object, part.part), offset))
    });
    offsets.collect()
}

async fn commit(
    coordinator: &dyn Coordinator,
    next: ObjectId,
    recovered: RecoveredPart,
    recovery: &mut Recovery,
) -> Result<(), RecoveryError> {
    let RecoveredPart { object, sealed_ms, part, journaled } = recovered;
    let lowest_undecided = next.sequence;
    let commit = Commit { object, sealed_ms, lowest_undecided, parts: vec![part] };
    for result in coordinator.commit(&commit).await {
        match result {
            Ok(outcome) => {
                recovery.parts += 1;
                let first = outcome.batches.iter().find_map(|batch| match batch {
                    CommitOutcome::Committed { base_offset } => Some(*base_offset),
                    CommitOutcome::Duplicate { .. } | CommitOutcome::Refused(_) => None,
                });
                recovery.moved += usize::from(journaled.is_some() && first != journaled);
            }
            Err(CoordinatorError::Fenced(_)) => recovery.fenced += 1,
            Err(error) => return Err(RecoveryError::Coordinator(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
