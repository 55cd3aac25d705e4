//! Which processes a start waits for, and when those of other replicas count as ended.

use std::sync::Arc;

use odradek::coordinator::Coordinator;
use odradek::coordinator::faulty::{Fault, FaultyCoordinator, Operation};
use odradek::engine::processes::{self, ProcessRecord, ProcessRecorder};
use odradek::engine::recovery::LAPSED_AFTER;
use odradek::log::ids::{TopicId, TopicPartition};
use odradek::store::Store;
use odradek::store::memory::MemoryStore;
use tokio::time::Instant;

use crate::batches::fast;
use crate::harness::{Replica, SECOND, is_completed};
use crate::lossy::LossyCoordinator;
use crate::power_loss::{Begin, Process, begin, member, record};

/// A process without a lease may still run: others recover it only after a while, and serve nothing
/// before. Afterwards it commits nothing, and knows it.
#[tokio::test(start_paused = true)]
async fn process_of_another_replica_is_recovered_once_its_lease_lapsed() {
    let store = Arc::new(MemoryStore::new());
    let coordinator = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
    let mut running = Process::start(&store, &coordinator, 1).await;
    assert_eq!(running.replica.write(1, fast(0, "acked")).await, 0);
    coordinator.renew(&member("a", 1), 6 * SECOND).await.expect("a lease");

    let Begin { gate, mut takeover } = begin(&store, &coordinator, "b", 2);
    takeover.recover_ended(&[]).await.expect("no failure");
    assert!(gate.is_open(), "what runs needs no recovery");
    tokio::time::sleep(7 * SECOND).await;

    let Begin { gate, mut takeover } = begin(&store, &coordinator, "b", 3);
    let start = Instant::now();
    while !gate.is_open() {
        assert!(!gate.is_partly_open());
        takeover.recover_ended(&[]).await.expect("no failure");
        tokio::time::sleep(SECOND).await;
    }
    assert!(start.elapsed() >= LAPSED_AFTER, "{:?}", start.elapsed());
    let mut late = running.replica.send(1, vec![fast(0, "late")]).await;
    assert!(!is_completed(&mut late).await, "the outcome cannot be known");
    assert!(running.replica.producer.is_fenced());

    // The record stays until this process ensures that nothing of the recovery is lost again.
    takeover.delete_recovered(start).await.expect("no failure");
    assert_eq!(processes::load_all(&*store).await.expect("records").len(), 1);
    takeover.delete_recovered(Instant::now() + SECOND).await.expect("no failure");
    assert_eq!(processes::load_all(&*store).await.expect("records"), []);
    running.recorder.note(9, Vec::new());
}

