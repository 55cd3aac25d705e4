//! Starts from a checkpoint.

use super::*;

const CLOCK_MS: i64 = 1_000;

async fn write(coordinator: &EmbeddedCoordinator) {
    coordinator.write_checkpoint(&ManualClock::new(CLOCK_MS), 1).await.unwrap();
}

async fn commit(
    store: &TestStore,
    coordinator: &EmbeddedCoordinator,
    sequence: u32,
    position: i32,
) {
    let commit = object(coordinator, sequence, position);
    put_object(store, &commit).await;
    coordinator.commit_all(&commit).await.unwrap();
}

fn keys(store: &TestStore, part: &str) -> Vec<String> {
    store.objects().keys().filter(|key| key.contains(part)).cloned().collect()
}

#[tokio::test]
async fn start_reads_only_what_the_checkpoint_does_not_cover() {
    const OBJECTS: u32 = 3_000;
    let store = Arc::new(TestStore::default());
    let first = open(&store).await.unwrap();
    for sequence in 0..OBJECTS {
        commit(&store, &first, sequence, sequence.cast_signed()).await;
    }
    let model = first.producers(topic_partition()).await.unwrap();
    store.take_work();
    let second = open(&store).await.unwrap();
    let without = store.take_work();
    assert!(without >= 2 * OBJECTS as usize, "one row and one read for each object: {without}");
    assert!(without < 2 * OBJECTS as usize + 50, "{without}");
    write(&second).await;
    commit(&store, &second, 0, OBJECTS.cast_signed()).await;
    store.take_work();
    let third = open(&store).await.unwrap();
    let with = store.take_work();
    assert!(with < 50, "{with} instead of {without}");
    assert_eq!(high_watermark(&third).await, 2 * i64::from(OBJECTS) + 2);
    let restored = third.producers(topic_partition()).await.unwrap();
    assert_eq!(restored[0].last_sequence, model[0].last_sequence + 2);
}

#[tokio::test]
async fn checkpoint_of_a_process_without_objects_is_used_by_every_later_start() {
    const OBJECTS: u32 = 300;
    let store = Arc::new(TestStore::default());
    let first = open(&store).await.unwrap();
    for sequence in 0..OBJECTS {
        commit(&store, &first, sequence, sequence.cast_signed()).await;
    }
    write(&open(&store).await.unwrap()).await;
    for start in 0..3 {
        store.take_work();
        let later = open(&store).await.unwrap();
        let work = store.take_work();
        assert!(work < 100, "start {start}: {work} rows and reads");
        assert_eq!(high_watermark(&later).await, 2 * i64::from(OBJECTS));
    }
}

#[tokio::test]
async fn checkpoint_copies_only_the_runs_since_the_last_one() {
    let store = Arc::new(TestStore::default());
    let coordinator = open(&store).await.unwrap();
    for sequence in 0..70 {
        commit(&store, &coordinator, sequence, sequence.cast_signed()).await;
        let last = coordinator.checkpoint.lock().await.last.clone();
        let content = last.content(&coordinator.state().metadata);
        let copied: usize = content.runs.iter().map(|of| of.runs.len()).sum();
        assert_eq!(copied, 1, "checkpoint {sequence}");
        write(&coordinator).await;
    }
}

#[tokio::test]
async fn damaged_runs_are_written_again_from_the_state() {
    const OBJECTS: i32 = 33;
    let store = Arc::new(TestStore::default());
    let coordinator = open(&store).await.unwrap();
    for sequence in 0..OBJECTS - 1 {
        commit(&store, &coordinator, sequence.cast_unsigned(), sequence).await;
        write(&coordinator).await;
    }
    let oldest = keys(&store, "/parts/").into_iter().find(|key| key.ends_with("-1")).unwrap();
    store.objects().insert(oldest, Bytes::from_static(b"?"));
    commit(&store, &coordinator, OBJECTS.cast_unsigned() - 1, OBJECTS - 1).await;
    let merged = coordinator.write_checkpoint(&ManualClock::new(CLOCK_MS), 1).await;
    assert!(matches!(merged, Err(CoordinatorError::Corrupt(_))), "{merged:?}");
    write(&coordinator).await;
    store.take_work();
    assert_eq!(high_watermark(&open(&store).await.unwrap()).await, 2 * i64::from(OBJECTS));
    assert!(store.take_work() < 60, "the checkpoint is whole");
}

#[tokio::test]
async fn damaged_manifest_does_not_prevent_a_checkpoint() {
    let store = Arc::new(TestStore::default());
    let first = open(&store).await.unwrap();
    for sequence in 0..3 {
        commit(&store, &first, sequence, sequence.cast_signed()).await;
        write(&first).await;
    }
    let damaged = keys(&store, "/manifests/").pop().unwrap();
    store.objects().insert(damaged.clone(), Bytes::from_static(b"?"));
    for sequence in 3..9 {
        commit(&store, &first, sequence, sequence.cast_signed()).await;
        write(&first).await;
    }
    let left = keys(&store, "/manifests/");
    assert!(left.len() == 3 && !left.contains(&damaged), "{left:?}");
    store.take_work();
    assert_eq!(high_watermark(&open(&store).await.unwrap()).await, 18);
    assert!(store.take_work() < 50, "the newest checkpoint is used");
}

#[tokio::test]
async fn checkpoints_continue_each_other_and_old_ones_are_deleted() {
    let store = Arc::new(TestStore::default());
    let mut position = 0;
    for round in 0..80_u32 {
        let coordinator = open(&store).await.unwrap();
        for sequence in 0..3 {
            commit(&store, &coordinator, sequence, position).await;
            position += 1;
        }
        if round % 5 == 0 {
            coordinator.trim_all(vec![(topic_partition(), i64::from(position))]).await.unwrap();
        }
        write(&coordinator).await;
        assert!(keys(&store, "/manifests/").len() <= 3);
        assert!(keys(&store, "/parts/").len() <= 3 + 2 * 33, "{}", keys(&store, "/parts/").len());
        let expected = coordinator.find_one(everything()).await.unwrap();
        let restored = open(&store).await.unwrap();
        assert_eq!(restored.find_one(everything()).await.unwrap(), expected, "round {round}");
    }
}

fn everything() -> FindRequest {
    let (partition, from) = (topic_partition(), FindFrom::Offset(0));
    FindRequest { partition, from, bytes_max: u64::MAX, runs_max: u32::MAX }
}

#[tokio::test]
async fn damaged_checkpoint_is_skipped_and_a_newer_version_is_refused() {
    let store = Arc::new(TestStore::default());
    let first = open(&store).await.unwrap();
    for sequence in 0..6 {
        commit(&store, &first, sequence, sequence.cast_signed()).await;
        write(&first).await;
    }
    let whole = store.objects().clone();
    for part in ["/manifests/", "/parts/"] {
        for key in keys(&store, part) {
            *store.objects() = whole.clone();
            let damaged = whole[&key].slice(1..);
            store.objects().insert(key.clone(), damaged);
            assert_eq!(high_watermark(&open(&store).await.unwrap()).await, 12, "{key}");
            *store.objects() = whole.clone();
            store.objects().remove(&key);
            assert_eq!(high_watermark(&open(&store).await.unwrap()).await, 12, "{key}");
        }
    }
    *store.objects() = whole.clone();
    let newest = keys(&store, "/manifests/").pop().unwrap();
    let mut newer = whole[&newest].to_vec();
    newer[7] = 9;
    store.objects().insert(newest, newer.into());
    match open(&store).await {
        Err(CoordinatorError::UnsupportedVersion(detail)) => {
            assert!(detail.contains("the checkpoint has format version 9"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}
