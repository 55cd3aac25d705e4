//! Produce (0).

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use tokio::time::Instant;
use tracing::{Instrument as _, trace_span};

use super::produce_validation::{self, ProduceError};
use super::requested_topics::{
    Freshness, RequestTopics, TopicQuery, authorize_and_resolve, classify_topics, not_leader_error,
    topic_id,
};
use crate::coordinator::{CommitOutcome, Refusal};
use crate::engine::produce::{AppendOutcome, ProducedBatch};
use crate::log::ids::{TopicId, TopicPartition};
use crate::logging::SPAN_TARGET;
use crate::metrics::{ApiKind, Metrics, ProduceStage};
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::request::{Action, Request, ResponseHandling};
use crate::proxy::response::{self, CloseReason};
use crate::proxy::topics::Topic;

/// The minimum time before a produce times out, however short the client's `timeout_ms`: a broker
/// has the batch in its log by then, and times out only on other replicas. If batches that are
/// about to be committed timed out, a client without idempotence would write them twice.
const DEADLINE_MIN: Duration = Duration::from_secs(5);

/// The maximum throttle time. A producer whose request waited for memory is throttled for the same
/// time (KIP-219), up to this limit; its socket is not read meanwhile in any case.
const THROTTLE_MAX: Duration = Duration::from_secs(1);
/// The first version that names topics by their ids alone (KIP-516).
const WITH_TOPIC_IDS: i16 = 13;

/// Forwards a request on a classic endpoint if it names classic topics only. Otherwise all of its
/// partitions get a retriable code and nothing is stored, so that the client refreshes its
/// metadata.
pub(super) async fn guard(
    request: Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let produce = decode(&request)?;
    let named = named(&produce);
    let topics = named.iter().copied();
    let mut names = classify_topics(&request.proxy, topics, Freshness::Current, broker).await?;
    let records = &request.proxy.topics.record_guard;
    if names == RequestTopics::ClassicOnly && !records.is_confirmed(&named) {
        broker.ensure_admitted().await?;
        if !records.may_forward_records(&named).await {
            names = RequestTopics::Diskless;
        }
    }
    match (names, produce.acks) {
        (RequestTopics::ClassicOnly, 0) => Ok(Action::Forward {
            frames: request.frames(),
            response: ResponseHandling::NotExpected,
        }),
        (RequestTopics::ClassicOnly, _) if request.version() < 10 => Ok(request.forward_unread()),
        (RequestTopics::ClassicOnly, _) => {
            let to = request.router();
            Ok(request.forward::<ProduceRequest, _>(move |_, mut response| async move {
                for node in &mut response.node_endpoints {
                    to.rewrite_address(node.node_id, &mut node.host, &mut node.port);
                }
                response
            }))
        }
        (RequestTopics::Diskless, 0) => Err(CloseReason::UnacknowledgedFailure),
        (RequestTopics::Diskless, _) => {
            let permits = broker.topic_permissions(AclOperation::Write, &named).await?;
            let code =
                |permit: &TopicPermissions| not_leader_error(*permit, AclOperation::Write).into();
            request.respond(&error_response(&produce, permits.iter().map(code)))
        }
    }
}

/// Decodes a request. A topic without partitions is as good as none: no broker repeats it.
fn decode(request: &Request) -> Result<ProduceRequest, CloseReason> {
    let mut produce: ProduceRequest = request.decode()?;
    produce.topic_data.retain(|topic| !topic.partition_data.is_empty());
    Ok(produce)
}

fn named(produce: &ProduceRequest) -> Vec<(TopicId, &str)> {
    produce.topic_data.iter().map(|t| (topic_id(&t.topic_id), t.name.as_str())).collect()
}

/// Returns a response in which every partition has an error, the same for all of a topic.
fn error_response(
    produce: &ProduceRequest,
    error: impl Iterator<Item = ProduceError>,
) -> ProduceResponse {
    let refuse = |(topic, error): (&TopicProduceData, ProduceError)| {
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(
                topic.partition_data.iter().map(|p| error.clone().row(p.index)).collect(),
            )
    };
    let topics = produce.topic_data.iter().zip(error);
    ProduceResponse::default().with_responses(topics.map(refuse).collect())
}

fn error_row(index: i32, code: ErrorCode) -> PartitionProduceResponse {
    ProduceError::from(code).row(index)
}

