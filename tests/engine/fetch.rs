//! Fetches: waits, byte limits, corrupt objects, and the number of calls to the store.

use bytes::{Bytes, BytesMut};
use odradek::coordinator::Commit;
use odradek::coordinator::CoordinatorExt as _;
use odradek::coordinator::faulty::{Fault as CallFault, Operation as Call};
use odradek::engine::fetch::{FetchError, FetchedPartition};
use odradek::engine::produce::FlushProfile;
use odradek::log::batch::Part;
use odradek::log::ids::ObjectId;
use odradek::log::object_format::{HEADER, parse_wal_key};
use odradek::store::faulty::{Fault, StoreOperation};
use odradek::store::{PutMode, Store};
use tokio::time::{Duration, Instant};

use crate::batches::{Batch, NOW, fast, partition, records, whole_object};
use crate::harness::{Events, Replica, SECOND, fetch};

#[tokio::test(start_paused = true)]
async fn long_poll_is_woken_by_another_replicas_commit() {
    let writer = Replica::new().await;
    let reader = writer.beside(Events::Delivered).await;
    let start = Instant::now();
    let waiting = reader.fetch(fetch(&[(0, 0), (1, 0)], 60 * SECOND));
    let (results, _) = tokio::join!(waiting, async {
        tokio::time::sleep(5 * SECOND).await;
        writer.write(1, fast(1, "x")).await
    });
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(results[0].records.is_empty());
    assert_eq!(records(&results[1].records), [(0, "x".to_owned())]);
    assert_eq!(reader.coordinator.calls(Call::Find), 1, "later runs come from events");
}

