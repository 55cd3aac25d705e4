//! The checks that a broker makes before it appends what a producer sent to one partition.

use bytes::Bytes;

use crate::log::batch::{BatchMetadata, ProducerSequence};

use super::error::BatchError;
use super::{Attributes, Compression, RecordBatch, size_of_next};

/// The first Produce version whose batches may be compressed with zstd (KIP-110).
const ZSTD_PRODUCE_VERSION: i16 = 7;

/// Limits of a produced batch besides its own format.
#[derive(Clone, Copy, Debug)]
pub struct ProduceLimits {
    /// The version of the Produce request.
    pub produce_version: i16,
    /// The topic's `max.message.bytes`, which bounds a whole batch.
    pub batch_bytes_max: usize,
}

/// A batch that may be appended.
#[derive(Clone, Debug)]
pub struct ProduceBatch {
    /// Metadata that the header of the batch states.
    pub metadata: BatchMetadata,
    /// The attributes. The caller handles transactional batches and append times.
    pub attributes: Attributes,
    /// The batch alone, a slice of what the producer sent.
    pub bytes: Bytes,
}

/// Returns whether the first batch is transactional. A broker checks this for all partitions of a
/// request before it looks at any of them (`RequestUtils.hasTransactionalRecords`).
///
/// # Errors
/// [`BatchError`] if the bounds of the batch cannot be determined, which fails the whole request.
pub fn is_transactional(records: &[u8]) -> Result<bool, BatchError> {
    if size_of_next(records)?.is_none() {
        return Ok(false);
    }
    Ok(RecordBatch::parse(records).is_ok_and(|batch| batch.attributes().is_transactional()))
}

/// Checks the records of one partition without its log (`ProduceRequest.validateRecords`): there
/// must be exactly one batch of format v2.
///
/// # Errors
/// [`BatchError`] with the reason.
pub fn check_request(records: &[u8], produce_version: i16) -> Result<RecordBatch<'_>, BatchError> {
    let batch = RecordBatch::parse(records)?;
    let attributes = batch.attributes();
    if produce_version < ZSTD_PRODUCE_VERSION {
        match attributes.compression() {
            Some(Compression::Zstd) => return Err(BatchError::ZstdTooEarly),
            Some(_) => {}
            None => return Err(BatchError::Codec(attributes.codec())),
        }
    }
    let rest = records.get(batch.bytes().len()..).unwrap_or_default();
    if size_of_next(rest)?.is_some() {
        return Err(BatchError::Multiple);
    }
    Ok(batch)
}

/// Checks the records of one partition of a Produce request, in a broker's order, down to the batch
/// header and its checksum. [`crate::wire::records::validate`] checks the records inside.
///
/// Like a broker, it ignores what follows the batch unless it is a whole batch itself.
///
/// # Errors
/// [`BatchError`] with the reason.
pub fn check_produce(records: &Bytes, limits: ProduceLimits) -> Result<ProduceBatch, BatchError> {
    let batch = check_request(records, limits.produce_version)?;
    let (attributes, size) = (batch.attributes(), batch.bytes().len());
    // `UnifiedLog.analyzeAndValidateRecords`
    if batch.base_offset() != 0 {
        return Err(BatchError::BaseOffset(batch.base_offset()));
    }
    if size > limits.batch_bytes_max {
        return Err(BatchError::TooLarge(size));
    }
    if !batch.is_crc_valid() {
        return Err(BatchError::Crc);
    }
    if attributes.compression().is_none() {
        return Err(BatchError::Codec(attributes.codec()));
    }
    Ok(ProduceBatch { metadata: metadata(&batch)?, attributes, bytes: records.slice(..size) })
}

/// `LogValidator.validateBatch`
fn metadata(batch: &RecordBatch<'_>) -> Result<BatchMetadata, BatchError> {
    let (records, last_offset_delta) = (batch.record_count(), batch.last_offset_delta());
    if records <= 0 || last_offset_delta.checked_add(1) != Some(records) {
        return Err(BatchError::Count { records, last_offset_delta });
    }
    let producer = match (batch.producer_id(), batch.producer_epoch(), batch.base_sequence()) {
        (..0, ..) => None,
        (id, epoch @ 0.., base_sequence @ 0..) => {
            Some(ProducerSequence { id, epoch, base_sequence })
        }
        _ => return Err(BatchError::Sequence),
    };
    if batch.attributes().is_control() {
        return Err(BatchError::Control);
    }
    let bytes = batch.bytes().len();
    Ok(BatchMetadata {
        bytes: u32::try_from(bytes).map_err(|_| BatchError::TooLarge(bytes))?,
        offset_count: records,
        max_timestamp: batch.max_timestamp(),
        producer,
    })
}
