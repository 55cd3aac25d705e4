use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::coordinator::faulty::{Fault, FaultyCoordinator, Operation};
use crate::coordinator::memory::MemoryCoordinator;
use crate::coordinator::{Commit, CoordinatorExt as _, FindFrom, FindRequest, PartOutcome};
use crate::log::batch::{BatchMetadata, Part, Run};
use crate::log::ids::TopicPartition;
use crate::log::object_format::{
    Footer, HEADER, JournalEntry, JournalOutcome, JournaledCommit, JournaledPart, ShardPosition,
    encode_footer, wal_key,
};
use crate::store::memory::MemoryStore;
use crate::store::{PutMode, StoreErrorKind};

async fn recovered(store: &dyn Store, coordinator: &dyn Coordinator, from: u32) -> Recovery {
    recover(store, coordinator, id(from), &|_| true, &Metrics::default()).await.unwrap()
}

fn id(sequence: u32) -> ObjectId {
    ObjectId { incarnation: 5, process_id: 6, sequence }
}

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId([1; 16]), partition }
}

/// Returns an object with one batch without a producer for each of two partitions.
fn object(sequence: u32) -> Commit {
    let batch = BatchMetadata { bytes: 50, offset_count: 2, max_timestamp: 9, producer: None };
    let part = |index: u32| Part {
        index,
        partition: partition(index.cast_signed()),
        start: 8 + 50 * u64::from(index),
        batches: vec![batch],
    };
    let parts = vec![part(0), part(1)];
    Commit { object: id(sequence), sealed_ms: 5_000, lowest_undecided: 0, parts }
}

async fn put(store: &dyn Store, commit: &Commit, journal: Vec<JournalEntry>) {
    let footer = Footer::wal(commit.object, "test", commit.sealed_ms, commit.parts.clone());
    let footer = Footer { journal, ..footer };
    let body = vec![HEADER.to_vec().into(), vec![0; 100].into(), encode_footer(&footer)];
    store.put(&wal_key(commit.object), body, PutMode::Create).await.unwrap();
}

fn journal(object: ObjectId, outcomes: &[PartOutcome]) -> JournalEntry {
    let part = |outcome: &PartOutcome| JournaledPart {
        part: outcome.index,
        outcomes: outcome.batches.iter().map(|batch| JournalOutcome::from(*batch)).collect(),
    };
    let position = ShardPosition::default();
    let parts = outcomes.iter().map(part).collect();
    JournalEntry::Commit(JournaledCommit { object, position, sealed_ms: 5_000, parts })
}

async fn runs(coordinator: &dyn Coordinator, index: i32) -> Vec<Run> {
    let (partition, from) = (partition(index), FindFrom::Offset(0));
    let request = FindRequest { partition, from, bytes_max: u64::MAX, runs_max: u32::MAX };
    coordinator.find_one(request).await.unwrap().runs
}

#[tokio::test]
async fn lost_commits_are_appended_once_whatever_the_coordinator_kept() {
    const OBJECTS: u32 = 6;
    for kept in 0..=OBJECTS {
        for from in 0..=kept {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
            let (before, after) = (MemoryCoordinator::new("m"), MemoryCoordinator::new("m"));
            for sequence in 0..OBJECTS {
                put(&*store, &object(sequence), Vec::new()).await;
                before.commit_all(&object(sequence)).await.unwrap();
                if sequence < kept {
                    after.commit_all(&object(sequence)).await.unwrap();
                }
            }
            for _ in 0..2 {
                let recovery = recovered(&*store, &after, from).await;
                let objects = (OBJECTS - from) as usize;
                let parts = 2 * objects;
                assert_eq!(recovery, Recovery { objects, parts, ..Recovery::default() });
            }
            for index in 0..2 {
                assert_eq!(runs(&after, index).await, runs(&before, index).await);
            }
        }
    }
}

#[tokio::test]
async fn offsets_that_later_objects_report_are_restored() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (before, after) = (MemoryCoordinator::new("m"), MemoryCoordinator::new("m"));
    // The upload of the first object took longer.
    let second = before.commit_all(&object(1)).await.unwrap();
    let first = before.commit_all(&object(0)).await.unwrap();
    put(&*store, &object(0), Vec::new()).await;
    put(&*store, &object(1), Vec::new()).await;
    let reported = vec![journal(id(1), &second), journal(id(0), &first)];
    put(&*store, &object(2), reported).await;
    before.commit_all(&object(2)).await.unwrap();
    let recovery = recovered(&*store, &after, 0).await;
    assert_eq!(recovery, Recovery { objects: 3, parts: 6, ..Recovery::default() });
    for index in 0..2 {
        assert_eq!(runs(&after, index).await, runs(&before, index).await);
    }
}

