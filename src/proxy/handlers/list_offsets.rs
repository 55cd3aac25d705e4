//! ListOffsets (2).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};

use super::requested_topics::{
    CALLS_MAX, TopicQuery, authorize_and_resolve, not_leader_error, permits_unless_classic,
};
use crate::engine::list_offsets::{OffsetSpec, TimestampAndOffset};
use crate::log::ids::TopicId;
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::proxy::topics::Topic;

/// The first version whose responses carry leader epochs; earlier versions cannot encode one.
const WITH_LEADER_EPOCHS: i16 = 4;

/// The special timestamps of `ListOffsetsRequest` (KIP-734, KIP-405, KIP-1005).
mod special {
    pub(super) const LATEST: i64 = -1;
    pub(super) const EARLIEST: i64 = -2;
    pub(super) const MAX_TIMESTAMP: i64 = -3;
    pub(super) const EARLIEST_LOCAL: i64 = -4;
    pub(super) const LATEST_TIERED: i64 = -5;
}

pub(super) async fn guard(
    request: Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested = decode(&request)?;
    let named: Vec<_> =
        requested.topics.iter().map(|topic| (TopicId::ZERO, topic.name.as_str())).collect();
    let Some(permits) =
        permits_unless_classic(&request, AclOperation::Describe, &named, broker).await?
    else {
        return Ok(request.forward_unread());
    };
    let refuse = |(topic, permit): (&ListOffsetsTopic, TopicPermissions)| {
        let code = not_leader_error(permit, AclOperation::Describe);
        let rows = topic.partitions.iter().map(|p| offset_row(p.partition_index, Err(code)));
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(rows.collect())
    };
    let topics = requested.topics.iter().zip(permits).map(refuse).collect();
    request.respond(&ListOffsetsResponse::default().with_topics(topics))
}

/// Decodes a request. A topic without partitions is as good as none: no broker repeats it.
fn decode(request: &Request) -> Result<ListOffsetsRequest, CloseReason> {
    let mut requested: ListOffsetsRequest = request.decode()?;
    requested.topics.retain(|topic| !topic.partitions.is_empty());
    Ok(requested)
}

pub(super) async fn serve(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let mut requested = decode(request)?;
    let duplicates = remove_duplicates(&mut requested);
    let named = requested.topics.iter().map(|topic| (TopicId::ZERO, topic.name.as_str()));
    let permits =
        broker.topic_permissions(AclOperation::Describe, &named.collect::<Vec<_>>()).await?;
    if !matches!(requested.isolation_level, 0 | 1) {
        return request.respond(&request_error_response(&requested));
    }
    let proxy = Arc::clone(&request.proxy);
    let version = request.version();
    let with_epochs = version >= WITH_LEADER_EPOCHS;
    Ok(request.respond_later(async move {
        let topics = list_topics(&proxy, version, duplicates, requested, &permits).await;
        let mut response = ListOffsetsResponse::default().with_topics(topics);
        if !with_epochs {
            let rows = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            rows.for_each(|row| row.leader_epoch = -1);
        }
        response
    }))
}

/// Returns a broker's response to an unknown isolation level, which rejects the whole request.
fn request_error_response(requested: &ListOffsetsRequest) -> ListOffsetsResponse {
    let refuse = |topic: &ListOffsetsTopic| {
        let code = ErrorCode::UNKNOWN_SERVER_ERROR;
        let rows = topic.partitions.iter().map(|p| offset_row(p.partition_index, Err(code)));
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(rows.collect())
    };
    ListOffsetsResponse::default().with_topics(requested.topics.iter().map(refuse).collect())
}

/// The partitions of a request that were named more than once, by topic.
#[derive(Debug, Default)]
pub(super) struct Duplicates(HashMap<TopicName, HashSet<i32>>);

impl Duplicates {
    fn of(&self, topic: &TopicName) -> Option<&HashSet<i32>> {
        self.0.get(topic)
    }
}

/// Removes repeated partitions, and returns the partitions that were named more than once, which
/// are rejected.
pub(super) fn remove_duplicates(requested: &mut ListOffsetsRequest) -> Duplicates {
    let mut unique: HashMap<TopicName, HashSet<i32>> = HashMap::new();
    let mut duplicates = Duplicates::default();
    for topic in &mut requested.topics {
        let unique = unique.entry(topic.name.clone()).or_default();
        let mut repeated = HashSet::new();
        topic.partitions.retain(|p| {
            let is_first = unique.insert(p.partition_index);
            if !is_first {
                repeated.insert(p.partition_index);
            }
            is_first
        });
        if !repeated.is_empty() {
            duplicates.0.entry(topic.name.clone()).or_default().extend(repeated);
        }
    }
    duplicates
}

