use proptest::prelude::*;

use super::*;
use crate::log::batch::{BatchMetadata, Part, ProducerSequence};
use crate::log::ids::{ObjectId, TopicId, TopicPartition};

fn example() -> Footer {
    let object = ObjectId { incarnation: 0x0123_4567_89ab, process_id: 0xfeed_beef, sequence: 7 };
    let sealed_ms = 1_700_000_000_000;
    let producer = Some(ProducerSequence { id: 4_000, epoch: 3, base_sequence: i32::MAX });
    let batch = |bytes, producer| BatchMetadata {
        bytes,
        offset_count: 5,
        max_timestamp: sealed_ms - 20,
        producer,
    };
    let part = |index, topic, start, batches| Part {
        index,
        partition: TopicPartition { topic: TopicId([topic; 16]), partition: 300 },
        start,
        batches,
    };
    let journal = JournalEntry {
        object: ObjectId { sequence: 6, ..object },
        part: 1,
        outcomes: vec![
            JournalOutcome::Committed(1 << 40),
            JournalOutcome::Duplicate(0),
            JournalOutcome::Refused,
        ],
    };
    Footer {
        object,
        replica: "odradek-0".to_owned(),
        sealed_ms,
        parts: vec![
            part(0, 9, 8, vec![batch(100, None), batch(200, producer)]),
            part(1, 2, 308, vec![batch(70_000, producer)]),
        ],
        journal: vec![journal],
    }
}

/// Returns the size of an object whose data area ends with the last part.
fn object_bytes(footer: &Footer, encoded: &Bytes) -> u64 {
    let end = footer.parts.last().map_or(HEADER.len() as u64, |p| {
        p.start + p.batches.iter().map(|b| u64::from(b.bytes)).sum::<u64>()
    });
    end + encoded.len() as u64
}

#[test]
fn version_1_matches_the_golden_bytes() {
    let golden = include_bytes!("../../../tests/golden/wal-footer-v1.bin");
    let encoded = encode_footer(&example());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write("tests/golden/wal-footer-v1.bin", &encoded).unwrap();
    }
    assert_eq!(&encoded[..], golden, "a format once shipped never changes");
    assert_eq!(decode_footer(object_bytes(&example(), &encoded), golden), Ok(example()));
}

#[test]
fn only_keys_of_wal_objects_are_parsed() {
    let object = example().object;
    assert_eq!(wal_key(object), "wal/00000123456789ab-feedbeef-00000007.wal");
    assert_eq!(parse_wal_key(&wal_key(object)), Some(object));
    assert_eq!(parse_wal_key("wal/x.wal"), None);
    assert_eq!(parse_wal_key("segments/00000123456789ab-feedbeef-00000007.wal"), None);
}

#[test]
fn parts_outside_the_data_area_or_overlapping_are_invalid() {
    let footer = example();
    let encoded = encode_footer(&footer);
    let size = object_bytes(&footer, &encoded);
    let extent = Err(FormatError::Invalid(FooterField::Extent));
    assert_eq!(decode_footer(size - 1, &encoded), extent, "beyond the data area");
    assert!(decode_footer(size + 10, &encoded).is_ok());
    for start in [307, 7, u64::MAX] {
        let mut moved = footer.clone();
        moved.parts[usize::from(start != 7)].start = start;
        assert_eq!(decode_footer(size, &encode_footer(&moved)).err(), extent.clone().err());
    }
}

#[test]
fn counts_are_bounded_by_the_remaining_bytes() {
    // A valid trailer and a body that claims 2^56 bytes of replica name.
    let mut body = BytesMut::from(&[0_u8; 16][..]);
    body.put_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let length = u32::try_from(body.len()).unwrap();
    body.put_u32(length);
    let crc = crc32_iscsi(&body);
    body.put_u32(crc);
    body.put_slice(&TRAILER_MAGIC);
    assert_eq!(decode_footer(1 << 20, &body), Err(FormatError::Invalid(FooterField::Count)));
}

