//! A machine loses power together with its coordinator, which lacks its last commits afterwards, and
//! its only replica. The next process commits again what the objects have, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use odradek::coordinator::faulty::{Fault as CoordinatorFault, FaultyCoordinator};
use odradek::coordinator::gated::{ClosedShards, GatedCoordinator};
use odradek::coordinator::{Coordinator, CoordinatorError, Member};
use odradek::engine::processes::{self, ProcessRecord, ProcessRecorder, RecordedPositions};
use odradek::engine::produce::{AppendOutcome, FlushProfile, ProduceSettings, ProducedBatch};
use odradek::engine::recovery::Takeover;
use odradek::log::ids::{TopicId, TopicPartition};
use odradek::log::object_format::wal_key;
use odradek::metrics::Metrics;
use odradek::store::faulty::{Fault, StoreOperation};
use odradek::store::memory::MemoryStore;
use odradek::store::{PutMode, Store};
use tokio::time::Instant;

use crate::batches::{Batch, fast};
use crate::harness::{Replica, Reply, SECOND, is_completed, offset, settings};
use crate::lossy::LossyCoordinator;

/// Returns a member with the ids of a process.
pub(crate) fn member(replica: &str, incarnation: u64) -> Member {
    Member {
        replica: replica.to_owned(),
        incarnation,
        process_id: 1,
        zone: 0,
        zone_name: "a".to_owned(),
        peer: None,
        advertised_host: "localhost".to_owned(),
        node_ports: 9300,
        broker_ports: 9400,
        nodes: 1,
        version: "0.0.0".to_owned(),
        settings: 0,
    }
}

pub(crate) fn record(replica: &str, incarnation: u64) -> ProcessRecord {
    ProcessRecord {
        incarnation,
        process_id: 1,
        replica: replica.to_owned(),
        metadata_id: "m".to_owned(),
        lowest_undecided: 0,
        positions: Vec::new(),
        histories: Vec::new(),
        has_ended: false,
    }
}

/// A process of a replica, which serves once its predecessors are recovered.
pub(crate) struct Process {
    pub(crate) replica: Replica,
    pub(crate) recorder: ProcessRecorder,
}

/// A process before it serves.
pub(crate) struct Begin {
    pub(crate) gate: Arc<GatedCoordinator>,
    pub(crate) takeover: Takeover,
}

pub(crate) fn begin(
    store: &Arc<MemoryStore>,
    coordinator: &Arc<dyn Coordinator>,
    replica: &str,
    incarnation: u64,
) -> Begin {
    let gate = Arc::new(GatedCoordinator::new(Arc::clone(coordinator), ClosedShards::All));
    let takeover = Takeover::new(
        Arc::clone(store) as Arc<dyn Store>,
        Arc::clone(&gate),
        record(replica, incarnation),
        &member(replica, incarnation),
        Arc::new(Metrics::default()),
    );
    Begin { gate, takeover }
}

impl Process {
    pub(crate) async fn start(
        store: &Arc<MemoryStore>,
        coordinator: &Arc<dyn Coordinator>,
        incarnation: u64,
    ) -> Self {
        let Begin { gate, mut takeover } = begin(store, coordinator, "a", incarnation);
        // The one before counts as running for a while.
        assert!(takeover.begin(Vec::new, 100 * SECOND).await);
        assert!(gate.is_open());
        Self::serve(store, gate, incarnation).await
    }

    async fn serve(
        store: &Arc<MemoryStore>,
        coordinator: Arc<dyn Coordinator>,
        incarnation: u64,
    ) -> Self {
        let (memory, objects) = (Arc::clone(store), Arc::clone(store) as Arc<dyn Store>);
        let begun = ProcessRecorder::begin(objects, record("a", incarnation)).await;
        let settings = ProduceSettings { incarnation, process_id: 1, ..settings() };
        let replica = Replica::over_with(coordinator, memory, settings).await;
        Self { replica, recorder: begun.expect("the store never fails") }
    }

    /// Notes what this process observed: the number of commits stands for the position.
    async fn record(&mut self, coordinator: &LossyCoordinator) {
        let lowest = self.replica.producer.lowest_undecided();
        let positions: RecordedPositions = vec![Some(("a".to_owned(), coordinator.count() as u64))];
        self.recorder.note(lowest, positions);
        self.recorder.save(&[]).await.expect("the store never fails");
    }
}

fn in_process<T>(story: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(story)
}

/// Returns a batch of one of six connections: those of the even ones are idempotent.
fn batch(connection: u64, n: i32) -> ProducedBatch {
    let value = format!("{connection}:{n}");
    let batch = Batch::of(&[value.as_str()]);
    let batch = match connection % 2 {
        0 => batch.by(100 + connection as i64, n),
        _ => batch,
    };
    batch.to((connection % 3) as i32, FlushProfile::Fast)
}

