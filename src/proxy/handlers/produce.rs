//! Produce (key 0).

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use super::addresses::rewrite;
use super::{Names, OnResponse, Request, Step, names_diskless, not_led, resolve, topic_id};
use crate::coordinator::BatchOutcome;
use crate::engine::produce::{AppendRow, RowOutcome};
use crate::log::ids::{TopicId, TopicPartition};
use crate::proxy::authorization::Operation;
use crate::proxy::error_reply::{self, ErrorCode};
use crate::proxy::reply::{self, Close};
use crate::proxy::session::{ClientBroker, Permit};
use crate::proxy::topics::Topic;
use crate::wire::record_batch::{self, BatchError, ProduceLimits, RecordBatch};

/// No produce is given up earlier, however short the client's `timeout_ms`: a broker has the
/// batch in its log by then, and times out only on other replicas. Told of a timeout for what is
/// about to be committed, a client without idempotence would write it twice.
const DEADLINE_MIN: Duration = Duration::from_secs(5);

/// A producer whose request waited for memory is told to stay away for as long (KIP-219), but not
/// longer than this: its socket is not read meanwhile in any case.
const THROTTLE_MAX: Duration = Duration::from_secs(1);

/// Classic endpoints: forwards what names no diskless topic. Anything else is answered for all of
/// its partitions with a retriable code; nothing is stored, and the client asks for metadata anew.
pub(super) async fn guard(request: Request, broker: &mut ClientBroker) -> Result<Step, Close> {
    let produce: ProduceRequest = request.decode()?;
    let named = named(&produce);
    let names = names_diskless(&request.proxy, named.iter().copied()).await;
    match (names, produce.acks) {
        (Names::ClassicOnly, 0) => {
            Ok(Step::Forward { frames: request.frames(), response: OnResponse::Nothing })
        }
        (Names::ClassicOnly, _) if request.version() < 10 => Ok(request.relay()),
        (Names::ClassicOnly, _) => {
            Ok(request.forward::<ProduceRequest, _>(|proxy, mut response| async move {
                for node in &mut response.node_endpoints {
                    rewrite(&proxy.settings, node.node_id, &mut node.host, &mut node.port);
                }
                response
            }))
        }
        (Names::Diskless, 0) => Err(Close::SilentFailure),
        (Names::Diskless, _) => {
            let permits = broker.permits(&named).await?;
            request.answer(&refuse_all(&produce, &permits))
        }
    }
}

fn named(produce: &ProduceRequest) -> Vec<(TopicId, &str)> {
    produce.topic_data.iter().map(|t| (topic_id(&t.topic_id), t.name.as_str())).collect()
}

fn refuse_all(produce: &ProduceRequest, permits: &[Permit]) -> ProduceResponse {
    let refuse = |(topic, permit): (&TopicProduceData, &Permit)| {
        let code = not_led(*permit, Operation::Write);
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(
                topic.partition_data.iter().map(|p| error_row(p.index, code, None)).collect(),
            )
    };
    let topics = produce.topic_data.iter().zip(permits);
    ProduceResponse::default().with_responses(topics.map(refuse).collect())
}

fn error_row(index: i32, code: ErrorCode, message: Option<&str>) -> PartitionProduceResponse {
    PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(code.0)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1)
        .with_error_message(message.map(|m| StrBytes::from_string(m.to_owned())))
}

/// A row of the answer: decided already, or waiting for a row of the append.
enum Row {
    Refused(PartitionProduceResponse),
    Appended { index: i32, row: usize, append_time: i64 },
}

/// Diskless nodes: checks every batch, admits the good ones, and answers when they are committed.
pub(super) async fn serve(mut request: Request, broker: &mut ClientBroker) -> Result<Step, Close> {
    let mut produce: ProduceRequest = request.decode()?;
    let permits = broker.permits(&named(&produce)).await?;
    let mut appends = Vec::new();
    let mut topics = Vec::with_capacity(produce.topic_data.len());
    for (topic, permit) in std::mem::take(&mut produce.topic_data).into_iter().zip(permits) {
        let rows = check_topic(&request, &produce, &topic, permit, &mut appends).await;
        topics.push((topic, rows));
    }
    let room = request.room.take().ok_or_else(|| Close::Ours("no room".to_owned()))?;
    let throttled = room.waited.min(THROTTLE_MAX);
    let appended = request.proxy.producer.append(request.connection, appends, room).await;
    let outcomes = appended.map_err(|error| Close::Upstream(error.to_string()))?;
    let deadline = Duration::from_millis(u64::try_from(produce.timeout_ms).unwrap_or(0));
    let deadline = deadline.max(DEADLINE_MIN);
    let (correlation_id, version) = (request.header.correlation_id, request.version());
    let acks = produce.acks;
    Ok(Step::Answer(
        async move {
            // Without an answer in time the batches may still be committed: the client repeats
            // them, and an idempotent producer's are recognised.
            let outcomes = tokio::time::timeout(deadline, outcomes).await.ok().and_then(Result::ok);
            let throttle_ms = i32::try_from(throttled.as_millis()).unwrap_or(0);
            let response = respond(topics, outcomes.as_deref()).with_throttle_time_ms(throttle_ms);
            if acks != 0 {
                return reply::encode(correlation_id, version, &response).map(Some);
            }
            let rows = response.responses.iter().flat_map(|topic| &topic.partition_responses);
            let failed = rows.into_iter().any(|row| row.error_code != 0);
            if failed { Err(Close::SilentFailure) } else { Ok(None) }
        }
        .boxed(),
    ))
}

