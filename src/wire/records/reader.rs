//! Iterates over the records of a decompressed batch.

use std::io::{self, BufRead, BufReader, Read};

use super::error::RecordsError;
use crate::wire::varint::{self, VARINT_BYTES_MAX, VARLONG_BYTES_MAX, zigzag};

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    /// The record's offset minus the base offset of its batch.
    pub offset_delta: i32,
    /// The record's timestamp in milliseconds.
    pub timestamp: i64,
}

/// The buffer size in bytes: what most decoders return at least.
const BUFFER_BYTES: usize = 8 << 10;

/// Iterates over the first fields of each record; ends at the record count of the batch or at the
/// first error.
pub(super) struct Records<'a> {
    stream: BufReader<Box<dyn Read + 'a>>,
    left: i32,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl<'a> Records<'a> {
    pub(super) fn new(
        stream: Box<dyn Read + 'a>,
        count: i32,
        base_timestamp: i64,
        append_time: Option<i64>,
    ) -> Self {
        let stream = BufReader::with_capacity(BUFFER_BYTES, stream);
        Self { stream, left: count, base_timestamp, append_time }
    }

    /// Reads a record: length, attributes, timestamp delta, offset delta, then key, value and
    /// headers, which are skipped.
    fn read(&mut self) -> Result<FoundRecord, RecordsError> {
        let (length, _) = self.varint(VARINT_BYTES_MAX)?;
        let length = u64::try_from(length).map_err(|_| RecordsError::Malformed)?;
        self.byte()?;
        let (timestamp_delta, timestamp_bytes) = self.varint(VARLONG_BYTES_MAX)?;
        let (offset_delta, offset_bytes) = self.varint(VARINT_BYTES_MAX)?;
        let read = u64::from(1 + timestamp_bytes + offset_bytes);
        self.skip(length.checked_sub(read).ok_or(RecordsError::Malformed)?)?;
        // Sums wrap and bits beyond the 32nd are lost, as when the batch was validated.
        let sum = self.base_timestamp.wrapping_add(timestamp_delta);
        let timestamp = self.append_time.unwrap_or(sum);
        let offset_delta = offset_delta as i32;
        Ok(FoundRecord { offset_delta, timestamp })
    }

    /// Reads a zigzag varint; returns its value and its length in bytes.
    fn varint(&mut self, bytes_max: u32) -> Result<(i64, u32), RecordsError> {
        let mut length = 0;
        let pattern = varint::read(bytes_max, RecordsError::Malformed, || {
            length += 1;
            self.byte()
        })?;
        Ok((zigzag(pattern), length))
    }

    fn byte(&mut self) -> Result<u8, RecordsError> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).map_err(RecordsError::from)?;
        Ok(byte[0])
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), RecordsError> {
        while bytes > 0 {
            let ready = self.stream.fill_buf()?.len();
            if ready == 0 {
                return Err(RecordsError::Unreadable(io::ErrorKind::UnexpectedEof));
            }
            let step = usize::try_from(bytes).unwrap_or(usize::MAX).min(ready);
            self.stream.consume(step);
            bytes -= step as u64;
        }
        Ok(())
    }
}

impl Iterator for Records<'_> {
    type Item = Result<FoundRecord, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = self.read();
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}
