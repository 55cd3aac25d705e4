//! Fetches whose partitions get events while their queries are outstanding.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use odradek::coordinator::Coordinator;
use odradek::coordinator::faulty::{Fault, Operation};
use odradek::engine::fetch::FetchError;
use tokio::time::{Instant, sleep};

use crate::batches::{fast, records};
use crate::harness::{Replica, SECOND, fetch};
use crate::two_shards::TwoShards;

const FIND: Operation = Operation::Find;
const MS: Duration = Duration::from_millis(1);

async fn replicas() -> (Arc<TwoShards>, Replica, Replica) {
    let shards = TwoShards::new();
    let coordinator = Arc::clone(&shards) as Arc<dyn Coordinator>;
    let writer = Replica::over(Arc::clone(&coordinator), Arc::default()).await;
    let reader = Replica::over(coordinator, Arc::clone(&writer.memory)).await;
    (shards, writer, reader)
}

/// Appends a record to each of these partitions, in one object.
async fn append(writer: &Replica, partitions: impl Iterator<Item = i32>) {
    let rows = partitions.map(|index| fast(index, "x")).collect();
    writer.send(1, rows).await.await.expect("a result");
}

fn queries(shards: &TwoShards) -> u64 {
    shards.run_queries.load(Ordering::Relaxed) + shards.bounds_queries.load(Ordering::Relaxed)
}

/// Every commit to a partition of a fetch is an event of it. Runs that a query found are kept, so
/// that no event repeats the query or extends the wait.
#[tokio::test(start_paused = true)]
async fn events_neither_repeat_queries_nor_delay_the_answer() {
    const PARTITIONS: i32 = 60;
    let (shards, writer, reader) = replicas().await;
    let odd = || (0..PARTITIONS).map(|index| 2 * index + 1);
    for _ in 0..3 {
        append(&writer, odd()).await;
    }
    let slow = Fault { after: 20 * MS, ..Fault::NONE };
    shards.shards[1].set_persistent(FIND, Some(slow));
    let writing = async {
        loop {
            append(&writer, odd()).await;
            sleep(5 * MS).await;
        }
    };
    let reading = async {
        for (fresh, bytes_min, limit) in
            [(true, 1, 300 * MS), (false, 1, 50 * MS), (false, 1 << 20, 550 * MS)]
        {
            let mut spec = fetch(&odd().map(|index| (index, 0)).collect::<Vec<_>>(), 500 * MS);
            spec.partitions.iter_mut().for_each(|partition| partition.fresh = fresh);
            spec.bytes_min = bytes_min;
            let start = Instant::now();
            let results = reader.fetch(spec).await;
            assert!(start.elapsed() < limit, "{:?} of {limit:?}", start.elapsed());
            let errors: Vec<_> = results.iter().filter_map(|result| result.error).collect();
            assert!(errors.is_empty(), "{} errors", errors.len());
            assert!(results.iter().all(|result| records(&result.records).len() >= 3));
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    let queries = queries(&shards);
    assert!(queries <= 2 * PARTITIONS as u64, "{queries} queries of {PARTITIONS} partitions");
}

/// The result of a query may be older than an event that arrived before it.
#[tokio::test(start_paused = true)]
async fn event_during_a_query_is_not_lost() {
    let (shards, writer, reader) = replicas().await;
    let slow = Fault { after: 20 * MS, ..Fault::NONE };
    shards.shards[0].set_persistent(FIND, Some(slow));
    let mut spec = fetch(&[(0, 0)], 60 * SECOND);
    spec.partitions[0].fresh = true;
    let start = Instant::now();
    let (results, ()) = tokio::join!(reader.fetch(spec), async {
        sleep(10 * MS).await;
        append(&writer, std::iter::once(0)).await;
    });
    assert_eq!(records(&results[0].records).len(), 1);
    assert_eq!(start.elapsed(), 20 * MS);
}

/// Partitions that wait for a query behind others of a shard that does not respond have failed as
/// those have: without records below the high watermark, a success would be a wrong answer.
#[tokio::test(start_paused = true)]
async fn partitions_behind_a_hung_shard_are_no_empty_success() {
    const LAGGING: i32 = 40;
    for healthy in [None, Some((0, 0))] {
        let (shards, writer, reader) = replicas().await;
        let lagging = || (0..LAGGING).map(|index| 2 * index + 1);
        append(&writer, lagging().chain([0])).await;
        // The reader knows the high watermarks, but none of the runs.
        let ends: Vec<_> = lagging().map(|index| (index, 1)).collect();
        reader.fetch(fetch(&ends, Duration::ZERO)).await;
        shards.shards[1].set_persistent(FIND, Some(Fault::HANG));
        let all: Vec<_> = lagging().map(|index| (index, 0)).chain(healthy).collect();
        let results = reader.fetch(fetch(&all, SECOND)).await;
        let (hung, rest) = results.split_at(LAGGING as usize);
        let failed = hung.iter().filter(|result| result.error == Some(FetchError::Storage));
        assert_eq!(failed.count(), LAGGING as usize, "{healthy:?}");
        for result in rest {
            assert_eq!((result.error, records(&result.records).len()), (None, 1));
        }
    }
}