/// The result of a partition: an error, or a batch that is appended.
enum PartitionOutcome {
    Failed { row: PartitionProduceResponse, log: Option<TopicPartition> },
    Appended { index: i32, row: usize, append_time: i64 },
}

/// Serves a request on a diskless node: validates every batch, appends the valid ones, and responds
/// when they are committed.
pub(super) async fn serve(
    mut request: Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let mut produce = decode(&request)?;
    match (produce_validation::check_request_batches(&produce, request.version()), produce.acks) {
        (Some(_), 0) => return Err(CloseReason::UnacknowledgedFailure),
        (Some(error), _) => {
            return request.respond(&error_response(&produce, std::iter::repeat(error)));
        }
        (None, _) => {}
    }
    let permits = broker.topic_permissions(AclOperation::Write, &named(&produce)).await?;
    let resolved = resolve(&request.proxy, &produce, &permits).await;
    let mut appends = Vec::new();
    let mut topics = Vec::with_capacity(produce.topic_data.len());
    for (mut topic, found) in std::mem::take(&mut produce.topic_data).into_iter().zip(resolved) {
        let rows = check_topic(&request, produce.acks, &mut topic, found, &mut appends).await;
        topics.push((topic, rows));
    }
    let received = request.received;
    let permit = request
        .permit
        .take()
        .ok_or_else(|| CloseReason::Internal("no memory permit".to_owned()))?;
    let throttled = permit.waited.min(THROTTLE_MAX);
    let client_id = request.header.client_id.as_deref();
    let span = trace_span!(target: SPAN_TARGET, "produce", client_id, batches = appends.len());
    let appending = request.proxy.producer.append(request.connection, appends, permit);
    let appended = appending.instrument(span.clone()).await;
    let outcomes = appended.map_err(|error| CloseReason::Upstream(error.to_string()))?;
    request.proxy.metrics.produce.stage(ProduceStage::admit).observe(received.elapsed());
    let deadline = Duration::from_millis(u64::try_from(produce.timeout_ms).unwrap_or(0));
    let deadline = deadline.max(DEADLINE_MIN);
    let (correlation_id, version) = (request.header.correlation_id, request.version());
    let (acks, proxy) = (produce.acks, request.proxy);
    Ok(Action::Respond(
        async move {
            // After a timeout the batches may still be committed: the client repeats them, and
            // those of an idempotent producer are recognised.
            let outcomes = tokio::time::timeout(deadline, outcomes).await.ok().and_then(Result::ok);
            if acks != 0 {
                set_log_start_offsets(&proxy, &mut topics).await;
                let throttle_ms = i32::try_from(throttled.as_millis()).unwrap_or(0);
                let response = respond(topics, outcomes.as_deref());
                let response = response.with_throttle_time_ms(throttle_ms);
                let frame = response::encode(correlation_id, version, &response).map(Some);
                record_metrics(
                    &proxy.metrics,
                    &response,
                    received,
                    outcomes.map(|decided| decided.completed_at),
                );
                return frame;
            }
            let response = respond(topics, outcomes.as_deref());
            let rows = response.responses.iter().flat_map(|topic| &topic.partition_responses);
            let failed = rows.into_iter().any(|row| row.error_code != 0);
            if failed { Err(CloseReason::UnacknowledgedFailure) } else { Ok(None) }
        }
        .instrument(span)
        .boxed(),
    ))
}

/// Records the metrics of a response.
fn record_metrics(
    metrics: &Metrics,
    response: &ProduceResponse,
    received: Instant,
    decided: Option<Instant>,
) {
    let rows = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    for row in rows.filter(|row| row.error_code != 0) {
        metrics.clients.partition_error(ApiKind::produce, row.error_code);
    }
    if let Some(decided) = decided {
        metrics.produce.stage(ProduceStage::reply).observe(decided.elapsed());
    }
    metrics.produce.duration.observe(received.elapsed());
}

pub(super) fn query(data: &TopicProduceData) -> TopicQuery<'_> {
    let partitions = data.partition_data.iter().map(|p| p.index);
    TopicQuery::new(topic_id(&data.topic_id), &data.name).with_partitions(partitions)
}

/// Returns the topics of a request. The ACLs come first: a client that may not write learns nothing
/// else.
async fn resolve(
    proxy: &Proxy,
    produce: &ProduceRequest,
    permits: &[TopicPermissions],
) -> Vec<Result<Arc<Topic>, ErrorCode>> {
    let queries: Vec<_> = produce.topic_data.iter().map(query).collect();
    authorize_and_resolve(proxy, permits, AclOperation::Write, &queries).await
}

