//! DescribeProducers (61): KIP-664.

use std::sync::Arc;

use futures::StreamExt as _;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::requested_topics::{
    TopicQuery, authorize_and_resolve, is_legal_name, not_leader_error, permits_unless_classic,
};
use crate::coordinator::ProducerSnapshot;
use crate::log::ids::TopicId;
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// Partitions of a topic that are described at a time: one of a slow shard delays few others.
const CALLS_MAX: usize = 16;

pub(super) async fn guard(
    request: Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested: DescribeProducersRequest = request.decode()?;
    let named: Vec<_> =
        requested.topics.iter().map(|topic| (TopicId::ZERO, topic.name.as_str())).collect();
    let Some(permits) =
        permits_unless_classic(&request, AclOperation::Read, &named, broker).await?
    else {
        return Ok(request.forward_unread());
    };
    let refuse = |(topic, permit): (&TopicRequest, TopicPermissions)| {
        let code = not_leader_error(permit, AclOperation::Read);
        let rows = topic.partition_indexes.iter().map(|&index| row(index, Err(code)));
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(rows.collect())
    };
    let topics = requested.topics.iter().zip(permits).map(refuse).collect();
    request.respond(&DescribeProducersResponse::default().with_topics(topics))
}

pub(super) async fn serve(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested: DescribeProducersRequest = request.decode()?;
    let named = requested.topics.iter().map(|topic| (TopicId::ZERO, topic.name.as_str()));
    let permits = broker.topic_permissions(AclOperation::Read, &named.collect::<Vec<_>>()).await?;
    let proxy = Arc::clone(&request.proxy);
    Ok(request.respond_later(async move {
        let resolved = {
            let queries: Vec<_> = requested.topics.iter().map(query).collect();
            authorize_and_resolve(&proxy, &permits, AclOperation::Read, &queries).await
        };
        let mut topics = Vec::with_capacity(requested.topics.len());
        for (topic, resolved) in requested.topics.into_iter().zip(resolved) {
            let (proxy, resolved, name) = (&proxy, &resolved, &topic.name);
            let describe = async |index: i32| {
                let producers = async {
                    // A broker validates the name here, but not in the other requests.
                    if !is_legal_name(name) {
                        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
                    }
                    let resolved = resolved.as_ref().map_err(|&code| code)?;
                    let partition =
                        resolved.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
                    let producers = proxy.coordinator.producers(partition).await;
                    producers.map_err(|error| error_code::for_coordinator(&error))
                };
                row(index, producers.await)
            };
            let indexes = futures::stream::iter(topic.partition_indexes.iter().copied());
            let rows = indexes.map(describe).buffered(CALLS_MAX).collect::<Vec<_>>().await;
            topics.push(TopicResponse::default().with_name(topic.name).with_partitions(rows));
        }
        DescribeProducersResponse::default().with_topics(topics)
    }))
}

pub(super) fn query(topic: &TopicRequest) -> TopicQuery<'_> {
    TopicQuery::new(TopicId::ZERO, &topic.name)
        .with_partitions(topic.partition_indexes.iter().copied())
}

fn row(index: i32, producers: Result<Vec<ProducerSnapshot>, ErrorCode>) -> PartitionResponse {
    let row = PartitionResponse::default().with_partition_index(index);
    let state = |producer: ProducerSnapshot| {
        ProducerState::default()
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(i32::from(producer.epoch))
            .with_last_sequence(producer.last_sequence)
            .with_last_timestamp(producer.last_timestamp)
            .with_coordinator_epoch(-1)
            .with_current_txn_start_offset(-1)
    };
    match producers {
        Ok(producers) => row.with_active_producers(producers.into_iter().map(state).collect()),
        Err(code) => row.with_error_code(code.0),
    }
}
