//! Record batches with control over every field, so that each can be wrong by itself.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};

pub(super) const NONE: i16 = 0;
pub(super) const GZIP: i16 = 1;
pub(super) const SNAPPY: i16 = 2;
pub(super) const LZ4: i16 = 3;
pub(super) const ZSTD: i16 = 4;
pub(super) const CODECS: [(&str, i16); 5] =
    [("none", NONE), ("gzip", GZIP), ("snappy", SNAPPY), ("lz4", LZ4), ("zstd", ZSTD)];
pub(super) const APPEND_TIME: i16 = 8;
pub(super) const TRANSACTIONAL: i16 = 0x10;
pub(super) const CONTROL: i16 = 0x20;
/// Offset of the checksum; what it covers begins behind it.
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
pub(super) const BASE_TIME: i64 = 1_700_000_000_000;

/// A record. `length_lie` is added to its length, and `extra` follows its last header.
#[derive(Clone)]
pub(super) struct RawRecord {
    pub(super) attributes: u8,
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) header_count: Option<i64>,
    pub(super) length_lie: i64,
    pub(super) extra: Vec<u8>,
}

/// Returns the `n`th record of a batch, with a value.
pub(super) fn raw_record(n: i64, value: &str) -> RawRecord {
    RawRecord {
        attributes: 0,
        timestamp_delta: n,
        offset_delta: n,
        key: None,
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
        header_count: None,
        length_lie: 0,
        extra: Vec::new(),
    }
}

/// Returns three records: with every field, with none, and with a null header.
pub(super) fn three() -> Vec<RawRecord> {
    let key = Some(b"key".to_vec());
    let headers = vec![(b"h".to_vec(), Some(b"x".to_vec())), (b"n".to_vec(), None)];
    vec![
        RawRecord { key, headers, attributes: 0x40, ..raw_record(0, &"value ".repeat(60)) },
        RawRecord { value: None, timestamp_delta: -7, ..raw_record(1, "") },
        RawRecord { timestamp_delta: 40, headers: vec![(Vec::new(), None)], ..raw_record(2, "c") },
    ]
}

pub(super) fn varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn nullable(out: &mut Vec<u8>, bytes: Option<&Vec<u8>>) {
    varint(out, bytes.map_or(-1, |b| b.len() as i64));
    out.extend_from_slice(bytes.map_or(&[], Vec::as_slice));
}

/// Returns encoded records before compression.
pub(super) fn encoded(records: &[RawRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        let mut body = vec![record.attributes];
        varint(&mut body, record.timestamp_delta);
        varint(&mut body, record.offset_delta);
        nullable(&mut body, record.key.as_ref());
        nullable(&mut body, record.value.as_ref());
        varint(&mut body, record.header_count.unwrap_or(record.headers.len() as i64));
        for (key, value) in &record.headers {
            nullable(&mut body, Some(key));
            nullable(&mut body, value.as_ref());
        }
        body.extend_from_slice(&record.extra);
        varint(&mut out, body.len() as i64 + record.length_lie);
        out.extend_from_slice(&body);
    }
    out
}

pub(super) fn compress(codec: i16, bytes: &[u8]) -> Vec<u8> {
    match codec & 7 {
        GZIP => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(bytes).expect("memory");
            out.finish().expect("memory")
        }
        SNAPPY => {
            let mut out = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01".to_vec();
            for chunk in bytes.chunks(32 << 10) {
                let block = snap::raw::Encoder::new().compress_vec(chunk).expect("a block");
                out.extend_from_slice(&(block.len() as u32).to_be_bytes());
                out.extend_from_slice(&block);
            }
            out
        }
        LZ4 => {
            let frame =
                lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut out = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
            out.write_all(bytes).expect("memory");
            out.finish().expect("memory")
        }
        ZSTD => zstd::encode_all(bytes, 3).expect("memory"),
        _ => bytes.to_vec(),
    }
}

/// A batch; a field with `None` has its correct value.
#[derive(Clone)]
pub(super) struct RawBatch {
    pub(super) base_offset: i64,
    pub(super) length: Option<i32>,
    pub(super) magic: i8,
    pub(super) bad_crc: bool,
    pub(super) attributes: i16,
    pub(super) last_delta: Option<i32>,
    pub(super) base_time: i64,
    pub(super) max_time: Option<i64>,
    pub(super) producer: (i64, i16, i32),
    pub(super) count: Option<i32>,
    pub(super) records: Vec<RawRecord>,
    /// Bytes that replace the records, compressed or not.
    pub(super) payload: Option<Vec<u8>>,
    /// Bytes that follow the records, before compression.
    pub(super) trailing: Vec<u8>,
}

impl RawBatch {
    pub(super) fn of(records: Vec<RawRecord>) -> Self {
        Self {
            base_offset: 0,
            length: None,
            magic: 2,
            bad_crc: false,
            attributes: 0,
            last_delta: None,
            base_time: BASE_TIME,
            max_time: None,
            producer: (-1, -1, -1),
            count: None,
            records,
            payload: None,
            trailing: Vec::new(),
        }
    }

    /// Returns a batch of two records.
    pub(super) fn two() -> Self {
        Self::of(vec![raw_record(0, "a"), raw_record(1, "b")])
    }

    pub(super) fn codec(self, codec: i16) -> Self {
        Self { attributes: self.attributes | codec, ..self }
    }

    pub(super) fn by(self, id: i64, epoch: i16, sequence: i32) -> Self {
        Self { producer: (id, epoch, sequence), ..self }
    }

    pub(super) fn at(self, base_time: i64) -> Self {
        Self { base_time, ..self }
    }

    pub(super) fn bytes(&self) -> Bytes {
        let count = i32::try_from(self.records.len()).expect("few records");
        let greatest = self.records.iter().map(|r| self.base_time.wrapping_add(r.timestamp_delta));
        let mut out = BytesMut::new();
        out.put_i64(self.base_offset);
        out.put_i32(0); // length, filled in below
        out.put_i32(-1);
        out.put_i8(self.magic);
        out.put_u32(0); // CRC, filled in below
        out.put_i16(self.attributes);
        out.put_i32(self.last_delta.unwrap_or(count - 1));
        out.put_i64(self.base_time);
        out.put_i64(self.max_time.unwrap_or_else(|| greatest.max().unwrap_or(-1)));
        out.put_i64(self.producer.0);
        out.put_i16(self.producer.1);
        out.put_i32(self.producer.2);
        out.put_i32(self.count.unwrap_or(count));
        let payload = self.payload.clone().unwrap_or_else(|| {
            compress(self.attributes, &[encoded(&self.records), self.trailing.clone()].concat())
        });
        out.put_slice(&payload);
        let length = i32::try_from(out.len() - 12).expect("a short batch");
        out[8..12].copy_from_slice(&self.length.unwrap_or(length).to_be_bytes());
        let crc = crc_of(&out) ^ u32::from(self.bad_crc);
        out[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        out.freeze()
    }
}

/// Returns the correct checksum of a batch.
pub(super) fn crc_of(batch: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[ATTRIBUTES_AT..]);
    u32::try_from(crc).expect("32 bits")
}