/// The objects of a process are stored in any order: that which reports the first object may be
/// missing although a later one is there.
#[tokio::test]
async fn part_without_a_report_keeps_its_place_where_the_offsets_leave_room() {
    for kept in 0..=3 {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (before, after) = (MemoryCoordinator::new("m"), MemoryCoordinator::new("m"));
        let mut reported = Vec::new();
        // The upload of the fourth object was fast.
        for (committed, sequence) in [0, 3, 1, 2].into_iter().enumerate() {
            put(&*store, &object(sequence), Vec::new()).await;
            let outcomes = before.commit_all(&object(sequence)).await.unwrap();
            if sequence != 1 {
                reported.push(journal(id(sequence), &outcomes));
            }
            if committed < kept {
                after.commit_all(&object(sequence)).await.unwrap();
            }
        }
        put(&*store, &object(5), reported).await;
        before.commit_all(&object(5)).await.unwrap();
        let recovery = recovered(&*store, &after, 0).await;
        assert_eq!(recovery, Recovery { objects: 5, parts: 10, ..Recovery::default() }, "{kept}");
        for index in 0..2 {
            assert_eq!(runs(&after, index).await, runs(&before, index).await, "{kept}");
        }
    }
}

/// The store of six objects, and the coordinator that has all of them.
async fn six_objects() -> (Arc<dyn Store>, MemoryCoordinator) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let before = MemoryCoordinator::new("m");
    for sequence in 0..6 {
        put(&*store, &object(sequence), Vec::new()).await;
        before.commit_all(&object(sequence)).await.unwrap();
    }
    (store, before)
}

#[tokio::test]
async fn parts_that_were_answered_with_an_error_are_left_out() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let coordinator = MemoryCoordinator::new("m");
    put(&*store, &object(0), Vec::new()).await;
    put(&*store, &object(1), Vec::new()).await;
    let outcomes = vec![JournalOutcome::Refused];
    let parts = vec![JournaledPart { part: 1, outcomes }];
    let position = ShardPosition::default();
    let withdrawn = JournaledCommit { object: id(0), position, sealed_ms: 5_000, parts };
    // An object without parts reports it, as the last one of a process may.
    let last = Commit { parts: Vec::new(), ..object(2) };
    put(&*store, &last, vec![JournalEntry::Commit(withdrawn)]).await;
    let recovery = recovered(&*store, &coordinator, 0).await;
    let expected = Recovery { objects: 3, parts: 3, withdrawn: 1, ..Recovery::default() };
    assert_eq!(recovery, expected);
    let objects = |runs: Vec<Run>| runs.iter().map(|run| run.object).collect::<Vec<_>>();
    assert_eq!(objects(runs(&coordinator, 0).await), [id(0), id(1)]);
    assert_eq!(objects(runs(&coordinator, 1).await), [id(1)]);
}

