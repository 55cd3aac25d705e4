//! Offsets by timestamp.

use futures::future::join_all;
use odradek::coordinator::CoordinatorExt as _;
use odradek::coordinator::faulty::{Fault as CallFault, Operation as Call};
use odradek::engine::list_offsets::{ListOffsetsError, OffsetSpec, TimestampAndOffset};
use odradek::engine::produce::FlushProfile;
use odradek::store::Store;
use odradek::store::faulty::{Fault as StoreFault, StoreOperation};
use tokio::time::{Duration, Instant};

use crate::batches::{Batch, partition};
use crate::harness::{Events, Replica};

const NOTHING: TimestampAndOffset = TimestampAndOffset { timestamp: -1, offset: -1 };

/// Starts a replica whose partition 0 holds these runs of batches.
async fn with_runs(runs: &[&[Batch]]) -> Replica {
    let replica = Replica::new().await;
    for run in runs {
        let rows = run.iter().map(|batch| batch.to(0, FlushProfile::Fast)).collect();
        replica.send(1, rows).await.await.expect("a result");
    }
    replica
}

#[track_caller]
fn check(found: Result<TimestampAndOffset, ListOffsetsError>, timestamp: i64, offset: i64) {
    assert_eq!(found.expect("a result"), TimestampAndOffset { timestamp, offset });
}

impl Replica {
    async fn locate(&self, spec: OffsetSpec) -> Result<TimestampAndOffset, ListOffsetsError> {
        self.lookup.resolve(partition(0), spec).await
    }

    async fn trim(&self, log_start_offset: i64) {
        self.coordinator.trim_all(vec![(partition(0), log_start_offset)]).await.expect("a trim");
    }
}

#[tokio::test(start_paused = true)]
async fn empty_partition_starts_and_ends_at_zero() {
    let replica = Replica::new().await;
    check(replica.locate(OffsetSpec::Earliest).await, -1, 0);
    check(replica.locate(OffsetSpec::Latest).await, -1, 0);
    assert_eq!(replica.locate(OffsetSpec::MaxTimestamp).await.unwrap(), NOTHING);
    assert_eq!(replica.locate(OffsetSpec::Timestamp(0)).await.unwrap(), NOTHING);
}

/// Across batches and runs, compressed and uncompressed.
#[tokio::test(start_paused = true)]
async fn first_record_at_or_after_a_timestamp_is_found() {
    let at = Batch::at;
    let plain = with_runs(&[&[at(&[10, 40]), at(&[20])], &[at(&[30, 50, 50])], &[at(&[45])]]).await;
    let gzip = |batch: Batch| batch.gzip();
    let zipped = with_runs(&[
        &[gzip(at(&[10, 40])), at(&[20])],
        &[gzip(at(&[30, 50, 50]))],
        &[gzip(at(&[45]))],
    ])
    .await;
    for replica in [plain, zipped] {
        for (time, timestamp, offset) in
            [(-5, 10, 0), (10, 10, 0), (11, 40, 1), (40, 40, 1), (41, 50, 4), (50, 50, 4)]
        {
            check(replica.locate(OffsetSpec::Timestamp(time)).await, timestamp, offset);
        }
        assert_eq!(replica.locate(OffsetSpec::Timestamp(51)).await.unwrap(), NOTHING);
        check(replica.locate(OffsetSpec::MaxTimestamp).await, 50, 4);
        check(replica.locate(OffsetSpec::Earliest).await, -1, 0);
        check(replica.locate(OffsetSpec::Latest).await, -1, 7);
    }
}

