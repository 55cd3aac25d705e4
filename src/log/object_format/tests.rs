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
    let position = ShardPosition { shard: 3, epoch: "a1b2".to_owned(), sequence: 1 << 33 };
    let commit = JournaledCommit {
        object: ObjectId { sequence: 6, ..object },
        position: position.clone(),
        sealed_ms: sealed_ms - 90,
        parts: vec![JournaledPart {
            part: 1,
            outcomes: vec![
                JournalOutcome::Committed(1 << 40),
                JournalOutcome::Duplicate(0),
                JournalOutcome::Refused,
            ],
        }],
    };
    let partition = TopicPartition { topic: TopicId([2; 16]), partition: 300 };
    let trim = JournaledTrim { partition, log_start_offset: 1 << 39, position };
    Footer {
        object,
        kind: ObjectKind::Wal,
        replica: "odradek-0".to_owned(),
        sealed_ms,
        lowest_undecided: 5,
        parts: vec![
            part(0, 9, 8, vec![batch(100, None), batch(200, producer)]),
            part(1, 2, 308, vec![batch(70_000, producer)]),
        ],
        placements: Vec::new(),
        journal: vec![JournalEntry::Commit(commit), JournalEntry::Trim(trim)],
    }
}

fn example_segment() -> Footer {
    let mut footer = example();
    let source = SourceRun {
        object: footer.object,
        start: 8,
        bytes: 300,
        offset_count: 10,
        records: 9,
        checksum: 0xdead_beef,
    };
    (footer.kind, footer.journal) = (ObjectKind::Segment, Vec::new());
    footer.placements = vec![
        Placement { base_offset: 1 << 41, sources: vec![source, source] },
        Placement { base_offset: 0, sources: Vec::new() },
    ];
    footer
}

/// Returns the size of an object whose data area ends with the last part.
fn object_bytes(footer: &Footer, encoded: &Bytes) -> u64 {
    let end = footer.parts.last().map_or(HEADER.len() as u64, |p| {
        p.start + p.batches.iter().map(|b| u64::from(b.bytes)).sum::<u64>()
    });
    end + encoded.len() as u64
}

fn check_golden(name: &str, footer: &Footer, golden: &[u8]) {
    let encoded = encode_footer(footer);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(format!("tests/golden/{name}"), &encoded).unwrap();
    }
    assert_eq!(&encoded[..], golden, "a format once shipped never changes");
    assert_eq!(decode_footer(object_bytes(footer, &encoded), golden), Ok(footer.clone()));
}

#[test]
fn version_2_matches_the_golden_bytes() {
    let golden = include_bytes!("../../../tests/golden/wal-footer-v2.bin");
    check_golden("wal-footer-v2.bin", &example(), golden);
    let golden = include_bytes!("../../../tests/golden/segment-footer-v2.bin");
    check_golden("segment-footer-v2.bin", &example_segment(), golden);
}

