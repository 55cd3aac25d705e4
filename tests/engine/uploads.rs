//! PUTs that are late, hang or are refused: what a hedge, a deadline and a cap are for.

use std::sync::Arc;
use std::time::Duration;

use odradek::engine::produce::{FlushProfile, ProduceSettings, UploadSettings};
use odradek::store::faulty::{Effect, Fault, Report, StoreOperation};
use odradek::store::{Certainty, StoreErrorKind};
use odradek::tasks;
use tokio::time::Instant;

use crate::batches::{Batch, fast};
use crate::harness::{INTERVAL, Replica, SECOND, fetch, is_answered, offset, settings};

const MS: Duration = Duration::from_millis(1);

/// As in production.
fn standard() -> ProduceSettings {
    ProduceSettings { upload: UploadSettings::STANDARD, ..settings() }
}

/// A store that usually takes 60 ms, and 100 PUTs by which the replica has learnt it.
async fn used_to_the_store(settings: ProduceSettings) -> Replica {
    let replica = Replica::with(settings).await;
    replica.store.set_persistent(StoreOperation::Put, Some(Fault::slow(60 * MS)));
    for _ in 0..100 {
        replica.write(99, fast(9, "x")).await;
    }
    replica
}

/// It reaches the store, and nobody ever hears of it.
fn hangs(before: Duration) -> Fault {
    Fault { before, ..Fault::HANG }
}

#[tokio::test(start_paused = true)]
async fn a_late_put_gets_a_second_one_beside_it() {
    let replica = used_to_the_store(standard()).await;
    let before = replica.store.calls(StoreOperation::Put);
    replica.store.script(StoreOperation::Put, [hangs(15 * SECOND)]);
    let start = Instant::now();
    replica.write(1, fast(0, "a")).await;
    // The p99 is that of a steady store: the hedge begins after 60 ms and takes as long.
    assert!(start.elapsed() < 150 * MS, "{:?}", start.elapsed());
    assert_eq!(replica.store.calls(StoreOperation::Put) - before, 2);
    assert_eq!(replica.read(0, 0).await.len(), 1, "both wrote the same bytes to the same key");
}

