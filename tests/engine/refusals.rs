//! Objects that the store refuses: for their size, or for another reason that lasts.

use std::sync::Arc;
use std::time::Duration;

use odradek::engine::produce::{AppendOutcome, FlushProfile, ProduceSettings, ProducedBatch};
use odradek::log::object_format::{JournalEntry, JournalOutcome, decode_footer, wal_key};
use odradek::store::faulty::{Effect, Fault, ReportedOutcome, StoreOperation};
use odradek::store::memory::MemoryStore;
use odradek::store::{Certainty, Store as _, StoreErrorKind};
use tokio::time::Instant;

use crate::batches::{Batch, fast};
use crate::harness::{INTERVAL, MEMORY_BYTES, Replica, SECOND, is_completed, offset, settings};

const KIB: usize = 1 << 10;

fn sized(to: i32, name: &str, bytes: usize) -> ProducedBatch {
    let value = format!("{name}{}", "x".repeat(bytes));
    Batch::of(&[value.as_str()]).to(to, FlushProfile::Cheap)
}

/// Returns a replica of each commit order, with an object that is stored already.
async fn replicas(memory: &Arc<MemoryStore>) -> [Replica; 2] {
    let large = || ProduceSettings { object_bytes: 512 * KIB, ..settings() };
    let independent = Replica::with(large()).await;
    let by_object = Replica::embedded_with(memory, large()).await;
    for replica in [&independent, &by_object] {
        replica.write(99, fast(9, "first")).await;
    }
    [independent, by_object]
}

/// Sends 40 batches of 8 KiB by four connections at once, and returns the number of PUTs.
async fn burst(replica: &Replica, from: i64) -> u64 {
    let before = replica.store.calls(StoreOperation::put);
    let mut replies = Vec::new();
    for n in 0..10 {
        for connection in 0..4_u8 {
            let row = sized(connection.into(), &format!("{n:02}"), 8 * KIB);
            replies.push((n, replica.send(connection.into(), vec![row]).await));
        }
    }
    for (n, reply) in replies {
        assert_eq!(offset(reply.await.expect("a result")[0]), from + n);
    }
    replica.store.calls(StoreOperation::put) - before
}

#[tokio::test(start_paused = true)]
async fn object_above_the_limit_of_the_store_is_divided() {
    let memory = Arc::default();
    for replica in replicas(&memory).await {
        replica.store.set_put_bytes_max(Some(100 * KIB));
        let first = burst(&replica, 0).await;
        let objects = replica.objects().await;
        assert!(objects.len() >= 5, "{} objects", objects.len());
        for key in &objects {
            assert!(replica.memory.head(key).await.unwrap() <= 100 * KIB as u64, "{key}");
        }
        assert!(first as usize >= objects.len(), "some were refused");
        // The limit is known now: nothing is refused.
        let second = burst(&replica, 10).await;
        let objects_then = replica.objects().await;
        assert_eq!(second as usize, objects_then.len() - objects.len());
        for partition in 0..4 {
            let log = replica.read(partition, 0).await;
            let names: Vec<_> = log.iter().map(|(_, value)| value[..2].to_owned()).collect();
            let expected: Vec<_> = (0..20).map(|n| format!("{:02}", n % 10)).collect();
            assert_eq!(names, expected, "the order of the lane");
        }
        assert_eq!(replica.limiter.available(), MEMORY_BYTES, "all memory is released");
        replica.producer.drain().await;
    }
    let restarted = Replica::embedded(&memory).await;
    assert_eq!(restarted.read(0, 0).await.len(), 20, "a replay finds the same log");
}

#[tokio::test(start_paused = true)]
async fn batch_above_the_limit_of_the_store_fails_alone() {
    let memory = Arc::default();
    for replica in replicas(&memory).await {
        replica.store.set_put_bytes_max(Some(100 * KIB));
        let mut replies = Vec::new();
        for (n, bytes) in [KIB, 200 * KIB, KIB, KIB].into_iter().enumerate() {
            let row = sized(0, &n.to_string(), bytes);
            replies.push(replica.send(1, vec![row, sized(1, "y", KIB)]).await);
        }
        let mut offsets = Vec::new();
        for (n, reply) in replies.into_iter().enumerate() {
            let outcomes = reply.await.expect("a result").outcomes;
            assert_eq!(offset(outcomes[1]), n as i64, "other partitions");
            match n {
                1 => assert_eq!(outcomes[0], AppendOutcome::TooLarge),
                _ => offsets.push(offset(outcomes[0])),
            }
        }
        assert_eq!(offsets, [0, 1, 2]);
        assert_eq!(replica.write(2, fast(0, "next")).await, 3);
        assert_eq!(replica.limiter.available(), MEMORY_BYTES, "all memory is released");
        replica.producer.drain().await;
    }
    let restarted = Replica::embedded(&memory).await;
    assert_eq!(restarted.read(0, 0).await.len(), 4, "a replay finds the same log");
}

