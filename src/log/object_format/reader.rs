//! Decodes the fields of a footer.

use super::footer::{Footer, ObjectKind, Placement, SourceRun};
use super::journal;
use super::layout::{IDENTITY_SECTION, JOURNAL_SECTION, PARTS_SECTION, PLACEMENTS_SECTION};
use crate::log::batch::{BatchMetadata, Part, ProducerSequence};
use crate::log::encoding::{BytesReader, FormatError, FormatField};
use crate::log::ids::{ObjectId, TopicId, TopicPartition};

/// The least sizes of a topic, a part with one batch, a batch, a placement and a source.
const TOPIC_BYTES_MIN: usize = 16;
const PART_BYTES_MIN: usize = 8;
const BATCH_BYTES_MIN: usize = 4;
const PLACEMENT_BYTES_MIN: usize = 2;
const SOURCE_BYTES_MIN: usize = 24;

/// Decodes a footer of an object whose batches end at `data_end` or before.
pub(super) fn read(body: &[u8], data_end: u64) -> Result<Footer, FormatError> {
    let (mut identity, mut parts, mut placements, mut journal) = (None, None, None, Vec::new());
    for mut section in BytesReader::new(body).sections()? {
        match section.number {
            IDENTITY_SECTION => identity = Some(read_identity(&mut section.body)?),
            JOURNAL_SECTION => journal = journal::read(&mut section.body)?,
            PARTS_SECTION => parts = Some(section.body),
            PLACEMENTS_SECTION => placements = Some(section.body),
            _ => section.skip()?,
        }
    }
    let missing = FormatError::Invalid(FormatField::Section);
    let identity = identity.ok_or(missing)?;
    let Identity { object, kind, replica, sealed_ms, lowest_undecided } = identity;
    if data_end < kind.data_start() {
        return Err(FormatError::Truncated);
    }
    let parts = read_parts(&mut parts.ok_or(missing)?, sealed_ms, kind.data_start()..data_end)?;
    let placements = match (kind, placements) {
        (ObjectKind::Segment, Some(mut body)) => read_placements(&mut body, parts.len())?,
        (ObjectKind::Wal | ObjectKind::Journal, None) => Vec::new(),
        _ => return Err(missing),
    };
    Ok(Footer { object, kind, replica, sealed_ms, lowest_undecided, parts, placements, journal })
}

struct Identity {
    object: ObjectId,
    kind: ObjectKind,
    replica: String,
    sealed_ms: i64,
    lowest_undecided: u32,
}

fn read_identity(reader: &mut BytesReader<'_>) -> Result<Identity, FormatError> {
    let object = ObjectId::from_bytes(reader.array()?);
    let kind = match reader.array()? {
        [0] => ObjectKind::Wal,
        [1] => ObjectKind::Segment,
        [2] => ObjectKind::Journal,
        _ => return Err(FormatError::Invalid(FormatField::Kind)),
    };
    let replica = reader.text()?;
    let sealed_ms = i64::from_be_bytes(reader.array()?);
    let lowest_undecided = u32::from_be_bytes(reader.array()?);
    Ok(Identity { object, kind, replica, sealed_ms, lowest_undecided })
}

fn read_parts(
    reader: &mut BytesReader<'_>,
    sealed_ms: i64,
    data: std::ops::Range<u64>,
) -> Result<Vec<Part>, FormatError> {
    let topics = read_topics(reader)?;
    let count = reader.count(PART_BYTES_MIN)?;
    let mut parts = Vec::with_capacity(count);
    let mut free = data.start;
    for position in 0..count {
        let topic = usize::try_from(reader.varint()?).ok().and_then(|t| topics.get(t));
        let topic = *topic.ok_or(FormatError::Invalid(FormatField::Topic))?;
        let partition = reader.positive_i32(FormatField::Partition)?;
        let start = reader.varint()?;
        let batches = read_batches(reader, sealed_ms)?;
        let bytes = batches.iter().map(|b| u64::from(b.bytes)).sum::<u64>();
        let end = start.checked_add(bytes).filter(|end| start >= free && *end <= data.end);
        free = end.ok_or(FormatError::Invalid(FormatField::Extent))?;
        let index =
            u32::try_from(position).map_err(|_| FormatError::Invalid(FormatField::Count))?;
        let partition = TopicPartition { topic, partition };
        parts.push(Part { index, partition, start, batches });
    }
    Ok(parts)
}

fn read_topics(reader: &mut BytesReader<'_>) -> Result<Vec<TopicId>, FormatError> {
    let count = reader.count(TOPIC_BYTES_MIN)?;
    let mut topics: Vec<TopicId> = Vec::with_capacity(count);
    for _ in 0..count {
        let topic = TopicId(reader.array()?);
        if topics.last().is_some_and(|last| *last >= topic) {
            return Err(FormatError::Invalid(FormatField::Topic));
        }
        topics.push(topic);
    }
    Ok(topics)
}

fn read_batches(
    reader: &mut BytesReader<'_>,
    sealed_ms: i64,
) -> Result<Vec<BatchMetadata>, FormatError> {
    let count = reader.count(BATCH_BYTES_MIN)?;
    if count == 0 {
        return Err(FormatError::Invalid(FormatField::Count));
    }
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        batches.push(read_batch(reader, sealed_ms)?);
    }
    Ok(batches)
}

fn read_batch(reader: &mut BytesReader<'_>, sealed_ms: i64) -> Result<BatchMetadata, FormatError> {
    let field = FormatField::Batch;
    let bytes = reader.u32(field)?;
    let offset_count = reader.positive_i32(field)?;
    let max_timestamp = sealed_ms.wrapping_add(reader.signed()?);
    let producer = match reader.array()? {
        [0] => None,
        [1] => {
            let id = reader.positive_i64(field)?;
            let epoch = i16::try_from(reader.varint()?).map_err(|_| FormatError::Invalid(field))?;
            let base_sequence = reader.positive_i32(field)?;
            Some(ProducerSequence { id, epoch, base_sequence })
        }
        _ => return Err(FormatError::Invalid(field)),
    };
    if bytes == 0 || offset_count == 0 {
        return Err(FormatError::Invalid(field));
    }
    Ok(BatchMetadata { bytes, offset_count, max_timestamp, producer })
}

fn read_placements(
    reader: &mut BytesReader<'_>,
    parts: usize,
) -> Result<Vec<Placement>, FormatError> {
    let field = FormatField::Placement;
    let count = reader.count(PLACEMENT_BYTES_MIN)?;
    if count != parts {
        return Err(FormatError::Invalid(field));
    }
    let mut placements = Vec::with_capacity(count);
    for _ in 0..count {
        let base_offset = reader.positive_i64(field)?;
        let sources_count = reader.count(SOURCE_BYTES_MIN)?;
        let mut sources = Vec::with_capacity(sources_count);
        for _ in 0..sources_count {
            let object = ObjectId::from_bytes(reader.array()?);
            let (start, bytes) = (reader.varint()?, reader.varint()?);
            let offset_count = reader.positive_i64(field)?;
            let records = reader.varint()?;
            let checksum = u32::from_be_bytes(reader.array()?);
            sources.push(SourceRun { object, start, bytes, offset_count, records, checksum });
        }
        placements.push(Placement { base_offset, sources });
    }
    Ok(placements)
}
