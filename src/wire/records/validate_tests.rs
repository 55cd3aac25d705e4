use bytes::Bytes;
use proptest::prelude::*;

use super::tests::{batch, each_codec, records};
use super::*;
use crate::wire::record_batch::with_timestamps;

const OPENED_MAX: usize = 1 << 20;
const NOW: i64 = 5_000;

fn rules(codec: Option<Codec>) -> RecordRules {
    RecordRules {
        codec,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        keys_required: false,
        batch_bytes_max: OPENED_MAX,
    }
}

fn checked(bytes: Vec<u8>, rules: &RecordRules) -> Result<ValidBatch, RecordsError> {
    validate(&bytes.into(), rules, NOW, OPENED_MAX)
}

const TARGETS: [Codec; 5] =
    [Codec::None, Codec::Gzip(Some(1)), Codec::Snappy, Codec::Lz4, Codec::Zstd(1)];

#[test]
fn valid_batches_are_stored_unchanged() {
    for (codec, payload) in each_codec(&records(&[5, 3, 9], b"value")) {
        let sent = Bytes::from(batch(codec, 3, 1_009, &payload));
        let valid = validate(&sent, &rules(None), NOW, OPENED_MAX).unwrap();
        assert_eq!(valid.max_timestamp, 1_009);
        assert_eq!(valid.bytes.as_ptr(), sent.as_ptr(), "no copy under codec {codec}");
    }
}

#[test]
fn wrong_header_timestamps_are_corrected() {
    let valid = checked(batch(0, 2, 77, &records(&[5, 3], b"v")), &rules(None)).unwrap();
    let stored = RecordBatch::parse(&valid.bytes).unwrap();
    assert!(stored.is_crc_valid());
    assert_eq!((stored.max_timestamp(), valid.max_timestamp), (1_005, 1_005));
    let append = RecordRules { timestamp_type: TimestampType::LogAppendTime, ..rules(None) };
    let valid = checked(batch(0, 2, 77, &records(&[5, 3], b"v")), &append).unwrap();
    let stored = RecordBatch::parse(&valid.bytes).unwrap();
    assert_eq!(stored.attributes().timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!((stored.max_timestamp(), valid.max_timestamp), (NOW, NOW));
}

#[test]
fn every_codec_converts_to_every_other() {
    // More than a block of any codec.
    let plain = records(&[0, 8, 3, 1], &[b'v'; 40_000]);
    let expected = checked(batch(0, 4, 0, &plain), &rules(None)).unwrap();
    for (codec, payload) in each_codec(&plain) {
        for target in TARGETS {
            let there = checked(batch(codec, 4, 0, &payload), &rules(Some(target))).unwrap();
            let back = checked(there.bytes.to_vec(), &rules(Some(Codec::None))).unwrap();
            let back =
                with_timestamps(&back.bytes, TimestampType::CreateTime, expected.max_timestamp);
            let back = RecordBatch::parse(&back).unwrap();
            assert!(back.is_crc_valid());
            assert_eq!(back.records(), plain, "{codec} to {target:?} and back");
            assert_eq!((back.base_timestamp(), back.record_count()), (1_000, 4));
        }
    }
}

#[test]
fn memory_is_bounded() {
    let bomb = records(&[0], &vec![0; 4 * OPENED_MAX]);
    for (codec, payload) in each_codec(&bomb).into_iter().filter(|(codec, _)| *codec != 0) {
        for target in [None, Some(Codec::None)] {
            let opened = checked(batch(codec, 1, 0, &payload), &rules(target));
            assert_eq!(opened, Err(RecordsError::TooLarge), "codec {codec} {target:?}");
        }
    }
    let small = RecordRules { batch_bytes_max: 100, ..rules(Some(Codec::None)) };
    let (_, gzip) = &each_codec(&records(&[0], &[0; 5_000]))[1];
    let built = checked(batch(1, 1, 0, gzip), &small);
    assert!(matches!(built, Err(RecordsError::BatchTooLarge(5_000..))), "{built:?}");
}

#[test]
fn invalid_records_are_listed_up_to_a_limit() {
    let strict = RecordRules { keys_required: true, ..rules(None) };
    let many = records(&[0; 3 * INVALID_RECORDS_MAX], b"");
    let Err(RecordsError::Refused(faults)) =
        checked(batch(0, 3 * INVALID_RECORDS_MAX, 0, &many), &strict)
    else {
        panic!("keys are missing");
    };
    assert_eq!(faults.rows.len(), INVALID_RECORDS_MAX);
    assert!(!faults.timestamps);
}

proptest! {
    #[test]
    fn arbitrary_records_never_panic(
        count in 1_i32..6,
        body: Vec<u8>,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        target in prop::option::of(prop::sample::select(&TARGETS[..])),
    ) {
        let mut all = vec![(0, body.clone()), (3, body)];
        all.extend(each_codec(&records(&[3, 1, 2], b"value")));
        for (codec, mut payload) in all {
            for (index, byte) in &flips {
                if !payload.is_empty() {
                    let at = index.index(payload.len());
                    payload[at] = *byte;
                }
            }
            let mut bytes = batch(codec, 3, 0, &payload);
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            if let Ok(valid) = checked(bytes, &rules(target)) {
                let stored = RecordBatch::parse(&valid.bytes).unwrap();
                prop_assert_eq!(stored.record_count(), count);
            }
        }
    }
}
