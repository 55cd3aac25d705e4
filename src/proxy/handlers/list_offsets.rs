//! ListOffsets (2).

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};

use super::requested_topics::{authorize_and_resolve, not_leader_error, permits_unless_classic};
use crate::engine::list_offsets::{OffsetSpec, TimestampAndOffset};
use crate::log::ids::TopicId;
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

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
    let Some(permits) = permits_unless_classic(&request, &named, broker).await? else {
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
    let permits = broker.topic_permissions(&named.collect::<Vec<_>>()).await?;
    if !matches!(requested.isolation_level, 0 | 1) {
        return request.respond(&request_error_response(&requested));
    }
    let proxy = Arc::clone(&request.proxy);
    let version = request.version();
    let with_epochs = version >= WITH_LEADER_EPOCHS;
    Ok(request.respond_later(async move {
        let topics = join_all(
            requested
                .topics
                .into_iter()
                .zip(permits)
                .map(|(topic, permit)| list_topic(&proxy, version, &duplicates, topic, permit)),
        );
        let mut response = ListOffsetsResponse::default().with_topics(topics.await);
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

/// Removes repeated partitions, and returns the partitions that were named more than once, which
/// are rejected.
fn remove_duplicates(requested: &mut ListOffsetsRequest) -> HashSet<(TopicName, i32)> {
    let (mut unique, mut duplicates) = (HashSet::new(), HashSet::new());
    for topic in &mut requested.topics {
        let name = &topic.name;
        topic.partitions.retain(|p| {
            let partition = (name.clone(), p.partition_index);
            let is_first = unique.insert(partition.clone());
            if !is_first {
                duplicates.insert(partition);
            }
            is_first
        });
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

async fn list_topic(
    proxy: &Proxy,
    version: i16,
    duplicates: &HashSet<(TopicName, i32)>,
    topic: ListOffsetsTopic,
    permit: TopicPermissions,
) -> ListOffsetsTopicResponse {
    let indexes = topic.partitions.iter().map(|p| p.partition_index);
    let resolved =
        authorize_and_resolve(proxy, permit, AclOperation::Describe, &topic.name, indexes).await;
    let locate = async |requested: &ListOffsetsPartition| {
        let index = requested.partition_index;
        if !is_supported(requested.timestamp, version) {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let resolved = resolved.as_ref().map_err(|&code| code)?;
        let partition = resolved.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let position = match requested.timestamp {
            special::LATEST => OffsetSpec::Latest,
            // No part of a diskless topic is local or tiered: its one log has one start and one
            // end.
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
        let epoch = if found.offset < 0 { -1 } else { resolved.leader_epoch(index) };
        Ok((found, epoch))
    };
    let (resolved, locate, name) = (&resolved, &locate, &topic.name);
    let row = async |requested: &ListOffsetsPartition| {
        let index = requested.partition_index;
        // A client without permission learns nothing else.
        let found = match resolved {
            Err(code @ ErrorCode::TOPIC_AUTHORIZATION_FAILED) => Err(*code),
            _ if duplicates.contains(&(name.clone(), index)) => Err(ErrorCode::INVALID_REQUEST),
            _ => locate(requested).await,
        };
        offset_row(index, found)
    };
    let rows = join_all(topic.partitions.iter().map(row)).await;
    ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(rows)
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
