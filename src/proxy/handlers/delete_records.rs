//! DeleteRecords (21).

use crate::coordinator::CoordinatorExt as _;
use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::delete_records_request::DeleteRecordsTopic;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::requested_topics::{authorize_and_resolve, not_leader_error, permits_unless_classic};
use crate::engine::list_offsets::OffsetSpec;
use crate::log::ids::{TopicId, TopicPartition};
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// The offset that means the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub(super) async fn guard(
    request: Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested: DeleteRecordsRequest = request.decode()?;
    let named: Vec<_> =
        requested.topics.iter().map(|topic| (TopicId::ZERO, topic.name.as_str())).collect();
    let Some(permits) = permits_unless_classic(&request, &named, broker).await? else {
        return Ok(request.forward_unread());
    };
    let refuse = |(topic, permit): (&DeleteRecordsTopic, TopicPermissions)| {
        let code = not_leader_error(permit, AclOperation::Delete);
        let rows = topic.partitions.iter().map(|p| row(p.partition_index, Err(code)));
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(rows.collect())
    };
    let topics = requested.topics.iter().zip(permits).map(refuse).collect();
    request.respond(&DeleteRecordsResponse::default().with_topics(topics))
}

pub(super) async fn serve(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let mut requested: DeleteRecordsRequest = request.decode()?;
    keep_last(&mut requested);
    let named = requested.topics.iter().map(|topic| (TopicId::ZERO, topic.name.as_str()));
    let permits = broker.topic_permissions(&named.collect::<Vec<_>>()).await?;
    let proxy = Arc::clone(&request.proxy);
    Ok(request.respond_later(async move {
        let mut topics = Vec::with_capacity(requested.topics.len());
        for (topic, permit) in requested.topics.into_iter().zip(permits) {
            let indexes = topic.partitions.iter().map(|p| p.partition_index);
            let resolved =
                authorize_and_resolve(&proxy, permit, AclOperation::Delete, &topic.name, indexes)
                    .await;
            let mut rows = Vec::with_capacity(topic.partitions.len());
            for requested in &topic.partitions {
                let trimmed = async {
                    let resolved = resolved.as_ref().map_err(|&code| code)?;
                    let partition = resolved
                        .partition(requested.partition_index)
                        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
                    trim(&proxy, partition, requested.offset).await
                };
                rows.push(row(requested.partition_index, trimmed.await));
            }
            let result = DeleteRecordsTopicResult::default();
            topics.push(result.with_name(topic.name).with_partitions(rows));
        }
        DeleteRecordsResponse::default().with_topics(topics)
    }))
}

/// Keeps the last offset of a partition that is named more than once, like a broker.
fn keep_last(requested: &mut DeleteRecordsRequest) {
    let mut seen = HashSet::new();
    for topic in requested.topics.iter_mut().rev() {
        let name = &topic.name;
        let mut retained: Vec<_> = topic.partitions.drain(..).rev().collect();
        retained.retain(|p| seen.insert((name.clone(), p.partition_index)));
        retained.reverse();
        topic.partitions = retained;
    }
    requested.topics.retain(|topic| !topic.partitions.is_empty());
}

async fn trim(proxy: &Proxy, partition: TopicPartition, offset: i64) -> Result<i64, ErrorCode> {
    let end = proxy.lookup.resolve(partition, OffsetSpec::Latest).await;
    let end = end.map_err(|error| error_code::for_lookup(&error))?.offset;
    let start = if offset == HIGH_WATERMARK { end } else { offset };
    if start < 0 || start > end {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    match proxy.coordinator.trim_all(vec![(partition, start)]).await.as_deref() {
        Ok([watermarks]) => Ok(watermarks.log_start_offset),
        Ok(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        Err(error) => Err(error_code::for_coordinator(error)),
    }
}

fn row(index: i32, low_watermark: Result<i64, ErrorCode>) -> DeleteRecordsPartitionResult {
    let row = DeleteRecordsPartitionResult::default().with_partition_index(index);
    match low_watermark {
        Ok(low_watermark) => row.with_low_watermark(low_watermark),
        Err(code) => row.with_low_watermark(-1).with_error_code(code.0),
    }
}
