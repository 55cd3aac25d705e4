//! Crashes a process at every step and restarts it above the same store.
//!
//! A process is a Tokio runtime: dropping it ends every task at its current await point.

use std::sync::Arc;

use bytes::Bytes;
use odradek::coordinator::faulty::{self, Operation as Call};
use odradek::engine::produce::FlushProfile;
use odradek::store::faulty::{Effect, Fault, ReportedOutcome, StoreOperation};
use odradek::store::memory::MemoryStore;
use odradek::store::{PutMode, Store};
use tokio::time::Duration;

use crate::batches::{Batch, fast};
use crate::harness::{INTERVAL, Replica, SECOND, is_completed, offset, offset_or_duplicate};

const NEVER: Duration = Duration::from_secs(86_400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    AfterAppend,
    DuringPut,
    AfterPut,
    BeforeCommit,
    AfterCommit,
}

const STEPS: [Step; 5] =
    [Step::AfterAppend, Step::DuringPut, Step::AfterPut, Step::BeforeCommit, Step::AfterCommit];

fn in_process<T>(story: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(story)
}

fn idempotent(sequence: i32) -> odradek::engine::produce::ProducedBatch {
    Batch::of(&[&format!("i{sequence}")]).sequence(sequence).to(0, FlushProfile::Fast)
}

/// Writes i0, p and i1, and crashes with i2 and i3 at `step`.
async fn first_process(memory: &Arc<MemoryStore>, step: Step) {
    let replica = Replica::embedded(memory).await;
    assert_eq!(replica.write(1, idempotent(0)).await, 0);
    assert_eq!(replica.write(2, fast(0, "p")).await, 1);
    assert_eq!(replica.write(1, idempotent(1)).await, 2);
    let reported_never = Fault { after: NEVER, ..Fault::NONE };
    let decided_never = faulty::Fault { after: NEVER, ..faulty::Fault::NONE };
    match step {
        Step::AfterAppend => {}
        Step::DuringPut => replica.store.script(StoreOperation::put, [Fault::slow(NEVER)]),
        Step::AfterPut => replica.store.script(StoreOperation::put, [reported_never]),
        Step::BeforeCommit => {
            replica.coordinator.script(Call::Commit, [faulty::Fault::slow(NEVER)]);
        }
        Step::AfterCommit => replica.coordinator.script(Call::Commit, [decided_never]),
    }
    let mut third = replica.send(1, vec![idempotent(2)]).await;
    if step == Step::AfterAppend {
        return;
    }
    tokio::time::sleep(SECOND).await;
    // Durable, but after an object that is not, or is not known to be.
    let mut fourth = replica.send(1, vec![idempotent(3)]).await;
    tokio::time::sleep(SECOND).await;
    assert!(!is_completed(&mut third).await && !is_completed(&mut fourth).await, "{step:?}");
}

/// The producer retries what was not acknowledged.
async fn second_process(memory: &Arc<MemoryStore>, step: Step) {
    let replica = Replica::embedded(memory).await;
    let acked = replica.read(0, 0).await;
    let values: Vec<&str> = acked.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values[..3], ["i0", "p", "i1"], "{step:?}");
    let expected_more: &[&str] = match step {
        Step::AfterAppend | Step::DuringPut => &[],
        Step::AfterPut | Step::BeforeCommit | Step::AfterCommit => &["i2", "i3"],
    };
    assert_eq!(values[3..], *expected_more, "{step:?}: whole objects, in order");
    for (row, at) in [(2, 3), (3, 4)] {
        let outcome = replica.send(1, vec![idempotent(row)]).await.await.expect("a result")[0];
        assert_eq!(offset_or_duplicate(outcome), at, "{step:?}");
    }
    assert_eq!(replica.write(1, idempotent(4)).await, 5, "{step:?}");
}

async fn check_whole(memory: &Arc<MemoryStore>, step: Step) {
    let replica = Replica::embedded(memory).await;
    let log = replica.read(0, 0).await;
    let expected = ["i0", "p", "i1", "i2", "i3", "i4"].map(str::to_owned);
    let expected: Vec<(i64, String)> = (0..).zip(expected).collect();
    assert_eq!(log, expected, "{step:?}");
}

