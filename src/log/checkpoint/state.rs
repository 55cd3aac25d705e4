//! The object with the state.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::{CheckpointPartition, CheckpointState, CheckpointTopic};
use crate::log::encoding::{BytesReader, FormatError, FormatField, section, text, varint, zigzag};
use crate::log::ids::{TopicId, TopicPartition};
use crate::log::producer_state::{ProducerEntry, RetainedBatch};

const CLUSTER: u64 = 1;
const TOPICS: u64 = 3;
const DELETED: u64 = 5;
const PARTITIONS: u64 = 7;

/// The least sizes of a zone, a topic, a deleted topic, a partition, a producer and a batch.
const ZONE_BYTES_MIN: usize = 2;
const TOPIC_BYTES_MIN: usize = 18;
const DELETED_BYTES: usize = 16;
const PARTITION_BYTES_MIN: usize = 21;
const PRODUCER_BYTES_MIN: usize = 4;
const BATCH_BYTES_MIN: usize = 4;

/// Encodes a state.
pub fn encode_state(state: &CheckpointState) -> Bytes {
    super::seal(|out| {
        section(out, CLUSTER, |out| {
            text(out, state.cluster_id.as_deref().unwrap_or_default());
            varint(out, state.zones.len() as u64);
            for (name, nodes) in &state.zones {
                text(out, name);
                varint(out, u64::from(*nodes));
            }
        });
        section(out, TOPICS, |out| {
            varint(out, state.topics.len() as u64);
            for topic in &state.topics {
                out.put_slice(&topic.topic.0);
                out.put_u8(topic.topic_type);
                text(out, &topic.name);
            }
        });
        section(out, DELETED, |out| {
            varint(out, state.deleted.len() as u64);
            state.deleted.iter().for_each(|topic| out.put_slice(&topic.0));
        });
        section(out, PARTITIONS, |out| {
            varint(out, state.partitions.len() as u64);
            for partition in &state.partitions {
                write_counters(out, partition);
            }
        });
    })
}

pub(super) fn write_partition(out: &mut BytesMut, partition: TopicPartition) {
    out.put_slice(&partition.topic.0);
    varint(out, u64::from(partition.partition.unsigned_abs()));
}

pub(super) fn read_partition(reader: &mut BytesReader<'_>) -> Result<TopicPartition, FormatError> {
    let topic = TopicId(reader.array()?);
    Ok(TopicPartition { topic, partition: reader.positive_i32(FormatField::Partition)? })
}

fn write_counters(out: &mut BytesMut, partition: &CheckpointPartition) {
    write_partition(out, partition.partition);
    varint(out, partition.log_start_offset.unsigned_abs());
    varint(out, partition.high_watermark.unsigned_abs());
    out.put_u8(u8::from(partition.clock_ms.is_some()));
    varint(out, zigzag(partition.clock_ms.unwrap_or_default()));
    varint(out, partition.producers.len() as u64);
    for (id, producer) in &partition.producers {
        varint(out, id.unsigned_abs());
        varint(out, u64::from(producer.epoch.unsigned_abs()));
        varint(out, zigzag(producer.last_append_ms));
        varint(out, producer.batches.len() as u64);
        for batch in &producer.batches {
            varint(out, u64::from(batch.base_sequence.unsigned_abs()));
            varint(out, u64::from(batch.last_sequence.unsigned_abs()));
            varint(out, batch.base_offset.unsigned_abs());
            varint(out, zigzag(batch.max_timestamp));
        }
    }
}

/// Decodes a state.
///
/// # Errors
/// Every [`FormatError`].
pub fn decode_state(bytes: &[u8]) -> Result<CheckpointState, FormatError> {
    let (mut state, mut has_partitions) = (CheckpointState::default(), false);
    for mut section in super::open(bytes)?.sections()? {
        let reader = &mut section.body;
        match section.number {
            CLUSTER => read_cluster(reader, &mut state)?,
            TOPICS => {
                for _ in 0..reader.count(TOPIC_BYTES_MIN)? {
                    let (topic, [topic_type]) = (TopicId(reader.array()?), reader.array()?);
                    let name = reader.text()?;
                    state.topics.push(CheckpointTopic { topic, name, topic_type });
                }
            }
            DELETED => {
                for _ in 0..reader.count(DELETED_BYTES)? {
                    state.deleted.push(TopicId(reader.array()?));
                }
            }
            PARTITIONS => {
                for _ in 0..reader.count(PARTITION_BYTES_MIN)? {
                    state.partitions.push(read_counters(reader)?);
                }
                has_partitions = true;
            }
            _ => section.skip()?,
        }
    }
    if has_partitions { Ok(state) } else { Err(FormatError::Invalid(FormatField::Section)) }
}

fn read_cluster(
    reader: &mut BytesReader<'_>,
    state: &mut CheckpointState,
) -> Result<(), FormatError> {
    state.cluster_id = Some(reader.text()?).filter(|id| !id.is_empty());
    for _ in 0..reader.count(ZONE_BYTES_MIN)? {
        let name = reader.text()?;
        let nodes = u16::try_from(reader.varint()?);
        state.zones.push((name, nodes.map_err(|_| FormatError::Invalid(FormatField::Count))?));
    }
    Ok(())
}

fn read_counters(reader: &mut BytesReader<'_>) -> Result<CheckpointPartition, FormatError> {
    let partition = read_partition(reader)?;
    let log_start_offset = reader.positive_i64(FormatField::Run)?;
    let high_watermark = reader.positive_i64(FormatField::Run)?;
    let [has_clock] = reader.array()?;
    let clock_ms = reader.signed()?;
    let clock_ms = (has_clock == 1).then_some(clock_ms);
    let mut producers = Vec::new();
    for _ in 0..reader.count(PRODUCER_BYTES_MIN)? {
        producers.push(read_producer(reader)?);
    }
    Ok(CheckpointPartition { partition, log_start_offset, high_watermark, clock_ms, producers })
}

fn read_producer(reader: &mut BytesReader<'_>) -> Result<(i64, ProducerEntry), FormatError> {
    let field = FormatField::Producer;
    let id = reader.positive_i64(field)?;
    let epoch = i16::try_from(reader.varint()?).map_err(|_| FormatError::Invalid(field))?;
    let last_append_ms = reader.signed()?;
    let mut batches = VecDeque::new();
    for _ in 0..reader.count(BATCH_BYTES_MIN)? {
        batches.push_back(RetainedBatch {
            base_sequence: reader.positive_i32(field)?,
            last_sequence: reader.positive_i32(field)?,
            base_offset: reader.positive_i64(field)?,
            max_timestamp: reader.signed()?,
        });
    }
    if batches.is_empty() {
        return Err(FormatError::Invalid(field));
    }
    Ok((id, ProducerEntry { epoch, last_append_ms, batches }))
}
