//! The work that a request causes before anything is looked up: what a client can make the proxy do
//! with a list that it sends. An entry point of `tests/request_cost.rs`.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{
    AlterConfigsRequest, ApiKey, CreateTopicsRequest, DeleteRecordsRequest, DescribeConfigsRequest,
    DescribeLogDirsRequest, DescribeProducersRequest, FetchRequest, IncrementalAlterConfigsRequest,
    ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use kafka_protocol::protocol::Request as ApiRequest;

use super::config_changes::{AlterRequest, Resource, ResourceResult};
use super::fetch::RequestedPartitions;
use super::fetch_partitions::{FetchContext, FetchParams, PartitionResult, group_by_topic};
use super::requested_topics::TopicQuery;
use super::{
    create_topics, delete_records, describe_configs, describe_log_dirs, describe_producers,
    list_offsets, offset_for_leader_epoch, produce,
};
use crate::entropy::Entropy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::fetch_sessions::{FetchSessions, INITIAL_EPOCH, Naming};
use crate::proxy::request::OwnedRequestHeader;
use crate::wire::fetch_response::{ResponseBody, encode};
use crate::wire::{frame, guard};

/// Decodes a frame without its length prefix, and does the work of its handler that needs no
/// network. Accepts any bytes.
pub fn request(frame: &[u8]) {
    let Ok(header) = OwnedRequestHeader::parse(frame) else { return };
    let body = Bytes::copy_from_slice(&frame[header.bytes..]);
    let version = header.api_version;
    match ApiKey::try_from(header.api_key) {
        Ok(ApiKey::Produce) => with(version, body, |produce: ProduceRequest| {
            count(produce.topic_data.iter().map(produce::query));
        }),
        Ok(ApiKey::Fetch) => with(version, body, |request| fetch(&request, version)),
        Ok(ApiKey::ListOffsets) => with(version, body, |mut request: ListOffsetsRequest| {
            list_offsets::remove_duplicates(&mut request);
            count(request.topics.iter().map(list_offsets::query));
        }),
        Ok(ApiKey::CreateTopics) => with(version, body, |request: CreateTopicsRequest| {
            create_topics::order_rows_of(&request);
        }),
        Ok(ApiKey::DeleteRecords) => with(version, body, |mut request: DeleteRecordsRequest| {
            delete_records::keep_last(&mut request);
            count(request.topics.iter().map(delete_records::query));
        }),
        Ok(ApiKey::OffsetForLeaderEpoch) => {
            with(version, body, |request: OffsetForLeaderEpochRequest| {
                count(request.topics.iter().map(offset_for_leader_epoch::query));
            });
        }
        Ok(ApiKey::DescribeConfigs) => with(version, body, |request: DescribeConfigsRequest| {
            describe_configs::flag_unrequested(&request);
        }),
        Ok(ApiKey::AlterConfigs) => with(version, body, alter::<AlterConfigsRequest>),
        Ok(ApiKey::IncrementalAlterConfigs) => {
            with(version, body, alter::<IncrementalAlterConfigsRequest>);
        }
        Ok(ApiKey::DescribeLogDirs) => with(version, body, |request: DescribeLogDirsRequest| {
            describe_log_dirs::included_partitions(&request);
        }),
        Ok(ApiKey::DescribeProducers) => {
            with(version, body, |request: DescribeProducersRequest| {
                count(request.topics.iter().map(describe_producers::query));
            })
        }
        _ => {}
    }
}

fn with<R: ApiRequest>(version: i16, body: Bytes, work: impl FnOnce(R)) {
    if let Ok(request) = guard::decode_request::<R>(version, body) {
        work(request);
    }
}

/// Builds all queries, as a handler does.
fn count<'a>(queries: impl Iterator<Item = TopicQuery<'a>>) {
    drop(queries.collect::<Vec<_>>());
}

/// Opens a session with the request, and continues it with the same request, which forgets.
fn fetch(request: &FetchRequest, version: i16) {
    let sessions = FetchSessions::new(Arc::new(Entropy::from_seed(1)));
    let naming = if version >= 13 { Naming::Ids } else { Naming::Names };
    let (mut session_id, mut epoch) = (0, INITIAL_EPOCH);
    for _ in 0..3 {
        let RequestedPartitions { partitions, forgotten, unknown } =
            RequestedPartitions::of(request);
        let forgotten = if epoch == INITIAL_EPOCH { Default::default() } else { forgotten };
        let Ok(plan) = sessions.begin(session_id, epoch, naming, partitions, &forgotten) else {
            return;
        };
        (session_id, epoch) = (plan.session_id, epoch + 1);
        let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let results: Vec<_> =
            plan.partitions.iter().map(|_| PartitionResult::failed(code)).collect();
        let reported: Vec<_> = results.iter().map(|row| (row.reported_state(), false)).collect();
        let named = sessions.finish(&plan, &reported);
        assert_eq!(named.len(), results.len());
        let context = FetchContext {
            params: FetchParams::of(request, false),
            naming,
            is_follower: false,
            reader_zone: None,
            valid_until: None,
        };
        let (mut topics, _) = group_by_topic(plan.partitions.iter().zip(results), &context);
        topics.extend(unknown);
        encode(ResponseBody { error_code: 0, session_id, topics }, version, frame::begin());
    }
}

/// Adds a result for each resource, the last one first.
fn alter<A: AlterRequest>(mut request: A) {
    let order: Vec<_> =
        request.resources().iter().map(|r| (r.resource_type(), r.name().clone())).collect();
    let result = |resource: &A::Resource| ResourceResult {
        resource_type: resource.resource_type(),
        name: resource.name().clone(),
        code: ErrorCode::INVALID_CONFIG,
        message: None,
    };
    let results = request.resources().iter().rev().map(result).collect();
    A::add_results(&mut A::Response::default(), results, &order);
}
