//! A load of commits, one writer for each partition, that notices every lost or repeated one.

use odradek::tasks;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use odradek::coordinator::CoordinatorError;
use odradek::coordinator::redis::RedisCoordinator;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::isolation::{commit, find};

/// The longest time that a commit may take while servers fail over or slots move.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Writers that commit one batch after another, each until its outcome is known.
pub(crate) struct Load {
    coordinator: Arc<RedisCoordinator>,
    writers: Vec<Writer>,
    is_ending: Arc<AtomicBool>,
}

struct Writer {
    partition: i32,
    committed: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Load {
    /// Starts a writer for each partition, which must be empty.
    pub(crate) fn start(coordinator: &Arc<RedisCoordinator>, partitions: &[i32]) -> Self {
        let is_ending = Arc::new(AtomicBool::new(false));
        let writer = |(index, partition): (u32, &i32)| {
            let committed = Arc::new(AtomicU32::new(0));
            let first = 1_000_000 * (index + 1);
            let (coordinator, is_ending) = (Arc::clone(coordinator), Arc::clone(&is_ending));
            let (partition, count) = (*partition, Arc::clone(&committed));
            let task = tasks::spawn("test load", async move {
                while !is_ending.load(Ordering::Acquire) {
                    let written = count.load(Ordering::Acquire);
                    let offset = until_known(&coordinator, first + written, partition).await;
                    // One writer: a commit that was lost or repeated shifts every later offset.
                    assert_eq!(offset, i64::from(written), "partition {partition}");
                    count.store(written + 1, Ordering::Release);
                    sleep(Duration::from_millis(5)).await;
                }
            });
            Writer { partition, committed, task }
        };
        let writers = (0..).zip(partitions).map(writer).collect();
        Self { coordinator: Arc::clone(coordinator), writers, is_ending }
    }

    /// Waits until each writer has committed this many more batches.
    pub(crate) async fn wait_for(&self, more: u32) {
        let now = |writer: &Writer| writer.committed.load(Ordering::Acquire);
        let targets: Vec<_> = self.writers.iter().map(|writer| now(writer) + more).collect();
        let start = Instant::now();
        while self.writers.iter().zip(&targets).any(|(writer, target)| now(writer) < *target) {
            for writer in &self.writers {
                assert!(!writer.task.is_finished(), "the writer of {} failed", writer.partition);
            }
            assert!(start.elapsed() < 2 * PAUSE_MAX, "the load stands still");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the load, and checks that everything acknowledged is there, once.
    pub(crate) async fn end(self) {
        self.is_ending.store(true, Ordering::Release);
        for writer in self.writers {
            writer.task.await.expect("the writer did not panic");
            let committed = i64::from(writer.committed.load(Ordering::Acquire));
            assert_eq!(
                find(&self.coordinator, writer.partition).await.expect("the call succeeds"),
                committed
            );
        }
    }
}

async fn until_known(of: &RedisCoordinator, sequence: u32, partition: i32) -> i64 {
    let start = Instant::now();
    loop {
        match commit(of, sequence, partition).await {
            Ok(offset) => return offset,
            Err(CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_)) => {}
            Err(error) => panic!("partition {partition}: {error}"),
        }
        assert!(start.elapsed() < PAUSE_MAX, "partition {partition} stands still");
        sleep(Duration::from_millis(20)).await;
    }
}
