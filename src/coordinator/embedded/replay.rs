//! Rebuilds the state from the objects and records of earlier incarnations.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::CONCURRENCY;
use super::records::{Adopted, ClusterRecord, Position, Records, TopicRecord, store_error};
use crate::coordinator::memory::state::State;
use crate::coordinator::{BindRule, Commit, CoordinatorError, Registration};
use crate::log::ids::{ObjectId, TopicId, TopicPartition};
use crate::log::object_format::{
    Footer, HEADER, TAIL_BYTES, TRAILER_BYTES, WAL_PREFIX, decode_footer, footer_range,
    parse_wal_key, wal_key,
};
use crate::store::StoreErrorKind;

/// The state as the last process left it.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) state: State,
    pub(super) newest_incarnation: Option<u64>,
    pub(super) adopted: Vec<Adopted>,
}

pub(super) async fn replay(
    records: &Records,
    cluster: &ClusterRecord,
) -> Result<Replayed, CoordinatorError> {
    let incarnations = records.incarnations().await?;
    let objects = list_objects(records, &incarnations).await?;
    let adopted = plan_adoption(records, &incarnations, &objects).await?;
    let topics = read_topics(records).await?;
    let mut state = State::default();
    replay_cluster(&mut state, cluster)?;
    let in_order = adopted.iter().flat_map(|a| {
        let id =
            |sequence| ObjectId { incarnation: a.incarnation, process_id: a.process_id, sequence };
        (0..a.sequences).map(id)
    });
    let reads: Vec<_> = in_order.map(|object| (object, objects.get(&object).copied())).collect();
    // In order and bounded: as many footers in memory as are read at once.
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
    Ok(Replayed { state, newest_incarnation, adopted })
}

/// Sizes of the WAL objects by id; each must belong to an incarnation that began here.
async fn list_objects(
    records: &Records,
    incarnations: &[u64],
) -> Result<BTreeMap<ObjectId, u64>, CoordinatorError> {
    let mut objects = BTreeMap::new();
    for meta in records.list(WAL_PREFIX).await? {
        let object = parse_wal_key(&meta.key)
            .ok_or_else(|| CoordinatorError::Corrupt(format!("{} is no WAL object", meta.key)))?;
        if incarnations.binary_search(&object.incarnation).is_err() {
            let detail =
                format!("{} was not written in embedded mode, or embedded/ is gone", meta.key);
            return Err(CoordinatorError::MetadataLost(detail));
        }
        objects.insert(object, meta.size);
    }
    Ok(objects)
}

/// Which objects count: for every incarnation but the newest what its successor adopted, which
/// the newest one's record repeats; for the newest itself, all until the first gap.
async fn plan_adoption(
    records: &Records,
    incarnations: &[u64],
    objects: &BTreeMap<ObjectId, u64>,
) -> Result<Vec<Adopted>, CoordinatorError> {
    let Some(&newest) = incarnations.last() else { return Ok(Vec::new()) };
    let record = records.incarnation(newest).await?;
    let mut adopted = record.adopted;
    let id = |sequence| ObjectId { incarnation: newest, process_id: record.process_id, sequence };
    let sequences = (0..u32::MAX).take_while(|s| objects.contains_key(&id(*s))).count();
    let sequences = u32::try_from(sequences).unwrap_or(u32::MAX);
    if sequences > 0 {
        adopted.push(Adopted { incarnation: newest, process_id: record.process_id, sequences });
    }
    Ok(adopted)
}

async fn read_topics(
    records: &Records,
) -> Result<BTreeMap<TopicId, TopicRecord>, CoordinatorError> {
    let topics = stream::iter(records.topics_recorded().await?).map(|topic| async move {
        let record = records.topic(topic).await?;
        Ok::<_, CoordinatorError>(record.map(|record| (topic, record)))
    });
    let topics: Vec<_> = topics.buffer_unordered(CONCURRENCY).try_collect().await?;
    Ok(topics.into_iter().flatten().collect())
}

async fn read_footer(
    records: &Records,
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
        return Err(corrupt(format!("it calls itself {}", footer.object)));
    }
    Ok(footer)
}

fn replay_cluster(state: &mut State, cluster: &ClusterRecord) -> Result<(), CoordinatorError> {
    if let Some(cluster_id) = &cluster.cluster_id {
        for zone in &cluster.zones {
            state.attach(cluster_id, zone)?;
        }
    }
    Ok(())
}

fn replay_object(state: &mut State, topics: &BTreeMap<TopicId, TopicRecord>, footer: Footer) {
    let object = footer.object;
    let here = Position { incarnation: object.incarnation, sequence: object.sequence };
    let mut parts = footer.parts;
    parts.retain(|part| match topics.get(&part.partition.topic) {
        None => true,
        Some(record) => record.binding(part.partition.topic).is_some() && record.since <= here,
    });
    state.commit(&Commit { object, sealed_ms: footer.sealed_ms, parts });
}

fn replay_topics(state: &mut State, topics: &BTreeMap<TopicId, TopicRecord>) {
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

async fn replay_trims(records: &Records, state: &mut State) -> Result<(), CoordinatorError> {
    let topics: BTreeSet<TopicId> = records.topics_trimmed().await?.into_iter().collect();
    for topic in topics {
        let Some(record) = records.trims(topic).await? else { continue };
        for (partition, start) in record.partitions {
            state.trim(TopicPartition { topic, partition }, start);
        }
    }
    Ok(())
}
