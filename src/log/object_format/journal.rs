//! Encodes and decodes the journal.

use bytes::{BufMut, BytesMut};

use super::footer::{
    JournalEntry, JournalOutcome, JournaledCommit, JournaledPart, JournaledTrim, ShardPosition,
};
use crate::log::encoding::{BytesReader, FormatError, FormatField, section, text, varint};
use crate::log::ids::{ObjectId, TopicId, TopicPartition};

const COMMIT: u64 = 1;
const TRIM: u64 = 2;

/// The least sizes of an epoch, an entry, a part and an outcome.
const EPOCH_BYTES_MIN: usize = 1;
const ENTRY_BYTES_MIN: usize = 2;
const PART_BYTES_MIN: usize = 2;
const OUTCOME_BYTES_MIN: usize = 1;

/// Writes the epochs and the entries. [`JournalEntry::Unknown`] is not written.
pub(super) fn write(out: &mut BytesMut, journal: &[JournalEntry]) {
    let mut epochs: Vec<&str> = journal.iter().filter_map(position).map(|p| &*p.epoch).collect();
    epochs.sort_unstable();
    epochs.dedup();
    varint(out, epochs.len() as u64);
    for epoch in &epochs {
        text(out, epoch);
    }
    let known = || journal.iter().filter(|entry| position(entry).is_some());
    varint(out, known().count() as u64);
    for entry in known() {
        match entry {
            JournalEntry::Commit(commit) => {
                section(out, COMMIT, |out| write_commit(out, commit, &epochs));
            }
            JournalEntry::Trim(trim) => section(out, TRIM, |out| write_trim(out, trim, &epochs)),
            JournalEntry::Unknown { .. } => {}
        }
    }
}

fn position(entry: &JournalEntry) -> Option<&ShardPosition> {
    match entry {
        JournalEntry::Commit(commit) => Some(&commit.position),
        JournalEntry::Trim(trim) => Some(&trim.position),
        JournalEntry::Unknown { .. } => None,
    }
}

fn write_position(out: &mut BytesMut, position: &ShardPosition, epochs: &[&str]) {
    varint(out, u64::from(position.shard));
    // Found: the table was made from these entries.
    let epoch = epochs.binary_search(&&*position.epoch).unwrap_or_default();
    varint(out, epoch as u64);
    varint(out, position.sequence);
}

fn write_commit(out: &mut BytesMut, commit: &JournaledCommit, epochs: &[&str]) {
    write_position(out, &commit.position, epochs);
    out.put_slice(&commit.object.to_bytes());
    out.put_i64(commit.sealed_ms);
    varint(out, commit.parts.len() as u64);
    for part in &commit.parts {
        varint(out, u64::from(part.part));
        varint(out, part.outcomes.len() as u64);
        for outcome in &part.outcomes {
            let (code, offset) = match outcome {
                JournalOutcome::Refused => (0, None),
                JournalOutcome::Committed(offset) => (1, Some(offset)),
                JournalOutcome::Duplicate(offset) => (2, Some(offset)),
            };
            out.put_u8(code);
            if let Some(offset) = offset {
                varint(out, offset.unsigned_abs());
            }
        }
    }
}

fn write_trim(out: &mut BytesMut, trim: &JournaledTrim, epochs: &[&str]) {
    write_position(out, &trim.position, epochs);
    out.put_slice(&trim.partition.topic.0);
    varint(out, u64::from(trim.partition.partition.unsigned_abs()));
    varint(out, trim.log_start_offset.unsigned_abs());
}

/// Decodes the epochs and the entries.
pub(super) fn read(reader: &mut BytesReader<'_>) -> Result<Vec<JournalEntry>, FormatError> {
    let count = reader.count(EPOCH_BYTES_MIN)?;
    let mut epochs = Vec::with_capacity(count);
    for _ in 0..count {
        epochs.push(reader.text()?);
    }
    let count = reader.count(ENTRY_BYTES_MIN)?;
    let mut journal = Vec::with_capacity(count);
    for _ in 0..count {
        let mut entry = reader.section()?;
        journal.push(match entry.number {
            COMMIT => JournalEntry::Commit(read_commit(&mut entry.body, &epochs)?),
            TRIM => JournalEntry::Trim(read_trim(&mut entry.body, &epochs)?),
            kind => JournalEntry::Unknown { kind },
        });
    }
    Ok(journal)
}

fn read_position(
    reader: &mut BytesReader<'_>,
    epochs: &[String],
) -> Result<ShardPosition, FormatError> {
    let shard = reader.u32(FormatField::Journal)?;
    let epoch = usize::try_from(reader.varint()?).ok().and_then(|index| epochs.get(index));
    let epoch = epoch.ok_or(FormatError::Invalid(FormatField::Journal))?.clone();
    Ok(ShardPosition { shard, epoch, sequence: reader.varint()? })
}

fn read_commit(
    reader: &mut BytesReader<'_>,
    epochs: &[String],
) -> Result<JournaledCommit, FormatError> {
    let position = read_position(reader, epochs)?;
    let object = ObjectId::from_bytes(reader.array()?);
    let sealed_ms = i64::from_be_bytes(reader.array()?);
    let count = reader.count(PART_BYTES_MIN)?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let part = reader.u32(FormatField::Journal)?;
        let outcomes_count = reader.count(OUTCOME_BYTES_MIN)?;
        let mut outcomes = Vec::with_capacity(outcomes_count);
        for _ in 0..outcomes_count {
            let [code] = reader.array()?;
            outcomes.push(match code {
                0 => JournalOutcome::Refused,
                1 => JournalOutcome::Committed(reader.positive_i64(FormatField::Journal)?),
                2 => JournalOutcome::Duplicate(reader.positive_i64(FormatField::Journal)?),
                _ => return Err(FormatError::Invalid(FormatField::Journal)),
            });
        }
        parts.push(JournaledPart { part, outcomes });
    }
    Ok(JournaledCommit { object, position, sealed_ms, parts })
}

fn read_trim(
    reader: &mut BytesReader<'_>,
    epochs: &[String],
) -> Result<JournaledTrim, FormatError> {
    let position = read_position(reader, epochs)?;
    let topic = TopicId(reader.array()?);
    let partition = reader.positive_i32(FormatField::Partition)?;
    let log_start_offset = reader.positive_i64(FormatField::Journal)?;
    let partition = TopicPartition { topic, partition };
    Ok(JournaledTrim { partition, log_start_offset, position })
}
