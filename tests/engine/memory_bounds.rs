//! The memory that objects take on the read path stays within the configured limits.
//!
//! Objects have 1 MiB, an eighth of the usual size, and the limits are small as well.

use std::time::Duration;
use testbed::print_line;

use futures::future::join_all;
use tokio::time::{sleep, timeout};

use crate::history::{ColdReplica, Consumer, Shape, object};

const CACHE_BYTES: u64 = 24 << 20;
const RESPONSE_BYTES: usize = 8 << 20;
/// Memory of the reads that complete at the same moment.
const SLACK_BYTES: u64 = 8 << 20;

/// Objects with 100 parts of 10 KiB, as those of a replica with many sparse partitions.
async fn sparse() -> ColdReplica {
    let (part_bytes, parts): (_, fn(u32) -> Vec<i32>) = (10 << 10, |_| (0..100).collect());
    let shape = Shape { objects: 1_000, part_bytes, partitions: 50, parts };
    ColdReplica::new(shape, CACHE_BYTES, RESPONSE_BYTES).await
}

#[track_caller]
fn assert_bounded(replica: &ColdReplica) {
    let (most, limit) = (replica.store.most_live(), CACHE_BYTES + RESPONSE_BYTES as u64);
    print_line(&format!("{} MiB of objects were alive, limit {} MiB", most >> 20, limit >> 20));
    assert!(most <= limit + SLACK_BYTES, "{most} bytes of objects were alive");
}

#[tokio::test(start_paused = true)]
async fn responses_of_sparse_partitions_keep_no_objects_alive() {
    let replica = &sparse().await;
    let held = (0..40).map(|n| async move {
        let mut consumer = Consumer::new(replica, n..n + 1);
        consumer.start_at(20 * i64::from(n));
        consumer.bytes_per_second = 10 << 10;
        for _ in 0..5 {
            consumer.poll(replica).await;
        }
    });
    let _unfinished = timeout(Duration::from_secs(20), join_all(held)).await;
    assert_bounded(replica);
}

#[tokio::test(start_paused = true)]
async fn fifty_sparse_partitions_at_different_places_stay_within_the_limits() {
    let replica = sparse().await;
    let mut consumer = Consumer::new(&replica, 0..50);
    consumer.spread(19);
    let mut served = 0;
    while served < 16 << 20 {
        let bytes = consumer.poll(&replica).await;
        assert!(bytes > 0, "each fetch makes progress");
        served += bytes;
    }
    assert_bounded(&replica);
    assert!(consumer.offsets().all(|(start, offset)| offset > start), "every partition progresses");
}

/// Responses keep the blocks alive of which they are slices.
#[tokio::test(start_paused = true)]
async fn responses_that_are_held_stay_within_the_limits() {
    let parts = |_| (0..4).collect();
    let shape = Shape { objects: 1_000, part_bytes: 250 << 10, partitions: 4, parts };
    let replica = &ColdReplica::new(shape, CACHE_BYTES, RESPONSE_BYTES).await;
    let held = (0..40).map(|n| async move {
        let mut consumer = Consumer::new(replica, n % 4..n % 4 + 1);
        consumer.start_at(20 * i64::from(n));
        consumer.response_bytes = 1 << 20;
        consumer.bytes_per_second = 1 << 20;
        for _ in 0..10 {
            consumer.poll(replica).await;
        }
    });
    let _unfinished = timeout(Duration::from_secs(20), join_all(held)).await;
    assert_bounded(replica);
}

/// The objects of other writers differ in size; this replica writes objects of its own, and serves a
/// peer that holds what it gets for a while.
#[tokio::test(start_paused = true)]
async fn mixed_sizes_a_writer_and_a_peer_stay_within_the_limits() {
    let parts: fn(u32) -> Vec<i32> = |sequence| match sequence % 16 {
        0 => (0..100).collect(),
        few => (0..few as i32).collect(),
    };
    let shape = Shape { objects: 1_000, part_bytes: 10 << 10, partitions: 100, parts };
    let replica = &ColdReplica::serving(shape, CACHE_BYTES, RESPONSE_BYTES).await;
    let reading = join_all((0..20).map(|n| async move {
        let mut consumer = Consumer::new(replica, 0..1 + n % 3);
        consumer.start_at(20 * i64::from(n));
        consumer.response_bytes = 1 << 20;
        consumer.bytes_per_second = 1 << 20;
        for _ in 0..10 {
            consumer.poll(replica).await;
        }
    }));
    let writing = async {
        for sequence in 10_000.. {
            let bytes = replica.store.counted(vec![0; 512 << 10]);
            replica.cache.insert_written(object(sequence), bytes);
            sleep(Duration::from_millis(20)).await;
        }
    };
    let serving = join_all((0..50_u32).map(|n| async move {
        for sequence in (n..1_000).step_by(17) {
            let _held = replica.cache.read_for_peer(object(sequence), 0..16 << 20).await;
            sleep(Duration::from_millis(100)).await;
        }
    }));
    let all = async { tokio::join!(reading, writing, serving) };
    let _unfinished = timeout(Duration::from_secs(20), all).await;
    assert_bounded(replica);
}
