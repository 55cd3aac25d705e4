//! Validates a Produce request before anything of it is appended.

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::engine::produce::ProducedBatch;
use crate::log::ids::TopicPartition;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::request::Request;
use crate::proxy::topics::Topic;
use crate::wire::record_batch::{
    BatchError, ProduceLimits, check_produce, check_request, is_transactional,
};
use crate::wire::records::{InvalidRecords, RecordsError};

/// Reason that the records of a partition are rejected.
#[derive(Clone, Debug)]
pub(super) struct ProduceError {
    pub(super) code: ErrorCode,
    message: Option<String>,
    record_errors: Vec<BatchIndexAndErrorMessage>,
    /// The partition, if a broker returns the log start offset with the error.
    pub(super) log: Option<TopicPartition>,
}

impl From<ErrorCode> for ProduceError {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None, record_errors: Vec::new(), log: None }
    }
}

impl ProduceError {
    fn for_batch(error: BatchError, partition: TopicPartition) -> Self {
        Self {
            message: Some(error.to_string()),
            log: error.is_log_error().then_some(partition),
            ..error_code::for_batch(&error).into()
        }
    }

    fn for_records(error: &RecordsError, partition: TopicPartition) -> Self {
        let code = error_code::for_records(error);
        let record_errors = match error {
            RecordsError::Refused(faults) => record_errors(faults),
            _ => Vec::new(),
        };
        let log = (code != ErrorCode::MESSAGE_TOO_LARGE).then_some(partition);
        Self { code, message: Some(error.to_string()), record_errors, log }
    }

    /// Returns the result of the partition.
    pub(super) fn row(self, index: i32) -> PartitionProduceResponse {
        PartitionProduceResponse::default()
            .with_index(index)
            .with_error_code(self.code.0)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_record_errors(self.record_errors)
            .with_error_message(self.message.map(StrBytes::from_string))
    }
}

fn record_errors(faults: &InvalidRecords) -> Vec<BatchIndexAndErrorMessage> {
    let row = |(index, fault): &(i32, crate::wire::records::InvalidRecord)| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(*index)
            .with_batch_index_error_message(Some(StrBytes::from_string(fault.to_string())))
    };
    faults.rows.iter().map(row).collect()
}

/// Returns the error that a request gets as a whole, whatever its other partitions contain.
pub(super) fn check_request_batches(
    produce: &ProduceRequest,
    version: i16,
) -> Option<ProduceError> {
    let of = |error: BatchError| ProduceError {
        message: Some(error.to_string()),
        ..error_code::for_batch(&error).into()
    };
    let records = || {
        let partitions = produce.topic_data.iter().flat_map(|topic| &topic.partition_data);
        partitions.filter_map(|partition| partition.records.as_ref())
    };
    // A broker stops at the first transactional batch, and does not detect errors behind it.
    for records in records() {
        match is_transactional(records) {
            Err(error) => return Some(of(error)),
            Ok(true) if produce.transactional_id.is_none() => {
                return Some(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED.into());
            }
            Ok(true) => break,
            Ok(false) => {}
        }
    }
    // In old versions a broker looks up the name of the codec, and does not find it.
    let codec = |records: &Bytes| match check_request(records, version) {
        Err(error @ BatchError::Codec(_)) => Some(of(error)),
        _ => None,
    };
    records().find_map(codec)
}

/// Validates the batch of a partition.
///
/// # Errors
/// [`ProduceError`] if it must not be appended.
pub(super) async fn check(
    request: &Request,
    acks: i16,
    topic: &Topic,
    partition: TopicPartition,
    records: Option<Bytes>,
) -> Result<ProducedBatch, ProduceError> {
    let batch_error = |error| ProduceError::for_batch(error, partition);
    // Null records are not a batch; a broker does not respond to such a request at all.
    let records = records.unwrap_or_default();
    check_request(&records, request.version()).map_err(batch_error)?;
    if !(-1..=1).contains(&acks) {
        return Err(ErrorCode::INVALID_REQUIRED_ACKS.into());
    }
    let limits = ProduceLimits {
        produce_version: request.version(),
        batch_bytes_max: topic.config.max_message_bytes,
    };
    let checked = check_produce(&records, limits).map_err(batch_error)?;
    if checked.attributes.is_transactional() {
        // Fatal to the producer: a retry cannot succeed.
        let message = Some("diskless topics do not support transactions yet".to_owned());
        return Err(ProduceError { message, ..ErrorCode::INVALID_TXN_STATE.into() });
    }
    let (rules, now_ms) = (topic.config.record_rules(), request.proxy.clock.now_ms());
    let valid = request.proxy.validation.validate(&checked, rules, now_ms).await;
    let valid = valid.map_err(|error| ProduceError::for_records(&error, partition))?;
    let mut metadata = checked.metadata;
    metadata.max_timestamp = valid.max_timestamp;
    // A recompressed batch does not exceed the topic's limit, which is an `i32`.
    metadata.bytes = u32::try_from(valid.bytes.len()).unwrap_or(u32::MAX);
    let profile = request.proxy.topics.classifier.profile(&topic.name);
    Ok(ProducedBatch { partition, profile, metadata, batch: valid.bytes })
}