/// The process that recovers ends at each of its commits, before and after it is applied, and
/// another one begins while it still runs.
#[tokio::test(start_paused = true)]
async fn recovery_that_ends_anywhere_is_completed_by_another() {
    for hangs_at in 0..12 {
        for fault in [
            Fault::HANG,
            Fault { effect: crate::coordinator::faulty::Effect::NotApplied, ..Fault::HANG },
        ] {
            let (store, before) = six_objects().await;
            let after = Arc::new(MemoryCoordinator::new("m"));
            after.commit_all(&object(0)).await.unwrap();
            let faulty = FaultyCoordinator::new(Arc::clone(&after) as _);
            faulty.script(Operation::Commit, (0..hangs_at).map(|_| Fault::NONE).chain([fault]));
            let metrics = Metrics::default();
            let first = recover(&*store, &faulty, id(0), &|_| true, &metrics);
            let ended = tokio::time::timeout(Duration::from_secs(1), first).await;
            assert_eq!(ended.is_err(), hangs_at < 6, "one commit for each object");
            let (one, other) =
                tokio::join!(recovered(&*store, &*after, 0), recovered(&*store, &*after, 0));
            assert_eq!((one.parts, one), (12, other));
            for index in 0..2 {
                assert_eq!(runs(&*after, index).await, runs(&before, index).await, "{hangs_at}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn shard_that_is_away_is_recovered_later_and_holds_up_no_other() {
    let (store, before) = six_objects().await;
    let after = Arc::new(MemoryCoordinator::new("m"));
    let faulty = FaultyCoordinator::new(Arc::clone(&after) as _).with_shards(2);
    // The first two objects are committed in both.
    for fault in [Fault::REFUSED, Fault::METADATA_LOST, Fault::TIMED_OUT, Fault::REPLY_LOST] {
        faulty.set_shard_fault(1, Some(fault));
        let recovery = recovered(&*store, &faulty, 0).await;
        assert_eq!((recovery.objects, recovery.parts), (6, 6), "{fault:?}");
        assert_eq!(recovery.failed.keys().copied().collect::<Vec<_>>(), [1]);
        assert_eq!(runs(&*after, 0).await, runs(&before, 0).await);
    }
    faulty.set_shard_fault(1, None);
    assert_eq!(recovered(&*store, &faulty, 0).await.failed, BTreeMap::new());
    for index in 0..2 {
        assert_eq!(runs(&*after, index).await, runs(&before, index).await);
    }
}

/// A partition whose metadata is lost keeps no other one of its shard from being recovered.
#[tokio::test(start_paused = true)]
async fn partition_whose_metadata_is_lost_is_left_out_alone() {
    let (store, before) = six_objects().await;
    let after = Arc::new(MemoryCoordinator::new("m"));
    let faulty = FaultyCoordinator::new(Arc::clone(&after) as _);
    faulty.set_lost(partition(1), true);
    for _ in 0..2 {
        let recovery = recovered(&*store, &faulty, 0).await;
        assert_eq!((recovery.objects, recovery.parts), (6, 6));
        assert_eq!(recovery.lost.keys().copied().collect::<Vec<_>>(), [partition(1)]);
        assert_eq!(recovery.failed, BTreeMap::new());
        assert!(!recovery.is_complete());
    }
    assert_eq!(runs(&*after, 0).await, runs(&before, 0).await);
    faulty.set_lost(partition(1), false);
    assert!(recovered(&*store, &faulty, 0).await.is_complete());
    for index in 0..2 {
        assert_eq!(runs(&*after, index).await, runs(&before, index).await);
    }
}

/// The shard and the partition are there, and the outcomes of the process are not.
#[tokio::test(start_paused = true)]
async fn shard_without_the_outcomes_of_the_process_stays_closed() {
    let (store, _) = six_objects().await;
    let faulty = FaultyCoordinator::new(Arc::new(MemoryCoordinator::new("m")));
    faulty.set_persistent(Operation::Commit, Some(Fault::METADATA_LOST));
    let recovery = recovered(&*store, &faulty, 0).await;
    assert_eq!((recovery.lost.len(), recovery.failed.len()), (0, 1));
}

#[tokio::test]
async fn shard_that_lacks_nothing_is_left_as_it_is() {
    let (store, before) = six_objects().await;
    let after = Arc::new(MemoryCoordinator::new("m"));
    let sharded = FaultyCoordinator::new(Arc::clone(&after) as _).with_shards(2);
    let metrics = Metrics::default();
    let recovery = recover(&*store, &sharded, id(0), &|shard| shard == 1, &metrics).await.unwrap();
    assert_eq!((recovery.objects, recovery.parts), (6, 6));
    assert_eq!(runs(&*after, 0).await, [], "what is not committed there was not acknowledged");
    assert_eq!(runs(&*after, 1).await, runs(&before, 1).await);
}

#[tokio::test]
async fn topics_of_objects_are_bound_again() {
    let (store, _) = six_objects().await;
    let after = MemoryCoordinator::new("m");
    recovered(&*store, &after, 0).await;
    let bound = after.topics().await.unwrap();
    let expected = (partition(0).topic, TopicType::Diskless);
    assert_eq!(bound.iter().map(|b| (b.topic, b.topic_type)).collect::<Vec<_>>(), [expected]);
    after.delete_topic(partition(0).topic).await.unwrap();
    recovered(&*store, &after, 0).await;
    assert_eq!(after.topics().await.unwrap(), [], "a deleted topic stays deleted");
}

#[tokio::test]
async fn other_processes_and_deleted_objects_are_left_out_and_damage_stops_the_recovery() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let coordinator = MemoryCoordinator::new("m");
    let other = ObjectId { process_id: 7, ..id(0) };
    put(&*store, &Commit { object: other, ..object(0) }, Vec::new()).await;
    put(&*store, &object(0), Vec::new()).await;
    put(&*store, &object(2), Vec::new()).await;
    assert_eq!(recovered(&*store, &coordinator, 0).await.objects, 2);
    let damaged = vec![0; 90];
    let mut newer = encode_footer(&Footer::wal(id(1), "a", 0, Vec::new())).to_vec();
    let version_at = newer.len() - 8;
    assert_eq!(newer[version_at], crate::log::object_format::OBJECT_VERSION);
    newer[version_at] += 1;
    let newer = [&[0; 90], &newer[..]].concat();
    for (bytes, kind) in
        [(damaged, StoreErrorKind::Corrupt), (newer, StoreErrorKind::UnsupportedFormat)]
    {
        let fresh = MemoryCoordinator::new("m");
        store.put(&wal_key(id(1)), vec![bytes.into()], PutMode::Overwrite).await.unwrap();
        let (metrics, all) = (Metrics::default(), |_| true);
        let error = recover(&*store, &fresh, id(0), &all, &metrics).await.unwrap_err();
        assert!(matches!(&error, RecoveryError::Store(error) if error.kind == kind), "{error}");
        assert!(error.to_string().contains(&wal_key(id(1))), "{error}");
        assert_eq!(runs(&fresh, 0).await, [], "nothing is committed in another order");
    }
    store.delete(&wal_key(id(1))).await.unwrap();
    assert_eq!(recovered(&*store, &coordinator, 0).await.objects, 2);
}
