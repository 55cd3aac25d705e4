//! Traverses the records of a produced batch, in the three ways in which a broker does.

use std::io::{BufRead, BufReader, ErrorKind, Read};

use super::error::RecordsError;
use super::record::Record;
use crate::wire::varint::{
    self, VARINT_BYTES_MAX, VARLONG_BYTES_MAX, VarintError, take_varint, zigzag, zigzag_32,
};

/// The buffer size in bytes: what most decoders return at least.
const BUFFER_BYTES: usize = 8 << 10;

/// The fields of a record that a skipping traversal reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordSummary {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Traverses uncompressed records (`DefaultRecordBatch.uncompressedIterator`): every length is
/// checked, and nothing may follow the last record.
pub(super) fn traverse_uncompressed<'a>(
    mut rest: &'a [u8],
    count: i32,
    mut visit: impl FnMut(&Record<'a>) -> Result<(), RecordsError>,
) -> Result<(), RecordsError> {
    for _ in 0..count {
        let length = match take_varint(&mut rest) {
            Ok(length) => length,
            Err(VarintError::Truncated) => return Err(RecordsError::Malformed),
            // Only here does a broker not treat a malformed varint as an invalid record.
            Err(VarintError::TooLong) => {
                return Err(RecordsError::Unreadable(ErrorKind::InvalidData));
            }
        };
        let length = usize::try_from(length).map_err(|_| RecordsError::Malformed)?;
        let (body, after) = rest.split_at_checked(length).ok_or(RecordsError::Malformed)?;
        rest = after;
        visit(&Record::parse(body).ok_or(RecordsError::Malformed)?)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(RecordsError::Malformed) }
}

/// The decompressed records of a batch.
pub(super) struct RecordStream<'a> {
    inner: BufReader<Box<dyn Read + 'a>>,
}

impl<'a> RecordStream<'a> {
    pub(super) fn new(opened: Box<dyn Read + 'a>) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER_BYTES, opened) }
    }

    /// Traverses a batch that is stored unchanged (`skipKeyValueIterator`): skips keys, values and
    /// headers, and ignores a record's own length.
    pub(super) fn traverse_skipping(
        mut self,
        count: i32,
        mut visit: impl FnMut(RecordSummary),
    ) -> Result<(), RecordsError> {
        for _ in 0..count {
            self.varint()?;
            let _attributes = self.byte()?;
            let timestamp_delta = zigzag(self.pattern(VARLONG_BYTES_MAX)?);
            let offset_delta = self.varint()?;
            let has_key = self.skip_nullable()?;
            self.skip_nullable()?;
            let headers = self.varint()?;
            if headers < 0 {
                return Err(RecordsError::Malformed);
            }
            for _ in 0..headers {
                if !self.skip_nullable()? {
                    return Err(RecordsError::Malformed);
                }
                self.skip_nullable()?;
            }
            visit(RecordSummary { timestamp_delta, offset_delta, has_key });
        }
        self.end()
    }

    /// Traverses a batch that is recompressed (`streamingIterator`), with the checks of
    /// [`traverse_uncompressed`]. Holds one record at a time in memory.
    pub(super) fn traverse_whole(
        mut self,
        count: i32,
        mut visit: impl FnMut(&Record<'_>) -> Result<(), RecordsError>,
    ) -> Result<(), RecordsError> {
        let mut body = Vec::new();
        for _ in 0..count {
            let length = u64::try_from(self.varint()?).map_err(|_| RecordsError::Malformed)?;
            body.clear();
            // Grows with the bytes that arrive, not with the announced length.
            self.inner.by_ref().take(length).read_to_end(&mut body)?;
            if body.len() as u64 != length {
                return Err(RecordsError::Malformed);
            }
            visit(&Record::parse(&body).ok_or(RecordsError::Malformed)?)?;
        }
        self.end()
    }

    fn end(mut self) -> Result<(), RecordsError> {
        if self.inner.fill_buf()?.is_empty() { Ok(()) } else { Err(RecordsError::Malformed) }
    }

    fn varint(&mut self) -> Result<i32, RecordsError> {
        Ok(zigzag_32(self.pattern(VARINT_BYTES_MAX)?))
    }

    fn pattern(&mut self, bytes_max: u32) -> Result<u64, RecordsError> {
        varint::read(bytes_max, RecordsError::Malformed, || self.byte())
    }

    fn byte(&mut self) -> Result<u8, RecordsError> {
        let byte = *self.inner.fill_buf()?.first().ok_or(RecordsError::Malformed)?;
        self.inner.consume(1);
        Ok(byte)
    }

    /// Skips bytes with their length; returns whether they are not null.
    fn skip_nullable(&mut self) -> Result<bool, RecordsError> {
        let length = self.varint()?;
        let mut left = usize::try_from(length).unwrap_or(0);
        while left > 0 {
            let ready = self.inner.fill_buf()?.len();
            if ready == 0 {
                return Err(RecordsError::Malformed);
            }
            let step = ready.min(left);
            self.inner.consume(step);
            left -= step;
        }
        Ok(length >= 0)
    }
}
