//! Rebuilds the state from the objects and records of earlier incarnations.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::records::{
    CONCURRENCY, ClusterRecord, EmbeddedRecords, InheritedIncarnation, LogPosition, TopicRecord,
    store_error,
};
use crate::coordinator::memory::state::MetadataState;
use crate::coordinator::{BindRule, Commit, CoordinatorError, Registration};
use crate::log::ids::{ObjectId, TopicId, TopicPartition};
use crate::log::object_format::{
    Footer, HEADER, TAIL_BYTES, TRAILER_BYTES, WAL_PREFIX, decode_footer, footer_range,
    parse_wal_key, wal_key,
};
use crate::store::StoreErrorKind;

/// The state at the end of the last process.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) state: MetadataState,
    pub(super) newest_incarnation: Option<u64>,
    pub(super) inherited: Vec<InheritedIncarnation>,
}

pub(super) async fn replay(
    records: &EmbeddedRecords,
    cluster: &ClusterRecord,
) -> Result<Replayed, CoordinatorError> {
    let incarnations = records.incarnations().await?;
    let objects = list_objects(records, &incarnations).await?;
    let inherited = plan_inheritance(records, &incarnations, &objects).await?;
    let topics = read_topics(records).await?;
    let mut state = MetadataState::default();
    replay_cluster(&mut state, cluster)?;
    let in_order = inherited.iter().flat_map(|a| {
        let id =
            |sequence| ObjectId { incarnation: a.incarnation, process_id: a.process_id, sequence };
        (0..a.sequences).map(id)
    });
    let reads: Vec<_> = in_order.map(|object| (object, objects.get(&object).copied())).collect();
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
    let newest_incarnation = incarnations.last().copied();
    Ok(Replayed { state, newest_incarnation, inherited })
}

/// Returns the sizes of the WAL objects by id. Every object must belong to a known incarnation.
async fn list_objects(
    records: &EmbeddedRecords,
    incarnations: &[u64],
) -> Result<BTreeMap<ObjectId, u64>, CoordinatorError> {
    let mut objects = BTreeMap::new();
    for meta in records.list(WAL_PREFIX).await? {
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

/// Returns the objects that are part of the log: of every incarnation but the newest those that its
/// successor inherited, as listed in the record of the newest; of the newest all before the first
/// gap.
async fn plan_inheritance(
    records: &EmbeddedRecords,
    incarnations: &[u64],
    objects: &BTreeMap<ObjectId, u64>,
) -> Result<Vec<InheritedIncarnation>, CoordinatorError> {
    let Some(&newest) = incarnations.last() else { return Ok(Vec::new()) };
    let record = records.incarnation(newest).await?;
    let mut inherited = record.inherited;
    let id = |sequence| ObjectId { incarnation: newest, process_id: record.process_id, sequence };
    let sequences = (0..u32::MAX).take_while(|s| objects.contains_key(&id(*s))).count();
    let sequences = u32::try_from(sequences).unwrap_or(u32::MAX);
    if sequences > 0 {
        inherited.push(InheritedIncarnation {
            incarnation: newest,
            process_id: record.process_id,
            sequences,
        });
    }
    Ok(inherited)
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
    let key = wal_key(object);
    let corrupt = |what: String| CoordinatorError::Corrupt(format!("{key}: {what}"));
    if size < (HEADER.len() + TRAILER_BYTES) as u64 {
        return Err(corrupt("truncated".to_owned()));
    }
    let read = |from: u64| {
        let key = key.clone();
        async move {
            records.store().get(&key, Some(from..size)).await.map_err(|error| match error.kind {
                StoreErrorKind::NotFound => {
                    CoordinatorError::MetadataLost(format!("{key} is missing"))
                }
                _ => store_error(error),
            })
        }
    };
    let mut from = size.saturating_sub(TAIL_BYTES);
    let mut tail = read(from).await?;
    let range = footer_range(size, &tail).map_err(|e| corrupt(e.to_string()))?;
    if range.start < from {
        from = range.start;
        tail = read(from).await?;
    }
    let footer = decode_footer(size, &tail).map_err(|e| corrupt(e.to_string()))?;
    if footer.object != object {
        return Err(corrupt(format!("its footer has the id {}", footer.object)));
    }
    Ok(footer)
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