fn batch() -> impl Strategy<Value = BatchMetadata> {
    let producer = (0..=i64::MAX, 0..=i16::MAX, 0..=i32::MAX)
        .prop_map(|(id, epoch, base_sequence)| ProducerSequence { id, epoch, base_sequence });
    (1..=u32::MAX, 1..=i32::MAX, any::<i64>(), proptest::option::of(producer)).prop_map(
        |(bytes, offset_count, max_timestamp, producer)| BatchMetadata {
            bytes,
            offset_count,
            max_timestamp,
            producer,
        },
    )
}

fn footer() -> impl Strategy<Value = Footer> {
    let batches = proptest::collection::vec(batch(), 1..4);
    let part = (any::<u8>(), 0..=i32::MAX, 0_u64..9, batches);
    let outcome = prop_oneof![
        (0..=i64::MAX).prop_map(JournalOutcome::Committed),
        (0..=i64::MAX).prop_map(JournalOutcome::Duplicate),
        Just(JournalOutcome::Refused),
    ];
    let entry = (any::<[u8; 16]>(), any::<u32>(), proptest::collection::vec(outcome, 0..4))
        .prop_map(|(object, part, outcomes)| JournalEntry {
            object: ObjectId::from_bytes(object),
            part,
            outcomes,
        });
    let parts = proptest::collection::vec(part, 0..5);
    let journal = proptest::collection::vec(entry, 0..3);
    (any::<[u8; 16]>(), "[a-zé-]{0,12}", any::<i64>(), parts, journal).prop_map(
        |(object, replica, sealed_ms, parts, journal)| {
            let mut free = HEADER.len() as u64;
            let parts = (0..).zip(parts).map(|(index, (topic, partition, gap, batches))| {
                let start = free + gap;
                free =
                    start + batches.iter().map(|b: &BatchMetadata| u64::from(b.bytes)).sum::<u64>();
                let partition = TopicPartition { topic: TopicId([topic; 16]), partition };
                Part { index, partition, start, batches }
            });
            let parts = parts.collect();
            Footer { object: ObjectId::from_bytes(object), replica, sealed_ms, parts, journal }
        },
    )
}

proptest! {
    #[test]
    fn footers_round_trip(footer in footer(), before in 0_usize..40) {
        let encoded = encode_footer(&footer);
        let size = object_bytes(&footer, &encoded);
        prop_assert_eq!(decode_footer(size, &encoded), Ok(footer.clone()));
        let tail = [&vec![0; before][..], &encoded].concat();
        prop_assert_eq!(decode_footer(size, &tail), Ok(footer));
    }

    #[test]
    fn changed_bytes_are_detected(footer in footer(), at in any::<prop::sample::Index>(), by in 1_u8..) {
        let mut encoded = encode_footer(&footer).to_vec();
        let size = object_bytes(&footer, &Bytes::from(encoded.clone()));
        let at = at.index(encoded.len());
        encoded[at] ^= by;
        prop_assert!(decode_footer(size, &encoded).is_err());
    }

    #[test]
    fn truncation_is_detected(footer in footer(), at in any::<prop::sample::Index>()) {
        let encoded = encode_footer(&footer);
        let size = object_bytes(&footer, &encoded);
        let at = at.index(encoded.len());
        prop_assert!(decode_footer(size, &encoded[..at]).is_err());
        if at > 0 {
            prop_assert!(decode_footer(size, &encoded[at..]).is_err());
        }
    }

    #[test]
    fn arbitrary_body_with_valid_checksum_never_panics(
        body in proptest::collection::vec(any::<u8>(), 0..200), data_end in any::<u64>(),
    ) {
        let _ = reader::read(&body, data_end);
    }

    #[test]
    fn changed_body_with_valid_checksum_never_panics(
        footer in footer(), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let mut body = BytesMut::new();
        writer::write(&mut body, &footer);
        let at = at.index(body.len());
        body[at] = to;
        let _ = reader::read(&body, 1 << 40);
    }
}
