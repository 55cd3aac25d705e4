//! OffsetForLeaderEpoch (23).

use std::sync::Arc;

use futures::future::join_all;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::requested_topics::{
    CALLS_MAX, TopicQuery, authorize_and_resolve, not_leader_error, permits_unless_classic,
};
use crate::engine::list_offsets::OffsetSpec;
use crate::log::ids::TopicId;
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::proxy::topics::Topic;

/// The epoch of a client that knows none.
const NO_EPOCH: i32 = -1;

pub(super) async fn guard(
    request: Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested: OffsetForLeaderEpochRequest = request.decode()?;
    let named: Vec<_> =
        requested.topics.iter().map(|topic| (TopicId::ZERO, topic.topic.as_str())).collect();
    let Some(permits) =
        permits_unless_classic(&request, AclOperation::Describe, &named, broker).await?
    else {
        return Ok(request.forward_unread());
    };
    let refuse = |(topic, permit): (&OffsetForLeaderTopic, TopicPermissions)| {
        let code = not_leader_error(permit, AclOperation::Describe);
        let rows = topic.partitions.iter().map(|p| epoch_row(p.partition, Err(code)));
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(rows.collect())
    };
    let topics = requested.topics.iter().zip(permits).map(refuse).collect();
    request.respond(&OffsetForLeaderEpochResponse::default().with_topics(topics))
}

/// Returns the high watermark as the end of every epoch: a diskless log is never truncated, so that
/// no client observes a divergence. An unknown epoch has no end, and epochs before the first one
/// end at the log start.
pub(super) async fn serve(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested: OffsetForLeaderEpochRequest = request.decode()?;
    let named = requested.topics.iter().map(|topic| (TopicId::ZERO, topic.topic.as_str()));
    let permits =
        broker.topic_permissions(AclOperation::Describe, &named.collect::<Vec<_>>()).await?;
    let proxy = Arc::clone(&request.proxy);
    Ok(request.respond_later(async move {
        let resolved = {
            let queries: Vec<_> = requested.topics.iter().map(query).collect();
            authorize_and_resolve(&proxy, &permits, AclOperation::Describe, &queries).await
        };
        let mut rows = Vec::new();
        let named = requested.topics.iter().zip(&resolved);
        let named =
            named.flat_map(|(topic, found)| topic.partitions.iter().map(move |p| (found, p)));
        for named in named.collect::<Vec<_>>().chunks(CALLS_MAX) {
            let rows_of = named.iter().map(|&(found, requested)| end_row(&proxy, found, requested));
            rows.extend(join_all(rows_of).await);
        }
        let mut rows = rows.into_iter();
        let topic = |topic: OffsetForLeaderTopic| {
            let rows = rows.by_ref().take(topic.partitions.len()).collect();
            OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(rows)
        };
        let topics = requested.topics.into_iter().map(topic).collect();
        OffsetForLeaderEpochResponse::default().with_topics(topics)
    }))
}

pub(super) fn query(topic: &OffsetForLeaderTopic) -> TopicQuery<'_> {
    TopicQuery::new(TopicId::ZERO, &topic.topic)
        .with_partitions(topic.partitions.iter().map(|p| p.partition))
}

async fn end_row(
    proxy: &Proxy,
    topic: &Result<Arc<Topic>, ErrorCode>,
    requested: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let end = async {
        let topic = topic.as_ref().map_err(|&code| code)?;
        let partition =
            topic.partition(requested.partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let position = match requested.leader_epoch {
            NO_EPOCH => return Ok((NO_EPOCH, -1)),
            i32::MIN..0 => OffsetSpec::Earliest,
            0.. => OffsetSpec::Latest,
        };
        let found = proxy.lookup.resolve(partition, position).await;
        let found = found.map_err(|error| error_code::for_lookup(&error))?;
        Ok((requested.leader_epoch, found.offset))
    };
    epoch_row(requested.partition, end.await)
}

fn epoch_row(partition: i32, end: Result<(i32, i64), ErrorCode>) -> EpochEndOffset {
    let row = EpochEndOffset::default().with_partition(partition);
    match end {
        Ok((epoch, offset)) => row.with_leader_epoch(epoch).with_end_offset(offset),
        Err(code) => row.with_error_code(code.0).with_leader_epoch(-1).with_end_offset(-1),
    }
}