#[tokio::test(start_paused = true)]
async fn without_hedges_left_the_deadline_ends_it() {
    let upload = UploadSettings { hedges_burst: 0, ..UploadSettings::STANDARD };
    let replica = used_to_the_store(ProduceSettings { upload, ..settings() }).await;
    replica.store.script(StoreOperation::Put, [hangs(Duration::ZERO)]);
    let start = Instant::now();
    replica.write(1, fast(0, "a")).await;
    assert!((5 * SECOND..6 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_slow_as_a_whole_is_not_asked_twice_for_everything() {
    let upload = UploadSettings { hedges_burst: 3, ..UploadSettings::STANDARD };
    let replica = used_to_the_store(ProduceSettings { upload, ..settings() }).await;
    replica.store.set_persistent(StoreOperation::Put, Some(Fault::slow(3 * SECOND)));
    let before = replica.store.calls(StoreOperation::Put);
    for _ in 0..60 {
        replica.write(1, fast(0, "x")).await;
    }
    let extra = replica.store.calls(StoreOperation::Put) - before - 60;
    // Three at once, and one more for twenty uploads.
    assert!((1..=6).contains(&extra), "{extra} PUTs too many");
}

/// Two PUTs hang for 15 s with their hedges, two answers are lost, and 20 producers of the same
/// partitions whose batches are in other objects notice nothing; a live reader misses nothing.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_stranger() {
    let replica = Arc::new(used_to_the_store(standard()).await);
    let mut unlucky = Vec::new();
    for n in 0..2 {
        let hang = hangs(15 * SECOND);
        replica.store.script(StoreOperation::Put, [hang, hang]);
        unlucky.push(replica.send(n, vec![fast(n as i32, "unlucky")]).await);
        // Its object is sealed and late, and so is the hedge.
        tokio::time::sleep(130 * MS).await;
    }
    let lost = Fault { before: 60 * MS, ..Fault::REPLY_LOST };
    replica
        .store
        .script(StoreOperation::Put, [Fault::slow(60 * MS), lost, Fault::slow(60 * MS), lost]);
    let mut took = Vec::new();
    let reader = tasks::spawn("reader", read_live(Arc::clone(&replica), 2 + 400));
    for round in 0..20 {
        let start = Instant::now();
        let mut replies = Vec::new();
        for producer in 10..30_u64 {
            let to = (producer % 2) as i32;
            replies.push(replica.send(producer, vec![fast(to, &format!("{round}"))]).await);
        }
        for reply in replies {
            offset(reply.await.expect("an answer")[0]);
            took.push(start.elapsed());
        }
    }
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    // Their own PUT, one in front of it, and for two of the rounds a repetition.
    assert!(p99 < 260 * MS, "{p99:?}");
    for reply in &mut unlucky {
        assert!(!is_answered(reply).await, "the unlucky are not done yet");
    }
    for reply in unlucky {
        offset(reply.await.expect("an answer")[0]);
    }
    reader.await.expect("it saw everything");
}

/// Reads partitions 0 and 1 as records come, and checks that none is skipped.
async fn read_live(replica: Arc<Replica>, records: usize) {
    let mut next = [0_i64; 2];
    let mut seen = 0;
    while seen < records {
        let answers = replica.fetch(fetch(&[(0, next[0]), (1, next[1])], SECOND)).await;
        for (at, answer) in answers.iter().enumerate() {
            for (offset, _) in crate::batches::records(&answer.records) {
                assert_eq!(offset, next[at], "partition {at}");
                next[at] += 1;
                seen += 1;
            }
        }
    }
}

/// The high watermark never passes bytes that are not durable.
#[tokio::test(start_paused = true)]
async fn a_put_delayed_by_four_seconds_hides_nothing_from_a_live_reader() {
    let replica = Arc::new(Replica::new().await);
    replica.store.script(StoreOperation::Put, [Fault::slow(4 * SECOND)]);
    let late = replica.send(1, vec![fast(0, "late")]).await;
    tokio::time::sleep(MS).await;
    let reader = tasks::spawn("reader", read_live(Arc::clone(&replica), 41));
    for _ in 0..40 {
        replica.write(2, fast(0, "other")).await;
        tokio::time::sleep(50 * MS).await;
    }
    assert_eq!(offset(late.await.expect("an answer")[0]), 40, "it comes behind what was told");
    reader.await.expect("it saw everything");
}

#[tokio::test(start_paused = true)]
async fn who_comes_behind_a_late_put_waits_no_longer_than_is_usual() {
    let upload = UploadSettings { hedges_burst: 0, ..UploadSettings::STANDARD };
    let interval = 10 * SECOND;
    let replica = used_to_the_store(ProduceSettings { upload, interval, ..settings() }).await;
    replica.store.script(StoreOperation::Put, [Fault::slow(4 * SECOND)]);
    let _late = replica.send(1, vec![fast(0, "late")]).await;
    tokio::time::sleep(10 * MS).await;
    let start = Instant::now();
    replica.write(2, fast(0, "b")).await;
    let (least, most) = (110 * MS, 130 * MS);
    assert!((least..most).contains(&start.elapsed()), "{:?}", start.elapsed());
}

fn slow_down() -> Fault {
    let report = Report::Error(StoreErrorKind::SlowDown, Certainty::Determinate);
    Fault { effect: Effect::NotApplied, report, ..Fault::NONE }
}

#[tokio::test(start_paused = true)]
async fn slow_down_means_fewer_uploads_at_once() {
    let one_each = ProduceSettings { object_bytes: 1, ..standard() };
    let replica = used_to_the_store(one_each).await;
    // Complaints for as long as it takes to come down to one.
    replica.store.set_persistent(StoreOperation::Put, Some(slow_down()));
    let first = replica.send(1, vec![fast(0, "x")]).await;
    tokio::time::sleep(30 * SECOND).await;
    replica.store.set_persistent(StoreOperation::Put, Some(Fault::slow(SECOND)));
    offset(first.await.expect("an answer")[0]);
    let before = replica.store.calls(StoreOperation::Put);
    let mut replies = Vec::new();
    for connection in 0..8 {
        replies.push(replica.send(connection, vec![fast(0, "x")]).await);
        tokio::time::sleep(MS).await;
    }
    let at_once = replica.store.calls(StoreOperation::Put) - before;
    assert!((1..=2).contains(&at_once), "{at_once} uploads at once");
    for reply in replies {
        offset(reply.await.expect("an answer")[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_cap_of_puts_holds_and_nothing_is_lost() {
    for profile in [FlushProfile::Fast, FlushProfile::Cheap] {
        let small = ProduceSettings {
            puts_per_second_max: Some(2.0),
            interval: 100 * MS,
            object_bytes: 500,
            ..settings()
        };
        let replica = Replica::with(small).await;
        let start = Instant::now();
        let mut replies = Vec::new();
        for n in 0..200 {
            let row = Batch::of(&[&format!("{n}")]).to(0, profile);
            replies.push(replica.send(n, vec![row]).await);
            tokio::time::sleep(20 * MS).await;
        }
        for reply in replies {
            offset(reply.await.expect("an answer")[0]);
        }
        let seconds = start.elapsed().as_secs_f64();
        let puts = replica.store.calls(StoreOperation::Put) as f64;
        assert!(puts <= 2.0 * seconds + 1.0, "{puts} PUTs in {seconds} s, {profile:?}");
        assert!(puts >= 1.5 * seconds, "{puts} PUTs in {seconds} s: less than is allowed");
        // Stopping waits for no cap.
        let last = replica.send(1, vec![fast(0, "last")]).await;
        let start = Instant::now();
        replica.producer.flush_now().await;
        offset(last.await.expect("an answer")[0]);
        assert!(start.elapsed() < 10 * MS, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn hurry_ends_the_wait_for_company() {
    let replica = Replica::new().await;
    replica.write(1, fast(0, "first")).await;
    let mut cheap = replica.send(1, vec![Batch::of(&["x"]).to(0, FlushProfile::Cheap)]).await;
    assert!(!is_answered(&mut cheap).await);
    let start = Instant::now();
    replica.producer.flush_now().await;
    offset(cheap.await.expect("an answer")[0]);
    assert!(start.elapsed() < INTERVAL / 10);
}

/// What a producer sends all at once behind its acknowledgements rides in one object.
#[tokio::test(start_paused = true)]
async fn a_burst_behind_a_landing_is_not_torn() {
    let replica = used_to_the_store(standard()).await;
    let puts = replica.store.calls(StoreOperation::Put);
    let start = Instant::now();
    for _ in 0..20 {
        let mut replies = Vec::new();
        for _ in 0..5 {
            replies.push(replica.send(1, vec![fast(0, "x")]).await);
            tokio::time::sleep(MS).await;
        }
        for reply in replies {
            offset(reply.await.expect("an answer")[0]);
        }
    }
    assert_eq!(replica.store.calls(StoreOperation::Put) - puts, 20);
    assert!(start.elapsed() < 20 * 75 * MS, "{:?}", start.elapsed());
    // Endless company is not waited for.
    let begun = Instant::now();
    let first = replica.send(1, vec![fast(0, "x")]).await;
    for _ in 0..30 {
        tokio::time::sleep(MS).await;
        replica.send(2, vec![fast(0, "x")]).await;
    }
    offset(first.await.expect("an answer")[0]);
    assert!(begun.elapsed() < 72 * MS, "{:?}", begun.elapsed());
}
