//! Several readers of one writer's tail read from its cache and wait for no request.

use std::sync::Arc;
use std::time::Duration;

use odradek::entropy::Entropy;
use odradek::store::faulty::{Fault, StoreOperation};
use odradek::tasks;
use parking_lot::Mutex;
use testbed::print_line;
use tokio::time::Instant;

use crate::batches::{fast, records};
use crate::harness::{Replica, SECOND, fetch, offset};

const MS: Duration = Duration::from_millis(1);
const PARTITIONS: i32 = 4;
const RECORDS: i32 = 800;

/// Reads all partitions at their tails, and returns the time at which each record arrived.
async fn read_tail(replica: Arc<Replica>) -> Vec<((i32, i64), Instant)> {
    let mut next: Vec<(i32, i64)> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let mut arrived = Vec::new();
    while arrived.len() < RECORDS as usize {
        let results = replica.fetch(fetch(&next, SECOND)).await;
        for ((partition, next), result) in next.iter_mut().zip(&results) {
            assert_eq!(result.error, None);
            for (offset, _) in records(&result.records) {
                assert_eq!(offset, *next);
                *next += 1;
                arrived.push(((*partition, offset), Instant::now()));
            }
        }
    }
    arrived
}

#[tokio::test(start_paused = true)]
async fn readers_at_the_tail_of_their_writer_need_no_get() {
    for readers in [1, 5, 16, 64] {
        let replica = Arc::new(Replica::new().await);
        replica.store.set_persistent(StoreOperation::get, Some(Fault::slow(20 * MS)));
        let entropy = Entropy::from_seed(readers);
        let latencies = std::iter::repeat_with(|| 30 * MS + MS * (entropy.next_u64() % 120) as u32);
        replica.store.script(StoreOperation::put, latencies.take(2_000).map(Fault::slow));
        let reading: Vec<_> =
            (0..readers).map(|_| tasks::spawn("reader", read_tail(Arc::clone(&replica)))).collect();
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        for n in 0..RECORDS {
            tokio::time::sleep(10 * MS).await;
            let partition = n % PARTITIONS;
            let reply = replica.send((n % 20) as u64, vec![fast(partition, "x")]).await;
            let acknowledged = Arc::clone(&acknowledged);
            tasks::spawn("record", async move {
                let at = offset(reply.await.expect("a result")[0]);
                acknowledged.lock().push(((partition, at), Instant::now()));
            });
        }
        let mut after = Vec::new();
        for reader in reading {
            let arrived = reader.await.expect("the reader has read every record");
            let acknowledged: std::collections::HashMap<_, _> =
                acknowledged.lock().iter().copied().collect();
            let late = arrived.iter().map(|(record, at)| at.duration_since(acknowledged[record]));
            after.extend(late);
        }
        after.sort_unstable();
        let (p99, gets) = (after[after.len() * 99 / 100], replica.store.calls(StoreOperation::get));
        print_line(&format!(
            "{readers} readers: p99 {p99:?} after the acknowledgement, {gets} GETs"
        ));
        assert_eq!(gets, 0, "{readers} readers");
        assert!(p99 <= 2 * MS, "{readers} readers: {p99:?}");
    }
}
