use proptest::prelude::*;

use super::*;
use crate::log::ids::{ObjectId, TopicId};

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([1; 16]), partition }
}

fn run(base_offset: i64, offset_count: i64) -> Run {
    let object = ObjectId { incarnation: 1, process_id: 1, sequence: 0 };
    Run { base_offset, offset_count, object, start: 8, bytes: 100, max_timestamp: 0 }
}

fn found(log_start_offset: i64, runs: &[Run]) -> Found {
    let high_watermark = runs.last().map_or(log_start_offset, Run::end_offset);
    let bytes = runs.iter().map(|run| run.bytes).sum();
    let watermarks = Watermarks { log_start_offset, high_watermark, bytes };
    Found { watermarks, runs: runs.to_vec() }
}

fn committed(runs: &[Run]) -> CoordinatorEvent {
    CoordinatorEvent::Committed { partition: partition(0), runs: runs.to_vec() }
}

fn request(offset: i64) -> FindRequest {
    let from = FindFrom::Offset(offset);
    FindRequest { partition: partition(0), from, bytes_max: 1 << 20, runs_max: 10 }
}

fn insert(index: &TailIndex, found: &Found) {
    let query = index.begin_query(0, std::iter::once(partition(0)));
    query.complete(std::iter::once((partition(0), found)));
}

fn subscribed() -> TailIndex {
    let index = TailIndex::default();
    index.set_subscribed(true);
    index
}

/// Returns the base offsets of the runs found, and the high watermark.
fn find(index: &TailIndex, offset: i64) -> Option<(Vec<i64>, i64)> {
    let found = index.find(&request(offset))?;
    Some((found.runs.iter().map(|r| r.base_offset).collect(), found.watermarks.high_watermark))
}

#[test]
fn events_continue_a_cached_result() {
    let index = subscribed();
    assert_eq!(find(&index, 0), None);
    insert(&index, &found(3, &[run(3, 2), run(5, 5)]));
    assert_eq!(find(&index, 4), Some((vec![3, 5], 10)));
    assert_eq!(find(&index, 10), Some((vec![], 10)));
    index.apply(&committed(&[run(10, 1), run(11, 1)]));
    assert_eq!(find(&index, 10), Some((vec![10, 11], 12)));
    // An event for a run that is cached already.
    index.apply(&committed(&[run(11, 1)]));
    assert_eq!(find(&index, 12), Some((vec![], 12)));
    // The index never reports an offset as out of range.
    assert_eq!((find(&index, 2), find(&index, 13)), (None, None));
    index.apply(&CoordinatorEvent::Trimmed { partition: partition(0), log_start_offset: 6 });
    assert_eq!((find(&index, 4), find(&index, 6)), (None, Some((vec![5, 10, 11], 12))));
}

/// The other shards are not affected.
#[test]
fn nothing_is_cached_while_events_of_the_shard_do_not_arrive() {
    let index = subscribed();
    let insert_of = |shard, number| {
        let query = index.begin_query(shard, std::iter::once(partition(number)));
        query.complete(std::iter::once((partition(number), &found(0, &[run(0, 10)]))));
    };
    let knows = |number| index.watermarks(partition(number)).is_some();
    for (shard, number) in [(3, 0), (4, 1)] {
        insert_of(shard, number);
    }
    index.apply(&CoordinatorEvent::Disconnected(EventScope::Topics));
    assert!(knows(0) && knows(1), "it concerns no partition");
    index.apply(&CoordinatorEvent::Disconnected(EventScope::Shard(3)));
    assert!(!knows(0) && knows(1));
    insert_of(3, 0);
    assert!(!knows(0));
    index.apply(&CoordinatorEvent::Gap(EventScope::Shard(3)));
    insert_of(3, 0);
    assert!(knows(0) && knows(1));
    index.apply(&CoordinatorEvent::Disconnected(EventScope::All));
    assert!(!knows(0) && !knows(1));
}

