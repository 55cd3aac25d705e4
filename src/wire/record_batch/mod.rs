//! Record batches of format v2 (KIP-98): a checked view, and the checks of a broker.
//!
//! This module reads the 61 bytes of the header; [`super::records`] reads the records behind it.
//! The CRC does not cover the base offset and the leader epoch, so assigning them costs no
//! checksum.

mod attributes;
mod check;
mod error;

use bytes::{BufMut, Bytes, BytesMut};
use crc_fast::crc32_iscsi;

pub use attributes::{Attributes, Compression, TimestampType};
pub use check::{ProduceBatch, ProduceLimits, check_produce, check_request, is_transactional};
pub use error::BatchError;

/// The header's length; the records follow it.
pub const HEADER_BYTES: usize = 61;
/// The bytes that `batchLength` does not count: the base offset and the length itself.
const LENGTH_PREFIX_BYTES: usize = 12;
/// The base offset, the length and the leader epoch, which [`placed_prefix`] replaces.
pub const PREFIX_BYTES: usize = 16;
/// `LegacyRecord.RECORD_OVERHEAD_V0` of Kafka: the minimum length of any format.
const LENGTH_MIN: i32 = 14;
/// The end of the magic byte.
const MAGIC_END: usize = 17;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
/// The attributes that a broker keeps when it rewrites them, besides the timestamp type: codec,
/// transactional, control, delete horizon (`DefaultRecordBatch.computeAttributes`).
const RETAINED_ATTRIBUTES: i16 = 0b0111_0111;

/// A complete batch with magic 2. The CRC is checked only on request.
#[derive(Clone, Copy, Debug)]
pub struct RecordBatch<'a> {
    header: &'a [u8; HEADER_BYTES],
    bytes: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// Parses the batch at the beginning of `bytes`; others may follow it.
    ///
    /// # Errors
    /// [`BatchError`] if there is no complete batch of format v2.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let size = size_of_next(bytes)?.ok_or(BatchError::Truncated)?;
        let bytes = bytes.get(..size).ok_or(BatchError::Truncated)?;
        match bytes.get(MAGIC_END - 1) {
            Some(2) => {}
            Some(&magic) => return Err(BatchError::OldMagic(magic)),
            None => return Err(BatchError::Truncated),
        }
        let (header, _) = bytes.split_first_chunk().ok_or(BatchError::Length)?;
        Ok(Self { header, bytes })
    }

    /// Returns the bytes of the batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the records, compressed as the attributes state.
    pub fn records(&self) -> &'a [u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// Returns the offset of the first record; 0 in a produced batch.
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(self.field::<0, 8>())
    }

    /// Returns the leader epoch; −1 in a produced batch.
    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(self.field::<12, 4>())
    }

    /// Returns the CRC32C of everything from the attributes on.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field::<CRC_AT, 4>())
    }

    /// Returns whether the CRC matches the bytes.
    pub fn is_crc_valid(&self) -> bool {
        self.crc() == crc32_iscsi(self.bytes.get(ATTRIBUTES_AT..).unwrap_or_default())
    }

    /// Returns the compression, timestamp type, transactional and control bits.
    pub fn attributes(&self) -> Attributes {
        Attributes(i16::from_be_bytes(self.field::<ATTRIBUTES_AT, 2>()))
    }

    /// Returns the last record's offset minus the base offset.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field::<23, 4>())
    }

    /// Returns the timestamp to which the records' deltas refer, in milliseconds.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field::<27, 8>())
    }

    /// Returns the greatest timestamp, or the append time, in milliseconds.
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.field::<MAX_TIMESTAMP_AT, 8>())
    }

    /// Returns the producer id; −1 without idempotence.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.field::<43, 8>())
    }

    /// Returns the producer epoch; −1 without idempotence.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.field::<51, 2>())
    }

    /// Returns the sequence of the first record; −1 without idempotence.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.field::<53, 4>())
    }

    /// Returns the number of records according to the header.
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(self.field::<57, 4>())
    }

    /// Reads a field. The assertion guarantees that it is within the header.
    fn field<const AT: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(AT + N <= HEADER_BYTES) };
        let mut out = [0; N];
        out.copy_from_slice(&self.header[AT..AT + N]);
        out
    }
}

/// Iterates over the consecutive batches of `run`. Ends with an error if the run does not end with
/// a batch, or at the first batch that [`RecordBatch::parse`] rejects.
pub fn batches(run: &[u8]) -> Batches<'_> {
    Batches { rest: run }
}

/// The iterator of [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RecordBatch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = RecordBatch::parse(self.rest);
        let size = batch.map_or(self.rest.len(), |b| b.bytes.len());
        self.rest = self.rest.get(size..).unwrap_or_default();
        Some(batch)
    }
}