#[tokio::test(start_paused = true)]
async fn lost_event_costs_latency_only() {
    let writer = Replica::new().await;
    let unsubscribed = writer.beside(Events::Lost).await;
    let start = Instant::now();
    let waiting = unsubscribed.fetch(fetch(&[(0, 0)], 60 * SECOND));
    let (results, _) = tokio::join!(waiting, async {
        tokio::time::sleep(5 * SECOND).await;
        writer.write(1, fast(0, "x")).await
    });
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(records(&results[0].records), [(0, "x".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn tailing_reader_queries_the_coordinator_once() {
    let writer = Replica::new().await;
    let reader = writer.beside(Events::Delivered).await;
    let mut next = 0;
    while next < 300 {
        if next % 3 == 0 {
            for connection in 0..3 {
                writer.write(connection, fast(0, "x")).await;
            }
        }
        let result = reader.fetch(fetch(&[(0, next)], SECOND)).await.remove(0);
        for (offset, _) in records(&result.records) {
            assert_eq!(offset, next);
            next += 1;
        }
    }
    assert_eq!(reader.coordinator.calls(Call::Find), 1);
    // Without new records, a waiting reader makes no queries either.
    for _ in 0..20 {
        reader.fetch(fetch(&[(0, next)], SECOND)).await;
    }
    assert_eq!(reader.coordinator.calls(Call::Find), 1);
    // A fresh fetch queries the coordinator.
    let mut fresh = fetch(&[(0, next)], Duration::ZERO);
    fresh.partitions[0].fresh = true;
    reader.fetch(fresh).await;
    assert_eq!(reader.coordinator.calls(Call::Find), 2);
}

/// A lagging index queries the coordinator before an offset is reported as out of range.
#[tokio::test(start_paused = true)]
async fn lagging_index_reports_no_offset_out_of_range() {
    let writer = Replica::new().await;
    let reader = writer.beside(Events::Delivered).await;
    assert!(reader.read(0, 0).await.is_empty());
    writer.write(1, fast(0, "x")).await;
    // No task has run since, so the event has not been applied.
    let result = reader.fetch(fetch(&[(0, 1)], Duration::ZERO)).await.remove(0);
    assert_eq!(result.error, None);
    assert_eq!(result.watermarks.expect("watermarks").high_watermark, 1);
    let result = reader.fetch(fetch(&[(0, 2)], Duration::ZERO)).await.remove(0);
    assert_eq!(result.error, Some(FetchError::OffsetOutOfRange));
}

#[tokio::test(start_paused = true)]
async fn bytes_min_is_awaited_unless_the_response_is_full() {
    let replica = Replica::new().await;
    replica.write(1, fast(0, "x")).await;
    let start = Instant::now();
    let mut request = fetch(&[(0, 0)], 9 * SECOND);
    request.bytes_min = 10_000;
    assert_eq!(records(&replica.fetch(request.clone()).await[0].records).len(), 1);
    assert_eq!(start.elapsed(), 9 * SECOND);
    // A fetch returns 64 runs at most: with more of them available it does not wait.
    for _ in 0..70 {
        replica.write(1, fast(0, "x")).await;
    }
    let start = Instant::now();
    assert_eq!(records(&replica.fetch(request).await[0].records).len(), 64);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn offset_out_of_range_ends_the_wait() {
    let replica = Replica::new().await;
    replica.write(1, fast(0, "x")).await;
    for offset in [-1, 2] {
        let results = replica.fetch(fetch(&[(0, offset)], 60 * SECOND)).await;
        assert_eq!(results[0].error, Some(FetchError::OffsetOutOfRange));
        assert!(results[0].records.is_empty());
    }
    assert!(replica.read(0, 1).await.is_empty(), "the high watermark is in range");
}

#[tokio::test(start_paused = true)]
async fn unavailable_coordinator_is_a_storage_error() {
    let replica = Replica::new().await;
    replica.write(1, fast(0, "x")).await;
    for fault in [CallFault::REFUSED, CallFault::TIMED_OUT, CallFault::METADATA_LOST] {
        replica.coordinator.script(Call::Find, [fault]);
        let results = replica.fetch(fetch(&[(0, 99), (1, 0)], SECOND)).await;
        for result in results {
            assert_eq!((result.error, result.watermarks), (Some(FetchError::Storage), None));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn written_objects_need_no_get_and_shared_runs_need_one() {
    let writer = Replica::new().await;
    let value = "x".repeat(20_000);
    let rows = (0..10).map(|_| fast(0, &value)).collect();
    writer.send(1, rows).await.await.unwrap();
    let results = writer.fetch(fetch(&[(0, 0)], Duration::ZERO)).await;
    assert_eq!(records(&results[0].records).len(), 10);
    assert_eq!(writer.store.calls(StoreOperation::get), 0, "a replica caches what it wrote");

    let reader = writer.beside(Events::Delivered).await;
    reader.store.script(StoreOperation::get, [Fault::slow(SECOND)]);
    let fetches = (0..20).map(|offset| reader.fetch(fetch(&[(0, offset % 10)], SECOND)));
    for (at, results) in (0..).zip(futures::future::join_all(fetches).await) {
        assert_eq!(records(&results[0].records).len(), 10 - at % 10);
    }
    assert_eq!(reader.store.calls(StoreOperation::get), 1, "one GET for all readers of a run");
}

/// The GET continues for the other readers.
#[tokio::test(start_paused = true)]
async fn cancelled_reader_does_not_cancel_others() {
    let writer = Replica::new().await;
    writer.write(1, fast(0, "x")).await;
    let reader = writer.beside(Events::Delivered).await;
    reader.store.script(StoreOperation::get, [Fault::slow(9 * SECOND)]);
    let impatient = tokio::time::timeout(SECOND, reader.read(0, 0));
    let (gave_up, read) = tokio::join!(impatient, reader.read(0, 0));
    assert!(gave_up.is_err());
    assert_eq!(read.len(), 1);
}

/// Damages the only object of partition 0 in several ways; partition 1 is stored in another one.
#[tokio::test(start_paused = true)]
async fn corrupt_object_fails_its_partition_alone() {
    let writer = Replica::new().await;
    let rows = vec![fast(0, "a"), fast(0, "b")];
    writer.send(1, rows).await.await.unwrap();
    writer.write(1, fast(1, "good")).await;
    let key = writer.objects().await.remove(0);
    let good = writer.memory.get(&key, None).await.unwrap();
    let batch_bytes = fast(0, "a").metadata.bytes;
    let set = |at: usize, byte: u8| {
        let mut bytes = BytesMut::from(&good[..]);
        bytes[at] = byte;
        Some(bytes.freeze())
    };
    // The batch starts after the header of 8 bytes.
    let last = |byte: u8| set(8 + usize::try_from(batch_bytes).expect("small") - 1, byte);
    let object = parse_wal_key(&key).expect("a WAL key");
    let batches = ["a", "b"].map(|value| fast(0, value).batch);
    let owned_by = |object, owner| {
        whole_object(object, &batches.each_ref().map(|b| (partition(owner), b.clone())))
    };
    let other = ObjectId { sequence: object.sequence + 9, ..object };
    let rows: [(&str, Option<Bytes>); 11] = [
        ("missing", None),
        ("the object of another partition", Some(owned_by(object, 5))),
        ("another object", Some(owned_by(other, 0))),
        ("the end", set(good.len() - 20, good[good.len() - 20] ^ 1)),
        ("truncated", Some(good.slice(..40))),
        ("shorter than the run's start", Some(good.slice(..4))),
        ("the length of a batch", set(8 + 11, 200)),
        ("the magic", set(8 + 16, 1)),
        ("the last offset delta of the first batch", set(8 + 26, 1)),
        ("a byte of a record", last(b'?')),
        ("the checksum", set(8 + 17, good[8 + 17] ^ 1)),
    ];
    for (name, bytes) in rows {
        writer.memory.delete(&key).await.unwrap();
        if let Some(bytes) = bytes {
            writer.memory.put(&key, vec![bytes], PutMode::Overwrite).await.unwrap();
        }
        let reader = writer.beside(Events::Delivered).await;
        let results = reader.fetch(fetch(&[(0, 0), (1, 0)], SECOND)).await;
        assert_eq!(results[0].error, Some(FetchError::Storage), "{name}");
        assert!(results[0].records.is_empty(), "{name}");
        assert!(results[0].watermarks.is_some(), "{name}");
        assert_eq!(records(&results[1].records), [(0, "good".to_owned())], "{name}");
        // The corrupt partition does not consume the response's byte limit, however small.
        let mut small = fetch(&[(0, 0), (1, 0)], SECOND);
        small.bytes_max = 1;
        let results = reader.fetch(small).await;
        assert_eq!(records(&results[1].records).len(), 1, "{name}");
    }
    writer.memory.put(&key, vec![good], PutMode::Overwrite).await.unwrap();
    assert_eq!(writer.beside(Events::Delivered).await.read(0, 0).await.len(), 2);
}

/// The footer of the object decides which partition a run belongs to, whatever its source.
#[tokio::test(start_paused = true)]
async fn run_of_another_partition_is_rejected() {
    let writer = Replica::new().await;
    writer.send(1, vec![fast(0, "a"), fast(1, "b")]).await.await.unwrap();
    let object = parse_wal_key(&writer.objects().await[0]).expect("a WAL key");
    let metadata = fast(0, "a").metadata;
    let commit_part = |index, to, start, batches| {
        let parts = vec![Part { index, partition: partition(to), start, batches }];
        Commit { object, sealed_ms: NOW, lowest_undecided: 0, parts }
    };
    let (first, bytes) = (HEADER.len() as u64, u64::from(metadata.bytes));
    for commit in [
        commit_part(10, 2, first, vec![metadata]),
        commit_part(11, 3, first + bytes, vec![metadata]),
        commit_part(12, 4, first, vec![metadata, metadata]),
    ] {
        writer.coordinator.commit_all(&commit).await.unwrap();
    }
    for replica in [&writer, &writer.beside(Events::Delivered).await] {
        let requested: Vec<(i32, i64)> = (0..5).map(|to| (to, 0)).collect();
        let results = replica.fetch(fetch(&requested, SECOND)).await;
        for (to, result) in (0..).zip(&results) {
            let expected = (to >= 2).then_some(FetchError::Storage);
            assert_eq!((result.error, result.records.is_empty()), (expected, to >= 2), "{to}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn records_before_a_corrupt_run_are_returned() {
    let writer = Replica::new().await;
    writer.write(1, fast(0, "a")).await;
    writer.write(1, fast(0, "b")).await;
    let key = writer.objects().await.remove(1);
    writer.memory.delete(&key).await.unwrap();
    let reader = writer.beside(Events::Delivered).await;
    assert_eq!(reader.read(0, 0).await, [(0, "a".to_owned())]);
    let results = reader.fetch(fetch(&[(0, 1)], SECOND)).await;
    assert_eq!(results[0].error, Some(FetchError::Storage));
}

#[tokio::test(start_paused = true)]
async fn byte_limit_is_consumed_in_request_order() {
    let replica = Replica::new().await;
    let row = |to| Batch::of(&[&"x".repeat(900)]).to(to, FlushProfile::Fast);
    let batch_bytes = row(0).batch.len();
    for _ in 0..3 {
        replica.send(1, vec![row(0), row(0), row(1), row(2)]).await.await.unwrap();
    }
    let count = |result: &FetchedPartition| records(&result.records).len();
    let check = |partitions: &'static [(i32, i64)], partition_max, response_max, expected| {
        let mut request = fetch(partitions, Duration::ZERO);
        request.bytes_max = response_max;
        request.partitions.iter_mut().for_each(|p| p.bytes_max = partition_max);
        let replica = &replica;
        async move {
            let counts: Vec<usize> = replica.fetch(request).await.iter().map(count).collect();
            assert_eq!(counts, expected, "{partition_max} of {response_max}");
        }
    };
    let (all, b) = (1 << 20, batch_bytes);
    check(&[(0, 0), (1, 0), (2, 0)], all, all, vec![6, 3, 3]).await;
    check(&[(0, 0), (1, 0), (2, 0)], 2 * b, all, vec![2, 2, 2]).await;
    check(&[(0, 0), (1, 0), (2, 0)], all, 7 * b, vec![6, 1, 0]).await;
    check(&[(2, 0), (0, 0), (1, 0)], all, 7 * b, vec![3, 4, 0]).await;
    // The first batch of a response is returned whatever its size, and only that one.
    check(&[(0, 0), (1, 0), (2, 0)], 1, all, vec![1, 0, 0]).await;
    check(&[(0, 6), (1, 0), (2, 0)], 1, 1, vec![0, 1, 0]).await;
    // Batches below the requested offset do not consume the limit.
    check(&[(0, 5), (1, 2), (2, 2)], all, 3 * b, vec![1, 1, 1]).await;
    check(&[(0, 1), (1, 2), (2, 2)], b, 3 * b, vec![1, 1, 1]).await;
}

#[tokio::test(start_paused = true)]
async fn trimmed_run_starts_with_the_batch_of_the_log_start_offset() {
    let replica = Replica::new().await;
    let rows = vec![fast(0, "a"), Batch::of(&["b", "c"]).to(0, FlushProfile::Fast), fast(0, "d")];
    replica.send(1, rows).await.await.unwrap();
    replica.coordinator.trim_all(vec![(partition(0), 2)]).await.unwrap();
    let expected = [(1, "b"), (2, "c"), (3, "d")].map(|(at, value)| (at, value.to_owned()));
    assert_eq!(replica.read(0, 2).await, expected);
    let below = replica.fetch(fetch(&[(0, 1)], SECOND)).await;
    assert_eq!(below[0].error, Some(FetchError::OffsetOutOfRange));
}

#[tokio::test(start_paused = true)]
async fn fetch_acquires_memory_before_it_reads() {
    let replica = Replica::new().await;
    replica.write(1, Batch::of(&["x".repeat(3_000).as_str()]).to(0, FlushProfile::Fast)).await;
    // Memory for one response of this size, including its overhead.
    let limiter = odradek::engine::memory::MemoryLimiter::new(5_000, std::sync::Arc::default());
    let memory = limiter.quota(usize::MAX);
    let first = replica.fetcher.fetch(&fetch(&[(0, 0)], SECOND), &memory).await;
    assert_eq!(records(&first.partitions[0].records).len(), 1);
    assert!(limiter.available() < 2_000, "it is held with the result");
    let idle = fetch(&[(0, 1)], 3_600 * SECOND);
    let waiting = replica.fetcher.fetch(&idle, &memory);
    let waited = tokio::time::timeout(60 * SECOND, waiting).await;
    assert!(waited.is_err() && limiter.available() < 2_000, "a waiting fetch holds no memory");
    let request = fetch(&[(0, 0)], SECOND);
    let second = replica.fetcher.fetch(&request, &memory);
    assert!(tokio::time::timeout(60 * SECOND, second).await.is_err());
    drop(first);
    let third = replica.fetcher.fetch(&request, &memory).await;
    assert_eq!(records(&third.partitions[0].records).len(), 1);
}
