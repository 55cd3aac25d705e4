//! Decodes the fields of a footer. Every count is checked against the remaining bytes before memory
//! is allocated for it.

use super::error::{FooterField, FormatError};
use super::footer::{Footer, JournalEntry, JournalOutcome};
use super::layout::HEADER;
use crate::log::batch::{BatchMetadata, Part, ProducerSequence};
use crate::log::ids::{ObjectId, TopicId, TopicPartition};

/// The least sizes of a topic, a part with one batch, a batch, a journal entry and an outcome.
const TOPIC_BYTES_MIN: usize = 16;
const PART_BYTES_MIN: usize = 8;
const BATCH_BYTES_MIN: usize = 4;
const ENTRY_BYTES_MIN: usize = 18;
const OUTCOME_BYTES_MIN: usize = 1;

/// Decodes a footer of an object whose batches are in `HEADER.len()..data_end`.
pub(super) fn read(body: &[u8], data_end: u64) -> Result<Footer, FormatError> {
    let mut reader = FooterReader { rest: body };
    let object = ObjectId::from_bytes(reader.array()?);
    let length = reader.count(1)?;
    let replica = std::str::from_utf8(reader.take(length)?)
        .map_err(|_| FormatError::Invalid(FooterField::Replica))?
        .to_owned();
    let sealed_ms = i64::from_be_bytes(reader.array()?);
    let topics = reader.topics()?;
    let parts = reader.parts(&topics, sealed_ms, data_end)?;
    let journal = reader.journal()?;
    if !reader.rest.is_empty() {
        return Err(FormatError::Invalid(FooterField::End));
    }
    Ok(Footer { object, replica, sealed_ms, parts, journal })
}

struct FooterReader<'a> {
    rest: &'a [u8],
}

impl<'a> FooterReader<'a> {
    fn topics(&mut self) -> Result<Vec<TopicId>, FormatError> {
        let count = self.count(TOPIC_BYTES_MIN)?;
        let mut topics: Vec<TopicId> = Vec::with_capacity(count);
        for _ in 0..count {
            let topic = TopicId(self.array()?);
            if topics.last().is_some_and(|last| *last >= topic) {
                return Err(FormatError::Invalid(FooterField::Topic));
            }
            topics.push(topic);
        }
        Ok(topics)
    }

    fn parts(
        &mut self,
        topics: &[TopicId],
        sealed_ms: i64,
        data_end: u64,
    ) -> Result<Vec<Part>, FormatError> {
        let count = self.count(PART_BYTES_MIN)?;
        let mut parts = Vec::with_capacity(count);
        let mut free = HEADER.len() as u64;
        for position in 0..count {
            let topic = self.number(u64::MAX, FooterField::Topic)?;
            let topic = usize::try_from(topic).ok().and_then(|t| topics.get(t));
            let topic = *topic.ok_or(FormatError::Invalid(FooterField::Topic))?;
            let partition = self.positive_i32(FooterField::Partition)?;
            let start = self.varint()?;
            let batches = self.batches(sealed_ms)?;
            let bytes = batches.iter().map(|b| u64::from(b.bytes)).sum::<u64>();
            let end = start.checked_add(bytes).filter(|end| start >= free && *end <= data_end);
            free = end.ok_or(FormatError::Invalid(FooterField::Extent))?;
            let index =
                u32::try_from(position).map_err(|_| FormatError::Invalid(FooterField::Count))?;
            let partition = TopicPartition { topic, partition };
            parts.push(Part { index, partition, start, batches });
        }
        Ok(parts)
    }

    fn batches(&mut self, sealed_ms: i64) -> Result<Vec<BatchMetadata>, FormatError> {
        let count = self.count(BATCH_BYTES_MIN)?;
        if count == 0 {
            return Err(FormatError::Invalid(FooterField::Count));
        }
        let mut batches = Vec::with_capacity(count);
        for _ in 0..count {
            batches.push(self.batch(sealed_ms)?);
        }
        Ok(batches)
    }

    fn batch(&mut self, sealed_ms: i64) -> Result<BatchMetadata, FormatError> {
        let invalid = FormatError::Invalid(FooterField::Batch);
        let bytes = u32::try_from(self.varint()?).map_err(|_| invalid)?;
        let offset_count = self.positive_i32(FooterField::Batch)?;
        let max_timestamp = sealed_ms.wrapping_add(unzigzag(self.varint()?));
        let [flag] = self.array()?;
        let producer = match flag {
            0 => None,
            1 => Some(ProducerSequence {
                id: i64::try_from(self.varint()?).map_err(|_| invalid)?,
                epoch: i16::try_from(self.varint()?).map_err(|_| invalid)?,
                base_sequence: self.positive_i32(FooterField::Batch)?,
            }),
            _ => return Err(invalid),
        };
        if bytes == 0 || offset_count == 0 {
            return Err(invalid);
        }
        Ok(BatchMetadata { bytes, offset_count, max_timestamp, producer })
    }

    fn journal(&mut self) -> Result<Vec<JournalEntry>, FormatError> {
        let invalid = FormatError::Invalid(FooterField::Journal);
        let count = self.count(ENTRY_BYTES_MIN)?;
        let mut journal = Vec::with_capacity(count);
        for _ in 0..count {
            let object = ObjectId::from_bytes(self.array()?);
            let part = u32::try_from(self.varint()?).map_err(|_| invalid)?;
            let outcomes_count = self.count(OUTCOME_BYTES_MIN)?;
            let mut outcomes = Vec::with_capacity(outcomes_count);
            for _ in 0..outcomes_count {
                let [code] = self.array()?;
                let mut offset = || i64::try_from(self.varint()?).map_err(|_| invalid);
                outcomes.push(match code {
                    0 => JournalOutcome::Refused,
                    1 => JournalOutcome::Committed(offset()?),
                    2 => JournalOutcome::Duplicate(offset()?),
                    _ => return Err(invalid),
                });
            }
            journal.push(JournalEntry { object, part, outcomes });
        }
        Ok(journal)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Decodes a count of items of at least `bytes_min` bytes each.
    fn count(&mut self, bytes_min: usize) -> Result<usize, FormatError> {
        let count = self.varint()?;
        let most = (self.rest.len() / bytes_min) as u64;
        if count > most {
            return Err(FormatError::Invalid(FooterField::Count));
        }
        usize::try_from(count).map_err(|_| FormatError::Invalid(FooterField::Count))
    }

    fn positive_i32(&mut self, field: FooterField) -> Result<i32, FormatError> {
        let value = self.number(u64::from(i32::MAX.unsigned_abs()), field)?;
        i32::try_from(value).map_err(|_| FormatError::Invalid(field))
    }

    fn number(&mut self, most: u64, field: FooterField) -> Result<u64, FormatError> {
        let value = self.varint()?;
        if value > most { Err(FormatError::Invalid(field)) } else { Ok(value) }
    }

    /// Decodes an unsigned base-128 number, least significant group first, in its shortest form.
    fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let group = u64::from(byte & 0x7f);
            if shift == 63 && group > 1 || (byte == 0 && shift > 0) {
                return Err(FormatError::Invalid(FooterField::Varint));
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FormatError::Invalid(FooterField::Varint))
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}