/// Returns the first 16 bytes of `batch` with its position in the log. A consumer gets them
/// followed by the rest of the batch, unchanged.
pub fn placed_prefix(
    base_offset: i64,
    leader_epoch: i32,
    batch: &RecordBatch<'_>,
) -> [u8; PREFIX_BYTES] {
    let mut out = [0; PREFIX_BYTES];
    out[..8].copy_from_slice(&base_offset.to_be_bytes());
    out[8..12].copy_from_slice(&batch.field::<8, 4>());
    out[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    out
}

/// Returns `batch` with these timestamps in its header, copied only if they differ. Like a broker,
/// it keeps the records and the base timestamp, and a copy loses attributes without a meaning.
///
/// With [`TimestampType::LogAppendTime`], `max_timestamp` is the timestamp of every record.
pub fn with_timestamps(batch: &Bytes, timestamp_type: TimestampType, max_timestamp: i64) -> Bytes {
    let Ok(before) = RecordBatch::parse(batch) else { return batch.clone() };
    let attributes = before.attributes();
    if (attributes.timestamp_type(), before.max_timestamp()) == (timestamp_type, max_timestamp) {
        return batch.clone();
    }
    let mut out = BytesMut::from(before.bytes);
    let kept = attributes.0 & RETAINED_ATTRIBUTES;
    let marked = kept | timestamp_type_bit(timestamp_type);
    out[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&marked.to_be_bytes());
    out[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
    write_crc(&mut out);
    out.freeze()
}

/// The fields of [`put_header`] that differ from those of the original batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewHeader {
    /// The bits of the compression codec.
    pub(super) codec: i16,
    /// The timestamp type.
    pub(super) timestamp_type: TimestampType,
    /// The first record's timestamp.
    pub(super) base_timestamp: i64,
    /// The greatest timestamp, or the append time.
    pub(super) max_timestamp: i64,
    /// The number of records; their offsets have no gaps.
    pub(super) record_count: i32,
}

/// Fills in the header at the beginning of `out`, for the records behind it. Producer and
/// transaction are those of `sent`.
pub(super) fn put_header(out: &mut [u8], sent: &RecordBatch<'_>, new: NewHeader) {
    let mut header = [0; HEADER_BYTES];
    let mut rest = &mut header[..];
    let length = i32::try_from(out.len() - LENGTH_PREFIX_BYTES).unwrap_or(i32::MAX);
    let transactional = sent.attributes().0 & TRANSACTIONAL_BIT;
    rest.put_i64(0);
    rest.put_i32(length);
    rest.put_i32(-1);
    rest.put_u8(2);
    rest.put_u32(0); // CRC, filled in below
    rest.put_i16(new.codec | transactional | timestamp_type_bit(new.timestamp_type));
    rest.put_i32(new.record_count - 1);
    rest.put_i64(new.base_timestamp);
    rest.put_i64(new.max_timestamp);
    rest.put_i64(sent.producer_id());
    rest.put_i16(sent.producer_epoch());
    rest.put_i32(sent.base_sequence());
    rest.put_i32(new.record_count);
    out[..HEADER_BYTES].copy_from_slice(&header);
    write_crc(out);
}

fn timestamp_type_bit(timestamp_type: TimestampType) -> i16 {
    match timestamp_type {
        TimestampType::CreateTime => 0,
        TimestampType::LogAppendTime => LOG_APPEND_TIME_BIT,
    }
}

fn write_crc(batch: &mut [u8]) {
    let crc = crc32_iscsi(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

/// Returns the size of the batch at the beginning of `bytes`, of any format, as a broker determines
/// it (`ByteBufferLogInputStream.nextBatch`); `None` if it is incomplete.
fn size_of_next(bytes: &[u8]) -> Result<Option<usize>, BatchError> {
    let Some((prefix, _)) = bytes.split_first_chunk::<LENGTH_PREFIX_BYTES>() else {
        return Ok(None);
    };
    let [_, _, _, _, _, _, _, _, a, b, c, d] = *prefix;
    let length = i32::from_be_bytes([a, b, c, d]);
    let size = match usize::try_from(length) {
        Ok(_) if length > i32::MAX - LENGTH_PREFIX_BYTES as i32 => {
            return Err(BatchError::Overflow);
        }
        Ok(size) if length >= LENGTH_MIN => size + LENGTH_PREFIX_BYTES,
        _ => return Err(BatchError::Length),
    };
    match bytes.get(MAGIC_END - 1) {
        None => Ok(None),
        Some(&magic) if magic > 2 => Err(BatchError::Magic(magic)),
        Some(_) => Ok((size <= bytes.len()).then_some(size)),
    }
}

#[cfg(test)]
mod tests;
