//! Recompresses a batch with another codec (`MemoryRecordsBuilder`).

use std::io::Write;

use bytes::Bytes;

use crate::wire::record_batch::{HEADER_BYTES, NewHeader, RecordBatch, TimestampType, put_header};
use crate::wire::varint::put_zigzag;

use super::compress::{Codec, Encoder};
use super::error::RecordsError;
use super::record::Record;

/// Maps an encoder's error, which only occurs if memory cannot be allocated.
const NO_OUTPUT: fn(std::io::Error) -> RecordsError = |e| RecordsError::Unreadable(e.kind());

/// Builds a batch from records one by one. Holds one of them and the compressed bytes, up to a
/// limit.
pub(super) struct Recompressor {
    encoder: Encoder,
    codec: Codec,
    record: Vec<u8>,
    length: Vec<u8>,
    base_timestamp: Option<i64>,
    count: i32,
    /// True if there was a timestamp that a new batch cannot hold.
    pub(super) is_negative: bool,
}

impl Recompressor {
    pub(super) fn new(codec: Codec, batch_bytes_max: usize) -> Result<Self, RecordsError> {
        let encoder = Encoder::new(codec, &[0; HEADER_BYTES], batch_bytes_max);
        Ok(Self {
            encoder: encoder.map_err(NO_OUTPUT)?,
            codec,
            record: Vec::new(),
            length: Vec::new(),
            base_timestamp: None,
            count: 0,
            is_negative: false,
        })
    }

    /// Adds a record, which gets the next offset.
    pub(super) fn push(&mut self, record: &Record<'_>, timestamp: i64) -> Result<(), RecordsError> {
        self.is_negative |= timestamp < -1;
        let base = *self.base_timestamp.get_or_insert(timestamp);
        self.record.clear();
        record.write(&mut self.record, timestamp.wrapping_sub(base), self.count);
        self.count += 1;
        self.length.clear();
        put_zigzag(&mut self.length, self.record.len() as i64);
        self.encoder.write_all(&self.length).map_err(NO_OUTPUT)?;
        self.encoder.write_all(&self.record).map_err(NO_OUTPUT)
    }

    /// Returns the new batch, with the producer fields of `batch`.
    ///
    /// # Errors
    /// [`RecordsError::Negative`], and [`RecordsError::BatchTooLarge`] over the limit.
    pub(super) fn finish(
        self,
        batch: &RecordBatch<'_>,
        timestamp_type: TimestampType,
        max_timestamp: i64,
        batch_bytes_max: usize,
    ) -> Result<Bytes, RecordsError> {
        if self.is_negative {
            return Err(RecordsError::Negative);
        }
        let mut built = self.encoder.finish().map_err(NO_OUTPUT)?;
        if built.bytes > batch_bytes_max {
            return Err(RecordsError::BatchTooLarge(built.bytes));
        }
        let codec = match self.codec {
            Codec::None => 0,
            Codec::Gzip(_) => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd(_) => 4,
        };
        let header = NewHeader {
            codec,
            timestamp_type,
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp,
            record_count: self.count,
        };
        put_header(&mut built.out, batch, header);
        Ok(built.out.into())
    }
}
