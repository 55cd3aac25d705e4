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

fn committed(runs: &[Run]) -> Event {
    Event::Committed { partition: partition(0), runs: runs.to_vec() }
}

fn ask(offset: i64) -> FindRequest {
    let from = FindFrom::Offset(offset);
    FindRequest { partition: partition(0), from, bytes_max: 1 << 20, runs_max: 10 }
}

fn learn(tail: &TailIndex, found: &Found) {
    tail.ask(std::iter::once(partition(0))).learn(std::iter::once((partition(0), found)));
}

fn following() -> TailIndex {
    let tail = TailIndex::default();
    tail.set_following(true);
    tail
}

/// The bases of the runs found, and the high watermark.
fn look(tail: &TailIndex, offset: i64) -> Option<(Vec<i64>, i64)> {
    let found = tail.look(&ask(offset))?;
    Some((found.runs.iter().map(|r| r.base_offset).collect(), found.watermarks.high_watermark))
}

#[test]
fn events_carry_on_from_an_answer() {
    let tail = following();
    assert_eq!(look(&tail, 0), None);
    learn(&tail, &found(3, &[run(3, 2), run(5, 5)]));
    assert_eq!(look(&tail, 4), Some((vec![3, 5], 10)));
    assert_eq!(look(&tail, 10), Some((vec![], 10)));
    tail.apply(&committed(&[run(10, 1), run(11, 1)]));
    assert_eq!(look(&tail, 10), Some((vec![10, 11], 12)));
    // Told of what is known already.
    tail.apply(&committed(&[run(11, 1)]));
    assert_eq!(look(&tail, 12), Some((vec![], 12)));
    // Out of range is never said here.
    assert_eq!((look(&tail, 2), look(&tail, 13)), (None, None));
    tail.apply(&Event::Trimmed { partition: partition(0), log_start_offset: 6 });
    assert_eq!((look(&tail, 4), look(&tail, 6)), (None, Some((vec![5, 10, 11], 12))));
}

#[test]
fn what_was_missed_throws_the_partition_out() {
    let tail = following();
    for event in [committed(&[run(11, 1)]), Event::Gap, Event::TopicDeleted(TopicId([1; 16]))] {
        learn(&tail, &found(0, &[run(0, 10)]));
        assert!(look(&tail, 10).is_some());
        tail.apply(&event);
        assert_eq!(look(&tail, 10), None, "{event:?}");
    }
    learn(&tail, &found(0, &[run(0, 10)]));
    tail.set_following(false);
    assert_eq!(look(&tail, 10), None);
    learn(&tail, &found(0, &[run(0, 10)]));
    assert_eq!(look(&tail, 10), None, "nothing is known while nobody follows");
}

#[test]
fn an_answer_that_was_overtaken_teaches_nothing() {
    let tail = following();
    let old = found(0, &[run(0, 10)]);
    let asking = tail.ask(std::iter::once(partition(0)));
    tail.apply(&committed(&[run(10, 5)]));
    asking.learn(std::iter::once((partition(0), &old)));
    assert_eq!(look(&tail, 10), None, "or a reader at 10 would wait for what has come");
    drop(asking);
    learn(&tail, &found(0, &[run(0, 10), run(10, 5)]));
    assert_eq!(look(&tail, 10), Some((vec![10], 15)));
    assert_eq!(tail.lock().partitions.len(), 1);
}

#[test]
fn an_answer_of_history_teaches_the_end_alone() {
    let tail = following();
    let mut history = found(0, &[run(0, 10)]);
    history.watermarks.high_watermark = 1_000;
    learn(&tail, &history);
    assert_eq!((look(&tail, 0), look(&tail, 999)), (None, None));
    assert_eq!(look(&tail, 1_000), Some((vec![], 1_000)));
    tail.apply(&committed(&[run(1_000, 7)]));
    assert_eq!(look(&tail, 1_003), Some((vec![1_000], 1_007)));
}

#[test]
fn a_newer_answer_replaces_what_lags_behind() {
    let tail = following();
    learn(&tail, &found(0, &[run(0, 10)]));
    learn(&tail, &found(0, &[run(0, 10), run(10, 5)]));
    assert_eq!(look(&tail, 9), Some((vec![0, 10], 15)), "a reader was told 15");
    tail.apply(&committed(&[run(10, 5)]));
    tail.apply(&committed(&[run(15, 1)]));
    learn(&tail, &found(0, &[run(0, 10)]));
    assert_eq!(look(&tail, 16), Some((vec![], 16)));
}

#[test]
fn it_is_bounded() {
    let tail = following();
    learn(&tail, &found(0, &[run(0, 1)]));
    for base in 1..1_000 {
        tail.apply(&committed(&[run(base, 1)]));
    }
    assert_eq!(look(&tail, 999 - RUNS_MAX as i64), None);
    assert!(look(&tail, 1_000 - RUNS_MAX as i64).is_some());
    for index in 0..2 * PARTITIONS_MAX as i32 {
        let asking = tail.ask(std::iter::once(partition(index)));
        asking.learn(std::iter::once((partition(index), &found(0, &[]))));
    }
    assert!(tail.lock().partitions.len() <= PARTITIONS_MAX + 1);
}

proptest! {
    /// Beside a log that knows everything: the index says nothing, or what the log says, or what
    /// it said some events ago.
    #[test]
    fn it_never_says_what_never_was(steps in prop::collection::vec((0_u8..6, 1_i64..4), 1..80)) {
        let tail = following();
        let mut log: Vec<Run> = Vec::new();
        let mut start = 0;
        let mut untold: VecDeque<Event> = VecDeque::new();
        for (step, n) in steps {
            let end = log.last().map_or(0, Run::end_offset);
            match step {
                0 | 1 => {
                    log.push(run(end, n));
                    untold.push_back(committed(&[run(end, n)]));
                }
                2 => {
                    start = (start + n).min(end);
                    let event = Event::Trimmed { partition: partition(0), log_start_offset: start };
                    untold.push_back(event);
                }
                3 => untold.drain(..).for_each(|event| tail.apply(&event)),
                4 => {
                    if let Some(event) = untold.pop_front() {
                        tail.apply(&event);
                    }
                }
                _ => {
                    let runs: Vec<_> = log.iter().filter(|r| r.end_offset() > start).copied().collect();
                    let mut answer = found(start, &runs);
                    answer.watermarks.high_watermark = end;
                    learn(&tail, &answer);
                }
            }
            let end = log.last().map_or(0, Run::end_offset);
            for offset in 0..=end + 1 {
                let Some(found) = tail.look(&ask(offset)) else { continue };
                let at = found.watermarks;
                prop_assert!(at.high_watermark <= end && offset <= at.high_watermark);
                prop_assert!(found.runs.iter().all(|run| log.contains(run)));
                if offset < at.high_watermark {
                    let first = found.runs[0];
                    prop_assert!(first.base_offset <= offset && offset < first.end_offset());
                }
            }
            if untold.is_empty()
                && let Some(found) = tail.look(&ask(end))
            {
                prop_assert_eq!(found.watermarks.high_watermark, end, "nothing is outstanding");
                prop_assert_eq!(found.watermarks.log_start_offset, start);
            }
        }
    }
}
