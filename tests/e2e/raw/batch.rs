//! Record batches of format v2, encoded by hand so that they can be invalid on purpose.

use bytes::{BufMut, Bytes, BytesMut};

const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
/// The offset of the bytes that a broker must not change: everything behind the leader epoch.
const STORED_FROM: usize = 16;
pub(crate) const TRANSACTIONAL: i16 = 0x10;

/// The header fields of a batch, and the values of its records.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) attributes: i16,
    pub(crate) timestamp: i64,
    pub(crate) producer: (i64, i16, i32),
    pub(crate) values: Vec<Vec<u8>>,
}

impl Batch {
    /// Creates a batch without a producer id, with records a millisecond apart.
    pub(crate) fn of(values: &[&str]) -> Self {
        Self {
            attributes: 0,
            timestamp: 1_700_000_000_000,
            producer: (-1, -1, -1),
            values: values.iter().map(|v| v.as_bytes().to_vec()).collect(),
        }
    }

    pub(crate) fn at(self, timestamp: i64) -> Self {
        Self { timestamp, ..self }
    }

    pub(crate) fn by(self, id: i64, epoch: i16, sequence: i32) -> Self {
        Self { producer: (id, epoch, sequence), ..self }
    }

    pub(crate) fn bytes(&self) -> Bytes {
        let last = i32::try_from(self.values.len()).expect("few records") - 1;
        let mut out = BytesMut::new();
        out.put_i64(0);
        out.put_i32(0); // length, filled in below
        out.put_i32(-1);
        out.put_u8(2);
        out.put_u32(0); // CRC, filled in below
        out.put_i16(self.attributes);
        out.put_i32(last);
        out.put_i64(self.timestamp);
        out.put_i64(self.timestamp + i64::from(last));
        out.put_i64(self.producer.0);
        out.put_i16(self.producer.1);
        out.put_i32(self.producer.2);
        out.put_i32(last + 1);
        for (index, value) in self.values.iter().enumerate() {
            put_record(&mut out, index as i64, value);
        }
        seal(&mut out);
        out.freeze()
    }
}

fn put_record(out: &mut BytesMut, delta: i64, value: &[u8]) {
    let mut record = BytesMut::new();
    record.put_u8(0);
    put_varint(&mut record, delta); // timestamp
    put_varint(&mut record, delta); // offset
    put_varint(&mut record, -1); // no key
    put_varint(&mut record, value.len() as i64);
    record.put_slice(value);
    put_varint(&mut record, 0); // no headers
    put_varint(out, record.len() as i64);
    out.put_slice(&record);
}

fn put_varint(out: &mut BytesMut, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.put_u8((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.put_u8(zigzag as u8);
}

fn seal(batch: &mut BytesMut) {
    let length = i32::try_from(batch.len() - 12).expect("a short batch");
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc_of(batch);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

fn crc_of(batch: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[ATTRIBUTES_AT..]);
    u32::try_from(crc).expect("32 bits")
}

/// Returns the batch with a wrong checksum.
pub(crate) fn corrupt(batch: &Bytes) -> Bytes {
    let mut wrong = BytesMut::from(batch.as_ref());
    wrong[CRC_AT] ^= 1;
    wrong.freeze()
}

/// Returns what a reader gets: the base offset and the bytes behind the leader epoch of each batch,
/// with verified checksums. A broker may cut the last batch anywhere; readers skip it.
pub(crate) fn read(mut records: &[u8]) -> Vec<(i64, Bytes)> {
    let mut batches = Vec::new();
    while records.len() > STORED_FROM {
        let field = |at: usize| records[at..at + 4].try_into().map(u32::from_be_bytes);
        let length = 12 + field(8).expect("four bytes") as usize;
        if length > records.len() {
            break;
        }
        let batch = &records[..length];
        assert_eq!(field(CRC_AT).expect("four bytes"), crc_of(batch), "wrong checksum");
        let base = i64::from_be_bytes(batch[..8].try_into().expect("eight bytes"));
        batches.push((base, Bytes::copy_from_slice(&batch[STORED_FROM..])));
        records = &records[length..];
    }
    batches
}

/// Returns the bytes that a reader must get of a produced batch.
pub(crate) fn stored_bytes(batch: &Bytes) -> Bytes {
    batch.slice(STORED_FROM..)
}