/// A policy denies one key; another connection writes to the same partition.
#[tokio::test(start_paused = true)]
async fn denied_object_fails_its_own_producers() {
    let replica = Replica::new().await;
    replica.write(99, fast(9, "first")).await;
    let first = replica.objects().await.remove(0);
    let denied = first.replace("00000000.", "00000001.");
    assert_ne!(first, denied, "the key ends with the sequence");
    replica.store.set_denied_key(Some(&denied));
    let start = Instant::now();
    let own = replica.send(1, vec![fast(0, "denied")]).await;
    tokio::time::sleep(INTERVAL).await;
    let successor = replica.send(1, vec![fast(0, "successor")]).await;
    assert_eq!(replica.write(2, fast(0, "other")).await, 0);
    assert!(start.elapsed() < SECOND, "others do not wait: {:?}", start.elapsed());
    for reply in [own, successor] {
        assert_eq!(reply.await.unwrap().outcomes, [AppendOutcome::StoreRefused]);
    }
    assert!(start.elapsed() < 5 * SECOND, "within the shortest time-out: {:?}", start.elapsed());
    let reason = replica.producer.store_refusal().expect("a reason");
    assert!(reason.contains("AccessDenied"), "{reason}");
    assert_eq!(replica.write(1, fast(0, "repeated")).await, 1);
    assert_eq!(replica.producer.store_refusal(), None, "an object was stored");
    assert_eq!(replica.limiter.available(), MEMORY_BYTES, "all memory is released");
    replica.producer.drain().await;
}

/// No sequence can be left out, so the object is retried; its clients have time-outs of their own.
#[tokio::test(start_paused = true)]
async fn denied_object_is_retried_where_objects_are_committed_in_order() {
    let replica = Replica::embedded(&Arc::default()).await;
    replica.store.set_denied_key(Some("wal/"));
    let mut reply = replica.send(1, vec![fast(0, "a")]).await;
    tokio::time::sleep(120 * SECOND).await;
    assert!(!is_completed(&mut reply).await);
    assert!(replica.producer.store_refusal().is_some());
    replica.store.set_denied_key(None);
    assert_eq!(offset(reply.await.unwrap()[0]), 0);
    assert_eq!(replica.producer.store_refusal(), None);
}

/// The first PUT was applied although its response was lost; later ones are denied.
#[tokio::test(start_paused = true)]
async fn denied_object_that_is_stored_is_committed() {
    let replica = Replica::new().await;
    replica.store.script(StoreOperation::put, [Fault::REPLY_LOST]);
    let reply = replica.send(1, vec![fast(0, "a")]).await;
    // After the first attempt, before the second.
    tokio::time::sleep(Duration::from_millis(5)).await;
    replica.store.set_denied_key(Some("wal/"));
    assert_eq!(offset(reply.await.unwrap()[0]), 0);
    assert_eq!(replica.read(0, 0).await.len(), 1);
}

