//! A start with many objects in a directory.

use std::io::Write as _;
use tempfile::TempDir;

use super::*;
use crate::store::file::FileStore;

/// Writes objects without syncing each of them.
fn write_objects(dir: &TempDir, coordinator: &EmbeddedCoordinator, count: u32) {
    for sequence in 0..count {
        let commit = object(coordinator, sequence, sequence.cast_signed());
        let footer = Footer::wal(commit.object, "test", commit.sealed_ms, commit.parts);
        let path = dir.path().join("objects").join(wal_key(commit.object) + "~");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let body = [&HEADER[..], &[0; 50], &encode_footer(&footer)].concat();
        std::fs::write(path, body).unwrap();
    }
}

async fn open_files(dir: &TempDir) -> EmbeddedCoordinator {
    let (clock, entropy) = (ManualClock::new(1_000), Entropy::from_seed(7));
    // The lock of the process before is released once its store is dropped.
    let store = Arc::new(FileStore::open(dir.path()).unwrap());
    EmbeddedCoordinator::open(&clock, &entropy, store).await.unwrap()
}

/// `ODRADEK_TEST_OBJECTS=100000` measures a start of that size; the test prints its times.
#[tokio::test(flavor = "multi_thread")]
async fn directory_with_many_objects_is_replayed_and_then_started_from_a_checkpoint() {
    let count = std::env::var("ODRADEK_TEST_OBJECTS").ok().and_then(|n| n.parse().ok());
    let count: u32 = count.unwrap_or(5_000);
    let dir = tempfile::tempdir().unwrap();
    let first = open_files(&dir).await;
    write_objects(&dir, &first, count);
    drop(first);
    for what in ["every object", "a checkpoint"] {
        let started = tokio::time::Instant::now();
        let coordinator = open_files(&dir).await;
        let elapsed = started.elapsed();
        writeln!(std::io::stdout(), "{count} objects: started from {what} in {elapsed:?}").unwrap();
        assert_eq!(high_watermark(&coordinator).await, 2 * i64::from(count));
        coordinator.write_checkpoint(&ManualClock::new(1_000), 1).await.unwrap();
    }
}
