//! A shard of the coordinator that fails affects only its own partitions.

use std::time::Duration;

use odradek::coordinator::faulty::{Effect, Fault};
use odradek::engine::produce::{AppendOutcome, FlushProfile, ProducedBatch};
use tokio::time::{Instant, timeout};

use crate::batches::{Batch, fast};
use crate::harness::{MEMORY_BYTES, Replica, SECOND, is_completed, offset};

#[tokio::test(start_paused = true)]
async fn parts_of_other_shards_are_acknowledged() {
    let hang = Fault { effect: Effect::NotApplied, ..Fault::HANG };
    for fault in [Fault::METADATA_LOST, Fault::REFUSED, Fault::TIMED_OUT, Fault::REPLY_LOST, hang] {
        let replica = Replica::sharded(4, MEMORY_BYTES).await;
        replica.coordinator.set_shard_fault(1, Some(fault));
        // All of them share one object.
        let mut affected = replica.send(1, vec![fast(1, "a")]).await;
        let mut both = replica.send(2, vec![fast(0, "b"), fast(1, "b")]).await;
        let third = replica.send(3, vec![fast(0, "c")]).await;
        let fourth = replica.send(4, vec![fast(2, "d")]).await;
        let start = Instant::now();
        for reply in [third, fourth] {
            assert!(offset(reply.await.unwrap()[0]) <= 1, "{fault:?}");
        }
        assert!(start.elapsed() < SECOND, "{fault:?}: {:?}", start.elapsed());
        assert_eq!(replica.read(0, 0).await.len(), 2, "{fault:?}");
        if fault == Fault::METADATA_LOST {
            assert_eq!(affected.await.unwrap().outcomes, [AppendOutcome::MetadataLost]);
            let outcomes = both.await.unwrap().outcomes;
            assert_eq!((offset(outcomes[0]), outcomes[1]), (0, AppendOutcome::MetadataLost));
            continue;
        }
        assert!(!is_completed(&mut affected).await && !is_completed(&mut both).await, "{fault:?}");
        replica.coordinator.set_shard_fault(1, None);
        offset(affected.await.unwrap()[0]);
        both.await.unwrap().iter().for_each(|outcome| assert!(offset(*outcome) <= 1));
        assert_eq!(replica.read(1, 0).await.len(), 2, "{fault:?}: no duplicate");
    }
}

/// A producer without idempotence repeats what was not acknowledged.
#[tokio::test(start_paused = true)]
async fn retries_after_a_lost_shard_leave_one_copy_of_acknowledged_records() {
    let replica = Replica::sharded(2, MEMORY_BYTES).await;
    replica.coordinator.set_shard_fault(1, Some(Fault::METADATA_LOST));
    let mut outstanding = vec![fast(0, "a"), fast(1, "b")];
    for retry in 0..5 {
        if retry == 4 {
            replica.coordinator.set_shard_fault(1, None);
        }
        let outcomes = replica.send(1, outstanding.clone()).await.await.unwrap().outcomes;
        let rows = outstanding.into_iter().zip(outcomes);
        let failed = rows.filter(|(_, outcome)| *outcome == AppendOutcome::MetadataLost);
        outstanding = failed.map(|(row, _)| row).collect();
    }
    assert!(outstanding.is_empty());
    for partition in 0..2 {
        assert_eq!(replica.read(partition, 0).await.len(), 1, "partition {partition}");
    }
}

#[tokio::test(start_paused = true)]
async fn order_is_kept_in_a_shard_that_recovers() {
    let replica = Replica::sharded(2, MEMORY_BYTES).await;
    replica.coordinator.set_shard_fault(1, Some(Fault::TIMED_OUT));
    let mut replies = Vec::new();
    for n in 0..5 {
        replies.push(replica.send(1, vec![fast(1, &n.to_string())]).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(replica.producer.lowest_undecided(), 0);
    replica.coordinator.set_shard_fault(1, None);
    for (n, reply) in (0..).zip(replies) {
        assert_eq!(offset(reply.await.unwrap()[0]), n);
    }
    let values: Vec<String> = replica.read(1, 0).await.into_iter().map(|r| r.1).collect();
    assert_eq!(values, ["0", "1", "2", "3", "4"]);
    tokio::time::sleep(SECOND).await;
    assert_eq!(replica.producer.lowest_undecided(), 5, "everything is decided");
}

fn row(to: i32) -> ProducedBatch {
    Batch::of(&["x".repeat(200).as_str()]).to(to, FlushProfile::Fast)
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_failing_shard_leave_memory_to_others() {
    const BYTES: usize = 64 << 10;
    let replica = Replica::sharded(2, BYTES).await;
    replica.coordinator.set_shard_fault(1, Some(Fault::REFUSED));
    let mut replies = Vec::new();
    for n in 0..200 {
        let sent = timeout(SECOND, replica.send(n, vec![row(1)])).await;
        replies.push(sent.expect("memory is available"));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let start = Instant::now();
        offset(replica.send(1_000, vec![row(0)]).await.await.unwrap()[0]);
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    }
    assert!(replica.limiter.available() >= BYTES / 4, "{}", replica.limiter.available());
    replica.coordinator.set_shard_fault(1, None);
    let (mut committed, mut refused) = (0, 0);
    for reply in replies {
        match reply.await.unwrap()[0] {
            AppendOutcome::ShardFailing => refused += 1,
            outcome => {
                offset(outcome);
                committed += 1;
            }
        }
    }
    assert!(refused > 100 && committed >= 10, "{refused} refused, {committed} committed");
    assert_eq!(replica.limiter.available(), BYTES, "all memory is released");
    assert_eq!(replica.write(1, row(1)).await, committed, "nothing that was refused is in the log");
}

/// Requests with batches in several failing shards count once, and the share is that of all of them.
#[tokio::test(start_paused = true)]
async fn failing_shards_have_half_of_the_memory_together() {
    const BYTES: usize = 64 << 10;
    const FAILING: u16 = 7;
    let replica = Replica::sharded(FAILING + 1, BYTES).await;
    for shard in 1..=FAILING {
        replica.coordinator.set_shard_fault(shard, Some(Fault::REFUSED));
    }
    let mut replies = Vec::new();
    for n in 0..200 {
        let rows = (1..=FAILING).map(|shard| row(shard.into())).collect();
        let sent = timeout(SECOND, replica.send(n, rows)).await;
        replies.push(sent.expect("memory is available"));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        offset(replica.send(1_000, vec![row(0)]).await.await.unwrap()[0]);
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    }
    let held = BYTES - replica.limiter.available();
    assert!((BYTES * 3 / 10..=BYTES * 5 / 8).contains(&held), "{held} of {BYTES} bytes are held");
    (1..=FAILING).for_each(|shard| replica.coordinator.set_shard_fault(shard, None));
    let mut refused = 0;
    for reply in replies {
        let outcomes = reply.await.unwrap().outcomes;
        refused += outcomes.iter().filter(|o| **o == AppendOutcome::ShardFailing).count();
    }
    assert!(refused > 7 * 100, "{refused} batches refused");
    assert_eq!(replica.limiter.available(), BYTES, "all memory is released");
}