#[test]
fn crash_at_any_step_neither_loses_nor_duplicates() {
    for step in STEPS {
        let memory = Arc::new(MemoryStore::new());
        in_process(first_process(&memory, step));
        in_process(second_process(&memory, step));
        in_process(check_whole(&memory, step));
        // A restart changes nothing.
        in_process(check_whole(&memory, step));
    }
}

/// A PUT of a crashed process may still be applied, after its successor has returned offsets.
#[test]
fn put_applied_after_its_process_crashed_changes_nothing() {
    let memory = Arc::new(MemoryStore::new());
    let late: Vec<(String, Bytes)> = in_process(async {
        first_process(&memory, Step::AfterPut).await;
        let mut late = Vec::new();
        for row in memory.list("wal/", None, 100).await.unwrap().into_iter().skip(3) {
            late.push((row.key.clone(), memory.get(&row.key, None).await.unwrap()));
            memory.delete(&row.key).await.unwrap();
        }
        late
    });
    assert_eq!(late.len(), 2);
    in_process(second_process(&memory, Step::DuringPut));
    in_process(async {
        for (key, bytes) in late {
            memory.put(&key, vec![bytes], PutMode::Overwrite).await.unwrap();
        }
    });
    in_process(check_whole(&memory, Step::AfterPut));
}

/// Acknowledged records survive any number of crashes, with lost responses throughout.
#[test]
fn acknowledged_records_survive_every_crash() {
    let memory = Arc::new(MemoryStore::new());
    let mut acked: Vec<String> = Vec::new();
    for generation in 0..6_u64 {
        let written = in_process(async {
            let replica = Replica::embedded(&memory).await;
            let in_doubt = ReportedOutcome::Error(
                odradek::store::StoreErrorKind::Unavailable,
                odradek::store::Certainty::Indeterminate,
            );
            let lost = Fault { report: in_doubt, before: INTERVAL, ..Fault::NONE };
            replica
                .store
                .script(StoreOperation::put, [lost, Fault::REQUEST_LOST, Fault::NONE, lost]);
            let mut written = Vec::new();
            for step in 0..4 {
                let value = format!("{generation}:{step}");
                let reply = replica.send(step, vec![fast(0, &value)]).await;
                written.push((offset(reply.await.unwrap()[0]), value));
            }
            let dies = Fault { effect: Effect::NotApplied, before: NEVER, ..Fault::NONE };
            replica.store.script(StoreOperation::put, [dies]);
            let _never = replica.send(9, vec![fast(0, "never")]).await;
            tokio::time::sleep(SECOND).await;
            written
        });
        for (at, value) in written {
            assert_eq!(at, acked.len() as i64, "offsets are dense across restarts");
            acked.push(value);
        }
    }
    let log = in_process(async { Replica::embedded(&memory).await.read(0, 0).await });
    let values: Vec<String> = log.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, acked);
}

/// A process that stood still while another one took over its store resumes: its producers get no
/// acknowledgement of anything that the other one does not have.
#[tokio::test(start_paused = true)]
async fn replaced_process_that_resumes_acknowledges_nothing() {
    let memory = Arc::new(MemoryStore::new());
    let replaced = Replica::embedded(&memory).await;
    assert_eq!(replaced.write(1, fast(0, "before")).await, 0);
    // The request of the next object is on its way when the process stops.
    replaced.store.script(StoreOperation::put, [Fault { before: 10 * SECOND, ..Fault::NONE }]);
    let mut in_flight = replaced.send(1, vec![fast(0, "in flight")]).await;
    assert!(!is_completed(&mut in_flight).await);
    let successor = Replica::embedded(&memory).await;
    assert_eq!(successor.write(1, fast(0, "after")).await, 1);
    let mut resumed = replaced.send(2, vec![fast(0, "resumed")]).await;
    tokio::time::sleep(600 * SECOND).await;
    assert!(!is_completed(&mut in_flight).await, "its object cannot be created");
    assert!(!is_completed(&mut resumed).await, "no later one is committed before it");
    let expected = [(0, "before".to_owned()), (1, "after".to_owned())];
    assert_eq!(successor.read(0, 0).await, expected);
    drop(successor);
    assert_eq!(Replica::embedded(&memory).await.read(0, 0).await, expected);
}
