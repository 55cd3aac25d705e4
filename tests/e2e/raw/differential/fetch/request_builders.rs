//! Builders of requests for the topics that both sides have.

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, TopicName,
};
use uuid::Uuid;

use super::side_by_side::{Side, TopicRef};
use crate::raw::requests::{fetch_partition, topic_name};

/// Groups consecutive parts of one topic.
fn grouped<P: Clone>(parts: &[(TopicRef, P)]) -> Vec<(TopicRef, Vec<P>)> {
    let mut topics: Vec<(TopicRef, Vec<P>)> = Vec::new();
    for (to, part) in parts {
        match topics.last_mut() {
            Some((last, parts)) if last == to => parts.push(part.clone()),
            _ => topics.push((*to, vec![part.clone()])),
        }
    }
    topics
}

/// Returns the topic's name, or its id from version 13 on.
fn named(side: &Side, to: TopicRef, version: i16) -> (TopicName, Uuid) {
    let (name, id) = side.name_and_id(to);
    if version >= 13 { (topic_name(""), id) } else { (topic_name(name), Uuid::nil()) }
}

/// Returns a fetch without session and without a wait, of partitions from offsets.
pub(super) fn fetch(side: &Side, version: i16, parts: &[(TopicRef, i32, i64)]) -> FetchRequest {
    let parts: Vec<_> =
        parts.iter().map(|&(to, index, offset)| (to, fetch_partition(index, offset))).collect();
    fetch_parts(side, version, &parts)
}

pub(super) fn fetch_parts(
    side: &Side,
    version: i16,
    parts: &[(TopicRef, FetchPartition)],
) -> FetchRequest {
    let topic = |(to, partitions)| {
        let (name, id) = named(side, to, version);
        FetchTopic::default().with_topic(name).with_topic_id(id).with_partitions(partitions)
    };
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(grouped(parts).into_iter().map(topic).collect())
}

/// Returns a fetch in the last session of the side.
pub(super) fn in_session(
    side: &Side,
    version: i16,
    epoch: i32,
    parts: &[(TopicRef, i32, i64)],
) -> FetchRequest {
    fetch(side, version, parts).with_session_id(side.session).with_session_epoch(epoch)
}

pub(super) fn forgotten(
    side: &Side,
    version: i16,
    to: TopicRef,
    partitions: &[i32],
) -> ForgottenTopic {
    let (name, id) = named(side, to, version);
    ForgottenTopic::default()
        .with_topic(name)
        .with_topic_id(id)
        .with_partitions(partitions.to_vec())
}

/// Returns a ListOffsets request for timestamps of partitions.
pub(super) fn positions(side: &Side, parts: &[(TopicRef, i32, i64)]) -> ListOffsetsRequest {
    let part = |&(to, index, timestamp): &(TopicRef, i32, i64)| {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        (to, partition)
    };
    let topic = |(to, partitions)| {
        ListOffsetsTopic::default()
            .with_name(topic_name(side.name_and_id(to).0))
            .with_partitions(partitions)
    };
    let parts: Vec<_> = parts.iter().map(part).collect();
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(grouped(&parts).into_iter().map(topic).collect())
}

pub(super) fn deletion(side: &Side, parts: &[(TopicRef, i32, i64)]) -> DeleteRecordsRequest {
    let part = |&(to, index, offset): &(TopicRef, i32, i64)| {
        let partition = DeleteRecordsPartition::default();
        (to, partition.with_partition_index(index).with_offset(offset))
    };
    let topic = |(to, partitions)| {
        DeleteRecordsTopic::default()
            .with_name(topic_name(side.name_and_id(to).0))
            .with_partitions(partitions)
    };
    let parts: Vec<_> = parts.iter().map(part).collect();
    DeleteRecordsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(grouped(&parts).into_iter().map(topic).collect())
}
