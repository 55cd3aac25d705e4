//! The checks that a broker makes before it appends what a producer sent for one partition.

use bytes::Bytes;

use crate::log::batch::{BatchMetadata, ProducerSequence};

use super::{Attributes, Compression, RecordBatch, size_of_next};

/// The first Produce version whose batches may be compressed with zstd (KIP-110).
const ZSTD_PRODUCE_VERSION: i16 = 7;

/// What bounds a produced batch besides its own format.
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
    /// What it claims.
    pub claim: BatchMetadata,
    /// Its attributes: transactional batches and append times are the caller's matter.
    pub attributes: Attributes,
    /// The batch alone, a slice of what was sent.
    pub bytes: Bytes,
}

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Nothing, or not the whole of the batch.
    #[error("no whole record batch")]
    Truncated,
    /// More than the one batch that a partition of a Produce request may hold.
    #[error("more than one record batch")]
    Multiple,
    /// The formats before v2.
    #[error("magic {0}, older than 2")]
    OldMagic(u8),
    /// No format.
    #[error("unknown magic {0}")]
    Magic(u8),
    /// A length that cannot be.
    #[error("the batch length is too small")]
    Length,
    /// A length that a broker cannot count with.
    #[error("the batch length is too large")]
    Overflow,
    /// The checksum is not that of the bytes.
    #[error("the checksum does not match")]
    Crc,
    /// Larger than the topic allows.
    #[error("a batch of {0} bytes is too large")]
    TooLarge(usize),
    /// A producer gives no offsets.
    #[error("a base offset of {0}, not 0")]
    BaseOffset(i64),
    /// The count of records and the last offset delta do not fit each other, or are not positive.
    #[error("{records} records with a last offset delta of {last_offset_delta}")]
    Count {
        /// The records claimed.
        records: i32,
        /// The last offset delta claimed.
        last_offset_delta: i32,
    },
    /// Only coordinators write control batches.
    #[error("a control batch from a client")]
    Control,
    /// A producer id with a negative epoch or sequence.
    #[error("a producer id with a negative epoch or sequence")]
    Sequence,
    /// A codec that does not exist.
    #[error("unknown compression codec {0}")]
    Codec(u8),
    /// zstd in a Produce request older than KIP-110.
    #[error("zstd below Produce version 7")]
    ZstdTooEarly,
}

impl BatchError {
    /// Whether a broker finds it only when it appends, and so tells the log start offset as well.
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

    /// The Kafka error code with which a stock broker answers (seen on 4.3.1).
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

/// Whether the first batch is of a transaction: what a broker asks of all partitions of a request
/// before it looks at any (`RequestUtils.hasTransactionalRecords`).
///
/// # Errors
/// For a batch whose bounds cannot be found, which refuses the whole request.
pub fn is_transactional(records: &[u8]) -> Result<bool, BatchError> {
    if size_of_next(records)?.is_none() {
        return Ok(false);
    }
    Ok(RecordBatch::parse(records).is_ok_and(|batch| batch.attributes().is_transactional()))
}

/// Checks the records of one partition before anything of its log is asked
/// (`ProduceRequest.validateRecords`): one batch of this format.
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

/// Checks the records of one partition of a Produce request, in a broker's order, down to the
/// batch header and its checksum; [`crate::wire::records::validate`] opens the records.
///
/// As a broker does, ignores what follows the batch if it is not itself a whole batch.
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
