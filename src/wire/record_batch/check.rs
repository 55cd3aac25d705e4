//! The checks that a broker makes before it appends what a producer sent to one partition.

use bytes::Bytes;

use crate::log::batch::{BatchMetadata, ProducerSequence};

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
    /// What the header of the batch states.
    pub claim: BatchMetadata,
    /// The attributes. The caller handles transactional batches and append times.
    pub attributes: Attributes,
    /// The batch alone, a slice of what the producer sent.
    pub bytes: Bytes,
}

/// Why a batch is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The batch is missing or incomplete.
    #[error("incomplete record batch")]
    Truncated,
    /// More than one batch: a partition of a Produce request may have only one.
    #[error("more than one record batch: expected one")]
    Multiple,
    /// A format before v2.
    #[error("unsupported magic {0}: expected 2")]
    OldMagic(u8),
    /// A format that does not exist.
    #[error("unknown magic {0}: expected 2")]
    Magic(u8),
    /// A length below the minimum.
    #[error("the batch length is too small")]
    Length,
    /// A length that overflows a broker's arithmetic.
    #[error("the batch length is too large")]
    Overflow,
    /// The checksum does not match the bytes.
    #[error("the checksum does not match")]
    Crc,
    /// The batch is larger than the topic's limit.
    #[error("batch of {0} bytes exceeds max.message.bytes")]
    TooLarge(usize),
    /// A base offset other than 0: producers do not assign offsets.
    #[error("invalid base offset {0}: expected 0")]
    BaseOffset(i64),
    /// The record count and the last offset delta contradict each other, or are not positive.
    #[error(
        "invalid record count {records} with last offset delta {last_offset_delta}: expected delta + 1"
    )]
    Count {
        /// The record count in the header.
        records: i32,
        /// The last offset delta in the header.
        last_offset_delta: i32,
    },
    /// A control batch: only coordinators write them.
    #[error("control batch from a client")]
    Control,
    /// A producer id with a negative epoch or sequence.
    #[error("producer id with a negative epoch or sequence")]
    Sequence,
    /// A codec that does not exist.
    #[error("unknown compression codec {0}")]
    Codec(u8),
    /// zstd in a Produce version before KIP-110.
    #[error("zstd requires Produce version 7 or later")]
    ZstdTooEarly,
}

impl BatchError {
    /// Returns whether a broker detects the error only when it appends, and so returns the log
    /// start offset as well.
    pub fn is_log_error(self) -> bool {
        matches!(
            self,
            Self::BaseOffset(_)
                | Self::Codec(_)
                | Self::Count { .. }
                | Self::Sequence
                | Self::Control
        )
    }

    /// Returns the Kafka error code that a broker returns (observed on 4.3.1).
    pub fn error_code(self) -> i16 {
        const UNKNOWN_SERVER_ERROR: i16 = -1;
        const CORRUPT_MESSAGE: i16 = 2;
        const MESSAGE_TOO_LARGE: i16 = 10;
        const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
        const INVALID_RECORD: i16 = 87;
        match self {
            Self::Magic(_) | Self::Length | Self::Crc => CORRUPT_MESSAGE,
            Self::TooLarge(_) => MESSAGE_TOO_LARGE,
            Self::Codec(_) | Self::Overflow => UNKNOWN_SERVER_ERROR,
            Self::ZstdTooEarly => UNSUPPORTED_COMPRESSION_TYPE,
            Self::Truncated
            | Self::Multiple
            | Self::OldMagic(_)
            | Self::BaseOffset(_)
            | Self::Count { .. }
            | Self::Control
            | Self::Sequence => INVALID_RECORD,
        }
    }
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
    Ok(ProduceBatch { claim: claim(&batch)?, attributes, bytes: records.slice(..size) })
}

/// `LogValidator.validateBatch`
fn claim(batch: &RecordBatch<'_>) -> Result<BatchMetadata, BatchError> {
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
