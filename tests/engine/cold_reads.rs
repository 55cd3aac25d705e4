//! Cold catch-up reads: how often each object is read from the store, and how much of it.
//!
//! Everything is a quarter of its default: 64 MiB of cache, 2 MiB per partition and fetch.

use std::time::Duration;
use testbed::print_line;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::history::{ColdReplica, Consumer, Shape};

const CACHE_BYTES: u64 = 64 << 20;
const RESPONSE_BYTES: usize = 64 << 20;

/// Objects in which every partition has a part.
async fn replica(partitions: i32, objects: u32) -> ColdReplica {
    let part_bytes = (1_000 << 10) / partitions as usize;
    let parts = match partitions {
        1 => |_| vec![0],
        _ => |_| (0..12).collect(),
    };
    let shape = Shape { objects, part_bytes, partitions, parts };
    ColdReplica::new(shape, CACHE_BYTES, RESPONSE_BYTES).await
}

/// Objects of large batches, each of six of twelve partitions: producers fill one batch after the
/// other.
async fn uneven_replica(objects: u32) -> ColdReplica {
    let parts = |sequence: u32| {
        let mut random = u64::from(sequence).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut partitions: Vec<i32> = (0..12).collect();
        for left in (7..=12).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            partitions.remove((random >> 33) as usize % left);
        }
        partitions
    };
    let shape = Shape { objects, part_bytes: 220 << 10, partitions: 12, parts };
    ColdReplica::new(shape, CACHE_BYTES, RESPONSE_BYTES).await
}

/// Checks that there were at most `gets_max` GETs per object, and prints what was read.
#[track_caller]
fn assert_gets(replica: &ColdReplica, read: u64, started: Instant, gets_max: f64) {
    let (gets, sent) = (replica.store.gets(), replica.store.sent());
    let objects = replica.store.objects();
    let seconds = started.elapsed().as_secs_f64();
    print_line(&format!(
        "{gets} GETs of {objects} objects, {sent} bytes for {read}, {seconds:.2} s"
    ));
    assert!(f64::from(gets) <= gets_max * f64::from(objects), "{gets} GETs");
}

#[tokio::test(start_paused = true)]
async fn one_partition_is_read_once() {
    let replica = replica(1, 200).await;
    let started = Instant::now();
    let read = Consumer::new(&replica, 0..1).replay(&replica).await;
    assert_gets(&replica, read, started, 1.0);
}

#[tokio::test(start_paused = true)]
async fn twelve_partitions_filled_together_are_read_once() {
    let replica = replica(12, 400).await;
    let started = Instant::now();
    let read = Consumer::new(&replica, 0..12).replay(&replica).await;
    assert_gets(&replica, read, started, 1.0);
}

/// A consumer has one connection to each of four nodes.
#[tokio::test(start_paused = true)]
async fn twelve_partitions_on_four_connections_are_read_once() {
    let replica = &replica(12, 400).await;
    let started = Instant::now();
    let consumers = (0..4).map(|n| {
        let mut consumer = Consumer::new(replica, (0..12).filter(move |p| p % 4 == n));
        // Connections are not equally fast.
        consumer.bytes_per_second = (200 << 20) + n as u64 * (20 << 20);
        consumer.replay(replica)
    });
    let read = join_all(consumers).await.iter().sum();
    assert_gets(replica, read, started, 1.0);
}

/// The same, where consumers are slower than the store.
#[tokio::test(start_paused = true)]
async fn uneven_partitions_on_four_slow_connections_are_read_once() {
    let replica = &uneven_replica(400).await;
    let started = Instant::now();
    let consumers = (0..4).map(|n| {
        let mut consumer = Consumer::new(replica, (0..12).filter(move |p| p % 4 == n));
        consumer.bytes_per_second = (30 << 20) + n as u64 * (3 << 20);
        consumer.replay(replica)
    });
    let read = join_all(consumers).await.iter().sum();
    assert_gets(replica, read, started, 1.0);
}

#[tokio::test(start_paused = true)]
async fn uneven_partitions_of_a_slow_consumer_are_read_once() {
    let replica = &uneven_replica(400).await;
    let started = Instant::now();
    let mut consumer = Consumer::new(replica, 0..12);
    consumer.bytes_per_second = 75 << 20;
    let read = consumer.replay(replica).await;
    assert_gets(replica, read, started, 1.0);
}

#[tokio::test(start_paused = true)]
async fn five_groups_started_together_read_each_object_once() {
    let replica = &replica(12, 300).await;
    let started = Instant::now();
    let groups = (0..5).map(|n| {
        let mut consumer = Consumer::new(replica, 0..12);
        consumer.bytes_per_second = (300 << 20) + n * (50 << 20);
        consumer.replay(replica)
    });
    let read = join_all(groups).await.iter().sum();
    assert_gets(replica, read, started, 1.0);
}

/// Objects that the first has passed when the last starts are read again.
#[tokio::test(start_paused = true)]
async fn five_groups_started_one_after_the_other_share_reads() {
    let replica = &replica(12, 300).await;
    let started = Instant::now();
    let groups = (0..5).map(|n| async move {
        sleep(Duration::from_millis(20) * n).await;
        Consumer::new(replica, 0..12).replay(replica).await
    });
    let read = join_all(groups).await.iter().sum();
    assert_gets(replica, read, started, 1.1);
}
