//! Encodes the fields of a footer.

use bytes::{BufMut, BytesMut};

use super::footer::{Footer, JournalOutcome};
use crate::log::batch::{BatchMetadata, Part};
use crate::log::ids::TopicId;

pub(super) fn write(out: &mut BytesMut, footer: &Footer) {
    out.put_slice(&footer.object.to_bytes());
    varint(out, footer.replica.len() as u64);
    out.put_slice(footer.replica.as_bytes());
    out.put_i64(footer.sealed_ms);
    let topics = topics_of(&footer.parts);
    varint(out, topics.len() as u64);
    for topic in &topics {
        out.put_slice(&topic.0);
    }
    varint(out, footer.parts.len() as u64);
    for (position, part) in footer.parts.iter().enumerate() {
        assert_eq!(part.index as usize, position, "part indexes count from 0");
        // Found: the table was made from these parts.
        let topic = topics.binary_search(&part.partition.topic).unwrap_or_default();
        varint(out, topic as u64);
        varint(out, u64::from(part.partition.partition.unsigned_abs()));
        varint(out, part.start);
        varint(out, part.batches.len() as u64);
        for batch in &part.batches {
            write_batch(out, batch, footer.sealed_ms);
        }
    }
    varint(out, footer.journal.len() as u64);
    for entry in &footer.journal {
        out.put_slice(&entry.object.to_bytes());
        varint(out, u64::from(entry.part));
        varint(out, entry.outcomes.len() as u64);
        for outcome in &entry.outcomes {
            write_outcome(out, *outcome);
        }
    }
}

/// Returns the topics, sorted, so that equal footers have equal bytes.
fn topics_of(parts: &[Part]) -> Vec<TopicId> {
    let mut topics: Vec<_> = parts.iter().map(|p| p.partition.topic).collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

fn write_batch(out: &mut BytesMut, batch: &BatchMetadata, sealed_ms: i64) {
    varint(out, u64::from(batch.bytes));
    varint(out, u64::from(batch.offset_count.unsigned_abs()));
    // Most timestamps are at most seconds before the seal time: the distance takes three bytes.
    varint(out, zigzag(batch.max_timestamp.wrapping_sub(sealed_ms)));
    match batch.producer {
        None => out.put_u8(0),
        Some(producer) => {
            out.put_u8(1);
            varint(out, producer.id.unsigned_abs());
            varint(out, u64::from(producer.epoch.unsigned_abs()));
            varint(out, u64::from(producer.base_sequence.unsigned_abs()));
        }
    }
}

fn write_outcome(out: &mut BytesMut, outcome: JournalOutcome) {
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

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
