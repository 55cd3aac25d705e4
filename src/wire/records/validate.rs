//! Validates and corrects the records of a produced batch like a broker (`LogValidator`).

use bytes::Bytes;

use crate::wire::record_batch::{Compression, RecordBatch, TimestampType, with_timestamps};

use super::compress::Codec;
use super::recompress::Recompressor;
use super::traverse::{RecordStream, traverse_uncompressed};
use super::{
    decompress,
    error::{INVALID_RECORDS_MAX, InvalidRecord, InvalidRecords, RecordsError},
};

/// A topic's rules for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRules {
    /// `compression.type`: the codec with which batches are stored; `None` is `producer`, which
    /// keeps the producer's codec.
    pub codec: Option<Codec>,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub after_max_ms: i64,
    /// True if every record must have a key, as on a compacted topic.
    pub keys_required: bool,
    /// `max.message.bytes`, checked again for a recompressed batch.
    pub batch_bytes_max: usize,
}

/// A validated batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidBatch {
    /// The batch that was sent, or the recompressed one.
    pub bytes: Bytes,
    /// The greatest timestamp of its records, or the append time; −1 if there is none.
    pub max_timestamp: i64,
}

/// Validates the records of a batch whose header and checksum were checked. `now_ms` is the append
/// time. Decompresses to at most `decompressed_bytes_max` bytes.
///
/// # Errors
/// [`RecordsError`]; on [`RecordsError::TooLarge`] a higher limit may succeed.
pub fn validate(
    sent: &Bytes,
    rules: &RecordRules,
    now_ms: i64,
    decompressed_bytes_max: usize,
) -> Result<ValidBatch, RecordsError> {
    let batch = RecordBatch::parse(sent).map_err(|_| RecordsError::Malformed)?;
    let attributes = batch.attributes();
    let source = attributes.compression().ok_or_else(|| RecordsError::Codec(attributes.codec()))?;
    let mut check = Check::new(&batch, rules, now_ms);
    let count = batch.record_count();
    let target = rules.codec.filter(|codec| !is_same(source, *codec));
    let mut rebuild =
        target.map(|codec| Recompressor::new(codec, rules.batch_bytes_max)).transpose()?;
    let mut visit = |record: &super::record::Record<'_>| {
        let timestamp =
            check.record(record.timestamp_delta, record.offset_delta, record.key.is_some());
        match &mut rebuild {
            Some(rebuild) if check.faults.rows.is_empty() => rebuild.push(record, timestamp),
            _ => Ok(()),
        }
    };
    if source == Compression::None {
        traverse_uncompressed(batch.records(), count, visit)?;
    } else {
        let stream = RecordStream::new(decompress::decompress(
            source,
            batch.records(),
            decompressed_bytes_max,
        )?);
        if target.is_some() {
            stream.traverse_whole(count, &mut visit)?;
        } else {
            stream.traverse_skipping(count, |r| {
                check.record(r.timestamp_delta, r.offset_delta, r.has_key);
            })?;
        }
    }
    if !check.faults.rows.is_empty() {
        return Err(RecordsError::Refused(check.faults));
    }
    let max_timestamp = match rules.timestamp_type {
        TimestampType::LogAppendTime => now_ms,
        TimestampType::CreateTime => check.max_timestamp,
    };
    let bytes = match rebuild {
        Some(rebuild) => {
            let limit = rules.batch_bytes_max;
            rebuild.finish(&batch, rules.timestamp_type, max_timestamp, limit)?
        }
        // A broker would recompress such a batch, and fails because it did not retain the values.
        None if source != Compression::None && !check.in_order => {
            return Err(RecordsError::OffsetOrder);
        }
        None => with_timestamps(sent, rules.timestamp_type, max_timestamp),
    };
    Ok(ValidBatch { bytes, max_timestamp })
}

fn is_same(source: Compression, target: Codec) -> bool {
    matches!(
        (source, target),
        (Compression::None, Codec::None)
            | (Compression::Gzip, Codec::Gzip(_))
            | (Compression::Snappy, Codec::Snappy)
            | (Compression::Lz4, Codec::Lz4)
            | (Compression::Zstd, Codec::Zstd(_))
    )
}

/// The state of the validation of a batch.
struct Check<'r> {
    rules: &'r RecordRules,
    now_ms: i64,
    base_timestamp: i64,
    /// The timestamp of every record, if the batch has append times.
    append_time: Option<i64>,
    index: i32,
    in_order: bool,
    max_timestamp: i64,
    faults: InvalidRecords,
}

impl<'r> Check<'r> {
    fn new(batch: &RecordBatch<'_>, rules: &'r RecordRules, now_ms: i64) -> Self {
        let append_time = match batch.attributes().timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(batch.max_timestamp()),
        };
        Self {
            rules,
            now_ms,
            base_timestamp: batch.base_timestamp(),
            append_time,
            index: 0,
            in_order: true,
            max_timestamp: -1,
            faults: InvalidRecords::default(),
        }
    }

    /// Checks a record and returns its timestamp. Sums wrap, as at a broker.
    fn record(&mut self, timestamp_delta: i64, offset_delta: i32, has_key: bool) -> i64 {
        let sum = self.base_timestamp.wrapping_add(timestamp_delta);
        let timestamp = self.append_time.unwrap_or(sum);
        if let Some(fault) = self.fault(timestamp, has_key) {
            self.faults.timestamps |= fault != InvalidRecord::NoKey;
            if self.faults.rows.len() < INVALID_RECORDS_MAX {
                self.faults.rows.push((self.index, fault));
            }
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.in_order &= offset_delta == self.index;
        self.index = self.index.wrapping_add(1);
        timestamp
    }

    fn fault(&self, timestamp: i64, has_key: bool) -> Option<InvalidRecord> {
        if self.rules.keys_required && !has_key {
            return Some(InvalidRecord::NoKey);
        }
        if self.rules.timestamp_type == TimestampType::CreateTime && timestamp != -1 {
            let age = self.now_ms.wrapping_sub(timestamp);
            let out =
                age > self.rules.before_max_ms || age.wrapping_neg() > self.rules.after_max_ms;
            return out.then_some(InvalidRecord::OutOfBounds(timestamp));
        }
        self.append_time.is_some().then_some(InvalidRecord::AppendTime)
    }
}
