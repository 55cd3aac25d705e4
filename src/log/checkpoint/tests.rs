use std::collections::VecDeque;

use super::*;
use crate::log::ids::ObjectId;
use crate::log::producer_state::RetainedBatch;

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([4; 16]), partition }
}

fn example_state() -> CheckpointState {
    let batch = RetainedBatch {
        base_sequence: i32::MAX,
        last_sequence: 3,
        base_offset: 1 << 40,
        max_timestamp: -1,
    };
    let producer =
        ProducerEntry { epoch: 2, last_append_ms: 77, batches: VecDeque::from([batch, batch]) };
    let counters = |index, clock_ms, producers| CheckpointPartition {
        partition: partition(index),
        log_start_offset: 5,
        high_watermark: 1 << 41,
        clock_ms,
        producers,
    };
    CheckpointState {
        cluster_id: Some("cluster".to_owned()),
        zones: vec![("a".to_owned(), 4), ("é".to_owned(), 0)],
        topics: vec![CheckpointTopic {
            topic: TopicId([4; 16]),
            name: "clicks".to_owned(),
            topic_type: b'd',
        }],
        deleted: vec![TopicId([9; 16])],
        partitions: vec![counters(0, None, vec![]), counters(300, Some(-5), vec![(8, producer)])],
    }
}

fn example_runs() -> Vec<PartitionRuns> {
    let object = |sequence| ObjectId { incarnation: 1, process_id: 2, sequence };
    let run = |base_offset, sequence| Run {
        base_offset,
        offset_count: 10,
        object: object(sequence),
        start: 8,
        bytes: 70_000,
        max_timestamp: 1_700_000_000_000,
    };
    vec![
        PartitionRuns { partition: partition(0), runs: vec![run(0, 7), run(10, 3)] },
        PartitionRuns { partition: partition(300), runs: vec![run(1 << 40, 7)] },
    ]
}

fn example_manifest() -> Manifest {
    let reference = |key: &str| PartReference::new(key.to_owned(), key.as_bytes());
    Manifest {
        metadata_id: "g".to_owned(),
        position: ShardPosition { shard: 2, epoch: "a1".to_owned(), sequence: 1 << 33 },
        written_ms: 1_700_000_000_000,
        state: reference("state"),
        runs: vec![reference("first"), reference("second")],
    }
}

#[test]
fn version_1_matches_the_golden_bytes() {
    let encoded = [
        encode_manifest(&example_manifest()),
        encode_state(&example_state()),
        encode_runs(&example_runs()),
    ];
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write("tests/golden/checkpoint-v1.bin", encoded.concat()).unwrap();
    }
    let golden = include_bytes!("../../../tests/golden/checkpoint-v1.bin");
    assert_eq!(encoded.concat(), golden, "a format once shipped never changes");
}

#[test]
fn objects_round_trip_and_damage_is_detected() {
    let [manifest, state, runs] = [
        encode_manifest(&example_manifest()),
        encode_state(&example_state()),
        encode_runs(&example_runs()),
    ];
    assert_eq!(decode_manifest(&manifest), Ok(example_manifest()));
    assert_eq!(decode_state(&state), Ok(example_state()));
    assert_eq!(decode_runs(&runs), Ok(example_runs()));
    for encoded in [manifest, state, runs] {
        for at in 0..encoded.len() {
            let mut changed = encoded.to_vec();
            changed[at] ^= 1;
            assert!(decode_manifest(&changed).is_err());
            assert!(decode_state(&changed).is_err());
            assert!(decode_runs(&changed).is_err());
            assert!(decode_runs(&encoded[..at]).is_err());
            assert!(decode_state(&encoded[..at]).is_err());
            assert!(decode_manifest(&encoded[..at]).is_err());
        }
    }
}

#[test]
fn other_versions_and_unknown_sections_are_handled() {
    let mut newer = encode_state(&example_state()).to_vec();
    newer[7] = 2;
    let error = decode_state(&newer).unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("format version 2"), "{error}");
    let with = |number| {
        let encoded = encode_runs(&example_runs());
        seal(|out| {
            out.put_slice(&encoded[8..encoded.len() - 4]);
            crate::log::encoding::section(out, number, |out| out.put_slice(b"later"));
        })
    };
    assert_eq!(decode_runs(&with(100)), Ok(example_runs()));
    assert_eq!(decode_runs(&with(101)), Err(FormatError::UnknownSection(101)));
}

#[test]
fn changed_sections_with_valid_checksum_never_panic() {
    for encoded in [
        encode_manifest(&example_manifest()),
        encode_state(&example_state()),
        encode_runs(&example_runs()),
    ] {
        for at in 8..encoded.len() - 4 {
            for to in [0, 1, 0x7f, 0x80, 0xff] {
                let mut sections = encoded[8..encoded.len() - 4].to_vec();
                sections[at - 8] = to;
                let changed = seal(|out| out.put_slice(&sections));
                let _ = (decode_manifest(&changed), decode_state(&changed), decode_runs(&changed));
            }
        }
    }
}
