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
use crate::proxy::broker::authorization::Operation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// The first version whose answers carry leader epochs; earlier ones cannot be written with one.
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
    let asked: ListOffsetsRequest = request.decode()?;
    let named: Vec<_> =
        asked.topics.iter().map(|topic| (TopicId::ZERO, topic.name.as_str())).collect();
    let Some(permits) = permits_unless_classic(&request, &named, broker).await? else {
        return Ok(request.relay());
    };
    let refuse = |(topic, permit): (&ListOffsetsTopic, TopicPermissions)| {
        let code = not_leader_error(permit, Operation::Describe);
        let rows = topic.partitions.iter().map(|p| offset_row(p.partition_index, Err(code)));
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(rows.collect())
    };
    let topics = asked.topics.iter().zip(permits).map(refuse).collect();
    request.answer(&ListOffsetsResponse::default().with_topics(topics))
}

pub(super) async fn serve(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let mut asked: ListOffsetsRequest = request.decode()?;
    let twice = take_duplicates(&mut asked);
    let named = asked.topics.iter().map(|topic| (TopicId::ZERO, topic.name.as_str()));
    let permits = broker.topic_permissions(&named.collect::<Vec<_>>()).await?;
    if !matches!(asked.isolation_level, 0 | 1) {
        return request.answer(&request_error_response(&asked));
    }
    let proxy = Arc::clone(&request.proxy);
    let version = request.version();
    let with_epochs = version >= WITH_LEADER_EPOCHS;
    Ok(request.answer_later(async move {
        let topics = join_all(
            asked
                .topics
                .into_iter()
                .zip(permits)
                .map(|(topic, permit)| list_topic(&proxy, version, &twice, topic, permit)),
        );
        let mut response = ListOffsetsResponse::default().with_topics(topics.await);
        if !with_epochs {
            let rows = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            rows.for_each(|row| row.leader_epoch = -1);
        }
        response
    }))
}

/// Isolation levels that are none: a broker does not go into the request.
fn request_error_response(asked: &ListOffsetsRequest) -> ListOffsetsResponse {
    let refuse = |topic: &ListOffsetsTopic| {
        let code = ErrorCode::UNKNOWN_SERVER_ERROR;
        let rows = topic.partitions.iter().map(|p| offset_row(p.partition_index, Err(code)));
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(rows.collect())
    };
    ListOffsetsResponse::default().with_topics(asked.topics.iter().map(refuse).collect())
}

/// Leaves one of each partition, and says which were named more than once: those are refused.
fn take_duplicates(asked: &mut ListOffsetsRequest) -> HashSet<(TopicName, i32)> {
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for topic in &mut asked.topics {
        let name = &topic.name;
        topic.partitions.retain(|p| {
            let partition = (name.clone(), p.partition_index);
            let is_first = seen.insert(partition.clone());
            if !is_first {
                twice.insert(partition);
            }
            is_first
        });
    }
    twice
}

/// Whether a version knows the timestamp, where it is special.
fn is_known(timestamp: i64, version: i16) -> bool {
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
    twice: &HashSet<(TopicName, i32)>,
    topic: ListOffsetsTopic,
    permit: TopicPermissions,
) -> ListOffsetsTopicResponse {
    let indexes = topic.partitions.iter().map(|p| p.partition_index);
    let known =
        authorize_and_resolve(proxy, permit, Operation::Describe, &topic.name, indexes).await;
    let locate = async |asked: &ListOffsetsPartition| {
        let index = asked.partition_index;
        if !is_known(asked.timestamp, version) {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let known = known.as_ref().map_err(|&code| code)?;
        let partition = known.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let position = match asked.timestamp {
            special::LATEST => OffsetSpec::Latest,
            // Nothing of a diskless topic is local or tiered: its one log begins and ends there.
            special::EARLIEST | special::EARLIEST_LOCAL => OffsetSpec::Earliest,
            special::MAX_TIMESTAMP => OffsetSpec::MaxTimestamp,
            special::LATEST_TIERED => {
                return Ok((TimestampAndOffset { timestamp: -1, offset: -1 }, -1));
            }
            timestamp if timestamp >= 0 => OffsetSpec::Timestamp(timestamp),
            _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
        };
        let located = proxy.lookup.resolve(partition, position).await;
        let located = located.map_err(|error| error_code::for_lookup(&error))?;
        let epoch = if located.offset < 0 { -1 } else { known.leader_epoch(index) };
        Ok((located, epoch))
    };
    let mut rows = Vec::with_capacity(topic.partitions.len());
    for asked in &topic.partitions {
        let index = asked.partition_index;
        // Whoever may not look learns nothing else.
        let located = match known {
            Err(code @ ErrorCode::TOPIC_AUTHORIZATION_FAILED) => Err(code),
            _ if twice.contains(&(topic.name.clone(), index)) => Err(ErrorCode::INVALID_REQUEST),
            _ => locate(asked).await,
        };
        rows.push(offset_row(index, located));
    }
    ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(rows)
}

fn offset_row(
    index: i32,
    located: Result<(TimestampAndOffset, i32), ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let row = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match located {
        Ok((located, epoch)) => row
            .with_timestamp(located.timestamp)
            .with_offset(located.offset)
            .with_leader_epoch(epoch),
        Err(code) => {
            row.with_error_code(code.0).with_timestamp(-1).with_offset(-1).with_leader_epoch(-1)
        }
    }
}
