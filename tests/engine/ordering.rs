//! The order of commits and of the resulting log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use odradek::log::batch::Part;
use odradek::log::object_format::decode_footer;
use odradek::store::Store as _;
use odradek::store::faulty::{Fault, StoreOperation};
use odradek::store::memory::MemoryStore;
use tokio::time::Instant;

use crate::batches::fast;
use crate::harness::{INTERVAL, Replica, SECOND, is_completed, offset};

#[tokio::test(start_paused = true)]
async fn batches_sent_together_share_one_object() {
    let replica = Replica::new().await;
    let mut replies = Vec::new();
    for connection in 0..5 {
        replies.push(replica.send(connection, vec![fast(0, "a"), fast(1, "b")]).await);
    }
    for reply in replies {
        assert_eq!(reply.await.unwrap().len(), 2);
    }
    assert_eq!(replica.objects().await.len(), 1);
    assert_eq!(replica.read(0, 0).await.len(), 5);
    assert_eq!(replica.read(1, 0).await.len(), 5);
}

/// So that the coordinator can make one run of them.
#[tokio::test(start_paused = true)]
async fn parts_of_one_partition_are_neighbours() {
    let replica = Replica::new().await;
    let mut replies = Vec::new();
    for connection in [3, 1, 2] {
        replies.push(replica.send(connection, vec![fast(1, "b"), fast(0, "a")]).await);
    }
    for reply in replies {
        assert_eq!(reply.await.unwrap().len(), 2);
    }
    let key = replica.objects().await.remove(0);
    let object = replica.memory.get(&key, None).await.unwrap();
    let footer = decode_footer(object.len() as u64, &object).unwrap();
    let partitions: Vec<i32> = footer.parts.iter().map(|part| part.partition.partition).collect();
    assert_eq!(partitions, [0, 0, 0, 1, 1, 1]);
    let bytes = |part: &Part| part.batches.iter().map(|batch| u64::from(batch.bytes)).sum::<u64>();
    assert!(footer.parts.windows(2).all(|two| two[0].start + bytes(&two[0]) == two[1].start));
}

#[tokio::test(start_paused = true)]
async fn hanging_put_delays_only_its_own_lanes() {
    let replica = Replica::new().await;
    replica.store.script(StoreOperation::put, [Fault::slow(25 * SECOND)]);
    let start = Instant::now();
    let mut first = replica.send(1, vec![fast(0, "1-first")]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut second = replica.send(1, vec![fast(0, "1-second")]).await;
    let elsewhere = replica.send(1, vec![fast(1, "1-elsewhere")]).await;
    let other = replica.send(2, vec![fast(0, "2-first")]).await;
    // Another partition of the same connection is another lane.
    assert_eq!(offset(elsewhere.await.unwrap()[0]), 0);
    assert_eq!(offset(other.await.unwrap()[0]), 0);
    assert!(start.elapsed() < 2 * INTERVAL, "{:?}", start.elapsed());
    assert_eq!(replica.write(2, fast(0, "2-second")).await, 1);
    assert!(!is_completed(&mut first).await && !is_completed(&mut second).await);
    assert!(start.elapsed() < 3 * INTERVAL, "{:?}", start.elapsed());
    assert_eq!(offset(first.await.unwrap()[0]), 2);
    assert_eq!(offset(second.await.unwrap()[0]), 3);
    assert!(start.elapsed() >= 25 * SECOND);
    let values: Vec<String> = replica.read(0, 0).await.into_iter().map(|r| r.1).collect();
    assert_eq!(values, ["2-first", "2-second", "1-first", "1-second"]);
}

#[tokio::test(start_paused = true)]
async fn by_object_order_waits_for_the_oldest_object() {
    let replica = Replica::embedded(&Arc::new(MemoryStore::new())).await;
    replica.store.script(StoreOperation::put, [Fault::slow(25 * SECOND)]);
    let mut first = replica.send(1, vec![fast(0, "1")]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut other = replica.send(2, vec![fast(1, "2")]).await;
    tokio::time::sleep(SECOND).await;
    let mut late = replica.send(3, vec![fast(0, "3")]).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(replica.objects().await.len(), 2, "the later objects are durable");
    for reply in [&mut first, &mut other, &mut late] {
        assert!(!is_completed(reply).await);
    }
    assert_eq!(offset(first.await.unwrap()[0]), 0);
    assert_eq!(offset(other.await.unwrap()[0]), 0);
    assert_eq!(offset(late.await.unwrap()[0]), 1);
    assert_eq!(replica.read(0, 0).await, [(0, "1".to_owned()), (1, "3".to_owned())]);
}

/// Many connections, PUTs of varying latency, two partitions, both commit orders.
#[tokio::test(start_paused = true)]
async fn order_is_kept_when_puts_complete_out_of_order() {
    for replica in [Replica::new().await, Replica::embedded(&Arc::default()).await] {
        let slow = |n: u64| Fault::slow(Duration::from_millis(n * 7_919 % 3_000));
        replica.store.script(StoreOperation::put, (1..40).map(slow));
        let mut replies = Vec::new();
        for step in 0..30 {
            for connection in 0..4 {
                let value = format!("{connection}:{step:02}");
                let to = (step + connection as i32) % 2;
                let reply = replica.send(connection, vec![fast(to, &value)]).await;
                replies.push((to, value, reply));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut acked = BTreeMap::new();
        for (to, value, reply) in replies {
            acked.insert((to, offset(reply.await.unwrap()[0])), value);
        }
        assert!(replica.objects().await.len() > 5);
        for to in 0..2 {
            let log = read_all(&replica, to).await;
            let dense = log.iter().enumerate().all(|(at, (offset, _))| at as i64 == *offset);
            assert!(dense && log.len() == 60, "{log:?}");
            for (offset, value) in &log {
                assert_eq!(
                    acked.get(&(to, *offset)),
                    Some(value),
                    "acknowledged records keep their offsets"
                );
            }
            for connection in 0..4 {
                let of = format!("{connection}:");
                let own = log.iter().filter(|(_, value)| value.starts_with(&of));
                assert!(own.map(|(_, value)| value).is_sorted(), "{connection}: {log:?}");
            }
        }
    }
}

async fn read_all(replica: &Replica, from: i32) -> Vec<(i64, String)> {
    let mut log: Vec<(i64, String)> = Vec::new();
    loop {
        let more = replica.read(from, log.len() as i64).await;
        if more.is_empty() {
            return log;
        }
        log.extend(more);
    }
}
