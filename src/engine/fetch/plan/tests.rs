use super::*;
use crate::log::ids::{ObjectId, TopicId, TopicPartition};

fn partition(offset: i64) -> PartitionFetch {
    let partition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };
    PartitionFetch { partition, offset, bytes_max: 1 << 20, leader_epoch: 0, fresh: false }
}

fn request() -> FindRequest {
    let from = FindFrom::Offset(0);
    FindRequest { partition: partition(0).partition, from, bytes_max: 1 << 20, runs_max: RUNS_MAX }
}

/// Returns contiguous runs of one record each, each in an object of its own.
fn found(runs: u32, bytes: u64, high_watermark: i64) -> Found {
    let run = |sequence: u32| {
        let object = ObjectId { incarnation: 1, process_id: 1, sequence };
        let base_offset = i64::from(sequence);
        Run { base_offset, offset_count: 1, object, start: 8, bytes, max_timestamp: 0 }
    };
    let watermarks = Watermarks { log_start_offset: 0, high_watermark, bytes: 0 };
    Found { watermarks, runs: (0..runs).map(run).collect() }
}

#[test]
fn read_class_depends_on_the_bytes_behind_the_end() {
    let all = RUNS_MAX + READ_AHEAD_RUNS;
    for (runs, bytes, high_watermark, class) in [
        (3, 100, 3, ReadClass::Tailing),
        // More runs than a query returns, but few bytes.
        (all, 100, 500, ReadClass::Tailing),
        (all, 1_000, 8_000, ReadClass::Tailing),
        (all, 1_000, 9_000, ReadClass::CatchUp),
        // Few runs, but many bytes.
        (2, 4 << 20, 2, ReadClass::Tailing),
        (2, 4 << 20, 5, ReadClass::CatchUp),
        (3, 8 << 20, 3, ReadClass::CatchUp),
    ] {
        let plan =
            PartitionPlan::new(&partition(0), &request(), found(runs, bytes, high_watermark));
        assert_eq!(plan.class, class, "{runs} runs of {bytes} bytes of {high_watermark}");
        assert_eq!(plan.error, None);
    }
}

#[test]
fn offset_without_an_index_entry_is_an_error() {
    let error = |offset, found| {
        let plan = PartitionPlan::new(&partition(offset), &request(), found);
        assert!(plan.error.is_none() || plan.runs.is_empty());
        plan.error
    };
    assert_eq!(error(0, found(0, 100, 5)), Some(FetchError::IndexEntryMissing));
    assert_eq!(error(5, found(0, 100, 5)), None);
    assert_eq!(error(6, found(0, 100, 5)), Some(FetchError::OffsetOutOfRange));
    assert_eq!(error(2, found(2, 100, 5)), Some(FetchError::IndexEntryMissing), "runs before it");
    let mut later = found(3, 100, 3);
    later.runs.remove(0);
    assert_eq!(error(0, later.clone()), Some(FetchError::IndexEntryMissing), "runs behind it");
    assert_eq!(error(1, later), None);
}

/// Returns how many runs are read of each of `partitions` partitions that are equally far behind,
/// and the number of objects that are read ahead.
fn runs_read(partitions: usize, high_watermark: i64) -> (Vec<usize>, usize) {
    let found = found(RUNS_MAX + READ_AHEAD_RUNS, 1_000, high_watermark);
    let planned = PartitionPlan::new(&partition(0), &request(), found);
    assert_eq!(planned.class, ReadClass::Tailing);
    let spec = FetchSpec {
        partitions: vec![partition(0); partitions],
        bytes_min: 1,
        bytes_max: 1 << 20,
        wait: std::time::Duration::ZERO,
    };
    let partitions = vec![planned; partitions];
    let mut plan = FetchPlan { spec, partitions, read_ahead: Vec::new() };
    plan.limit_objects(4);
    (plan.partitions.iter().map(|plan| plan.runs.len()).collect(), plan.read_ahead.len())
}

#[test]
fn window_depends_on_the_bytes_behind_the_end_of_all_partitions() {
    let all = i64::from(RUNS_MAX + READ_AHEAD_RUNS);
    assert_eq!(runs_read(3, all), (vec![64; 3], 16));
    assert_eq!(runs_read(1, 5_000), (vec![64; 1], 16), "5 MB");
    assert_eq!(runs_read(3, 5_000), (vec![4; 3], 76), "15 MB");
}