#[test]
fn missed_events_remove_the_partition() {
    let index = subscribed();
    for event in [
        committed(&[run(11, 1)]),
        CoordinatorEvent::Gap(EventScope::All),
        CoordinatorEvent::TopicDeleted(TopicId([1; 16])),
    ] {
        insert(&index, &found(0, &[run(0, 10)]));
        assert!(find(&index, 10).is_some());
        index.apply(&event);
        assert_eq!(find(&index, 10), None, "{event:?}");
    }
    insert(&index, &found(0, &[run(0, 10)]));
    index.set_subscribed(false);
    assert_eq!(find(&index, 10), None);
    insert(&index, &found(0, &[run(0, 10)]));
    assert_eq!(find(&index, 10), None, "the index is empty without a subscription");
}

#[test]
fn events_during_a_query_are_applied_to_its_result() {
    let old = found(0, &[run(0, 10)]);
    let newer = found(0, &[run(0, 10), run(10, 5)]);
    let mut bounds = found(0, &[]);
    bounds.watermarks.high_watermark = 15;
    for (result, at_10) in
        [(&old, Some((vec![10], 15))), (&newer, Some((vec![10], 15))), (&bounds, None)]
    {
        let index = subscribed();
        let query = index.begin_query(0, std::iter::once(partition(0)));
        index.apply(&committed(&[run(10, 5)]));
        query.complete(std::iter::once((partition(0), result)));
        assert_eq!(find(&index, 10), at_10);
        assert_eq!(find(&index, 15), Some((vec![], 15)));
        drop(query);
        index.apply(&committed(&[run(15, 1)]));
        assert_eq!(find(&index, 15), Some((vec![15], 16)));
    }
    // More events than are kept.
    let index = subscribed();
    let query = index.begin_query(0, std::iter::once(partition(0)));
    (10..100).for_each(|base| index.apply(&committed(&[run(base, 1)])));
    query.complete(std::iter::once((partition(0), &old)));
    assert_eq!(find(&index, 10), None);
}

#[test]
fn stale_results_are_not_cached() {
    let index = subscribed();
    let old = found(0, &[run(0, 10)]);
    let query = index.begin_query(0, std::iter::once(partition(0)));
    index.apply(&committed(&[run(12, 5)]));
    query.complete(std::iter::once((partition(0), &old)));
    assert_eq!(find(&index, 10), None, "a reader at 10 would wait for records that exist");
    drop(query);
    insert(&index, &found(0, &[run(0, 10), run(10, 5)]));
    assert_eq!(find(&index, 10), Some((vec![10], 15)));
    assert_eq!(index.0.lock().partitions.len(), 1);
}

#[test]
fn results_of_older_runs_cache_the_high_watermark_alone() {
    let index = subscribed();
    let mut older = found(0, &[run(0, 10)]);
    older.watermarks.high_watermark = 1_000;
    insert(&index, &older);
    assert_eq!((find(&index, 0), find(&index, 999)), (None, None));
    assert_eq!(find(&index, 1_000), Some((vec![], 1_000)));
    index.apply(&committed(&[run(1_000, 7)]));
    assert_eq!(find(&index, 1_003), Some((vec![1_000], 1_007)));
}

#[test]
fn newer_results_replace_a_lagging_tail() {
    let index = subscribed();
    insert(&index, &found(0, &[run(0, 10)]));
    insert(&index, &found(0, &[run(0, 10), run(10, 5)]));
    assert_eq!(find(&index, 9), Some((vec![0, 10], 15)), "a reader has received 15");
    index.apply(&committed(&[run(10, 5)]));
    index.apply(&committed(&[run(15, 1)]));
    insert(&index, &found(0, &[run(0, 10)]));
    assert_eq!(find(&index, 16), Some((vec![], 16)));
}

#[test]
fn query_does_not_complete_a_later_entry() {
    let index = subscribed();
    let begin = || index.begin_query(0, std::iter::once(partition(0)));
    let complete = |query: PendingQuery<'_>, found: &Found| {
        query.complete(std::iter::once((partition(0), found)));
    };
    let old = begin();
    // A second query completes the entry, and a missed event removes it.
    complete(begin(), &found(0, &[run(0, 10)]));
    index.apply(&committed(&[run(11, 1)]));
    let new = begin();
    complete(old, &found(0, &[run(0, 10)]));
    assert_eq!(find(&index, 10), None, "the log ends at 12");
    complete(new, &found(0, &[run(0, 10), run(10, 1), run(11, 1)]));
    assert_eq!(find(&index, 10), Some((vec![10, 11], 12)));
}

