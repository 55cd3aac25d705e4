//! Writes and reads checkpoints, so that a start does not read every object.
//!
//! | Key below `meta/checkpoints/0/` | Value |
//! |---|---|
//! | `manifests/<incarnation>-<objects>` | a manifest; the position is the name |
//! | `parts/<incarnation>-<objects>-<n>` | the state (0), or runs |

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::records::{EmbeddedRecords, store_error};
use crate::coordinator::CoordinatorError;
use crate::coordinator::memory::state::MetadataState;
use crate::log::batch::Run;
use crate::log::checkpoint::{
    CheckpointState, Manifest, PartReference, PartitionRuns, decode_manifest, decode_runs,
    decode_state, encode_manifest, encode_runs, encode_state,
};
use crate::log::encoding::FormatError;
use crate::log::ids::{ObjectId, TopicPartition};
use crate::log::object_format::ShardPosition;
use crate::store::{PutMode, StoreErrorKind};

const MANIFESTS: &str = "meta/checkpoints/0/manifests/";
const PARTS: &str = "meta/checkpoints/0/parts/";

/// The number of checkpoints that are kept, so that a damaged one is not the only one.
const KEPT: usize = 3;
/// The number of objects with runs after which they are merged.
const RUN_PARTS_MAX: usize = 32;
/// The number of runs in one object.
const RUNS_PER_PART: usize = 1 << 18;

/// A checkpoint as a later one continues it.
#[derive(Clone, Debug, Default)]
pub(super) struct WrittenCheckpoint {
    /// The objects with runs.
    runs: Vec<PartReference>,
    /// The high watermark of each partition.
    ends: BTreeMap<TopicPartition, i64>,
}

/// A checkpoint that was read.
#[derive(Debug)]
pub(super) struct LoadedCheckpoint {
    /// The next object after those that the checkpoint covers.
    pub(super) next: ObjectId,
    pub(super) state: MetadataState,
    pub(super) written: WrittenCheckpoint,
}

/// The content of a checkpoint, copied while the state is locked.
#[derive(Debug)]
pub(super) struct CheckpointContent {
    pub(super) state: CheckpointState,
    /// The runs since the checkpoint before; all of them without one.
    pub(super) runs: Vec<PartitionRuns>,
}

impl WrittenCheckpoint {
    /// Copies what the next checkpoint needs. Older runs are in objects, so that the state is not
    /// locked while all of them are copied.
    pub(super) fn content(&self, state: &MetadataState) -> CheckpointContent {
        CheckpointContent { state: state.checkpoint(), runs: state.runs_from(&self.ends) }
    }
}

/// Writes a checkpoint of everything before the object `next`, reads it back, and deletes the
/// oldest ones.
pub(super) async fn write(
    records: &EmbeddedRecords,
    metadata_id: &str,
    next: ObjectId,
    written_ms: i64,
    before: &WrittenCheckpoint,
    content: CheckpointContent,
) -> Result<WrittenCheckpoint, CoordinatorError> {
    let name = format!("{:016x}-{:08x}", next.incarnation, next.sequence);
    let part_key = |number: usize| format!("{PARTS}{name}-{number}");
    let state = put(records, part_key(0), encode_state(&content.state)).await?;
    let (mut runs, added) = match before.runs.len() < RUN_PARTS_MAX {
        true => (before.runs.clone(), content.runs),
        false => (Vec::new(), merge_runs(records, before, &content.state, content.runs).await?),
    };
    for (number, part) in (1..).zip(split(added)) {
        runs.push(put(records, part_key(number), encode_runs(&part)).await?);
    }
    let ends = content.state.partitions.iter().map(|p| (p.partition, p.high_watermark)).collect();
    let manifest = Manifest {
        metadata_id: metadata_id.to_owned(),
        position: position(next),
        written_ms,
        state,
        runs: runs.clone(),
    };
    put(records, format!("{MANIFESTS}{name}"), encode_manifest(&manifest)).await?;
    // The checkpoint is complete. What is left is deleted after the next one.
    if let Err(error) = delete_old(records).await {
        tracing::warn!(%error, "old checkpoints were not deleted");
    }
    Ok(WrittenCheckpoint { runs, ends })
}

