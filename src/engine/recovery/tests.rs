use std::sync::Arc;

use super::*;
use crate::coordinator::memory::MemoryCoordinator;
use crate::coordinator::{CoordinatorExt as _, FindFrom, FindRequest, PartOutcome};
use crate::log::batch::{BatchMetadata, Run};
use crate::log::ids::TopicId;
use crate::log::object_format::{
    HEADER, JournaledCommit, JournaledPart, ShardPosition, encode_footer,
};
use crate::store::PutMode;
use crate::store::memory::MemoryStore;

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
                let recovery = recover(&*store, &after, id(from)).await.unwrap();
                let objects = (OBJECTS - from) as usize;
                let parts = 2 * objects;
                assert_eq!(recovery, Recovery { objects, parts, fenced: 0, moved: 0 });
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
    let recovery = recover(&*store, &after, id(0)).await.unwrap();
    assert_eq!(recovery, Recovery { objects: 3, parts: 6, fenced: 0, moved: 0 });
    for index in 0..2 {
        assert_eq!(runs(&after, index).await, runs(&before, index).await);
    }
}

#[tokio::test]
async fn other_processes_are_left_alone_and_damage_stops_the_recovery() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let coordinator = MemoryCoordinator::new("m");
    let other = ObjectId { process_id: 7, ..id(0) };
    put(&*store, &Commit { object: other, ..object(0) }, Vec::new()).await;
    put(&*store, &object(0), Vec::new()).await;
    let recovery = recover(&*store, &coordinator, id(0)).await.unwrap();
    assert_eq!(recovery.objects, 1);
    store.put(&wal_key(id(1)), vec![vec![0; 90].into()], PutMode::Create).await.unwrap();
    let error = recover(&*store, &coordinator, id(0)).await.unwrap_err();
    assert!(matches!(error, RecoveryError::Store(_)), "{error}");
}