#[test]
fn older_runs_extend_a_cached_tail() {
    let index = subscribed();
    let all = [run(0, 10), run(10, 5), run(15, 1)];
    let mut bounds = found(0, &[]);
    bounds.watermarks.high_watermark = 15;
    insert(&index, &bounds);
    assert_eq!(find(&index, 0), None);
    index.apply(&committed(&all[2..]));
    insert(&index, &found(0, &all[1..2]));
    assert_eq!(find(&index, 10), Some((vec![10, 15], 16)), "a result that is older than the event");
    let mut gap = found(0, &[run(0, 9)]);
    gap.watermarks.high_watermark = 16;
    insert(&index, &gap);
    assert_eq!(find(&index, 8), None);
    insert(&index, &found(0, &all));
    assert_eq!(find(&index, 0), Some((vec![0, 10, 15], 16)));
    index.apply(&CoordinatorEvent::Trimmed { partition: partition(0), log_start_offset: 12 });
    insert(&index, &found(0, &all));
    assert_eq!((find(&index, 0), find(&index, 12)), (None, Some((vec![10, 15], 16))));
}

#[test]
fn index_is_bounded() {
    let index = subscribed();
    insert(&index, &found(0, &[run(0, 1)]));
    for base in 1..1_000 {
        index.apply(&committed(&[run(base, 1)]));
    }
    assert_eq!(find(&index, 999 - RUNS_MAX as i64), None);
    assert!(find(&index, 1_000 - RUNS_MAX as i64).is_some());
    for number in 0..2 * PARTITIONS_MAX as i32 {
        let query = index.begin_query(0, std::iter::once(partition(number)));
        query.complete(std::iter::once((partition(number), &found(0, &[]))));
    }
    assert!(index.0.lock().partitions.len() <= PARTITIONS_MAX + 1);
}

proptest! {
    /// Beside a complete log: the index returns nothing, or what the log contains or contained some
    /// events ago.
    #[test]
    fn index_returns_only_states_of_the_log(
        steps in prop::collection::vec((0_u8..6, 1_i64..4), 1..80)
    ) {
        let index = subscribed();
        let mut log: Vec<Run> = Vec::new();
        let mut start = 0;
        let mut undelivered: VecDeque<CoordinatorEvent> = VecDeque::new();
        for (step, n) in steps {
            let end = log.last().map_or(0, Run::end_offset);
            match step {
                0 | 1 => {
                    log.push(run(end, n));
                    undelivered.push_back(committed(&[run(end, n)]));
                }
                2 => {
                    start = (start + n).min(end);
                    let event = CoordinatorEvent::Trimmed { partition: partition(0), log_start_offset: start };
                    undelivered.push_back(event);
                }
                3 => undelivered.drain(..).for_each(|event| index.apply(&event)),
                4 => {
                    if let Some(event) = undelivered.pop_front() {
                        index.apply(&event);
                    }
                }
                _ => {
                    let runs: Vec<_> =
                        log.iter().filter(|r| r.end_offset() > start).copied().collect();
                    let mut result = found(start, &runs);
                    result.watermarks.high_watermark = end;
                    insert(&index, &result);
                }
            }
            let end = log.last().map_or(0, Run::end_offset);
            for offset in 0..=end + 1 {
                let Some(found) = index.find(&request(offset)) else { continue };
                let at = found.watermarks;
                prop_assert!(at.high_watermark <= end && offset <= at.high_watermark);
                prop_assert!(found.runs.iter().all(|run| log.contains(run)));
                if offset < at.high_watermark {
                    let first = found.runs[0];
                    prop_assert!(first.base_offset <= offset && offset < first.end_offset());
                }
            }
            if undelivered.is_empty()
                && let Some(found) = index.find(&request(end))
            {
                prop_assert_eq!(found.watermarks.high_watermark, end, "no event is outstanding");
                prop_assert_eq!(found.watermarks.log_start_offset, start);
            }
        }
    }
}