/// Returns the runs of the checkpoint before and the added ones, without those that are no longer
/// part of the state.
///
/// # Errors
/// [`CoordinatorError::Corrupt`] when an object of the checkpoint before is damaged.
async fn merge_runs(
    records: &EmbeddedRecords,
    before: &WrittenCheckpoint,
    state: &CheckpointState,
    added: Vec<PartitionRuns>,
) -> Result<Vec<PartitionRuns>, CoordinatorError> {
    let mut runs = read_runs(records, &before.runs).await?;
    for of in added {
        runs.entry(of.partition).or_default().extend(of.runs);
    }
    let merged = state.partitions.iter().filter_map(|counters| {
        let partition = counters.partition;
        let mut runs = runs.remove(&partition)?;
        runs.retain(|run| run.end_offset() > counters.log_start_offset);
        (!runs.is_empty()).then_some(PartitionRuns { partition, runs })
    });
    Ok(merged.collect())
}

async fn read_runs(
    records: &EmbeddedRecords,
    parts: &[PartReference],
) -> Result<BTreeMap<TopicPartition, Vec<Run>>, CoordinatorError> {
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for reference in parts {
        let body = get(records, reference).await?;
        let decoded = decode_runs(&body).map_err(|error| undecodable(&reference.key, error))?;
        for of in decoded {
            runs.entry(of.partition).or_default().extend(of.runs);
        }
    }
    Ok(runs)
}

fn position(next: ObjectId) -> ShardPosition {
    let epoch = format!("{:016x}-{:08x}", next.incarnation, next.process_id);
    ShardPosition { shard: 0, epoch, sequence: u64::from(next.sequence) }
}

fn parse_position(position: &ShardPosition) -> Option<ObjectId> {
    let sequence = u32::try_from(position.sequence).ok()?;
    ObjectId::parse(&format!("{}-{sequence:08x}", position.epoch))
}

