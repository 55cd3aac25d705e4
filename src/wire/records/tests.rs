use std::io::{ErrorKind, Write};

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::wire::record_batch::Compression;
use crate::wire::varint::put_zigzag;

pub(super) fn records(timestamp_deltas: &[i64], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, &delta) in timestamp_deltas.iter().enumerate() {
        let mut record = vec![0];
        put_zigzag(&mut record, delta);
        put_zigzag(&mut record, index as i64);
        put_zigzag(&mut record, -1);
        put_zigzag(&mut record, value.len() as i64);
        record.extend_from_slice(value);
        put_zigzag(&mut record, 0);
        put_zigzag(&mut out, record.len() as i64);
        out.extend_from_slice(&record);
    }
    out
}

/// A batch with base timestamp 1,000. These tests do not check the CRC.
pub(super) fn batch(attributes: i16, count: usize, max_timestamp: i64, records: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(49 + records.len() as i32);
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(0);
    out.put_i16(attributes);
    out.put_i32(count as i32 - 1);
    out.put_i64(1_000);
    out.put_i64(max_timestamp);
    out.put_slice(&[0xff; 14]);
    out.put_i32(count as i32);
    out.put_slice(records);
    out.to_vec()
}

fn xerial(records: &[u8]) -> Vec<u8> {
    let mut out = vec![0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    for chunk in records.chunks(100) {
        let block = snap::raw::Encoder::new().compress_vec(chunk).unwrap();
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    out
}

fn gzip(records: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(records).unwrap();
    encoder.finish().unwrap()
}

fn lz4(records: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(records).unwrap();
    encoder.finish().unwrap()
}

/// The same records with each codec.
pub(super) fn each_codec(records: &[u8]) -> [(i16, Vec<u8>); 6] {
    [
        (0, records.to_vec()),
        (1, gzip(records)),
        (2, snap::raw::Encoder::new().compress_vec(records).unwrap()),
        (2, xerial(records)),
        (3, lz4(records)),
        (4, zstd::encode_all(records, 1).unwrap()),
    ]
}

fn at(offset_delta: i32, timestamp: i64) -> Option<FoundRecord> {
    Some(FoundRecord { offset_delta, timestamp })
}

#[test]
fn finds_by_timestamp_under_every_codec() {
    let deltas = [5, 3, 9, 9, 7, -2];
    for (codec, bytes) in each_codec(&records(&deltas, &[b'v'; 300])) {
        let bytes = batch(codec, deltas.len(), 1_009, &bytes);
        let batch = RecordBatch::parse(&bytes).unwrap();
        let find = |timestamp| first_at_or_after(&batch, timestamp, 0).unwrap();
        assert_eq!(find(0), at(0, 1_005), "codec {codec}");
        assert_eq!(find(1_006), at(2, 1_009), "codec {codec}");
        assert_eq!(find(1_010), None, "codec {codec}");
        assert_eq!(max_timestamp_record(&batch, 0), Ok(at(2, 1_009)), "codec {codec}");
    }
}

#[test]
fn append_time_applies_to_every_record() {
    let bytes = batch(1 << 3, 3, 5_000, &records(&[1, 2, 3], b"v"));
    let batch = RecordBatch::parse(&bytes).unwrap();
    assert_eq!(first_at_or_after(&batch, 4_000, 0), Ok(at(0, 5_000)));
    assert_eq!(max_timestamp_record(&batch, 0), Ok(at(0, 5_000)));
}

#[test]
fn malformed_records_are_rejected() {
    let max = |bytes: Vec<u8>| max_timestamp_record(&RecordBatch::parse(&bytes).unwrap(), 0);
    let eof = Err(RecordsError::Unreadable(ErrorKind::UnexpectedEof));
    assert_eq!(max(batch(0, 9, 0, &records(&[1], b"v"))), eof);
    assert_eq!(max(batch(0, 0, 0, b"")), Ok(None));
    assert_eq!(max(batch(0, 1, 0, &[1, 0, 0, 0])), Err(RecordsError::Malformed));
    assert_eq!(max(batch(0, 1, 0, &[0x80; 6])), Err(RecordsError::Malformed));
    let wrapped = max(batch(0, 1, 0, &records(&[i64::MAX], b"v")));
    assert_eq!(wrapped, Ok(at(0, i64::MIN + 999)), "as a broker counts");
    assert_eq!(max(batch(5, 1, 0, b"")), Err(RecordsError::Codec(5)));
}

#[test]
fn decompression_stops_at_the_limit() {
    const LIMIT: usize = 256 << 10;
    let opened = |codec, bytes: &[u8]| {
        let mut stream = decompress::decompress(codec, bytes, LIMIT)?;
        Ok(std::io::copy(&mut stream, &mut std::io::sink())?)
    };
    let bomb = vec![0; 2 * LIMIT];
    let snappy = snap::raw::Encoder::new().compress_vec(&bomb).unwrap();
    assert_eq!(opened(Compression::Gzip, &gzip(&bomb)), Err(RecordsError::TooLarge));
    assert_eq!(opened(Compression::Lz4, &lz4(&bomb)), Err(RecordsError::TooLarge));
    assert_eq!(opened(Compression::Snappy, &snappy), Err(RecordsError::TooLarge));
    assert_eq!(opened(Compression::Snappy, &xerial(&bomb)), Err(RecordsError::TooLarge));
    let zstd = zstd::encode_all(&bomb[..], 1).unwrap();
    assert_eq!(opened(Compression::Zstd, &zstd), Err(RecordsError::TooLarge));
    // Five bytes of raw snappy that announce 192 KiB.
    let lie = opened(Compression::Snappy, &[0x80, 0x80, 0x0c, 0, 0]);
    assert!(matches!(lie, Err(RecordsError::Unreadable(_))), "{lie:?}");
    // A zstd frame with a window of 3.75 TiB.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x01, 0, 0];
    let wide = opened(Compression::Zstd, &window);
    assert!(matches!(wide, Err(RecordsError::Unreadable(_))), "{wide:?}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        codec in 0_i16..8,
        count: i32,
        body: Vec<u8>,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut all = vec![body];
        all.extend(each_codec(&records(&[3, 1, 2], b"value")).into_iter().map(|(_, bytes)| bytes));
        for mut bytes in all {
            for (index, byte) in &flips {
                if !bytes.is_empty() {
                    let at = index.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            let mut bytes = batch(codec, 3, 0, &bytes);
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let batch = RecordBatch::parse(&bytes).unwrap();
            let _ = max_timestamp_record(&batch, 0);
            let _ = first_at_or_after(&batch, -5, 0);
        }
    }
}
