//! The records inside a batch, opened to be validated when they are produced and to answer lookups
//! by timestamp (ListOffsets).
//!
//! # Guarantees
//!
//! A batch opens to at most [`DECOMPRESSED_BYTES_MAX`]; what lies behind is not looked at. Records
//! are read from a stream and never kept, but for one at a time where a batch is built anew. The
//! memory for it stays under twice that limit (a zstd window, a raw snappy block) and mostly under
//! 100 KiB; an LZ4 frame takes up to 12 MiB. Opening a batch costs CPU: call it where blocking is
//! allowed. Records that are not compressed are walked where they lie.

mod compress;
mod decompress;
mod reader;
mod recompress;
mod record;
mod traverse;
mod validate;

pub use compress::Codec;
pub use validate::{
    INVALID_RECORDS_MAX, InvalidRecord, InvalidRecords, RecordRules, ValidBatch, validate,
};

use super::record_batch::{RecordBatch, TimestampType};

use reader::Records;

/// The most bytes that the records of one batch are opened to.
pub const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    /// The record's offset less the base offset of its batch.
    pub offset_delta: i32,
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
}

/// Why a batch's records cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordsError {
    /// A codec that does not exist.
    #[error("unknown compression codec {0}")]
    Codec(u8),
    /// The records do not decompress, or end before the batch's count of them.
    #[error("the records cannot be read: {0}")]
    Unreadable(std::io::ErrorKind),
    /// They open to more than [`DECOMPRESSED_BYTES_MAX`].
    #[error("the records open to more than {DECOMPRESSED_BYTES_MAX} bytes")]
    TooLarge,
    /// A record's own length or timestamp cannot be, or the records are not as many as the batch
    /// says.
    #[error("a malformed record")]
    Malformed,
    /// Records that a topic's rules refuse.
    #[error("{} records are refused, the first because {}", .0.rows.len(), first(.0))]
    Refused(InvalidRecords),
    /// Built anew, the batch is larger than the topic allows.
    #[error("a batch of {0} bytes, under the topic's codec, is too large")]
    BatchTooLarge(usize),
    /// A batch that is built anew cannot hold a timestamp below −1.
    #[error("a negative timestamp cannot be stored under the topic's codec")]
    Negative,
    /// The records of a compressed batch do not have the offsets 0, 1, 2 and so on.
    #[error("the offsets in a compressed batch are out of order")]
    OffsetOrder,
}

fn first(faults: &InvalidRecords) -> String {
    faults.rows.first().map(|(_, fault)| fault.to_string()).unwrap_or_default()
}

/// The first record at or after `timestamp`, in the order of offsets: the answer of ListOffsets
/// for a time. Records before `delta_min` do not count; `None` if every other is older.
pub fn first_at_or_after(
    batch: &RecordBatch<'_>,
    timestamp: i64,
    delta_min: i32,
) -> Result<Option<FoundRecord>, RecordsError> {
    // The header bounds what the records may hold, and opening is dear.
    if batch.max_timestamp() < timestamp {
        return Ok(None);
    }
    for record in records(batch)? {
        let record = record?;
        if record.timestamp >= timestamp && record.offset_delta >= delta_min {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// The first of the records with the greatest timestamp: the answer of ListOffsets for −3
/// (KIP-734). Records before `delta_min` do not count; `None` if there is no other.
pub fn max_timestamp_record(
    batch: &RecordBatch<'_>,
    delta_min: i32,
) -> Result<Option<FoundRecord>, RecordsError> {
    let mut found: Option<FoundRecord> = None;
    for record in records(batch)? {
        let record = record?;
        if record.offset_delta < delta_min {
            continue;
        }
        if found.is_none_or(|f| record.timestamp > f.timestamp) {
            found = Some(record);
        }
        // With an append time, every record has the same.
        if batch.attributes().timestamp_type() == TimestampType::LogAppendTime {
            break;
        }
    }
    Ok(found)
}

fn records<'a>(batch: &RecordBatch<'a>) -> Result<Records<'a>, RecordsError> {
    let append_time = match batch.attributes().timestamp_type() {
        TimestampType::CreateTime => None,
        TimestampType::LogAppendTime => Some(batch.max_timestamp()),
    };
    let attributes = batch.attributes();
    let codec = attributes.compression().ok_or_else(|| RecordsError::Codec(attributes.codec()))?;
    let stream = decompress::open(codec, batch.records(), DECOMPRESSED_BYTES_MAX)?;
    Ok(Records::new(stream, batch.record_count(), batch.base_timestamp(), append_time))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod validate_tests;