/// Splits runs into objects of limited size.
fn split(partitions: Vec<PartitionRuns>) -> Vec<Vec<PartitionRuns>> {
    let (mut parts, mut part, mut count) = (Vec::new(), Vec::new(), 0);
    for PartitionRuns { partition, runs } in partitions {
        for runs in runs.chunks(RUNS_PER_PART) {
            if count + runs.len() > RUNS_PER_PART {
                parts.push(std::mem::take(&mut part));
                count = 0;
            }
            count += runs.len();
            part.push(PartitionRuns { partition, runs: runs.to_vec() });
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Writes an object and reads it back.
async fn put(
    records: &EmbeddedRecords,
    key: String,
    body: Bytes,
) -> Result<PartReference, CoordinatorError> {
    let reference = PartReference::new(key, &body);
    let store = records.store();
    store.put(&reference.key, vec![body], PutMode::Overwrite).await.map_err(store_error)?;
    get(records, &reference).await?;
    Ok(reference)
}

async fn get(
    records: &EmbeddedRecords,
    reference: &PartReference,
) -> Result<Bytes, CoordinatorError> {
    let key = &reference.key;
    let body = records.store().get(key, None).await.map_err(|error| match error.kind {
        StoreErrorKind::NotFound => CoordinatorError::Corrupt(format!("{key} is missing")),
        _ => store_error(error),
    })?;
    if reference.matches(&body) {
        return Ok(body);
    }
    Err(CoordinatorError::Corrupt(format!("{key} has other bytes than were written")))
}

/// Reads the newest checkpoint of this metadata that is whole and that `is_usable` accepts; `None`
/// without any. A damaged one is skipped, because the objects have everything that is in it.
pub(super) async fn load_newest(
    records: &EmbeddedRecords,
    metadata_id: &str,
    is_usable: impl Fn(ObjectId) -> bool,
) -> Result<Option<LoadedCheckpoint>, CoordinatorError> {
    for meta in records.list(MANIFESTS, None).await?.into_iter().rev() {
        match load(records, &meta.key, metadata_id).await {
            Ok(loaded) if is_usable(loaded.next) => return Ok(Some(loaded)),
            Ok(loaded) => {
                tracing::warn!(key = meta.key, next = %loaded.next, "a checkpoint is not of this log; ignored");
            }
            Err(CoordinatorError::Corrupt(detail)) => {
                tracing::warn!(
                    key = meta.key,
                    detail,
                    "a checkpoint is damaged; an older one is used"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn load(
    records: &EmbeddedRecords,
    key: &str,
    metadata_id: &str,
) -> Result<LoadedCheckpoint, CoordinatorError> {
    let manifest = read_manifest(records, key).await?;
    let corrupt = |what: &str| CoordinatorError::Corrupt(format!("{key}: {what}"));
    if manifest.metadata_id != metadata_id {
        return Err(corrupt("it is of other metadata"));
    }
    let next = parse_position(&manifest.position).ok_or_else(|| corrupt("invalid position"))?;
    let body = get(records, &manifest.state).await?;
    let state = decode_state(&body).map_err(|error| undecodable(&manifest.state.key, error))?;
    let runs = read_runs(records, &manifest.runs).await?;
    let ends = state.partitions.iter().map(|p| (p.partition, p.high_watermark)).collect();
    let mut restored = MetadataState::default();
    restored
        .restore_partitions(state, runs)
        .map_err(|partition| corrupt(&format!("the runs of {partition} have a gap")))?;
    let written = WrittenCheckpoint { runs: manifest.runs, ends };
    Ok(LoadedCheckpoint { next, state: restored, written })
}

async fn read_manifest(records: &EmbeddedRecords, key: &str) -> Result<Manifest, CoordinatorError> {
    let body = records.store().get(key, None).await.map_err(store_error)?;
    decode_manifest(&body).map_err(|error| undecodable(key, error))
}

fn undecodable(key: &str, error: FormatError) -> CoordinatorError {
    let detail = format!("{key}: {error}");
    match error.is_unsupported() {
        true => CoordinatorError::UnsupportedVersion(detail),
        false => CoordinatorError::Corrupt(detail),
    }
}

/// Deletes all checkpoints but the newest, and the parts that no remaining one names. A damaged
/// manifest counts as none, and is deleted.
async fn delete_old(records: &EmbeddedRecords) -> Result<(), CoordinatorError> {
    let (mut old, mut kept, mut named) = (Vec::new(), Vec::new(), BTreeSet::new());
    for meta in records.list(MANIFESTS, None).await?.into_iter().rev() {
        if kept.len() == KEPT {
            old.push(meta);
            continue;
        }
        match read_manifest(records, &meta.key).await {
            Ok(Manifest { state, runs, .. }) => {
                named.insert(state.key);
                named.extend(runs.into_iter().map(|reference| reference.key));
                kept.push(meta);
            }
            Err(CoordinatorError::Corrupt(detail)) => {
                tracing::warn!(detail, "a damaged checkpoint is deleted");
                old.push(meta);
            }
            Err(error) => return Err(error),
        }
    }
    // First the manifests: one without its parts would be taken for a damaged checkpoint.
    let parts = records.list(PARTS, None).await?;
    let newest = kept.first().map(|meta| meta.key.replace(MANIFESTS, PARTS));
    let unnamed = parts.iter().filter(|meta| {
        // A later part belongs to a checkpoint whose manifest is not written yet.
        !named.contains(&meta.key) && newest.as_ref().is_some_and(|newest| meta.key < *newest)
    });
    for meta in old.iter().chain(unnamed) {
        records.store().delete(&meta.key).await.map_err(store_error)?;
    }
    Ok(())
}
