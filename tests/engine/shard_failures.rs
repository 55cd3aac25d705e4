//! Reads while one of two shards of the coordinator fails: the partitions of the other one are
//! served as usual.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use odradek::coordinator::faulty::{Fault, Operation};
use odradek::coordinator::{Coordinator, CoordinatorEvent, EventScope};
use odradek::engine::fetch::{FetchError, FetchSpec};
use odradek::engine::list_offsets::{ListOffsetsError, OffsetSpec};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::batches::{fast, partition, records};
use crate::harness::{Events, Replica, SECOND, fetch};
use crate::two_shards::TwoShards;

const FIND: Operation = Operation::Find;

/// Returns a fetch in which every partition is fetched for the first time on its connection.
fn fresh(partitions: &[(i32, i64)], wait: Duration) -> FetchSpec {
    let mut spec = fetch(partitions, wait);
    spec.partitions.iter_mut().for_each(|partition| partition.fresh = true);
    spec
}

/// Starts a writer, and a replica without anything in its caches.
async fn replicas(coordinator: &Arc<TwoShards>) -> (Replica, Replica) {
    let coordinator = Arc::clone(coordinator) as Arc<dyn Coordinator>;
    let writer = Replica::over(Arc::clone(&coordinator), Arc::default()).await;
    let reader = Replica::over(coordinator, Arc::clone(&writer.memory)).await;
    (writer, reader)
}