async fn check_topic(
    request: &Request,
    produce: &ProduceRequest,
    data: &TopicProduceData,
    permit: Permit,
    appends: &mut Vec<AppendRow>,
) -> Vec<Row> {
    let partitions = data.partition_data.iter().map(|p| p.index);
    let id = topic_id(&data.topic_id);
    // The ACLs come first: who may not write learns nothing else.
    let topic = match permit.check(Operation::Write) {
        Ok(()) => resolve(&request.proxy, id, data.name.as_str(), partitions).await,
        Err(code) => Err(code),
    };
    let topic = match matches!(produce.acks, -1..=1) {
        true => topic,
        false => topic.and(Err(ErrorCode::INVALID_REQUIRED_ACKS)),
    };
    let check = |partition: &kafka_protocol::messages::produce_request::PartitionProduceData| {
        let index = partition.index;
        let checked = topic.as_ref().map_err(|&code| (code, None)).and_then(|topic| {
            let unknown = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None);
            let tp = topic.partition(index).ok_or(unknown)?;
            check_batch(request, produce, topic, tp, partition.records.clone())
        });
        match checked {
            Ok(append) => {
                let log_append_time = topic.as_ref().is_ok_and(|t| t.config.log_append_time);
                let append_time = if log_append_time { append.claim.max_timestamp } else { -1 };
                appends.push(append);
                Row::Appended { index, row: appends.len() - 1, append_time }
            }
            Err((code, message)) => Row::Refused(error_row(index, code, message.as_deref())),
        }
    };
    data.partition_data.iter().map(check).collect()
}

fn check_batch(
    request: &Request,
    produce: &ProduceRequest,
    topic: &Topic,
    partition: TopicPartition,
    records: Option<Bytes>,
) -> Result<AppendRow, (ErrorCode, Option<String>)> {
    let refused = |error: BatchError| (error_reply::of_batch(&error), Some(error.to_string()));
    // Null records are no batch; a stock broker leaves such a request without any answer.
    let records = records.unwrap_or_default();
    let limits = ProduceLimits {
        produce_version: request.version(),
        batch_bytes_max: topic.config.max_message_bytes,
    };
    let checked = record_batch::check_produce(&records, limits).map_err(refused)?;
    if checked.attributes.is_transactional() {
        // Both are fatal to the producer: retrying cannot help.
        let code = match produce.transactional_id {
            None => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Some(_) => ErrorCode::INVALID_TXN_STATE,
        };
        return Err((code, Some("diskless topics do not support transactions yet".to_owned())));
    }
    let (mut claim, mut batch) = (checked.claim, checked.bytes);
    if topic.config.log_append_time {
        let now_ms = request.proxy.clock.now_ms();
        let parsed = RecordBatch::parse(&batch).map_err(refused)?;
        batch = record_batch::stamp_append_time(&parsed, now_ms);
        claim.max_timestamp = now_ms;
    }
    let profile = request.proxy.topics.profile(&topic.name);
    Ok(AppendRow { partition, profile, claim, batch })
}

fn respond(
    topics: Vec<(TopicProduceData, Vec<Row>)>,
    outcomes: Option<&[RowOutcome]>,
) -> ProduceResponse {
    let row = |row: Row| match row {
        Row::Refused(response) => response,
        Row::Appended { index, row, append_time } => {
            match outcomes.and_then(|outcomes| outcomes.get(row)) {
                Some(outcome) => decided(index, append_time, outcome),
                None => error_row(index, ErrorCode::REQUEST_TIMED_OUT, None),
            }
        }
    };
    let topic = |(data, rows): (TopicProduceData, Vec<Row>)| {
        TopicProduceResponse::default()
            .with_name(data.name)
            .with_topic_id(data.topic_id)
            .with_partition_responses(rows.into_iter().map(row).collect())
    };
    ProduceResponse::default().with_responses(topics.into_iter().map(topic).collect())
}

fn decided(index: i32, append_time: i64, outcome: &RowOutcome) -> PartitionProduceResponse {
    let RowOutcome::Decided { outcome, log_start_offset } = outcome else {
        return error_row(index, ErrorCode::KAFKA_STORAGE_ERROR, None);
    };
    let (base_offset, append_time) = match *outcome {
        BatchOutcome::Committed { base_offset } => (base_offset, append_time),
        BatchOutcome::Duplicate { base_offset, max_timestamp } => {
            (base_offset, if append_time < 0 { -1 } else { max_timestamp })
        }
        BatchOutcome::Refused(_) => {
            return error_row(index, error_reply::of_outcome(outcome), None);
        }
    };
    PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(base_offset)
        .with_log_append_time_ms(append_time)
        .with_log_start_offset(*log_start_offset)
}