/// Two looks at which a process has no lease say nothing of the time between them.
#[tokio::test(start_paused = true)]
async fn process_that_renewed_between_two_looks_is_not_fenced() {
    let store = Arc::new(MemoryStore::new());
    let coordinator = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
    let running = Process::start(&store, &coordinator, 1).await;
    let Begin { gate, mut takeover } = begin(&store, &coordinator, "b", 2);
    let renew = async || coordinator.renew(&member("a", 1), 6 * SECOND).await.expect("a lease");
    for _ in 0..3 {
        takeover.recover_ended(&[]).await.expect("no failure");
        assert!(!gate.is_partly_open(), "its lease is away");
        tokio::time::sleep(10 * SECOND).await;
        renew().await;
        tokio::time::sleep(20 * SECOND).await;
    }
    // Observed without interruption, a renewal begins the time again.
    assert!(!takeover.observe().await.expect("no failure"));
    for second in 0..14 {
        tokio::time::sleep(SECOND).await;
        assert!(!takeover.observe().await.expect("no failure"), "after {second} s");
    }
    renew().await;
    tokio::time::sleep(2 * SECOND).await;
    takeover.recover_ended(&[]).await.expect("no failure");
    assert!(gate.is_open(), "it runs");
    assert_eq!(running.replica.write(1, fast(0, "runs")).await, 0);
    tokio::time::sleep(7 * SECOND).await;
    takeover.recover_ended(&[]).await.expect("no failure");
    let start = Instant::now();
    while !takeover.observe().await.expect("no failure") {
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(start.elapsed().as_secs(), LAPSED_AFTER.as_secs());
    assert!(!takeover.observe().await.expect("no failure"), "it is known");
    takeover.recover_ended(&[]).await.expect("no failure");
    assert!(!is_completed(&mut running.replica.send(1, vec![fast(0, "late")]).await).await);
}

/// A process that cannot be looked for is not absent.
#[tokio::test(start_paused = true)]
async fn readings_that_fail_interrupt_an_absence() {
    let store = Arc::new(MemoryStore::new());
    let model = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
    let _running = Process::start(&store, &model, 1).await;
    let faulty = Arc::new(FaultyCoordinator::new(Arc::clone(&model)));
    let seen_by_b = Arc::clone(&faulty) as Arc<dyn Coordinator>;
    let Begin { gate, mut takeover } = begin(&store, &seen_by_b, "b", 2);
    takeover.recover_ended(&[]).await.expect("no failure");
    for _ in 0..10 {
        tokio::time::sleep(SECOND).await;
        takeover.observe().await.expect("no failure");
    }
    faulty.set_persistent(Operation::Renew, Some(Fault::REFUSED));
    for _ in 0..10 {
        tokio::time::sleep(SECOND).await;
        takeover.observe().await.expect_err("nothing is known");
    }
    takeover.recover_ended(&[]).await.expect_err("nothing is known");
    faulty.set_persistent(Operation::Renew, None);
    for _ in 0..14 {
        assert!(!takeover.observe().await.expect("no failure"));
        tokio::time::sleep(SECOND).await;
    }
    assert!(!gate.is_partly_open());
    tokio::time::sleep(2 * SECOND).await;
    assert!(takeover.observe().await.expect("no failure"));
}

/// A process that was suspended, or cut off, may come back while it is recovered.
#[tokio::test(start_paused = true)]
async fn process_that_runs_again_during_its_recovery_is_not_fenced() {
    let store = Arc::new(MemoryStore::new());
    let model = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
    let running = Process::start(&store, &model, 1).await;
    assert_eq!(running.replica.write(1, fast(0, "acked")).await, 0);
    let faulty = Arc::new(FaultyCoordinator::new(Arc::clone(&model)));
    let seen_by_b = Arc::clone(&faulty) as Arc<dyn Coordinator>;
    let Begin { gate, mut takeover } = begin(&store, &seen_by_b, "b", 2);
    for _ in 0..16 {
        takeover.recover_ended(&[]).await.expect("no failure");
        assert!(!gate.is_partly_open());
        tokio::time::sleep(SECOND).await;
    }
    faulty.script(Operation::Commit, [Fault::slow(10 * SECOND)]);
    let renewal = async {
        tokio::time::sleep(5 * SECOND).await;
        model.renew(&member("a", 1), 60 * SECOND).await.expect("a lease");
    };
    let (recovered, ()) = tokio::join!(takeover.recover_ended(&[]), renewal);
    recovered.expect("no failure");
    assert!(gate.is_open(), "it has what it stored");
    assert_eq!(running.replica.write(1, fast(0, "more")).await, 1);
    takeover.delete_recovered(Instant::now() + SECOND).await.expect("no failure");
    assert_eq!(processes::load_all(&*store).await.expect("records").len(), 1);
}

/// A replica that was connected to another Redis may have deleted it.
#[tokio::test(start_paused = true)]
async fn record_that_was_deleted_is_noticed_and_written_again() {
    let store = Arc::new(MemoryStore::new());
    let coordinator = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
    let Begin { mut takeover, .. } = begin(&store, &coordinator, "a", 1);
    let objects = Arc::clone(&store) as Arc<dyn Store>;
    let recorder = ProcessRecorder::begin(objects, record("a", 1)).await.expect("stored");
    for _ in 0..2 {
        takeover.recover_ended(&[]).await.expect("no failure");
        assert!(!takeover.lacks_own_record());
        processes::delete(&*store, &record("a", 1)).await.expect("deleted");
        takeover.recover_ended(&[]).await.expect("no failure");
        assert!(takeover.lacks_own_record());
        recorder.restore().await.expect("stored");
    }
}

/// Two processes of one name, as in a rollout that starts the new one first, or by mistake: the older
/// one runs on without the lease of the name.
#[tokio::test(start_paused = true)]
async fn running_process_of_the_same_name_is_not_fenced() {
    let store = Arc::new(MemoryStore::new());
    let coordinator = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
    let older = Process::start(&store, &coordinator, 1).await;
    let renew = async |incarnation| {
        coordinator.renew(&member("a", incarnation), 6 * SECOND).await.expect("a lease")
    };
    renew(1).await;
    let Begin { gate, mut takeover } = begin(&store, &coordinator, "a", 2);
    let histories = ["r", "h1"].map(str::to_owned);
    let named = |name: &str| ProcessRecord {
        histories: vec!["r".to_owned(), name.to_owned()],
        ..record("a", 1)
    };
    let write = async |record| {
        ProcessRecorder::begin(Arc::clone(&store) as Arc<dyn Store>, record).await.expect("stored")
    };
    // It may have ended together with Redis just now.
    write(named("h0")).await;
    takeover.recover_ended(&histories).await.expect("no failure");
    assert!(!gate.is_open());
    write(named("h1")).await;
    takeover.recover_ended(&histories).await.expect("no failure");
    assert!(gate.is_open(), "Redis has what it knows");
    for second in 0..40 {
        assert_eq!(renew(2).await.members, [member("a", 2)]);
        assert_eq!(renew(1).await.members, [member("a", 2)], "it has no lease");
        takeover.recover_ended(&histories).await.expect("no failure");
        assert_eq!(older.replica.write(1, fast(0, "runs")).await, second);
        tokio::time::sleep(SECOND).await;
    }
    // It ends, and is recovered at the next look.
    tokio::time::sleep(6 * SECOND).await;
    takeover.recover_ended(&histories).await.expect("no failure");
    assert!(!is_completed(&mut older.replica.send(1, vec![fast(0, "late")]).await).await);
}

/// A process whose record says that it has ended is recovered at once, although it counts as running
/// for a while.
#[tokio::test(start_paused = true)]
async fn start_waits_for_no_process_that_has_ended_by_itself() {
    let store = Arc::new(MemoryStore::new());
    let coordinator = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
    let mut ended = Process::start(&store, &coordinator, 1).await;
    coordinator.renew(&member("a", 1), 6 * SECOND).await.expect("a lease");
    assert_eq!(ended.replica.write(1, fast(0, "acked")).await, 0);
    ended.replica.producer.drain().await;
    ended.recorder.end(&[]).await.expect("the store never fails");
    let Begin { gate, mut takeover } = begin(&store, &coordinator, "b", 2);
    takeover.recover_ended(&[]).await.expect("no failure");
    assert!(gate.is_open());
    takeover.delete_recovered(Instant::now() + SECOND).await.expect("no failure");
    assert_eq!(processes::load_all(&*store).await.expect("records"), []);
}

/// Classic topics do not wait for an attempt that takes long.
#[tokio::test(start_paused = true)]
async fn start_gives_up_an_attempt_that_takes_too_long() {
    let store = Arc::new(MemoryStore::new());
    let model = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
    let ended = Process::start(&store, &model, 1).await;
    assert_eq!(ended.replica.write(1, fast(0, "acked")).await, 0);
    let faulty = Arc::new(FaultyCoordinator::new(Arc::clone(&model)));
    faulty.script(Operation::Commit, [Fault::slow(300 * SECOND)]);
    let coordinator = Arc::clone(&faulty) as Arc<dyn Coordinator>;
    let Begin { gate, mut takeover } = begin(&store, &coordinator, "a", 2);
    let start = Instant::now();
    assert!(!takeover.begin(Vec::new, 30 * SECOND).await);
    assert_eq!((start.elapsed(), gate.is_partly_open()), (30 * SECOND, false));
    assert!(takeover.begin(Vec::new, 30 * SECOND).await, "the next attempt completes it");
    assert!(gate.is_open() && start.elapsed() == 30 * SECOND);
}

/// Only where Redis restarted or failed over can something of a process without a lease be missing:
/// also where it is back in the history before the one in which the process ended, and where a
/// history is unknown.
#[tokio::test(start_paused = true)]
async fn start_waits_for_no_other_replica_while_nothing_is_lost() {
    let cases = [
        ("h1", "h1", true),
        ("h1", "h2", false),
        ("h1", "h0", false),
        ("", "h0", false),
        ("", "", false),
        ("h1", "", false),
    ];
    for (named, current, is_open) in cases {
        let store = Arc::new(MemoryStore::new());
        let coordinator = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
        let histories = ["r", named].map(str::to_owned).to_vec();
        let positions = vec![None, Some(("h0".to_owned(), 1))];
        let own = ProcessRecord { histories, positions, ..record("a", 1) };
        let objects = Arc::clone(&store) as Arc<dyn Store>;
        ProcessRecorder::begin(objects, own).await.expect("the store never fails");
        let Begin { gate, mut takeover } = begin(&store, &coordinator, "b", 2);
        let histories = ["r", current].map(str::to_owned);
        takeover.recover_ended(&histories).await.expect("no failure");
        assert_eq!(gate.is_open(), is_open, "{named:?} {current:?}");
        assert_eq!(gate.is_partly_open(), is_open, "{named:?} {current:?}: its only shard");
    }
}

/// Each recovery reads the objects of a process, so that one that could commit nothing more is not
/// repeated. A partition whose metadata is lost keeps no other one of its shard closed.
#[tokio::test(start_paused = true)]
async fn incomplete_recovery_is_repeated_once_something_responds() {
    let store = Arc::new(MemoryStore::new());
    let lossy = Arc::new(LossyCoordinator::new());
    let coordinator = Arc::clone(&lossy) as Arc<dyn Coordinator>;
    let ended = Process::start(&store, &coordinator, 1).await;
    for partition in 0..3 {
        ended.replica.write(1, fast(partition, "acked")).await;
    }
    let left = lossy.without_last(3).await;
    let faulty = Arc::new(FaultyCoordinator::new(Arc::clone(&left) as _).with_shards(2));
    let lost = TopicPartition { topic: TopicId([7; 16]), partition: 0 };
    faulty.set_lost(lost, true);
    faulty.set_shard_fault(1, Some(Fault::METADATA_LOST));
    let coordinator = Arc::clone(&faulty) as Arc<dyn Coordinator>;
    let Begin { gate, mut takeover } = begin(&store, &coordinator, "a", 2);
    let histories = ["r", "h1", "h1"].map(str::to_owned);
    let mut recover = async || {
        let before = faulty.calls(Operation::Commit);
        takeover.recover_ended(&histories).await.expect("no failure");
        faulty.calls(Operation::Commit) > before
    };
    assert!(recover().await);
    assert!(gate.is_partly_open() && !gate.is_open(), "shard 0 is served");
    assert_eq!(left.count(), 1, "the other partition of shard 0");
    for _ in 0..3 {
        assert!(!recover().await, "nothing responds");
    }
    faulty.set_shard_fault(1, None);
    assert!(recover().await);
    assert!(gate.is_open());
    assert!(!recover().await);
    faulty.set_lost(lost, false);
    assert!(recover().await);
    assert!(!recover().await, "it is recovered, and fenced");
    let replica = Replica::over(gate, store).await;
    for partition in 0..3 {
        assert_eq!(replica.read(partition, 0).await.len(), 1);
    }
}
