//! Rebuilds the state from the objects and records of earlier incarnations.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::checkpoints::{self, LoadedCheckpoint, WrittenCheckpoint};
use super::records::{
    CONCURRENCY, ClusterRecord, EmbeddedRecords, InheritedIncarnation, LogPosition, TopicRecord,
    store_error,
};
use super::takeover;
use crate::coordinator::memory::state::MetadataState;
use crate::coordinator::{BindRule, Commit, CoordinatorError, Registration};
use crate::log::ids::{ObjectId, TopicId, TopicPartition};
use crate::log::object_format::{Footer, WAL_PREFIX, parse_wal_key, wal_key, wal_process_prefix};
use crate::store::{StoreErrorKind, footer};

/// The log of all earlier processes, to which none of them can add an object.
#[derive(Debug)]
pub(super) struct EndedLog {
    /// Every incarnation so far, ascending.
    pub(super) incarnations: Vec<u64>,
    pub(super) inherited: Vec<InheritedIncarnation>,
    /// The next object after those that the checkpoint covers; `None` without a checkpoint.
    from: Option<ObjectId>,
    /// The state of the checkpoint.
    state: MetadataState,
    checkpoint: WrittenCheckpoint,
    /// The sizes of the objects that the checkpoint does not cover.
    objects: BTreeMap<ObjectId, u64>,
}

/// The state at the end of the last process.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) state: MetadataState,
    /// The checkpoint that the replay began with.
    pub(super) checkpoint: WrittenCheckpoint,
    /// The number of objects that were read.
    pub(super) objects_read: usize,
}

/// Ends the log of the last process, and reads the newest checkpoint. That process may still change
/// records until an incarnation after its own has begun.
pub(super) async fn end_last_log(
    records: &EmbeddedRecords,
    metadata_id: &str,
) -> Result<EndedLog, CoordinatorError> {
    let incarnations = records.incarnations().await?;
    let newest_incarnation = incarnations.last().copied();
    let newest = match newest_incarnation {
        Some(incarnation) => Some((incarnation, records.incarnation(incarnation).await?)),
        None => None,
    };
    let is_usable = |next: ObjectId| {
        newest.as_ref().is_some_and(|(incarnation, record)| {
            let of_newest =
                (next.incarnation, next.process_id) == (*incarnation, record.process_id);
            let inherited = |a: &InheritedIncarnation| {
                (a.incarnation, a.process_id) == (next.incarnation, next.process_id)
                    && a.sequences >= next.sequence
            };
            of_newest || record.inherited.iter().any(inherited)
        })
    };
    let loaded = checkpoints::load_newest(records, metadata_id, is_usable).await?;
    let (from, state, checkpoint) = match loaded {
        Some(LoadedCheckpoint { next, state, written }) => (Some(next), state, written),
        None => (None, MetadataState::default(), WrittenCheckpoint::default()),
    };
    let mut objects = list_objects(records, &incarnations, from).await?;
    let mut inherited = Vec::new();
    if let Some((incarnation, record)) = newest {
        inherited = record.inherited;
        let first = ObjectId { incarnation, process_id: record.process_id, sequence: 0 };
        inherited.extend(end_log(records, first, from, &mut objects).await?);
    }
    Ok(EndedLog { incarnations, inherited, from, state, checkpoint, objects })
}

/// Replays the log from the checkpoint on, and applies the records. The caller has begun an
/// incarnation, so that every change of a record that an earlier process acknowledged is read.
pub(super) async fn replay(
    records: &EmbeddedRecords,
    cluster: &ClusterRecord,
    log: EndedLog,
) -> Result<Replayed, CoordinatorError> {
    let EndedLog { inherited, from, mut state, checkpoint, objects, .. } = log;
    let topics = read_topics(records).await?;
    replay_cluster(&mut state, cluster)?;
    let in_order: Vec<_> = inherited.iter().flat_map(|a| uncovered(a, from)).collect();
    let objects_read = in_order.len();
    let reads: Vec<_> = in_order.into_iter().map(|id| (id, objects.get(&id).copied())).collect();
    // In order, with at most `CONCURRENCY` footers in memory.
    let mut footers = stream::iter(reads)
        .map(|(object, size)| async move {
            let missing =
                || CoordinatorError::MetadataLost(format!("{} is missing", wal_key(object)));
            read_footer(records, object, size.ok_or_else(missing)?).await
        })
        .buffered(CONCURRENCY);
    while let Some(footer) = footers.try_next().await? {
        replay_object(&mut state, &topics, footer);
    }
    drop(footers);
    replay_topics(&mut state, &topics);
    replay_trims(records, &mut state).await?;
    Ok(Replayed { state, checkpoint, objects_read })
}

/// Returns the inherited objects that a checkpoint up to `from` does not cover.
fn uncovered(
    inherited: &InheritedIncarnation,
    from: Option<ObjectId>,
) -> impl Iterator<Item = ObjectId> + use<> {
    let InheritedIncarnation { incarnation, process_id, sequences } = *inherited;
    let first = match from {
        Some(next) if incarnation < next.incarnation => sequences,
        Some(next) if incarnation == next.incarnation => next.sequence,
        _ => 0,
    };
    (first..sequences).map(move |sequence| ObjectId { incarnation, process_id, sequence })
}

