//! Sealing, admission and drain.

use odradek::coordinator::faulty::{Fault as CallFault, Operation as Call};
use odradek::engine::produce::{FlushProfile, ProduceSettings};
use odradek::store::faulty::{Fault, StoreOperation};
use tokio::time::{Duration, Instant};

use crate::batches::{Batch, fast};
use crate::harness::{INTERVAL, Replica, SECOND, is_completed, offset, settings};

#[tokio::test(start_paused = true)]
async fn idle_pipeline_makes_no_calls() {
    let replica = Replica::new().await;
    replica.write(1, fast(0, "x")).await;
    let puts = replica.store.calls(StoreOperation::put);
    tokio::time::sleep(3_600 * SECOND).await;
    assert_eq!((puts, replica.store.calls(StoreOperation::put)), (1, 1));
    assert_eq!(replica.coordinator.calls(Call::Commit), 1);
    assert_eq!(replica.coordinator.calls(Call::Find), 0);
}

#[tokio::test(start_paused = true)]
async fn fast_profile_seals_at_once_and_cheap_at_the_interval() {
    for (profile, waits) in [(FlushProfile::Fast, Duration::ZERO), (FlushProfile::Cheap, INTERVAL)]
    {
        let replica = Replica::new().await;
        for (pause, waits) in [(Duration::ZERO, Duration::ZERO), (Duration::ZERO, waits)]
            .into_iter()
            .chain([(INTERVAL / 2, waits / 2), (2 * INTERVAL, Duration::ZERO)])
        {
            tokio::time::sleep(pause).await;
            let start = Instant::now();
            replica.write(1, Batch::of(&["x"]).to(0, profile)).await;
            assert_eq!(start.elapsed().as_millis(), waits.as_millis(), "{profile:?}, {pause:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn batches_are_buffered_while_a_put_is_in_flight() {
    let replica = Replica::new().await;
    replica.store.script(StoreOperation::put, [Fault::slow(100 * INTERVAL / 1_000)]);
    let first = replica.send(1, vec![fast(0, "a")]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let start = Instant::now();
    let second = replica.send(2, vec![fast(0, "b")]).await;
    let third = replica.send(3, vec![fast(0, "c")]).await;
    first.await.unwrap();
    second.await.unwrap();
    third.await.unwrap();
    assert!(start.elapsed() < INTERVAL, "completion of the first upload seals the next object");
    assert_eq!(replica.store.calls(StoreOperation::put), 2);
}

#[tokio::test(start_paused = true)]
async fn object_is_sealed_at_the_size_limit() {
    let replica = Replica::with(ProduceSettings { object_bytes: 1_000, ..settings() }).await;
    let start = Instant::now();
    let value = "x".repeat(300);
    let mut replies = Vec::new();
    for _ in 0..3 {
        let row = Batch::of(&[&value]).to(0, FlushProfile::Cheap);
        replies.push(replica.send(1, vec![row]).await);
    }
    for reply in replies {
        reply.await.unwrap();
    }
    assert!(start.elapsed() < INTERVAL / 2, "{:?}", start.elapsed());
    assert_eq!(replica.objects().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn appends_beyond_the_memory_limit_wait() {
    // Memory for three.
    let replica = Replica::with_memory(settings(), 4_000).await;
    // A hanging PUT holds the memory of its own batches only.
    replica.store.script(StoreOperation::put, [Fault::slow(30 * SECOND)]);
    let stuck = replica.send(1, vec![fast(0, "stuck")]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let behind = replica.send(1, vec![fast(0, "behind")]).await;
    let companion = replica.send(2, vec![fast(0, "companion")]).await;
    let start = Instant::now();
    let next = replica.send(2, vec![fast(0, "next")]).await;
    assert!(start.elapsed() >= INTERVAL - Duration::from_millis(2), "admitted beyond the limit");
    assert!(start.elapsed() < SECOND, "the memory of the companion is released with its result");
    for reply in [companion, next, stuck, behind] {
        offset(reply.await.unwrap()[0]);
    }
    // A batch above the limit is admitted alone.
    let large = Batch::of(&[&"x".repeat(5_000)]).to(0, FlushProfile::Fast);
    assert_eq!(replica.write(1, large).await, 4);
}

#[tokio::test(start_paused = true)]
async fn drain_completes_appends_and_then_rejects() {
    let replica = Replica::new().await;
    replica.store.script(StoreOperation::put, [Fault::slow(10 * SECOND)]);
    replica.coordinator.script(Call::Commit, [CallFault::REPLY_LOST]);
    let mut first = replica.send(1, vec![fast(0, "a")]).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut second = replica.send(1, vec![Batch::of(&["b"]).to(0, FlushProfile::Cheap)]).await;
    replica.producer.drain().await;
    assert_eq!(offset(first.try_recv().expect("completed before the drain")[0]), 0);
    assert_eq!(offset(second.try_recv().expect("completed before the drain")[0]), 1);
    assert!(replica.permit(&[fast(0, "c")]).await.is_err());
    replica.producer.drain().await;
}

#[tokio::test(start_paused = true)]
async fn dropped_receiver_does_not_cancel_the_append() {
    let replica = Replica::new().await;
    drop(replica.send(1, vec![fast(0, "gone")]).await);
    assert_eq!(replica.write(1, fast(0, "here")).await, 1);
    assert_eq!(replica.read(0, 0).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn empty_append_completes_without_a_put() {
    let replica = Replica::embedded(&std::sync::Arc::default()).await;
    let mut nothing = replica.send(1, Vec::new()).await;
    assert!(is_completed(&mut nothing).await);
    tokio::time::sleep(SECOND).await;
    assert_eq!(replica.store.calls(StoreOperation::put), 0);
    assert_eq!(replica.write(1, fast(0, "x")).await, 0);
    replica.producer.drain().await;
}
