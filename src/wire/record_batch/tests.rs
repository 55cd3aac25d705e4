use bytes::BufMut;
use proptest::prelude::*;

use super::*;

const LIMITS: ProduceLimits = ProduceLimits { produce_version: 9, batch_bytes_max: 1 << 20 };

/// A batch of three records; no header check looks at their content.
fn batch(change: impl FnOnce(&mut [u8])) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(49 + 6);
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(0);
    out.put_i16(0);
    out.put_i32(2);
    out.put_i64(1_000);
    out.put_i64(1_002);
    out.put_i64(4_711);
    out.put_i16(3);
    out.put_i32(77);
    out.put_i32(3);
    out.put_slice(b"opaque");
    change(&mut out);
    let crc = crc32_iscsi(&out[ATTRIBUTES_AT..]);
    out[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    out
}

fn set(at: usize, bytes: &[u8]) -> BytesMut {
    batch(|out| out[at..at + bytes.len()].copy_from_slice(bytes))
}

fn code(batch: impl Into<BytesMut>) -> i16 {
    let bytes: BytesMut = batch.into();
    check_produce(&bytes.freeze(), LIMITS).map_or_else(BatchError::error_code, |_| 0)
}

#[test]
fn reads_every_field() {
    let bytes = batch(|_| ());
    let batch = RecordBatch::parse(&bytes).unwrap();
    assert_eq!((batch.base_offset(), batch.leader_epoch()), (0, -1));
    assert_eq!((batch.last_offset_delta(), batch.record_count()), (2, 3));
    assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (1_000, 1_002));
    assert_eq!(
        (batch.producer_id(), batch.producer_epoch(), batch.base_sequence()),
        (4_711, 3, 77)
    );
    assert!(batch.is_crc_valid());
    assert_eq!(batch.records(), b"opaque");
    let produced = check_produce(&bytes.freeze(), LIMITS).unwrap();
    assert_eq!((produced.metadata.bytes, produced.metadata.offset_count), (67, 3));
    assert_eq!(produced.metadata.max_timestamp, 1_002);
    assert_eq!(produced.metadata.last_sequence(), Some(79));
    assert!(!produced.attributes.is_transactional());
}

/// The error codes of a broker.
#[test]
fn error_codes_match_a_broker() {
    let whole = batch(|_| ());
    assert_eq!(code(whole.clone()), 0);
    assert_eq!(code(&b""[..]), 87, "zero bytes");
    assert_eq!(code(&whole[..66]), 87, "truncated");
    assert_eq!(code(&whole[..11]), 87, "truncated before the length");
    assert_eq!(code(&[&whole[..], &whole].concat()[..]), 87, "two batches");
    assert_eq!(code(&[&whole[..], &[0]].concat()[..]), 0, "a trailing byte");
    assert_eq!(code(&[&whole[..], &whole[..60]].concat()[..]), 0, "half a second batch");
    assert_eq!(code(&[&whole[..], &[0; 20]].concat()[..]), 2, "zeros behind");
    assert_eq!(code(set(57, &4_i32.to_be_bytes())), 87, "count");
    assert_eq!(code(set(57, &0_i32.to_be_bytes())), 87, "no records");
    let none = [&[0xff; 4][..], &whole[27..57], &[0; 4]].concat();
    assert_eq!(code(set(23, &none)), 87, "no records, no offsets");
    assert_eq!(code(set(23, &3_i32.to_be_bytes())), 87, "last offset delta");
    assert_eq!(code(set(23, &i32::MAX.to_be_bytes())), 87, "greatest delta");
    assert_eq!(code(set(0, &1_i64.to_be_bytes())), 87, "base offset");
    assert_eq!(code(set(21, &[0, 0x20])), 87, "control bit");
    assert_eq!(code(set(53, &(-1_i32).to_be_bytes())), 87, "sequence");
    assert_eq!(code(set(51, &(-1_i16).to_be_bytes())), 87, "epoch");
    assert_eq!(code(set(43, &[0xff; 14])), 0, "no producer");
    assert_eq!(code(set(16, &[0xff])), 2, "magic -1");
    assert_eq!(code(set(16, &[3])), 2, "magic 3");
    assert_eq!(code(set(16, &[127])), 2, "magic 127");
    assert_eq!(code(set(16, &[1])), 87, "magic 1");
    assert_eq!(code(set(8, &13_i32.to_be_bytes())), 2, "length under the least");
    assert_eq!(code(set(8, &(-1_i32).to_be_bytes())), 2, "negative length");
    assert_eq!(code(set(8, &30_i32.to_be_bytes())), 2, "length within the header");
    assert_eq!(code(set(8, &56_i32.to_be_bytes())), 87, "length behind the end");
    for codec in 5..=7 {
        assert_eq!(code(set(21, &[0, codec])), -1, "codec {codec}");
    }
    let mut crc = whole;
    crc[64] ^= 1;
    assert_eq!(code(crc), 2, "crc");
}

#[test]
fn zstd_needs_produce_7() {
    let zstd = set(21, &[0, 4]).freeze();
    let at = |produce_version| {
        check_produce(&zstd, ProduceLimits { produce_version, ..LIMITS }).map(drop)
    };
    assert_eq!(at(6), Err(BatchError::ZstdTooEarly));
    assert_eq!(BatchError::ZstdTooEarly.error_code(), 76);
    assert_eq!(at(7), Ok(()));
    let small = ProduceLimits { batch_bytes_max: 66, ..LIMITS };
    assert_eq!(check_produce(&zstd, small).map(drop), Err(BatchError::TooLarge(67)));
}

#[test]
fn iterates_over_consecutive_batches() {
    let run = [batch(|_| ()), set(23, &[0; 4]), batch(|_| ())].concat();
    let deltas: Vec<_> = batches(&run).map(|b| b.unwrap().last_offset_delta()).collect();
    assert_eq!(deltas, [2, 0, 2]);
    let mut cut = batches(&run[..run.len() - 1]).skip(2);
    assert_eq!(cut.next().unwrap().unwrap_err(), BatchError::Truncated);
    assert!(cut.next().is_none());
}

#[test]
fn new_base_offset_keeps_the_crc() {
    let bytes = batch(|_| ());
    let parsed = RecordBatch::parse(&bytes).unwrap();
    let prefix = placed_prefix(1 << 40, 9, &parsed);
    let moved = [&prefix[..], &bytes[PREFIX_BYTES..]].concat();
    let moved = RecordBatch::parse(&moved).unwrap();
    assert!(moved.is_crc_valid());
    assert_eq!((moved.base_offset(), moved.leader_epoch()), (1 << 40, 9));
    assert_eq!(moved.bytes().len(), bytes.len());
}

#[test]
fn append_time_updates_the_crc() {
    let bytes = batch(|_| ());
    let stamped =
        with_timestamps(&Bytes::copy_from_slice(&bytes), TimestampType::LogAppendTime, 5_000);
    let stamped = RecordBatch::parse(&stamped).unwrap();
    assert!(stamped.is_crc_valid());
    assert_eq!(stamped.max_timestamp(), 5_000);
    assert_eq!(stamped.base_timestamp(), 1_000);
    assert_eq!(stamped.attributes().timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(stamped.attributes().0, 1 << 3);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, at in 0_usize..67, byte: u8) {
        let _ = batches(&bytes).count();
        let _ = code(&bytes[..]);
        let mut changed = batch(|out| out[at] = byte);
        let _ = code(changed.clone());
        changed[at] = !changed[at];
        // Every change of a byte behind the prefix is detected.
        if at >= CRC_AT {
            prop_assert_eq!(code(changed), 2);
        }
    }
}