/// Returns the sizes of the WAL objects by id, from `from` on. Every object must belong to a known
/// incarnation.
async fn list_objects(
    records: &EmbeddedRecords,
    incarnations: &[u64],
    from: Option<ObjectId>,
) -> Result<BTreeMap<ObjectId, u64>, CoordinatorError> {
    let after = from.map(|next| match next.sequence.checked_sub(1) {
        Some(sequence) => wal_key(ObjectId { sequence, ..next }),
        // Sorts before the keys of the process.
        None => wal_process_prefix(next).trim_end_matches('/').to_owned(),
    });
    let mut objects = BTreeMap::new();
    for meta in records.list(WAL_PREFIX, after.as_deref()).await? {
        let object = parse_wal_key(&meta.key).ok_or_else(|| {
            CoordinatorError::Corrupt(format!("{} is not the key of a WAL object", meta.key))
        })?;
        if incarnations.binary_search(&object.incarnation).is_err() {
            let detail = format!(
                "{} was not written by an embedded coordinator, or embedded/ is gone",
                meta.key
            );
            return Err(CoordinatorError::MetadataLost(detail));
        }
        objects.insert(object, meta.size);
    }
    Ok(objects)
}

/// Ends the log of the last process, whose first object is `first`, before the first gap. Returns
/// what is part of the log; `None` if it contains no object. Without an object it is part of the log if
/// it wrote the checkpoint, which later starts recognise by it.
async fn end_log(
    records: &EmbeddedRecords,
    first: ObjectId,
    from: Option<ObjectId>,
    objects: &mut BTreeMap<ObjectId, u64>,
) -> Result<Option<InheritedIncarnation>, CoordinatorError> {
    let ObjectId { incarnation, process_id, .. } = first;
    let covered = from.filter(|next| next.incarnation == incarnation).map_or(0, |n| n.sequence);
    let id = |sequence| ObjectId { sequence, ..first };
    let gap = (covered..u32::MAX).find(|sequence| !objects.contains_key(&id(*sequence)));
    let gap = gap.unwrap_or(u32::MAX);
    let sequences = takeover::fence(records, id(gap)).await?;
    // Written since the listing.
    for object in (gap..sequences).map(id) {
        let size = records.store().head(&wal_key(object)).await.map_err(store_error)?;
        objects.insert(object, size);
    }
    let is_part = sequences > 0 || from.is_some_and(|next| next.incarnation == incarnation);
    Ok(is_part.then_some(InheritedIncarnation { incarnation, process_id, sequences }))
}

async fn read_topics(
    records: &EmbeddedRecords,
) -> Result<BTreeMap<TopicId, TopicRecord>, CoordinatorError> {
    let topics = stream::iter(records.topics_recorded().await?).map(|topic| async move {
        let record = records.topic(topic).await?;
        Ok::<_, CoordinatorError>(record.map(|record| (topic, record)))
    });
    let topics: Vec<_> = topics.buffer_unordered(CONCURRENCY).try_collect().await?;
    Ok(topics.into_iter().flatten().collect())
}

async fn read_footer(
    records: &EmbeddedRecords,
    object: ObjectId,
    size: u64,
) -> Result<Footer, CoordinatorError> {
    let footer = footer::read_footer(records.store(), object, size).await;
    footer.map_err(|error| match error.kind {
        StoreErrorKind::NotFound => {
            CoordinatorError::MetadataLost(format!("{} is missing", error.key))
        }
        _ => store_error(error),
    })
}

fn replay_cluster(
    state: &mut MetadataState,
    cluster: &ClusterRecord,
) -> Result<(), CoordinatorError> {
    if let Some(cluster_id) = &cluster.cluster_id {
        for zone in &cluster.zones {
            state.attach(cluster_id, zone)?;
        }
    }
    Ok(())
}

fn replay_object(
    state: &mut MetadataState,
    topics: &BTreeMap<TopicId, TopicRecord>,
    footer: Footer,
) {
    let object = footer.object;
    let here = LogPosition { incarnation: object.incarnation, sequence: object.sequence };
    let mut parts = footer.parts;
    parts.retain(|part| match topics.get(&part.partition.topic) {
        None => true,
        Some(record) => record.binding(part.partition.topic).is_some() && record.since <= here,
    });
    // The outcomes of earlier objects are no longer needed.
    let (sealed_ms, lowest_undecided) = (footer.sealed_ms, object.sequence);
    state.commit(&Commit { object, sealed_ms, lowest_undecided, parts }, None, &|_| 0);
}

fn replay_topics(state: &mut MetadataState, topics: &BTreeMap<TopicId, TopicRecord>) {
    for (topic, record) in topics {
        match record.binding(*topic) {
            Some(binding) => {
                let registration = Registration { binding, rule: BindRule::FirstWins };
                state.register(vec![registration]);
            }
            None => state.delete_topic(*topic),
        }
    }
}

async fn replay_trims(
    records: &EmbeddedRecords,
    state: &mut MetadataState,
) -> Result<(), CoordinatorError> {
    let topics: BTreeSet<TopicId> = records.topics_trimmed().await?.into_iter().collect();
    for topic in topics {
        let Some(record) = records.trims(topic).await? else { continue };
        for (partition, start) in record.partitions {
            state.trim(TopicPartition { topic, partition }, start);
        }
    }
    Ok(())
}