#[tokio::test(start_paused = true)]
async fn records_below_the_log_start_offset_are_not_found() {
    let at = Batch::at;
    let replica =
        with_runs(&[&[at(&[90, 10]), at(&[80, 20])], &[at(&[30, 70])], &[at(&[85])]]).await;
    replica.trim(1).await;
    check(replica.locate(OffsetSpec::Timestamp(0)).await, 10, 1);
    check(replica.locate(OffsetSpec::Timestamp(75)).await, 80, 2);
    check(replica.locate(OffsetSpec::MaxTimestamp).await, 85, 6);
    replica.trim(3).await;
    check(replica.locate(OffsetSpec::Timestamp(0)).await, 20, 3);
    check(replica.locate(OffsetSpec::Timestamp(25)).await, 30, 4);
    check(replica.locate(OffsetSpec::Timestamp(75)).await, 85, 6);
    assert_eq!(replica.locate(OffsetSpec::Timestamp(88)).await.unwrap(), NOTHING);
    check(replica.locate(OffsetSpec::MaxTimestamp).await, 85, 6);
    replica.trim(7).await;
    assert_eq!(replica.locate(OffsetSpec::MaxTimestamp).await.unwrap(), NOTHING);
    assert_eq!(replica.locate(OffsetSpec::Timestamp(0)).await.unwrap(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn first_of_equal_timestamps_is_found_after_a_trim() {
    let at = Batch::at;
    let replica = with_runs(&[&[at(&[90, 50])], &[at(&[50])], &[at(&[40]), at(&[50])]]).await;
    check(replica.locate(OffsetSpec::MaxTimestamp).await, 90, 0);
    replica.trim(1).await;
    check(replica.locate(OffsetSpec::MaxTimestamp).await, 50, 1);
    replica.trim(2).await;
    check(replica.locate(OffsetSpec::MaxTimestamp).await, 50, 2);
    replica.trim(3).await;
    check(replica.locate(OffsetSpec::MaxTimestamp).await, 50, 4);
}

/// The maximum timestamp in a batch's header is set by its producer, and may be wrong.
#[tokio::test(start_paused = true)]
async fn wrong_max_timestamp_hides_no_record() {
    let at = Batch::at;
    let batches = [at(&[10]).with_max_timestamp(1_000), at(&[15])];
    let replica = with_runs(&[&batches, &[at(&[20])], &[at(&[30]).with_max_timestamp(500)]]).await;
    check(replica.locate(OffsetSpec::Timestamp(12)).await, 15, 1);
    check(replica.locate(OffsetSpec::Timestamp(16)).await, 20, 2);
    check(replica.locate(OffsetSpec::MaxTimestamp).await, 30, 3);
    assert_eq!(replica.locate(OffsetSpec::Timestamp(31)).await.unwrap(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn lookup_reads_through_the_cache_and_reports_errors() {
    let replica = with_runs(&[&[Batch::at(&[10])]]).await;
    replica.coordinator.script(Call::Find, [CallFault::TIMED_OUT]);
    let found = replica.locate(OffsetSpec::Latest).await;
    assert!(matches!(found, Err(ListOffsetsError::Coordinator(_))), "{found:?}");
    let other = replica.beside(Events::Lost).await;
    let key = replica.objects().await.remove(0);
    replica.memory.delete(&key).await.unwrap();
    check(replica.locate(OffsetSpec::Timestamp(0)).await, 10, 0);
    let found = other.locate(OffsetSpec::Timestamp(0)).await;
    assert!(
        matches!(found, Err(ListOffsetsError::Store(_))),
        "never \"no such record\": {found:?}"
    );
}

/// 400 partitions, each in an object of its own: lookups by time of all of them at once.
#[tokio::test(start_paused = true)]
async fn cold_lookups_by_time_run_in_parallel() {
    const PARTITIONS: i32 = 400;
    let writer = Replica::new().await;
    for index in 0..PARTITIONS {
        let row = Batch::at(&[100, 200]).to(index, FlushProfile::Fast);
        writer.send(1, vec![row]).await.await.expect("a result");
    }
    let reader = writer.beside(Events::Delivered).await;
    let slow = StoreFault::slow(Duration::from_millis(200));
    reader.store.set_persistent(StoreOperation::get, Some(slow));
    let start = Instant::now();
    let lookup = |index| reader.lookup.resolve(partition(index), OffsetSpec::Timestamp(150));
    for found in join_all((0..PARTITIONS).map(lookup)).await {
        check(found, 200, 1);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let calls = reader.coordinator.calls(Call::Find);
    assert!(calls <= 4, "{calls} calls for {PARTITIONS} partitions");
}
