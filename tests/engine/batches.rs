//! Encodes and decodes record batches.

use std::io::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use odradek::engine::produce::{FlushProfile, ProducedBatch};
use odradek::log::batch::Part;
use odradek::log::ids::{ObjectId, TopicId, TopicPartition};
use odradek::log::object_format::{Footer, HEADER, encode_footer};
use odradek::wire::record_batch::{ProduceLimits, RecordBatch, check_produce};

pub(crate) const NOW: i64 = 1_700_000_000_000;

pub(crate) fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([7; 16]), partition }
}

/// The content of a batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    records: Vec<(i64, String)>,
    producer: Option<(i64, i32)>,
    gzip: bool,
    max_timestamp: Option<i64>,
}

impl Batch {
    /// Creates a batch with one record per value.
    pub(crate) fn of(values: &[&str]) -> Self {
        let records = values.iter().map(|value| (NOW, (*value).to_owned())).collect();
        Self { records, ..Self::default() }
    }

    /// Creates a batch with one record per timestamp.
    pub(crate) fn at(timestamps: &[i64]) -> Self {
        let records = timestamps.iter().map(|t| (*t, t.to_string())).collect();
        Self { records, ..Self::default() }
    }

    /// Sets the base sequence, and the idempotent producer of these tests.
    pub(crate) fn sequence(self, base_sequence: i32) -> Self {
        self.by(4_711, base_sequence)
    }

    /// Sets the idempotent producer and the base sequence.
    pub(crate) fn by(self, producer: i64, base_sequence: i32) -> Self {
        Self { producer: Some((producer, base_sequence)), ..self }
    }

    pub(crate) fn gzip(self) -> Self {
        Self { gzip: true, ..self }
    }

    /// Sets a maximum timestamp in the header that may not match the records.
    pub(crate) fn with_max_timestamp(self, max_timestamp: i64) -> Self {
        Self { max_timestamp: Some(max_timestamp), ..self }
    }

    fn bytes(&self) -> Bytes {
        let base = self.records[0].0;
        let max = self.records.iter().map(|r| r.0).max().expect("a record");
        let mut records = Vec::new();
        for (index, (timestamp, value)) in (0_i64..).zip(&self.records) {
            let mut record = vec![0];
            zigzag(&mut record, timestamp - base);
            zigzag(&mut record, index);
            zigzag(&mut record, -1);
            zigzag(&mut record, value.len() as i64);
            record.extend_from_slice(value.as_bytes());
            zigzag(&mut record, 0);
            zigzag(&mut records, record.len() as i64);
            records.extend_from_slice(&record);
        }
        if self.gzip {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&records).expect("memory");
            records = encoder.finish().expect("memory");
        }
        let count = self.records.len() as i32;
        let mut out = BytesMut::new();
        out.put_i64(0);
        out.put_i32(49 + records.len() as i32);
        out.put_i32(-1);
        out.put_u8(2);
        out.put_u32(0);
        out.put_i16(i16::from(self.gzip));
        out.put_i32(count - 1);
        out.put_i64(base);
        out.put_i64(self.max_timestamp.unwrap_or(max));
        out.put_i64(self.producer.map_or(-1, |(id, _)| id));
        out.put_i16(self.producer.map_or(-1, |_| 0));
        out.put_i32(self.producer.map_or(-1, |(_, sequence)| sequence));
        out.put_i32(count);
        out.put_slice(&records);
        let crc = crc_fast::crc32_iscsi(&out[21..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        out.freeze()
    }

    /// Validates the batch as the proxy does.
    pub(crate) fn to(&self, to: i32, profile: FlushProfile) -> ProducedBatch {
        let limits = ProduceLimits { produce_version: 9, batch_bytes_max: 1 << 20 };
        let checked = check_produce(&self.bytes(), limits).expect("a valid batch");
        ProducedBatch {
            partition: partition(to),
            profile,
            metadata: checked.metadata,
            batch: checked.bytes,
        }
    }
}

/// Encodes an object of these batches, one part each.
pub(crate) fn whole_object(object: ObjectId, batches: &[(TopicPartition, Bytes)]) -> Bytes {
    let limits = ProduceLimits { produce_version: 9, batch_bytes_max: 1 << 30 };
    let mut whole = BytesMut::from(&HEADER[..]);
    let mut parts = Vec::new();
    for (index, (partition, batch)) in (0..).zip(batches) {
        let claim = check_produce(batch, limits).expect("a valid batch").metadata;
        let start = whole.len() as u64;
        parts.push(Part { index, partition: *partition, start, batches: vec![claim] });
        whole.put_slice(batch);
    }
    let (replica, sealed_ms) = ("r".to_owned(), NOW);
    let footer = Footer::wal(object, &replica, sealed_ms, parts);
    whole.put_slice(&encode_footer(&footer));
    whole.freeze()
}

pub(crate) fn fast(to: i32, value: &str) -> ProducedBatch {
    Batch::of(&[value]).to(to, FlushProfile::Fast)
}

/// Returns the offsets and values of uncompressed records in a fetch result.
pub(crate) fn records(slices: &[Bytes]) -> Vec<(i64, String)> {
    let bytes = slices.concat();
    let mut found = Vec::new();
    for batch in odradek::wire::record_batch::batches(&bytes) {
        let batch = batch.expect("a whole batch");
        assert!(batch.is_crc_valid());
        read_batch(&batch, &mut found);
    }
    found
}

fn read_batch(batch: &RecordBatch<'_>, found: &mut Vec<(i64, String)>) {
    let mut rest = batch.records();
    for _ in 0..batch.record_count() {
        let length = unzigzag(&mut rest) as usize;
        let (mut record, behind) = rest.split_at(length);
        rest = behind;
        record = &record[1..];
        let _timestamp_delta = unzigzag(&mut record);
        let offset = batch.base_offset() + unzigzag(&mut record);
        assert_eq!(unzigzag(&mut record), -1, "no key");
        let value_bytes = unzigzag(&mut record) as usize;
        found.push((offset, String::from_utf8(record[..value_bytes].to_vec()).expect("text")));
    }
}

fn zigzag(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn unzigzag(bytes: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
    }
}
