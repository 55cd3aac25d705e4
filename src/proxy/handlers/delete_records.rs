//! DeleteRecords (21).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use kafka_protocol::messages::delete_records_request::DeleteRecordsTopic;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};

use super::requested_topics::{
    TopicQuery, authorize_and_resolve, not_leader_error, permits_unless_classic,
};
use crate::log::ids::{TopicId, TopicPartition};
use crate::proxy::audit::{AuditEvent, AuditOutcome, Auditor};
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
    let Some(permits) =
        permits_unless_classic(&request, AclOperation::Delete, &named, broker).await?
    else {
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
    let permits =
        broker.topic_permissions(AclOperation::Delete, &named.collect::<Vec<_>>()).await?;
    let (proxy, auditor) = (Arc::clone(&request.proxy), broker.auditor().clone());
    Ok(request.respond_later(async move {
        let resolved = {
            let queries: Vec<_> = requested.topics.iter().map(query).collect();
            authorize_and_resolve(&proxy, &permits, AclOperation::Delete, &queries).await
        };
        let (mut rows, mut deletions) = (Vec::new(), Vec::new());
        for (topic, resolved) in requested.topics.iter().zip(&resolved) {
            for requested in &topic.partitions {
                let partition = resolved.as_ref().map_err(|&code| code).and_then(|topic| {
                    let partition = topic.partition(requested.partition_index);
                    partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                });
                rows.push(partition.map(|partition| {
                    deletions.push((partition, requested.offset));
                    deletions.len() - 1
                }));
            }
        }
        let deleted = delete(&proxy, &deletions).await;
        let mut rows = rows.into_iter().map(|row| row.and_then(|index| deleted[index]));
        let topic = |topic: DeleteRecordsTopic| {
            let partitions = topic.partitions.iter().zip(&mut rows);
            let partitions = partitions.map(|(p, deleted)| row(p.partition_index, deleted));
            DeleteRecordsTopicResult::default()
                .with_partitions(partitions.collect())
                .with_name(topic.name)
        };
        let topics: Vec<_> = requested.topics.into_iter().map(topic).collect();
        audit(&auditor, &topics);
        DeleteRecordsResponse::default().with_topics(topics)
    }))
}

/// Records one event for each topic.
fn audit(auditor: &Auditor, topics: &[DeleteRecordsTopicResult]) {
    for topic in topics {
        let mut codes = topic.partitions.iter().map(|row| ErrorCode(row.error_code));
        let failed = codes.find(|code| *code != ErrorCode::NONE);
        auditor.record(&AuditEvent::DeleteRecords {
            topic: topic.name.as_str(),
            partitions: topic.partitions.len(),
            outcome: AuditOutcome::of(failed.unwrap_or(ErrorCode::NONE)),
        });
    }
}

pub(super) fn query(topic: &DeleteRecordsTopic) -> TopicQuery<'_> {
    TopicQuery::new(TopicId::ZERO, &topic.name)
        .with_partitions(topic.partitions.iter().map(|p| p.partition_index))
}

/// Keeps the last offset of a partition that is named more than once, like a broker.
pub(super) fn keep_last(requested: &mut DeleteRecordsRequest) {
    let mut seen: HashMap<TopicName, HashSet<i32>> = HashMap::new();
    for topic in requested.topics.iter_mut().rev() {
        let seen = seen.entry(topic.name.clone()).or_default();
        let mut retained: Vec<_> = topic.partitions.drain(..).rev().collect();
        retained.retain(|p| seen.insert(p.partition_index));
        retained.reverse();
        topic.partitions = retained;
    }
    requested.topics.retain(|topic| !topic.partitions.is_empty());
}

/// Deletes records below offsets; returns the new log start offset of each partition, in order. A
/// shard that does not respond affects its own partitions alone.
async fn delete(proxy: &Proxy, deletions: &[(TopicPartition, i64)]) -> Vec<Result<i64, ErrorCode>> {
    let partitions: Vec<_> = deletions.iter().map(|(partition, _)| *partition).collect();
    let ends = proxy.lookup.watermarks(&partitions).await;
    let mut results = Vec::with_capacity(deletions.len());
    let mut shards: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (index, (&(partition, offset), end)) in deletions.iter().zip(&ends).enumerate() {
        let start = end.as_ref().map_err(error_code::for_coordinator).and_then(|end| {
            let start = if offset == HIGH_WATERMARK { end.high_watermark } else { offset };
            let is_valid = (0..=end.high_watermark).contains(&start);
            if is_valid { Ok(start) } else { Err(ErrorCode::OFFSET_OUT_OF_RANGE) }
        });
        if start.is_ok() {
            shards.entry(proxy.coordinator.shard(partition)).or_default().push(index);
        }
        results.push(start);
    }
    let trims = shards.into_values().map(|indexes| {
        let start = |&index: &usize| Some((partitions[index], results[index].ok()?));
        let starts = indexes.iter().filter_map(start).collect();
        async move { (indexes, proxy.coordinator.trim(starts).await) }
    });
    for (indexes, trimmed) in join_all(trims).await {
        for (index, trimmed) in indexes.into_iter().zip(trimmed) {
            let trimmed = trimmed.map(|watermarks| watermarks.log_start_offset);
            results[index] = trimmed.map_err(|error| error_code::for_coordinator(&error));
        }
    }
    results
}

fn row(index: i32, low_watermark: Result<i64, ErrorCode>) -> DeleteRecordsPartitionResult {
    let row = DeleteRecordsPartitionResult::default().with_partition_index(index);
    match low_watermark {
        Ok(low_watermark) => row.with_low_watermark(low_watermark),
        Err(code) => row.with_low_watermark(-1).with_error_code(code.0),
    }
}
