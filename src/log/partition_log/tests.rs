use super::*;
use crate::log::batch::ProducerSequence;
use crate::log::commit_outcome::Refusal;
use crate::log::ids::{TopicId, TopicPartition};

fn object(sequence: u32) -> ObjectId {
    ObjectId { incarnation: 1, process_id: 2, sequence }
}

fn part(start: u64, batches: Vec<BatchMetadata>) -> Part {
    let partition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };
    Part { index: 0, partition, start, batches }
}

fn at(base_offset: i64) -> CommitOutcome {
    CommitOutcome::Committed { base_offset }
}

fn plain(bytes: u32, offset_count: i32, max_timestamp: i64) -> BatchMetadata {
    BatchMetadata { bytes, offset_count, max_timestamp, producer: None }
}

fn idempotent(base_sequence: i32) -> BatchMetadata {
    let producer = Some(ProducerSequence { id: 9, epoch: 0, base_sequence });
    BatchMetadata { bytes: 100, offset_count: 1, max_timestamp: 5, producer }
}

/// Three runs: offsets 0..3 (ts 50), 3..5 (ts 20), 5..9 (ts 50), of 10, 20 and 40 bytes.
fn three_runs() -> PartitionLog {
    let mut log = PartitionLog::default();
    for (i, (bytes, count, ts)) in [(10, 3, 50), (20, 2, 20), (40, 4, 50)].into_iter().enumerate() {
        log.commit(object(u32::try_from(i).unwrap()), 0, [&part(8, vec![plain(bytes, count, ts)])]);
    }
    log
}

fn bases(runs: &[Run]) -> Vec<i64> {
    runs.iter().map(|r| r.base_offset).collect()
}

#[test]
fn adjacent_batches_form_one_run_and_a_refused_batch_splits_it() {
    let mut log = PartitionLog::default();
    log.commit(object(0), 0, [&part(8, vec![idempotent(0)])]);
    let batches =
        vec![plain(10, 2, 7), plain(20, 3, 3), idempotent(5), idempotent(0), idempotent(1)];
    let (outcomes, runs) = log.commit(object(1), 0, [&part(1000, batches)]);
    assert_eq!(
        outcomes,
        [[
            at(1),
            at(3),
            CommitOutcome::Refused(Refusal::OutOfOrderSequence),
            CommitOutcome::Duplicate { base_offset: 0, max_timestamp: 5 },
            at(6)
        ]]
    );
    let first = Run {
        base_offset: 1,
        offset_count: 5,
        object: object(1),
        start: 1000,
        bytes: 30,
        max_timestamp: 7,
    };
    let second = Run {
        base_offset: 6,
        offset_count: 1,
        object: object(1),
        start: 1230,
        bytes: 100,
        max_timestamp: 5,
    };
    assert_eq!(runs, [first, second]);
    assert_eq!((log.high_watermark(), log.bytes()), (7, 230));
}

#[test]
fn adjacent_parts_of_one_object_form_one_run() {
    let mut log = PartitionLog::default();
    let parts = [
        part(8, vec![plain(10, 1, 5)]),
        part(18, vec![plain(20, 2, 9)]),
        // Bytes of another partition are in between.
        part(40, vec![idempotent(0)]),
        part(140, vec![idempotent(0), plain(7, 1, 1)]),
    ];
    let (outcomes, runs) = log.commit(object(0), 0, &parts);
    let again = CommitOutcome::Duplicate { base_offset: 3, max_timestamp: 5 };
    assert_eq!(outcomes, [vec![at(0)], vec![at(1)], vec![at(3)], vec![again, at(4)]]);
    let ranges: Vec<_> = runs.iter().map(|run| (run.base_offset, run.start, run.bytes)).collect();
    assert_eq!(ranges, [(0, 8, 30), (3, 40, 100), (4, 240, 7)]);
    assert_eq!((runs[0].offset_count, runs[0].max_timestamp), (3, 9));
}

#[test]
fn find_by_offset_starts_at_the_run_that_contains_it() {
    let log = three_runs();
    let all = |offset| bases(&log.find(FindFrom::Offset(offset), u64::MAX, 9));
    assert_eq!(all(i64::MIN), [0, 3, 5]);
    assert_eq!(all(2), [0, 3, 5]);
    assert_eq!(all(3), [3, 5]);
    assert_eq!(all(8), [5]);
    assert_eq!(all(9), [0_i64; 0]);
    assert_eq!(all(i64::MAX), [0_i64; 0]);
}

#[test]
fn find_respects_its_limits_but_returns_one_run() {
    let log = three_runs();
    let some = |bytes, runs| bases(&log.find(FindFrom::Offset(0), bytes, runs));
    assert_eq!(some(0, 9), [0]);
    assert_eq!(some(10, 9), [0]);
    assert_eq!(some(11, 9), [0, 3]);
    assert_eq!(some(30, 9), [0, 3]);
    assert_eq!(some(31, 9), [0, 3, 5]);
    assert_eq!(some(u64::MAX, 2), [0, 3]);
    assert_eq!(some(u64::MAX, 0), [0_i64; 0]);
}

#[test]
fn find_by_timestamp_returns_the_first_run_in_offset_order() {
    let mut log = three_runs();
    let first = |log: &PartitionLog, from| bases(&log.find(from, 0, 1));
    assert_eq!(first(&log, FindFrom::Timestamp(20)), [0]);
    assert_eq!(first(&log, FindFrom::Timestamp(51)), [0_i64; 0]);
    assert_eq!(first(&log, FindFrom::MaxTimestamp), [0]);
    assert!(log.trim(3));
    assert_eq!(first(&log, FindFrom::Timestamp(20)), [3]);
    assert_eq!(first(&log, FindFrom::Timestamp(21)), [5]);
    assert_eq!(first(&log, FindFrom::MaxTimestamp), [5]);
    assert_eq!(first(&PartitionLog::default(), FindFrom::MaxTimestamp), [0_i64; 0]);
}

#[test]
fn trim_removes_whole_runs_and_stops_at_the_high_watermark() {
    let mut log = three_runs();
    assert!(!log.trim(0) && !log.trim(-5));
    assert!(log.trim(4));
    assert_eq!((log.log_start_offset(), log.bytes()), (4, 60));
    assert_eq!(bases(&log.find(FindFrom::Offset(0), u64::MAX, 9)), [3, 5]);
    assert!(!log.trim(3));
    assert!(log.trim(i64::MAX));
    assert_eq!((log.log_start_offset(), log.high_watermark(), log.bytes()), (9, 9, 0));
    let (outcomes, _) = log.commit(object(9), 0, [&part(8, vec![plain(1, 1, 0)])]);
    assert_eq!(outcomes, [[at(9)]]);
}