/// The acknowledged records of a process, by partition and offset.
type Acked = Vec<(i32, i64, String)>;

/// Writes for 40 seconds from six connections; PUTs complete in any order. Returns what was
/// acknowledged.
async fn write(process: &mut Process, coordinator: &LossyCoordinator) -> Acked {
    let mut outstanding: Vec<(u64, i32, Reply)> = Vec::new();
    let mut acked = Acked::new();
    for n in 0..160_i32 {
        let delay = Duration::from_millis(if n % 7 == 3 { 900 } else { 20 });
        process.replica.store.script(StoreOperation::put, [Fault::slow(delay)]);
        for connection in 0..6 {
            let reply = process.replica.send(connection, vec![batch(connection, n)]).await;
            outstanding.push((connection, n, reply));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        if n % 4 == 0 {
            process.record(coordinator).await;
        }
        for (connection, n, mut reply) in std::mem::take(&mut outstanding) {
            match reply.try_recv() {
                Ok(result) => {
                    let partition = (connection % 3) as i32;
                    acked.push((partition, offset(result[0]), format!("{connection}:{n}")));
                }
                Err(_) => outstanding.push((connection, n, reply)),
            }
        }
    }
    acked
}

async fn log(replica: &Replica) -> Acked {
    let mut log = Acked::new();
    for partition in 0..3 {
        let mut next = 0;
        loop {
            let records = replica.read(partition, next).await;
            let Some((last, _)) = records.last() else { break };
            next = last + 1;
            log.extend(records.into_iter().map(|(offset, value)| (partition, offset, value)));
        }
    }
    log
}

/// Panics if an acknowledged record is missing, or if a record is there twice, or if the records of
/// a connection are not in order.
fn assert_complete(log: &Acked, acked: &Acked) {
    let values: BTreeSet<&String> = log.iter().map(|(_, _, value)| value).collect();
    assert_eq!(values.len(), log.len(), "a record is there twice");
    let missing: Vec<_> = acked.iter().filter(|(_, _, value)| !values.contains(value)).collect();
    assert!(missing.is_empty(), "{} acknowledged records are lost: {missing:?}", missing.len());
    for connection in 0..6 {
        let prefix = format!("{connection}:");
        let of = log.iter().filter_map(|(_, _, value)| value.strip_prefix(&prefix));
        let of: Vec<i32> = of.map(|n| n.parse().expect("a number")).collect();
        assert!(of.is_sorted(), "connection {connection}: {of:?}");
    }
}

#[test]
fn machine_that_loses_power_loses_no_acknowledged_record() {
    let store = Arc::new(MemoryStore::new());
    let lossy = Arc::new(LossyCoordinator::new());
    let acked = in_process(async {
        let coordinator = Arc::clone(&lossy) as Arc<dyn Coordinator>;
        let mut process = Process::start(&store, &coordinator, 1).await;
        write(&mut process, &lossy).await
    });
    assert!(acked.len() > 900, "{} acknowledged", acked.len());
    let (count, recorded) = in_process(async {
        let record = processes::load_all(&*store).await.expect("a record").remove(0);
        let (_, recorded) = record.positions[0].clone().expect("a position");
        assert!(record.lowest_undecided > 0);
        (lossy.count(), usize::try_from(recorded).expect("small"))
    });
    assert!(recorded > 50 && count - recorded > 20, "{recorded} of {count}");
    let objects = in_process(objects_in(&store));
    for lost in [0, 1, 7, 20, count - recorded] {
        // Every recovery begins with the same store.
        let store = in_process(copy(&store));
        let left = in_process(lossy.without_last(lost));
        let coordinator = Arc::clone(&left) as Arc<dyn Coordinator>;
        let is_lost = in_process(async {
            let replica = Replica::over(Arc::clone(&coordinator), Arc::clone(&store)).await;
            let known: BTreeSet<_> = log(&replica).await.into_iter().collect();
            acked.iter().any(|record| !known.contains(record))
        });
        assert_eq!(is_lost, lost > 0, "without recovery, acknowledged records are lost");
        let after = in_process(async {
            let process = Process::start(&store, &coordinator, 2).await;
            let after = log(&process.replica).await;
            assert_complete(&after, &acked);
            // The clients repeat what was not acknowledged, and write on.
            for connection in [0, 2, 4] {
                let of = |(_, _, value): &&(i32, i64, String)| {
                    value.starts_with(&format!("{connection}:"))
                };
                let next = after.iter().filter(of).count() as i32;
                process.replica.write(10 + connection, batch(connection, next)).await;
            }
            log(&process.replica).await
        });
        assert_complete(&after, &acked);
        assert!(in_process(objects_in(&store)) > objects);
        // A third process recovers the second, and repeats nothing.
        in_process(async {
            let process = Process::start(&store, &coordinator, 3).await;
            assert_eq!(log(&process.replica).await, after);
        });
    }
}

/// The order in which the coordinator got the commits is that of the offsets that were acknowledged.
#[test]
fn reported_offsets_are_restored() {
    let store = Arc::new(MemoryStore::new());
    let lossy = Arc::new(LossyCoordinator::new());
    let acked = in_process(async {
        let coordinator = Arc::clone(&lossy) as Arc<dyn Coordinator>;
        let process = Process::start(&store, &coordinator, 1).await;
        let replica = &process.replica;
        replica.store.script(StoreOperation::put, [Fault::slow(3 * SECOND)]);
        let late = replica.send(1, vec![fast(0, "late")]).await;
        tokio::time::sleep(SECOND).await;
        let mut acked = vec![(0, replica.write(2, fast(0, "early")).await, "early".to_owned())];
        acked.push((0, offset(late.await.expect("a result")[0]), "late".to_owned()));
        acked.push((0, replica.write(2, fast(0, "reports")).await, "reports".to_owned()));
        acked
    });
    assert_eq!(acked[0].1, 0, "the later object was committed first");
    let left = in_process(lossy.without_last(3)) as Arc<dyn Coordinator>;
    let after = in_process(async {
        let process = Process::start(&store, &left, 2).await;
        log(&process.replica).await
    });
    assert_eq!(after, acked);
}

/// The metadata of a partition is lost: its batches, which are stored, are answered with an error.
/// They do not come back when the process ends and the metadata is found again.
#[test]
fn batches_that_were_answered_with_an_error_do_not_return() {
    let store = Arc::new(MemoryStore::new());
    let lossy = Arc::new(LossyCoordinator::new());
    in_process(async {
        let faulty = Arc::new(FaultyCoordinator::new(Arc::clone(&lossy) as _).with_shards(2));
        let process = Process::serve(&store, Arc::clone(&faulty) as _, 1).await;
        let replica = &process.replica;
        assert_eq!(replica.write(1, fast(0, "kept")).await, 0);
        faulty.set_shard_fault(0, Some(CoordinatorFault::METADATA_LOST));
        let batches = vec![fast(0, "lost"), fast(1, "other")];
        let reply = replica.send(1, batches).await.await.expect("a result");
        assert_eq!(reply[0], AppendOutcome::MetadataLost);
        assert_eq!(offset(reply[1]), 0);
        // A successor of the lane is stored already.
        faulty.script(
            odradek::coordinator::faulty::Operation::Commit,
            [CoordinatorFault { before: SECOND, ..CoordinatorFault::NONE }],
        );
        let first = replica.send(1, vec![fast(0, "lost too")]).await;
        tokio::time::sleep(SECOND / 2).await;
        let second = replica.send(1, vec![fast(0, "successor")]).await;
        for reply in [first, second] {
            assert_eq!(reply.await.expect("a result").outcomes, [AppendOutcome::MetadataLost]);
        }
    });
    let coordinator = Arc::clone(&lossy) as Arc<dyn Coordinator>;
    let after = in_process(async {
        let process = Process::start(&store, &coordinator, 2).await;
        assert_eq!(process.replica.write(1, fast(0, "lost")).await, 1, "the client repeats it");
        log(&process.replica).await
    });
    let value = |(_, offset, value): (i32, i64, String)| (offset, value);
    let after: Vec<_> = after.into_iter().map(value).collect();
    let expected = [(0, "kept"), (1, "lost"), (0, "other")];
    assert_eq!(after, expected.map(|(offset, value)| (offset, value.to_owned())));
}

/// An error is answered only once an object that reports it is stored.
#[tokio::test(start_paused = true)]
async fn batches_are_withdrawn_before_they_are_answered() {
    let store = Arc::new(MemoryStore::new());
    let lossy = Arc::new(LossyCoordinator::new());
    let faulty = Arc::new(FaultyCoordinator::new(lossy));
    let process = Process::serve(&store, Arc::clone(&faulty) as _, 1).await;
    let replica = &process.replica;
    let lost = CoordinatorFault::METADATA_LOST;
    faulty.set_persistent(odradek::coordinator::faulty::Operation::Commit, Some(lost));
    replica.store.script(StoreOperation::put, [Fault::NONE, Fault::slow(3 * SECOND)]);
    let start = Instant::now();
    let mut reply = replica.send(1, vec![fast(0, "lost")]).await;
    tokio::time::sleep(2 * SECOND).await;
    assert!(!is_completed(&mut reply).await, "the object that reports it is not stored");
    assert_eq!(reply.await.expect("a result").outcomes, [AppendOutcome::MetadataLost]);
    assert!(start.elapsed() >= 3 * SECOND);
    replica.producer.drain().await;
    assert_eq!(replica.objects().await.len(), 2);
}

/// The coordinator runs on in the history that the process knew: what is not committed was not
/// acknowledged, and its clients have repeated it elsewhere.
#[tokio::test(start_paused = true)]
async fn stored_batches_do_not_appear_later_while_nothing_is_lost() {
    let store = Arc::new(MemoryStore::new());
    let lossy = Arc::new(LossyCoordinator::new());
    let coordinator = Arc::clone(&lossy) as Arc<dyn Coordinator>;
    let mut ended = Process::start(&store, &coordinator, 1).await;
    assert_eq!(ended.replica.write(1, fast(0, "acked")).await, 0);
    for _ in 0..20 {
        ended.recorder.note(0, vec![None, Some(("h1".to_owned(), 1))]);
        let histories = [(0, "r".to_owned()), (1, "h1".to_owned())].into();
        ended.recorder.set_histories(&histories).await.expect("the store never fails");
        ended.recorder.save(&[]).await.expect("the store never fails");
        tokio::time::sleep(SECOND).await;
    }
    ended.replica.coordinator.set_persistent(
        odradek::coordinator::faulty::Operation::Commit,
        Some(CoordinatorFault::REFUSED),
    );
    let mut stored = ended.replica.send(1, vec![fast(0, "stored")]).await;
    tokio::time::sleep(SECOND).await;
    assert!(!is_completed(&mut stored).await);
    for (histories, count) in [(["r", "h1"], 1), (["r", "h2"], 2)] {
        let store = copy(&store).await;
        let left = lossy.without_last(0).await as Arc<dyn Coordinator>;
        let Begin { gate, mut takeover } = begin(&store, &left, "a", 2);
        takeover.recover_ended(&histories.map(str::to_owned)).await.expect("no failure");
        assert!(gate.is_open());
        let process = Process::serve(&store, gate, 2).await;
        assert_eq!(log(&process.replica).await.len(), count, "{histories:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_while_an_object_is_damaged() {
    let store = Arc::new(MemoryStore::new());
    let lossy = Arc::new(LossyCoordinator::new());
    let coordinator = Arc::clone(&lossy) as Arc<dyn Coordinator>;
    let ended = Process::start(&store, &coordinator, 1).await;
    for value in ["a", "b", "c"] {
        ended.replica.write(1, fast(0, value)).await;
    }
    let left = lossy.without_last(2).await as Arc<dyn Coordinator>;
    let key = ended.replica.objects().await.remove(1);
    let bytes = store.get(&key, None).await.expect("the object");
    let damaged = vec![bytes.slice(..bytes.len() - 3)];
    store.put(&key, damaged, PutMode::Overwrite).await.expect("stored");
    let Begin { gate, mut takeover } = begin(&store, &left, "a", 2);
    takeover.recover_ended(&[]).await.expect("the records are read");
    assert!(!gate.is_partly_open());
    let partition = TopicPartition { topic: TopicId([7; 16]), partition: 0 };
    let refused = gate.trim(vec![(partition, 0)]).await.remove(0);
    assert!(matches!(refused, Err(CoordinatorError::Unavailable(_))), "{refused:?}");
    store.put(&key, vec![bytes], PutMode::Overwrite).await.expect("stored");
    takeover.recover_ended(&[]).await.expect("the records are read");
    assert!(gate.is_open());
    let process = Process::serve(&store, gate, 2).await;
    let values: Vec<_> = log(&process.replica).await.into_iter().map(|(_, _, v)| v).collect();
    assert_eq!(values, ["a", "b", "c"]);
    assert_eq!(
        key,
        wal_key(odradek::log::ids::ObjectId { incarnation: 1, process_id: 1, sequence: 1 })
    );
}

async fn objects_in(store: &MemoryStore) -> usize {
    store.list("wal/", None, 100_000).await.expect("a list").len()
}

async fn copy(store: &Arc<MemoryStore>) -> Arc<MemoryStore> {
    let copy = Arc::new(MemoryStore::new());
    for prefix in ["wal/", "meta/"] {
        for object in store.list(prefix, None, 100_000).await.expect("a list") {
            let bytes = store.get(&object.key, None).await.expect("an object");
            copy.put(&object.key, vec![bytes], PutMode::Create).await.expect("stored");
        }
    }
    copy
}
