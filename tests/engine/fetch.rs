//! Waiting, budget, faults of single objects, and how often the store is asked.

use bytes::{Bytes, BytesMut};
use odradek::coordinator::faulty::{Fault as CallFault, Operation as Call};
use odradek::coordinator::{Commit, Coordinator};
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
async fn a_waiting_fetch_is_woken_by_another_writers_commit() {
    let writer = Replica::new().await;
    let reader = writer.beside(Events::Delivered).await;
    let start = Instant::now();
    let waiting = reader.fetch(fetch(&[(0, 0), (1, 0)], 60 * SECOND));
    let (answers, _) = tokio::join!(waiting, async {
        tokio::time::sleep(5 * SECOND).await;
        writer.write(1, fast(1, "x")).await
    });
    assert_eq!(start.elapsed().as_secs(), 5);
    assert!(answers[0].records.is_empty());
    assert_eq!(records(&answers[1].records), [(0, "x".to_owned())]);
    assert_eq!(reader.coordinator.calls(Call::Find), 1, "what came since, the event has told");
}

#[tokio::test(start_paused = true)]
async fn a_lost_event_costs_latency_only() {
    let writer = Replica::new().await;
    let deaf = writer.beside(Events::Lost).await;
    let start = Instant::now();
    let waiting = deaf.fetch(fetch(&[(0, 0)], 60 * SECOND));
    let (answers, _) = tokio::join!(waiting, async {
        tokio::time::sleep(5 * SECOND).await;
        writer.write(1, fast(0, "x")).await
    });
    assert_eq!(start.elapsed().as_secs(), 60);
    assert_eq!(records(&answers[0].records), [(0, "x".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_the_tail_asks_the_coordinator_once() {
    let writer = Replica::new().await;
    let reader = writer.beside(Events::Delivered).await;
    let mut next = 0;
    while next < 300 {
        if next % 3 == 0 {
            for connection in 0..3 {
                writer.write(connection, fast(0, "x")).await;
            }
        }
        let answer = reader.fetch(fetch(&[(0, next)], SECOND)).await.remove(0);
        for (offset, _) in records(&answer.records) {
            assert_eq!(offset, next);
            next += 1;
        }
    }
    assert_eq!(reader.coordinator.calls(Call::Find), 1);
    // Nothing comes: an idle reader asks nobody either.
    for _ in 0..20 {
        reader.fetch(fetch(&[(0, next)], SECOND)).await;
    }
    assert_eq!(reader.coordinator.calls(Call::Find), 1);
    // A fetch that must know asks.
    let mut fresh = fetch(&[(0, next)], Duration::ZERO);
    fresh.partitions[0].fresh = true;
    reader.fetch(fresh).await;
    assert_eq!(reader.coordinator.calls(Call::Find), 2);
}

/// An index that lags behind asks before it says that an offset is out of range.
#[tokio::test(start_paused = true)]
async fn no_offset_is_out_of_range_before_the_coordinator_says_so() {
    let writer = Replica::new().await;
    let reader = writer.beside(Events::Delivered).await;
    assert!(reader.read(0, 0).await.is_empty());
    writer.write(1, fast(0, "x")).await;
    // No task has run since: the event is still on its way.
    let answer = reader.fetch(fetch(&[(0, 1)], Duration::ZERO)).await.remove(0);
    assert_eq!(answer.error, None);
    assert_eq!(answer.watermarks.expect("known").high_watermark, 1);
    let answer = reader.fetch(fetch(&[(0, 2)], Duration::ZERO)).await.remove(0);
    assert_eq!(answer.error, Some(FetchError::OffsetOutOfRange));
}

#[tokio::test(start_paused = true)]
async fn bytes_min_is_waited_for_unless_no_more_is_ever_given() {
    let replica = Replica::new().await;
    replica.write(1, fast(0, "x")).await;
    let start = Instant::now();
    let mut request = fetch(&[(0, 0)], 9 * SECOND);
    request.bytes_min = 10_000;
    assert_eq!(records(&replica.fetch(request.clone()).await[0].records).len(), 1);
    assert_eq!(start.elapsed(), 9 * SECOND);
    // A fetch gives 64 runs at most: with more of them there is nothing to wait for.
    for _ in 0..70 {
        replica.write(1, fast(0, "x")).await;
    }
    let start = Instant::now();
    assert_eq!(records(&replica.fetch(request).await[0].records).len(), 64);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_offset_out_of_range_ends_the_wait() {
    let replica = Replica::new().await;
    replica.write(1, fast(0, "x")).await;
    for offset in [-1, 2] {
        let answers = replica.fetch(fetch(&[(0, offset)], 60 * SECOND)).await;
        assert_eq!(answers[0].error, Some(FetchError::OffsetOutOfRange));
        assert!(answers[0].records.is_empty());
    }
    assert!(replica.read(0, 1).await.is_empty(), "the end of the log is in range");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_cannot_be_asked_is_a_storage_error() {
    let replica = Replica::new().await;
    replica.write(1, fast(0, "x")).await;
    for fault in [CallFault::REFUSED, CallFault::TIMED_OUT, CallFault::METADATA_LOST] {
        replica.coordinator.script(Call::Find, [fault]);
        let answers = replica.fetch(fetch(&[(0, 99), (1, 0)], SECOND)).await;
        for answer in answers {
            assert_eq!((answer.error, answer.watermarks), (Some(FetchError::Storage), None));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn own_writes_and_shared_runs_are_read_once_at_most() {
    let writer = Replica::new().await;
    let value = "x".repeat(20_000);
    let rows = (0..10).map(|_| fast(0, &value)).collect();
    writer.send(1, rows).await.await.unwrap();
    let answers = writer.fetch(fetch(&[(0, 0)], Duration::ZERO)).await;
    assert_eq!(records(&answers[0].records).len(), 10);
    assert_eq!(writer.store.calls(StoreOperation::Get), 0, "a replica remembers what it wrote");

    let reader = writer.beside(Events::Delivered).await;
    reader.store.script(StoreOperation::Get, [Fault::slow(SECOND)]);
    let fetches = (0..20).map(|offset| reader.fetch(fetch(&[(0, offset % 10)], SECOND)));
    for (at, answers) in (0..).zip(futures::future::join_all(fetches).await) {
        assert_eq!(records(&answers[0].records).len(), 10 - at % 10);
    }
    assert_eq!(reader.store.calls(StoreOperation::Get), 1, "one GET for all readers of a run");
}

/// A reader that gives up leaves the GET to the others.
#[tokio::test(start_paused = true)]
async fn a_reader_that_gives_up_takes_nobody_along() {
    let writer = Replica::new().await;
    writer.write(1, fast(0, "x")).await;
    let reader = writer.beside(Events::Delivered).await;
    reader.store.script(StoreOperation::Get, [Fault::slow(9 * SECOND)]);
    let impatient = tokio::time::timeout(SECOND, reader.read(0, 0));
    let (gave_up, read) = tokio::join!(impatient, reader.read(0, 0));
    assert!(gave_up.is_err());
    assert_eq!(read.len(), 1);
}

/// Breaks the one object of partition 0 in many ways; partition 1 lies in another one.
#[tokio::test(start_paused = true)]
async fn a_broken_object_fails_its_partition_alone() {
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
    // The batch begins behind the header of 8 bytes.
    let last = |byte: u8| set(8 + usize::try_from(batch_bytes).expect("small") - 1, byte);
    let object = parse_wal_key(&key).expect("it is one of ours");
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
        let answers = reader.fetch(fetch(&[(0, 0), (1, 0)], SECOND)).await;
        assert_eq!(answers[0].error, Some(FetchError::Storage), "{name}");
        assert!(answers[0].records.is_empty(), "{name}");
        assert!(answers[0].watermarks.is_some(), "{name}");
        assert_eq!(records(&answers[1].records), [(0, "good".to_owned())], "{name}");
        // However little the response may hold, the broken one does not eat it up.
        let mut small = fetch(&[(0, 0), (1, 0)], SECOND);
        small.bytes_max = 1;
        let answers = reader.fetch(small).await;
        assert_eq!(records(&answers[1].records).len(), 1, "{name}");
    }
    writer.memory.put(&key, vec![good], PutMode::Overwrite).await.unwrap();
    assert_eq!(writer.beside(Events::Delivered).await.read(0, 0).await.len(), 2);
}

/// Wherever the bytes come from, the object itself says whose they are.
#[tokio::test(start_paused = true)]
async fn an_index_that_names_a_strangers_bytes_is_not_believed() {
    let writer = Replica::new().await;
    writer.send(1, vec![fast(0, "a"), fast(1, "b")]).await.await.unwrap();
    let object = parse_wal_key(&writer.objects().await[0]).expect("it is one of ours");
    let claim = fast(0, "a").metadata;
    let wrong = |index, to, start, batches| {
        let parts = vec![Part { index, partition: partition(to), start, batches }];
        Commit { object, sealed_ms: NOW, parts }
    };
    let (first, bytes) = (HEADER.len() as u64, u64::from(claim.bytes));
    for commit in [
        wrong(10, 2, first, vec![claim]),
        wrong(11, 3, first + bytes, vec![claim]),
        wrong(12, 4, first, vec![claim, claim]),
    ] {
        writer.coordinator.commit(&commit).await.unwrap();
    }
    for replica in [&writer, &writer.beside(Events::Delivered).await] {
        let wanted: Vec<(i32, i64)> = (0..5).map(|to| (to, 0)).collect();
        let answers = replica.fetch(fetch(&wanted, SECOND)).await;
        for (to, answer) in (0..).zip(&answers) {
            let expected = (to >= 2).then_some(FetchError::Storage);
            assert_eq!((answer.error, answer.records.is_empty()), (expected, to >= 2), "{to}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_broken_run_is_given() {
    let writer = Replica::new().await;
    writer.write(1, fast(0, "a")).await;
    writer.write(1, fast(0, "b")).await;
    let key = writer.objects().await.remove(1);
    writer.memory.delete(&key).await.unwrap();
    let reader = writer.beside(Events::Delivered).await;
    assert_eq!(reader.read(0, 0).await, [(0, "a".to_owned())]);
    let answers = reader.fetch(fetch(&[(0, 1)], SECOND)).await;
    assert_eq!(answers[0].error, Some(FetchError::Storage));
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_spent_in_the_requests_order() {
    let replica = Replica::new().await;
    let row = |to| Batch::of(&[&"x".repeat(900)]).to(to, FlushProfile::Fast);
    let batch_bytes = row(0).batch.len();
    for _ in 0..3 {
        replica.send(1, vec![row(0), row(0), row(1), row(2)]).await.await.unwrap();
    }
    let count = |answer: &FetchedPartition| records(&answer.records).len();
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
    // The first batch of a response is given whatever its size, and only that one.
    check(&[(0, 0), (1, 0), (2, 0)], 1, all, vec![1, 0, 0]).await;
    check(&[(0, 6), (1, 0), (2, 0)], 1, 1, vec![0, 1, 0]).await;
    // What lies below the offset in its run takes nothing from the others.
    check(&[(0, 5), (1, 2), (2, 2)], all, 3 * b, vec![1, 1, 1]).await;
    check(&[(0, 1), (1, 2), (2, 2)], b, 3 * b, vec![1, 1, 1]).await;
}

#[tokio::test(start_paused = true)]
async fn a_trimmed_run_is_given_from_the_batch_of_the_log_start_offset() {
    let replica = Replica::new().await;
    let rows = vec![fast(0, "a"), Batch::of(&["b", "c"]).to(0, FlushProfile::Fast), fast(0, "d")];
    replica.send(1, rows).await.await.unwrap();
    replica.coordinator.trim(vec![(partition(0), 2)]).await.unwrap();
    let expected = [(1, "b"), (2, "c"), (3, "d")].map(|(at, value)| (at, value.to_owned()));
    assert_eq!(replica.read(0, 2).await, expected);
    let below = replica.fetch(fetch(&[(0, 1)], SECOND)).await;
    assert_eq!(below[0].error, Some(FetchError::OffsetOutOfRange));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_before_there_is_memory_for_it() {
    let replica = Replica::new().await;
    replica.write(1, Batch::of(&["x".repeat(3_000).as_str()]).to(0, FlushProfile::Fast)).await;
    // Room for one answer of this size, bookkeeping included.
    let budget = odradek::engine::memory::MemoryLimiter::new(5_000, std::sync::Arc::default());
    let memory = budget.quota(usize::MAX);
    let first = replica.fetcher.fetch(&fetch(&[(0, 0)], SECOND), &memory).await;
    assert_eq!(records(&first.partitions[0].records).len(), 1);
    assert!(budget.available() < 2_000, "it is held with the answer");
    let idle = fetch(&[(0, 1)], 3_600 * SECOND);
    let waiting = replica.fetcher.fetch(&idle, &memory);
    let waited = tokio::time::timeout(60 * SECOND, waiting).await;
    assert!(waited.is_err() && budget.available() < 2_000, "who waits for records holds nothing");
    let request = fetch(&[(0, 0)], SECOND);
    let second = replica.fetcher.fetch(&request, &memory);
    assert!(tokio::time::timeout(60 * SECOND, second).await.is_err());
    drop(first);
    let third = replica.fetcher.fetch(&request, &memory).await;
    assert_eq!(records(&third.partitions[0].records).len(), 1);
}
