//! Catch-up reads: the number of GETs, and isolation from other reads.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use odradek::engine::fetch::FetchError;
use odradek::store::faulty::{Fault, StoreOperation};
use tokio::time::Instant;

use crate::batches::{fast, records};
use crate::harness::{Events, Replica, SECOND, fetch};

const OBJECTS: usize = 60;
const PARTITIONS: i32 = 3;

/// Writes objects that each hold a batch of every partition.
async fn written() -> Replica {
    let writer = Replica::new().await;
    for n in 0..OBJECTS {
        let rows = (0..PARTITIONS).map(|to| fast(to, &format!("{n:04}"))).collect();
        writer.send(1, rows).await.await.expect("a result");
    }
    assert_eq!(writer.objects().await.len(), OBJECTS);
    writer
}

/// Reads a partition from start to end, in small fetches.
async fn replay(replica: &Replica, from: i32) {
    let quota = replica.limiter.quota(usize::MAX);
    let mut next = 0;
    while next < OBJECTS as i64 {
        let mut request = fetch(&[(from, next)], SECOND);
        request.partitions[0].bytes_max = 300;
        let result = replica.fetcher.fetch(&request, &quota).await.partitions.remove(0);
        assert_eq!(result.error, None);
        for (offset, value) in records(&result.records) {
            assert_eq!((offset, value), (next, format!("{next:04}")));
            next += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn five_replaying_groups_cost_one_get_per_object() {
    let reader = Arc::new(written().await.beside(Events::Delivered).await);
    reader.store.set_persistent(StoreOperation::get, Some(Fault::slow(Duration::from_millis(20))));
    let groups = (0..5).flat_map(|_| 0..PARTITIONS);
    join_all(groups.map(|partition| replay(&reader, partition))).await;
    assert_eq!(reader.store.calls(StoreOperation::get), OBJECTS as u64);
}

/// The throughput of a catch-up reader is not bound by the store's latency.
#[tokio::test(start_paused = true)]
async fn catch_up_reads_are_read_ahead() {
    const LARGE: usize = 40;
    let writer = Replica::new().await;
    // The last 8 MiB are tailing reads.
    let value = "x".repeat(512 << 10);
    for _ in 0..LARGE {
        writer.write(1, fast(0, &value)).await;
    }
    let reader = writer.beside(Events::Delivered).await;
    let latency = Duration::from_millis(100);
    reader.store.set_persistent(StoreOperation::get, Some(Fault::slow(latency)));
    let (start, quota) = (Instant::now(), reader.limiter.quota(usize::MAX));
    for next in 0..LARGE as i64 {
        let mut request = fetch(&[(0, next)], SECOND);
        request.bytes_max = 1;
        let result = reader.fetcher.fetch(&request, &quota).await.partitions.remove(0);
        assert_eq!(records(&result.records).len(), 1);
    }
    assert!(start.elapsed() < latency * LARGE as u32 * 2 / 3, "{:?}", start.elapsed());
    assert_eq!(reader.store.calls(StoreOperation::get), LARGE as u64, "each object is read once");
}

#[tokio::test(start_paused = true)]
async fn waiting_readers_share_the_error_of_a_get() {
    let reader = Arc::new(written().await.beside(Events::Delivered).await);
    let slow = Fault { before: 5 * SECOND, ..Fault::REFUSED };
    reader.store.set_persistent(StoreOperation::get, Some(slow));
    let start = Instant::now();
    let one = async |partition| {
        let result = reader.fetch(fetch(&[(partition, 0)], SECOND)).await.remove(0);
        assert_eq!(result.error, Some(FetchError::Storage));
    };
    join_all((0..20).map(|n| one(n % PARTITIONS))).await;
    assert!(start.elapsed() < 7 * SECOND, "the reads are not sequential: {:?}", start.elapsed());
    reader.store.set_persistent(StoreOperation::get, None);
    replay(&reader, 0).await;
}

#[tokio::test(start_paused = true)]
async fn hanging_get_times_out() {
    let reader = written().await.beside(Events::Delivered).await;
    reader.store.set_persistent(StoreOperation::get, Some(Fault::HANG));
    let start = Instant::now();
    let result = reader.fetch(fetch(&[(0, 0)], SECOND)).await.remove(0);
    assert_eq!(result.error, Some(FetchError::Storage));
    assert!(start.elapsed() < 20 * SECOND, "{:?}", start.elapsed());
}