/// Returns whether a version supports the timestamp, if it is a special one.
fn is_supported(timestamp: i64, version: i16) -> bool {
    match timestamp {
        0.. | special::LATEST | special::EARLIEST => true,
        special::MAX_TIMESTAMP => version >= 7,
        special::EARLIEST_LOCAL => version >= 8,
        special::LATEST_TIERED => version >= 9,
        _ => false,
    }
}

async fn list_topics(
    proxy: &Proxy,
    version: i16,
    duplicates: Duplicates,
    requested: ListOffsetsRequest,
    permits: &[TopicPermissions],
) -> Vec<ListOffsetsTopicResponse> {
    let resolved = {
        let queries: Vec<_> = requested.topics.iter().map(query).collect();
        authorize_and_resolve(proxy, permits, AclOperation::Describe, &queries).await
    };
    let mut rows = Vec::new();
    let named = requested.topics.iter().zip(&resolved).flat_map(|(topic, found)| {
        let duplicates = duplicates.of(&topic.name);
        topic.partitions.iter().map(move |requested| (duplicates, found, requested))
    });
    for named in named.collect::<Vec<_>>().chunks(CALLS_MAX) {
        let rows_of = named.iter().map(|&named| list_partition(proxy, version, named));
        rows.extend(join_all(rows_of).await);
    }
    let mut rows = rows.into_iter();
    let topic = |topic: ListOffsetsTopic| {
        let rows = rows.by_ref().take(topic.partitions.len()).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(rows)
    };
    requested.topics.into_iter().map(topic).collect()
}

pub(super) fn query(topic: &ListOffsetsTopic) -> TopicQuery<'_> {
    TopicQuery::new(TopicId::ZERO, &topic.name)
        .with_partitions(topic.partitions.iter().map(|p| p.partition_index))
}

/// A partition of a request: the repeated partitions of its topic, the topic, and the request.
type NamedPartition<'a> =
    (Option<&'a HashSet<i32>>, &'a Result<Arc<Topic>, ErrorCode>, &'a ListOffsetsPartition);

async fn list_partition(
    proxy: &Proxy,
    version: i16,
    (duplicates, topic, requested): NamedPartition<'_>,
) -> ListOffsetsPartitionResponse {
    let index = requested.partition_index;
    let found = match topic {
        // A client without permission learns nothing else.
        Err(code @ ErrorCode::TOPIC_AUTHORIZATION_FAILED) => Err(*code),
        _ if duplicates.is_some_and(|partitions| partitions.contains(&index)) => {
            Err(ErrorCode::INVALID_REQUEST)
        }
        _ => locate(proxy, version, topic, requested).await,
    };
    offset_row(index, found)
}

async fn locate(
    proxy: &Proxy,
    version: i16,
    topic: &Result<Arc<Topic>, ErrorCode>,
    requested: &ListOffsetsPartition,
) -> Result<(TimestampAndOffset, i32), ErrorCode> {
    let index = requested.partition_index;
    if !is_supported(requested.timestamp, version) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let topic = topic.as_ref().map_err(|&code| code)?;
    let partition = topic.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let position = match requested.timestamp {
        special::LATEST => OffsetSpec::Latest,
        // No part of a diskless topic is local or tiered: its one log has one start and one end.
        special::EARLIEST | special::EARLIEST_LOCAL => OffsetSpec::Earliest,
        special::MAX_TIMESTAMP => OffsetSpec::MaxTimestamp,
        special::LATEST_TIERED => {
            return Ok((TimestampAndOffset { timestamp: -1, offset: -1 }, -1));
        }
        timestamp if timestamp >= 0 => OffsetSpec::Timestamp(timestamp),
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    let found = proxy.lookup.resolve(partition, position).await;
    let found = found.map_err(|error| error_code::for_lookup(&error))?;
    let epoch = if found.offset < 0 { -1 } else { topic.leader_epoch(index) };
    Ok((found, epoch))
}

fn offset_row(
    index: i32,
    found: Result<(TimestampAndOffset, i32), ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let row = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match found {
        Ok((found, epoch)) => {
            row.with_timestamp(found.timestamp).with_offset(found.offset).with_leader_epoch(epoch)
        }
        Err(code) => {
            row.with_error_code(code.0).with_timestamp(-1).with_offset(-1).with_leader_epoch(-1)
        }
    }
}
