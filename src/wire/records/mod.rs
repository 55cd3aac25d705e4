//! The records inside a batch: decompressed to be validated when they are produced, and to answer
//! lookups by timestamp (ListOffsets).
//!
//! # Guarantees
//!
//! A batch decompresses to at most [`DECOMPRESSED_BYTES_MAX`]; what follows is not looked at.
//! Records are read from a stream and not retained, except for one at a time where a batch is
//! recompressed. The memory for it stays below twice that limit (a zstd window, a raw snappy block)
//! and mostly below 100 KiB; an LZ4 frame takes up to 12 MiB. Decompression costs CPU time: call it
//! where blocking is allowed. Uncompressed records are traversed in place.

mod compress;
mod decompress;
mod error;
mod reader;
mod recompress;
mod record;
mod traverse;
mod validate;

pub use compress::Codec;
pub use error::{
    DECOMPRESSED_BYTES_MAX, INVALID_RECORDS_MAX, InvalidRecord, InvalidRecords, RecordsError,
};
pub use reader::FoundRecord;
pub use validate::{RecordRules, ValidBatch, validate};

use super::record_batch::{RecordBatch, TimestampType};

use reader::Records;

/// Returns the first record at or after `timestamp`, in offset order: the result of ListOffsets for
/// a timestamp. Ignores records before `delta_min`; returns `None` if every other record is older.
///
/// # Errors
/// [`RecordsError`] if the records cannot be read.
pub fn first_at_or_after(
    batch: &RecordBatch<'_>,
    timestamp: i64,
    delta_min: i32,
) -> Result<Option<FoundRecord>, RecordsError> {
    // The header bounds the timestamps, and decompression is expensive.
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

/// Returns the first of the records with the greatest timestamp: the result of ListOffsets for −3
/// (KIP-734). Ignores records before `delta_min`; returns `None` if there is no other.
///
/// # Errors
/// [`RecordsError`] if the records cannot be read.
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
        // With an append time, all records have the same timestamp.
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
    let stream = decompress::decompress(codec, batch.records(), DECOMPRESSED_BYTES_MAX)?;
    Ok(Records::new(stream, batch.record_count(), batch.base_timestamp(), append_time))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod validate_tests;
