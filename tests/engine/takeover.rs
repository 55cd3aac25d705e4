//! Which processes a start waits for, and when those of other replicas count as ended.

use std::sync::Arc;

use odradek::coordinator::Coordinator;
use odradek::engine::processes::{self, ProcessRecord, ProcessRecorder};
use odradek::engine::recovery::LAPSED_AFTER;
use odradek::store::Store;
use odradek::store::memory::MemoryStore;
use tokio::time::Instant;

use crate::batches::fast;
use crate::harness::{SECOND, is_completed};
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

/// Only where Redis restarted or failed over can something of a process without a lease be missing:
/// also where it is back in the history before the one in which the process ended.
#[tokio::test(start_paused = true)]
async fn start_waits_for_no_other_replica_while_nothing_is_lost() {
    for (current, is_open) in [("h1", true), ("h2", false), ("h0", false)] {
        let store = Arc::new(MemoryStore::new());
        let coordinator = Arc::new(LossyCoordinator::new()) as Arc<dyn Coordinator>;
        let histories = ["r", "h1"].map(str::to_owned).to_vec();
        let positions = vec![None, Some(("h0".to_owned(), 1))];
        let own = ProcessRecord { histories, positions, ..record("a", 1) };
        let objects = Arc::clone(&store) as Arc<dyn Store>;
        ProcessRecorder::begin(objects, own).await.expect("the store never fails");
        let Begin { gate, mut takeover } = begin(&store, &coordinator, "b", 2);
        let histories = ["r", current].map(str::to_owned);
        takeover.recover_ended(&histories).await.expect("no failure");
        assert_eq!(gate.is_open(), is_open, "{current}");
    }
}