/// An attempt has no known outcome, later ones are denied, and so is HEAD. A list may tell whether the
/// object is there; otherwise its producers are told in the end.
#[tokio::test(start_paused = true)]
async fn denied_object_with_an_unknown_attempt_fails_in_the_end() {
    let denied = |operation| {
        let report = ReportedOutcome::Error(StoreErrorKind::Denied, Certainty::Determinate);
        (operation, Some(Fault { effect: Effect::NotApplied, report, ..Fault::NONE }))
    };
    let (head, list) = (denied(StoreOperation::head), denied(StoreOperation::list));
    for (lost, faults, is_stored, limit) in [
        (Fault::REQUEST_LOST, vec![head], false, 5),
        (Fault::REPLY_LOST, vec![head], true, 5),
        (Fault::REQUEST_LOST, vec![head, list], false, 20),
        (Fault::REPLY_LOST, vec![head, list], false, 20),
    ] {
        let replica = Replica::new().await;
        replica.store.script(StoreOperation::put, [lost]);
        for (operation, fault) in &faults {
            replica.store.set_persistent(*operation, *fault);
        }
        let start = Instant::now();
        let reply = replica.send(1, vec![fast(0, "a")]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        replica.store.set_denied_key(Some("wal/"));
        let outcomes = tokio::time::timeout(60 * SECOND, reply).await.expect("told").unwrap();
        assert!(start.elapsed() <= limit * SECOND, "{:?}", start.elapsed());
        match is_stored {
            true => assert_eq!(offset(outcomes[0]), 0),
            false => assert_eq!(outcomes.outcomes, [AppendOutcome::StoreRefused]),
        }
        replica.store.set_denied_key(None);
        assert_eq!(replica.write(1, fast(0, "b")).await, i64::from(is_stored));
        assert_eq!(replica.limiter.available(), MEMORY_BYTES, "all memory is released");
    }
}

/// The limit of a proxy was raised.
#[tokio::test(start_paused = true)]
async fn larger_objects_are_tried_again() {
    let memory = Arc::default();
    for replica in replicas(&memory).await {
        replica.store.set_put_bytes_max(Some(100 * KIB));
        burst(&replica, 0).await;
        replica.store.set_put_bytes_max(None);
        assert!(burst(&replica, 10).await >= 4, "the learnt limit holds");
        tokio::time::sleep(3_000 * SECOND).await;
        let puts = burst(&replica, 20).await;
        assert!(puts <= 2, "{puts} PUTs");
    }
}

/// A successor takes the store over while a sequence waits to be used again.
#[tokio::test(start_paused = true)]
async fn sequence_of_a_refused_object_is_not_used_again_after_a_takeover() {
    let memory = Arc::default();
    let large = ProduceSettings { object_bytes: 512 * KIB, ..settings() };
    let replica = Replica::embedded_with(&memory, large).await;
    replica.write(99, fast(9, "first")).await;
    replica.store.script(StoreOperation::put, [Fault::REQUEST_LOST]);
    replica.store.set_put_bytes_max(Some(100 * KIB));
    let rows = || (0..2).map(|n| sized(n, "x", 80 * KIB)).collect();
    let mut reply = replica.send(1, rows()).await;
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(replica.objects().await.len(), 1, "not divided while an outcome is unknown");
    let successor = Replica::embedded(&memory).await;
    tokio::time::sleep(300 * SECOND).await;
    assert!(!is_completed(&mut reply).await, "nothing is acknowledged");
    assert_eq!(successor.write(1, fast(0, "successor")).await, 0);
    let restarted = Replica::embedded(&memory).await;
    assert_eq!(restarted.read(0, 0).await.len(), 1);
    assert_eq!(restarted.read(1, 0).await.len(), 0);
}

/// The first PUT has no known outcome: it is in the store, or it is not.
#[tokio::test(start_paused = true)]
async fn sequence_is_used_again_when_an_unknown_outcome_is_old() {
    for (lost, stored) in [(Fault::REQUEST_LOST, 2), (Fault::REPLY_LOST, 1)] {
        let memory = Arc::default();
        let large = ProduceSettings { object_bytes: 512 * KIB, ..settings() };
        let replica = Replica::embedded_with(&memory, large).await;
        replica.write(99, fast(9, "first")).await;
        replica.store.script(StoreOperation::put, [lost]);
        let reply = replica.send(1, (0..2).map(|n| sized(n, "x", 80 * KIB)).collect()).await;
        // After the first attempt, before the second.
        tokio::time::sleep(INTERVAL + Duration::from_millis(5)).await;
        replica.store.set_put_bytes_max(Some(100 * KIB));
        for outcome in reply.await.unwrap().outcomes {
            assert_eq!(offset(outcome), 0);
        }
        assert_eq!(replica.objects().await.len(), 1 + stored);
        assert_eq!(replica.write(1, fast(0, "next")).await, 1);
        let restarted = Replica::embedded(&memory).await;
        assert_eq!(restarted.read(0, 0).await.len(), 2, "a replay finds the same log");
        assert_eq!(restarted.read(1, 0).await.len(), 1, "a replay finds the same log");
    }
}

/// The refused object would have reported the outcomes of earlier ones.
#[tokio::test(start_paused = true)]
async fn outcomes_in_a_refused_object_are_reported_later() {
    let large = ProduceSettings { object_bytes: 512 * KIB, ..settings() };
    let replica = Replica::with(large).await;
    replica.write(99, fast(9, "first")).await;
    replica.store.set_put_bytes_max(Some(100 * KIB));
    let reply = replica.send(1, vec![sized(0, "a", 80 * KIB), sized(1, "b", 80 * KIB)]).await;
    reply.await.unwrap().outcomes.into_iter().for_each(|outcome| assert_eq!(offset(outcome), 0));
    // Alone in its object with outcomes that are to be reported.
    let refused = replica.send(1, vec![sized(0, "c", 200 * KIB)]).await.await.unwrap();
    assert_eq!(refused.outcomes, [AppendOutcome::TooLarge]);
    for n in 0..3 {
        replica.write(2, fast(5, &n.to_string())).await;
    }
    let (mut reported, mut withdrawn) = (Vec::new(), Vec::new());
    let objects = replica.objects().await;
    for key in &objects {
        let object = replica.memory.get(key, None).await.unwrap();
        for entry in decode_footer(object.len() as u64, &object).unwrap().journal {
            let JournalEntry::Commit(commit) = entry else { panic!("{entry:?}") };
            let mut outcomes = commit.parts.iter().flat_map(|part| &part.outcomes);
            let is_withdrawn = outcomes.all(|outcome| *outcome == JournalOutcome::Refused);
            let of = if is_withdrawn { &mut withdrawn } else { &mut reported };
            of.push(wal_key(commit.object));
        }
    }
    reported.sort();
    assert_eq!(reported, objects[..objects.len() - 1], "each but the last, once");
    assert!(!withdrawn.is_empty() && withdrawn.iter().all(|key| !objects.contains(key)));
}