/// Validates the batches of a topic; takes the records out of `data`.
async fn check_topic(
    request: &Request,
    acks: i16,
    data: &mut TopicProduceData,
    topic: Result<Arc<Topic>, ErrorCode>,
    appends: &mut Vec<ProducedBatch>,
) -> Vec<PartitionOutcome> {
    let topic = match topic {
        // In versions with ids only, the zero id is an unknown id.
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) if request.version() >= WITH_TOPIC_IDS => {
            Err(ErrorCode::UNKNOWN_TOPIC_ID)
        }
        Ok(topic) => Ok(request.proxy.topics.configs.with_config(topic).await),
        Err(code) => Err(code),
    };
    let mut rows = Vec::with_capacity(data.partition_data.len());
    for partition in &mut data.partition_data {
        let (index, records) = (partition.index, partition.records.take());
        let checked = match &topic {
            Err(code) => Err(ProduceError::from(*code)),
            Ok(topic) => match topic.partition(index) {
                None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into()),
                Some(at) => produce_validation::check(request, acks, topic, at, records).await,
            },
        };
        rows.push(match checked {
            Ok(append) => {
                let log_append_time = topic.as_ref().is_ok_and(|t| t.config.log_append_time);
                let append_time = if log_append_time { append.metadata.max_timestamp } else { -1 };
                appends.push(append);
                PartitionOutcome::Appended { index, row: appends.len() - 1, append_time }
            }
            Err(error) => PartitionOutcome::Failed { log: error.log, row: error.row(index) },
        });
    }
    rows
}

/// Sets the log start offset of partitions with an error, as far as it can be determined.
async fn set_log_start_offsets(
    proxy: &Proxy,
    topics: &mut [(TopicProduceData, Vec<PartitionOutcome>)],
) {
    let rows = topics.iter_mut().flat_map(|(_, rows)| rows);
    let failed = rows.filter_map(|row| match row {
        PartitionOutcome::Failed { row, log: Some(log) } => Some((row, *log)),
        _ => None,
    });
    let (rows, logs): (Vec<_>, Vec<_>) = failed.unzip();
    if rows.is_empty() {
        return;
    }
    // The error is the same in either case, and its reason is what the client needs.
    let watermarks = proxy.lookup.watermarks(&logs).await;
    for (row, watermarks) in rows.into_iter().zip(watermarks) {
        if let Ok(watermarks) = watermarks {
            row.log_start_offset = watermarks.log_start_offset;
        }
    }
}

fn respond(
    topics: Vec<(TopicProduceData, Vec<PartitionOutcome>)>,
    outcomes: Option<&[AppendOutcome]>,
) -> ProduceResponse {
    let row = |row: PartitionOutcome| match row {
        PartitionOutcome::Failed { row, .. } => row,
        PartitionOutcome::Appended { index, row, append_time } => {
            match outcomes.and_then(|outcomes| outcomes.get(row)) {
                Some(outcome) => committed_result(index, append_time, outcome),
                None => error_row(index, ErrorCode::REQUEST_TIMED_OUT),
            }
        }
    };
    let topic = |(data, rows): (TopicProduceData, Vec<PartitionOutcome>)| {
        TopicProduceResponse::default()
            .with_name(data.name)
            .with_topic_id(data.topic_id)
            .with_partition_responses(rows.into_iter().map(row).collect())
    };
    ProduceResponse::default().with_responses(topics.into_iter().map(topic).collect())
}

fn committed_result(
    index: i32,
    append_time: i64,
    outcome: &AppendOutcome,
) -> PartitionProduceResponse {
    let AppendOutcome::Decided { outcome, log_start_offset } = outcome else {
        return error_row(index, error_code::for_undecided(outcome));
    };
    let (base_offset, append_time) = match *outcome {
        CommitOutcome::Committed { base_offset } => (base_offset, append_time),
        // Like a broker, whatever the timestamp type.
        CommitOutcome::Duplicate { base_offset, max_timestamp } => (base_offset, max_timestamp),
        CommitOutcome::Refused(refusal) => {
            let row = error_row(index, error_code::for_outcome(outcome));
            return match refusal {
                Refusal::TopicDeleted => row,
                _ => row.with_log_start_offset(*log_start_offset),
            };
        }
    };
    PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(base_offset)
        .with_log_append_time_ms(append_time)
        .with_log_start_offset(*log_start_offset)
}
