//! Encodes the fields of a footer.

use bytes::{BufMut, BytesMut};

use super::footer::{Footer, ObjectKind, Placement};
use super::journal;
use super::layout::{IDENTITY_SECTION, JOURNAL_SECTION, PARTS_SECTION, PLACEMENTS_SECTION};
use crate::log::batch::{BatchMetadata, Part};
use crate::log::encoding::{section, text, varint, zigzag};
use crate::log::ids::TopicId;

pub(super) fn write(out: &mut BytesMut, footer: &Footer) {
    section(out, IDENTITY_SECTION, |out| write_identity(out, footer));
    if !footer.journal.is_empty() {
        section(out, JOURNAL_SECTION, |out| journal::write(out, &footer.journal));
    }
    section(out, PARTS_SECTION, |out| write_parts(out, &footer.parts, footer.sealed_ms));
    if footer.kind == ObjectKind::Segment {
        section(out, PLACEMENTS_SECTION, |out| write_placements(out, &footer.placements));
    }
}

fn write_identity(out: &mut BytesMut, footer: &Footer) {
    out.put_slice(&footer.object.to_bytes());
    out.put_u8(match footer.kind {
        ObjectKind::Wal => 0,
        ObjectKind::Segment => 1,
        ObjectKind::Journal => 2,
    });
    text(out, &footer.replica);
    out.put_i64(footer.sealed_ms);
    out.put_u32(footer.lowest_undecided);
}

fn write_parts(out: &mut BytesMut, parts: &[Part], sealed_ms: i64) {
    let topics = topics_of(parts);
    varint(out, topics.len() as u64);
    for topic in &topics {
        out.put_slice(&topic.0);
    }
    varint(out, parts.len() as u64);
    for (position, part) in parts.iter().enumerate() {
        assert_eq!(part.index as usize, position, "part indexes count from 0");
        // Found: the table was made from these parts.
        let topic = topics.binary_search(&part.partition.topic).unwrap_or_default();
        varint(out, topic as u64);
        varint(out, u64::from(part.partition.partition.unsigned_abs()));
        varint(out, part.start);
        varint(out, part.batches.len() as u64);
        for batch in &part.batches {
            write_batch(out, batch, sealed_ms);
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

fn write_placements(out: &mut BytesMut, placements: &[Placement]) {
    varint(out, placements.len() as u64);
    for placement in placements {
        varint(out, placement.base_offset.unsigned_abs());
        varint(out, placement.sources.len() as u64);
        for source in &placement.sources {
            out.put_slice(&source.object.to_bytes());
            varint(out, source.start);
            varint(out, source.bytes);
            varint(out, source.offset_count.unsigned_abs());
            varint(out, source.records);
            out.put_u32(source.checksum);
        }
    }
}