#[test]
fn other_versions_are_refused_by_name() {
    let mut encoded = encode_footer(&example()).to_vec();
    let size = object_bytes(&example(), &Bytes::from(encoded.clone()));
    let version = encoded.len() - 8;
    for (found, remedy) in [(1, "before the first release"), (3, "upgrade this replica")] {
        encoded[version] = found;
        let error = decode_footer(size, &encoded).unwrap_err();
        assert!(error.is_unsupported());
        assert!(error.to_string().contains(&format!("format version {found}")), "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

/// Returns the bytes of the example with one more section.
fn with_section(number: u64) -> (u64, Bytes) {
    let mut out = BytesMut::new();
    writer::write(&mut out, &example());
    crate::log::encoding::section(&mut out, number, |out| out.put_slice(b"later"));
    let encoded = finish(out);
    (object_bytes(&example(), &encoded), encoded)
}

#[test]
fn unknown_sections_are_skipped_if_even_and_refused_if_odd() {
    let (size, encoded) = with_section(100);
    assert_eq!(decode_footer(size, &encoded), Ok(example()));
    let (size, encoded) = with_section(101);
    let error = decode_footer(size, &encoded).unwrap_err();
    assert_eq!(error, FormatError::UnknownSection(101));
    assert!(error.is_unsupported() && error.to_string().contains("upgrade this replica"));
}

#[test]
fn unknown_journal_entries_are_reported() {
    let mut body = BytesMut::new();
    body.put_slice(&[0, 1, 9, 2, 7, 7]);
    let journal = journal::read(&mut crate::log::encoding::BytesReader::new(&body)).unwrap();
    assert_eq!(journal, [JournalEntry::Unknown { kind: 9 }]);
}

#[test]
fn only_keys_of_wal_objects_are_parsed() {
    let object = example().object;
    assert_eq!(
        wal_key(object),
        "wal/00000123456789ab-feedbeef/00000/00000123456789ab-feedbeef-00000007.wal"
    );
    assert_eq!(parse_wal_key(&wal_key(object)), Some(object));
    assert_eq!(parse_wal_key("wal/x.wal"), None);
    let moved = wal_key(object).replace("/00000/", "/00001/");
    assert_eq!(parse_wal_key(&moved), None);
    assert_eq!(parse_wal_key("segments/00000123456789ab-feedbeef-00000007.wal"), None);
}

#[test]
fn parts_outside_the_data_area_or_overlapping_are_invalid() {
    let footer = example();
    let encoded = encode_footer(&footer);
    let size = object_bytes(&footer, &encoded);
    let extent = Err(FormatError::Invalid(FormatField::Extent));
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
    // A valid trailer and a section that claims 2^56 bytes.
    let mut body = BytesMut::from(&[1_u8][..]);
    body.put_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let invalid = Err(FormatError::Invalid(FormatField::Count));
    assert_eq!(decode_footer(1 << 20, &finish(body)), invalid);
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
    let part_outcomes = (any::<u32>(), proptest::collection::vec(outcome, 0..4))
        .prop_map(|(part, outcomes)| JournaledPart { part, outcomes });
    let position = (any::<u32>(), "[a-f0-9]{0,3}", any::<u64>())
        .prop_map(|(shard, epoch, sequence)| ShardPosition { shard, epoch, sequence });
    let parts_outcomes = proptest::collection::vec(part_outcomes, 0..3);
    let commit = (any::<[u8; 16]>(), position.clone(), any::<i64>(), parts_outcomes).prop_map(
        |(object, position, sealed_ms, parts)| {
            let object = ObjectId::from_bytes(object);
            JournalEntry::Commit(JournaledCommit { object, position, sealed_ms, parts })
        },
    );
    let trim = (any::<u8>(), 0..=i32::MAX, 0..=i64::MAX, position).prop_map(
        |(topic, partition, log_start_offset, position)| {
            let partition = TopicPartition { topic: TopicId([topic; 16]), partition };
            JournalEntry::Trim(JournaledTrim { partition, log_start_offset, position })
        },
    );
    let entry = prop_oneof![commit, trim];
    let parts = proptest::collection::vec(part, 0..5);
    let journal = proptest::collection::vec(entry, 0..3);
    let times = (any::<i64>(), any::<u32>());
    (any::<[u8; 16]>(), "[a-zé-]{0,12}", times, parts, journal).prop_map(
        |(object, replica, (sealed_ms, lowest_undecided), parts, journal)| {
            let mut free = HEADER.len() as u64;
            let parts = (0..).zip(parts).map(|(index, (topic, partition, gap, batches))| {
                let start = free + gap;
                free =
                    start + batches.iter().map(|b: &BatchMetadata| u64::from(b.bytes)).sum::<u64>();
                let partition = TopicPartition { topic: TopicId([topic; 16]), partition };
                Part { index, partition, start, batches }
            });
            let parts = parts.collect();
            Footer {
                object: ObjectId::from_bytes(object),
                kind: ObjectKind::Wal,
                replica,
                sealed_ms,
                lowest_undecided,
                parts,
                placements: Vec::new(),
                journal,
            }
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