#[tokio::test(start_paused = true)]
async fn hung_shard_delays_others_by_a_moment() {
    let shards = TwoShards::new();
    let (writer, reader) = replicas(&shards).await;
    writer.write(1, fast(0, "a")).await;
    writer.write(1, fast(1, "b")).await;
    shards.shards[1].set_persistent(FIND, Some(Fault::HANG));
    let start = Instant::now();
    let results = reader.fetch(fresh(&[(1, 0), (0, 0)], 60 * SECOND)).await;
    assert!(start.elapsed() <= Duration::from_millis(200), "{:?}", start.elapsed());
    assert_eq!(results[0].error, Some(FetchError::Storage));
    assert_eq!(records(&results[1].records), [(0, "a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn failed_shard_neither_ends_a_wait_at_once_nor_delays_wakeups() {
    for fault in [Fault::REFUSED, Fault::METADATA_LOST, Fault::HANG] {
        let shards = TwoShards::new();
        let (writer, reader) = replicas(&shards).await;
        shards.shards[1].set_persistent(FIND, Some(fault));
        let start = Instant::now();
        let results = reader.fetch(fresh(&[(0, 0), (1, 0)], 60 * SECOND)).await;
        let wait = if fault == Fault::HANG { 2_000 } else { 500 };
        assert_eq!(start.elapsed(), Duration::from_millis(wait), "{fault:?}");
        assert_eq!((results[0].error, results[1].error), (None, Some(FetchError::Storage)));
        assert_eq!(results[0].watermarks.expect("known").high_watermark, 0);

        let start = Instant::now();
        let waiting = reader.fetch(fresh(&[(0, 0), (1, 0)], 60 * SECOND));
        let (results, _) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            writer.write(1, fast(0, "x")).await
        });
        assert_eq!(start.elapsed(), Duration::from_millis(300), "{fault:?}");
        assert_eq!(records(&results[0].records), [(0, "x".to_owned())], "{fault:?}");
        assert_eq!(results[1].error, Some(FetchError::Storage), "{fault:?}");
    }
}

/// Partitions that the tail index holds need no coordinator.
#[tokio::test(start_paused = true)]
async fn failed_shard_does_not_affect_known_partitions() {
    let shards = TwoShards::new();
    let (writer, reader) = replicas(&shards).await;
    reader.fetch(fetch(&[(0, 0), (1, 0)], Duration::ZERO)).await;
    shards.shards.iter().for_each(|shard| shard.set_persistent(FIND, Some(Fault::REFUSED)));
    writer.write(1, fast(1, "x")).await;
    let results = reader.fetch(fetch(&[(0, 0), (1, 0), (3, 0)], SECOND)).await;
    assert_eq!(records(&results[1].records), [(0, "x".to_owned())]);
    let errors: Vec<_> = results.iter().map(|result| result.error).collect();
    assert_eq!(errors, [None, None, Some(FetchError::Storage)]);
}

/// The partitions of a slow shard get errors while the others have records, but are read all the
/// same: a result that no fetch waited for serves the next one.
#[tokio::test(start_paused = true)]
async fn slow_shard_is_read_beside_a_busy_one() {
    let shards = TwoShards::new();
    let (writer, reader) = replicas(&shards).await;
    let value = "x".repeat(1_000);
    for _ in 0..200 {
        writer.write(1, fast(1, &value)).await;
        writer.write(1, fast(0, "y")).await;
    }
    shards.shards[1].set_persistent(FIND, Some(Fault::slow(Duration::from_millis(400))));
    let (mut next, mut read) = (0, 0);
    for _ in 0..100 {
        let mut spec = fetch(&[(1, next), (0, 0)], SECOND);
        spec.partitions[0].bytes_max = 20_000;
        // Records are appended to the slow shard all the time.
        let (results, _) = tokio::join!(reader.fetch(spec), writer.write(2, fast(1, &value)));
        assert!(!results[1].records.is_empty());
        let fetched = records(&results[0].records);
        read += fetched.len();
        next = fetched.last().map_or(next, |(last, _)| last + 1);
    }
    assert!(read >= 200, "{read} records of the slow shard");
}

#[tokio::test(start_paused = true)]
async fn abandoned_queries_do_not_accumulate() {
    let shards = TwoShards::new();
    let (_writer, reader) = replicas(&shards).await;
    shards.shards[1].set_persistent(FIND, Some(Fault::HANG));
    for _ in 0..50 {
        let spec = fresh(&[(1, 0)], Duration::ZERO);
        let abandoned = reader.fetch(spec);
        assert!(tokio::time::timeout(Duration::from_millis(100), abandoned).await.is_err());
    }
    let calls = shards.shards[1].calls(FIND);
    assert!(calls <= 6, "{calls} calls in 5 s, each of which hangs");
    shards.shards[1].set_persistent(FIND, None);
    let results = reader.fetch(fresh(&[(1, 0)], 9 * SECOND)).await;
    assert_eq!(results[0].error, None);
}

/// After the death of a replica, its clients fetch every partition for the first time elsewhere.
#[tokio::test(start_paused = true)]
async fn first_fetches_of_many_connections_are_few_calls() {
    const CONNECTIONS: usize = 300;
    let shards = TwoShards::new();
    let (_writer, reader) = replicas(&shards).await;
    for shard in &shards.shards {
        shard.set_persistent(FIND, Some(Fault::slow(Duration::from_millis(1))));
    }
    let partitions: Vec<_> = (0..20).map(|index| (index, 0)).collect();
    let fetches = (0..CONNECTIONS).map(|_| reader.fetch(fresh(&partitions, Duration::ZERO)));
    for results in join_all(fetches).await {
        assert!(results.iter().all(|result| result.error.is_none()));
    }
    let calls = shards.shards[0].calls(FIND) + shards.shards[1].calls(FIND);
    assert!(calls <= 8, "{calls} calls");
    let queries =
        shards.run_queries.load(Ordering::Relaxed) + shards.bounds_queries.load(Ordering::Relaxed);
    assert!(queries <= 80, "{queries} queries for {CONNECTIONS} fetches of 20 partitions");
}

/// A fetch of many lagging partitions asks for the runs of those that fill it, and the next ones
/// use what was learned.
#[tokio::test(start_paused = true)]
async fn catch_up_queries_only_what_it_returns() {
    const PARTITIONS: i32 = 200;
    let shards = TwoShards::new();
    let (writer, reader) = replicas(&shards).await;
    let value = "x".repeat(1_000);
    for _ in 0..20 {
        let rows = (0..PARTITIONS).map(|index| fast(index, &value)).collect();
        writer.send(1, rows).await.await.expect("a result");
    }
    let mut offsets = vec![0; PARTITIONS as usize];
    let mut read = 0;
    for round in 0..40 {
        let partitions: Vec<_> =
            (0..).zip(&offsets).map(|(index, offset)| (index, *offset)).collect();
        let mut spec = fetch(&partitions, Duration::ZERO);
        spec.bytes_max = 5_000;
        spec.partitions.iter_mut().for_each(|partition| partition.bytes_max = 1_200);
        for (offset, result) in offsets.iter_mut().zip(reader.fetch(spec).await) {
            assert_eq!(result.error, None, "round {round}");
            let fetched = records(&result.records);
            read += fetched.len();
            *offset = fetched.last().map_or(*offset, |(last, _)| last + 1);
        }
    }
    assert!(read >= 40 * 3, "{read} records");
    let queries = shards.run_queries.load(Ordering::Relaxed);
    assert!(queries <= 64, "{queries} queries for runs of {PARTITIONS} partitions in 40 fetches");
    let bounds = shards.bounds_queries.load(Ordering::Relaxed);
    assert!(bounds <= PARTITIONS as u64, "{bounds} queries for bounds");
}

#[tokio::test(start_paused = true)]
async fn missing_index_entry_is_never_an_empty_success() {
    let shards = TwoShards::new();
    let (writer, reader) = replicas(&shards).await;
    writer.write(1, fast(0, "a")).await;
    shards.loses_runs.store(true, Ordering::Relaxed);
    let start = Instant::now();
    let results = reader.fetch(fetch(&[(0, 0)], 60 * SECOND)).await;
    assert_eq!(results[0].error, Some(FetchError::IndexEntryMissing));
    assert_eq!(start.elapsed(), Duration::from_millis(500));
    // The high watermark is in range, and has no entry.
    let results = reader.fetch(fetch(&[(0, 1)], Duration::ZERO)).await;
    assert_eq!(results[0].error, None);
    for spec in [OffsetSpec::MaxTimestamp, OffsetSpec::Earliest, OffsetSpec::Latest] {
        let found = reader.lookup.resolve(partition(0), spec).await;
        let is_corrupt = matches!(found, Err(ListOffsetsError::Corrupt(_)));
        assert_eq!(is_corrupt, spec == OffsetSpec::MaxTimestamp, "{spec:?}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn hung_shard_does_not_delay_lookups_of_others() {
    let shards = TwoShards::new();
    let (writer, reader) = replicas(&shards).await;
    writer.write(1, fast(0, "a")).await;
    shards.shards[1].set_persistent(FIND, Some(Fault::HANG));
    let lookup = async |index: i32| {
        let start = Instant::now();
        let found = reader.lookup.resolve(partition(index), OffsetSpec::Latest).await;
        (found.map(|found| found.offset).ok(), start.elapsed())
    };
    let lookups = join_all([1, 3, 0, 2, 5].map(lookup)).await;
    for (index, (found, elapsed)) in [1, 3, 0, 2, 5].into_iter().zip(lookups) {
        match index % 2 {
            0 => assert_eq!((found, elapsed), (Some(i64::from(index == 0)), Duration::ZERO)),
            _ => assert_eq!(found, None),
        }
    }
    assert_eq!(shards.shards[0].calls(FIND), 1, "one call for all");
    let bounds = reader.lookup.watermarks(&[partition(0), partition(1)]).await;
    assert!(bounds[0].is_ok() && bounds[1].is_err());
}

#[tokio::test(start_paused = true)]
async fn deletion_of_the_topic_ends_a_wait() {
    let shards = TwoShards::new();
    let (_writer, reader) = replicas(&shards).await;
    let start = Instant::now();
    let waiting = reader.fetch(fetch(&[(0, 0)], 60 * SECOND));
    let (results, deleted) = tokio::join!(waiting, async {
        tokio::time::sleep(5 * SECOND).await;
        shards.delete_topic(partition(0).topic).await
    });
    deleted.expect("deleted");
    assert_eq!(start.elapsed(), 5 * SECOND);
    assert_eq!(results[0].error, Some(FetchError::TopicDeleted));
}

/// A replica that gets no events of a shard cannot know whether its tail is the end.
#[tokio::test(start_paused = true)]
async fn disconnected_shard_has_no_stale_tail() {
    let shards = TwoShards::new();
    let (writer, reader) = replicas(&shards).await;
    for index in [0, 1] {
        writer.write(1, fast(index, "a")).await;
        assert_eq!(reader.read(index, 0).await.len(), 1);
    }
    let at_the_end = |index| fetch(&[(index, 1)], 60 * SECOND);
    shards.shards[0].set_persistent(FIND, Some(Fault::HANG));
    let start = Instant::now();
    let (results, ()) = tokio::join!(reader.fetch(at_the_end(0)), async {
        tokio::time::sleep(5 * SECOND).await;
        reader.long_polls.apply(&CoordinatorEvent::Disconnected(EventScope::Shard(0)));
    });
    assert_eq!(results[0].error, Some(FetchError::Storage));
    assert_eq!(start.elapsed(), 7 * SECOND);
    let start = Instant::now();
    assert_eq!(reader.fetch(at_the_end(0)).await[0].error, Some(FetchError::Storage));
    assert_eq!(start.elapsed(), 2 * SECOND);
    // The other shard needs no query.
    let start = Instant::now();
    assert_eq!(reader.fetch(at_the_end(1)).await[0].error, None);
    assert_eq!(start.elapsed(), 60 * SECOND);
    assert_eq!(shards.shards[1].calls(FIND), 1);

    shards.shards[0].set_persistent(FIND, None);
    reader.long_polls.apply(&CoordinatorEvent::Gap(EventScope::Shard(0)));
    assert_eq!(reader.fetch(fetch(&[(0, 1)], SECOND)).await[0].error, None);
    let calls = shards.shards[0].calls(FIND);
    let start = Instant::now();
    assert_eq!(reader.fetch(fetch(&[(0, 1)], SECOND)).await[0].error, None);
    assert_eq!((start.elapsed(), shards.shards[0].calls(FIND)), (SECOND, calls));
}

/// A fetch that waits when its shard fails notices it, and looks again when the shard is back:
/// records that were committed meanwhile have no event.
#[tokio::test(start_paused = true)]
async fn gap_ends_the_wait_for_records_without_events() {
    let shards = TwoShards::new();
    let writer = Replica::over(Arc::clone(&shards) as Arc<dyn Coordinator>, Arc::default()).await;
    let reader = writer.beside(Events::Lost).await;
    let (sender, events) = mpsc::channel(8);
    let long_polls = Arc::clone(&reader.long_polls);
    let following = async { long_polls.apply_events(events, |_| {}).await };
    let changes = async {
        sender.send(CoordinatorEvent::Disconnected(EventScope::Shard(0))).await.expect("open");
        tokio::time::sleep(5 * SECOND).await;
        writer.write(1, fast(0, "a")).await;
        sender.send(CoordinatorEvent::Gap(EventScope::Shard(0))).await.expect("open");
        tokio::time::sleep(SECOND).await;
        drop(sender);
    };
    let start = Instant::now();
    let reading = async {
        tokio::time::sleep(SECOND).await;
        let results = reader.fetch(fetch(&[(0, 0)], 60 * SECOND)).await;
        (results, start.elapsed())
    };
    let ((), (), (results, elapsed)) = tokio::join!(following, changes, reading);
    assert_eq!(records(&results[0].records), [(0, "a".to_owned())]);
    assert_eq!(elapsed, 5 * SECOND);
}
