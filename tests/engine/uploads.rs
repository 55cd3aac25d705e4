//! PUTs that are late, hang or are rejected: hedges, deadlines and the rate limit.

use std::sync::Arc;
use std::time::Duration;

use odradek::engine::produce::{FlushProfile, ProduceSettings, UploadSettings};
use odradek::store::faulty::{Effect, Fault, ReportedOutcome, StoreOperation};
use odradek::store::{Certainty, StoreErrorKind};
use odradek::tasks;
use tokio::time::Instant;

use crate::batches::{Batch, fast};
use crate::harness::{INTERVAL, Replica, SECOND, fetch, is_completed, offset, settings};

const MS: Duration = Duration::from_millis(1);

/// Settings as in production.
fn standard() -> ProduceSettings {
    ProduceSettings { upload: UploadSettings::STANDARD, ..settings() }
}

/// Starts a replica that has measured a latency of 60 ms over 100 PUTs.
async fn with_measured_latency(settings: ProduceSettings) -> Replica {
    let replica = Replica::with(settings).await;
    replica.store.set_persistent(StoreOperation::put, Some(Fault::slow(60 * MS)));
    for _ in 0..100 {
        replica.write(99, fast(9, "x")).await;
    }
    replica
}

/// Returns a fault that applies the PUT and never responds.
fn reply_lost_after(before: Duration) -> Fault {
    Fault { before, ..Fault::HANG }
}

#[tokio::test(start_paused = true)]
async fn late_put_is_hedged() {
    let replica = with_measured_latency(standard()).await;
    let before = replica.store.calls(StoreOperation::put);
    replica.store.script(StoreOperation::put, [reply_lost_after(15 * SECOND)]);
    let start = Instant::now();
    replica.write(1, fast(0, "a")).await;
    // The latency is constant: the hedge starts after 60 ms and takes as long.
    assert!(start.elapsed() < 150 * MS, "{:?}", start.elapsed());
    assert_eq!(replica.store.calls(StoreOperation::put) - before, 2);
    assert_eq!(replica.read(0, 0).await.len(), 1, "both PUTs wrote the same bytes to the same key");
}

#[tokio::test(start_paused = true)]
async fn put_is_retried_at_its_deadline_without_hedges() {
    let upload = UploadSettings { hedges_burst: 0, ..UploadSettings::STANDARD };
    let replica = with_measured_latency(ProduceSettings { upload, ..settings() }).await;
    replica.store.script(StoreOperation::put, [reply_lost_after(Duration::ZERO)]);
    let start = Instant::now();
    replica.write(1, fast(0, "a")).await;
    assert!((5 * SECOND..6 * SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn slow_store_is_hedged_within_the_limit() {
    let upload = UploadSettings { hedges_burst: 3, ..UploadSettings::STANDARD };
    let replica = with_measured_latency(ProduceSettings { upload, ..settings() }).await;
    replica.store.set_persistent(StoreOperation::put, Some(Fault::slow(3 * SECOND)));
    let before = replica.store.calls(StoreOperation::put);
    for _ in 0..60 {
        replica.write(1, fast(0, "x")).await;
    }
    let extra = replica.store.calls(StoreOperation::put) - before - 60;
    // Three immediately, and one more per twenty uploads.
    assert!((1..=6).contains(&extra), "{extra} extra PUTs");
}

/// Two PUTs hang for 15 s with their hedges and two responses are lost. 20 producers of the same
/// partitions whose batches are in other objects are not delayed; a tailing reader misses no record.
#[tokio::test(start_paused = true)]
async fn hanging_puts_do_not_delay_other_producers() {
    let replica = Arc::new(with_measured_latency(standard()).await);
    let mut unlucky = Vec::new();
    for n in 0..2 {
        let hang = reply_lost_after(15 * SECOND);
        replica.store.script(StoreOperation::put, [hang, hang]);
        unlucky.push(replica.send(n, vec![fast(n as i32, "hanging")]).await);
        // Its object is sealed and late, and so is its hedge.
        tokio::time::sleep(130 * MS).await;
    }
    let lost = Fault { before: 60 * MS, ..Fault::REPLY_LOST };
    replica
        .store
        .script(StoreOperation::put, [Fault::slow(60 * MS), lost, Fault::slow(60 * MS), lost]);
    let mut latencies = Vec::new();
    let reader = tasks::spawn("reader", read_live(Arc::clone(&replica), 2 + 400));
    for round in 0..20 {
        let start = Instant::now();
        let mut replies = Vec::new();
        for producer in 10..30_u64 {
            let to = (producer % 2) as i32;
            replies.push(replica.send(producer, vec![fast(to, &format!("{round}"))]).await);
        }
        for reply in replies {
            offset(reply.await.expect("a result")[0]);
            latencies.push(start.elapsed());
        }
    }
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100];
    // Their own PUT, the one before it, and in two of the rounds a retry.
    assert!(p99 < 260 * MS, "{p99:?}");
    for reply in &mut unlucky {
        assert!(!is_completed(reply).await, "hanging PUTs have not completed");
    }
    for reply in unlucky {
        offset(reply.await.expect("a result")[0]);
    }
    reader.await.expect("the reader has read every record");
}

/// Reads partitions 0 and 1 at the tail, and checks that no record is skipped.
async fn read_live(replica: Arc<Replica>, records: usize) {
    let mut next = [0_i64; 2];
    let mut seen = 0;
    while seen < records {
        let results = replica.fetch(fetch(&[(0, next[0]), (1, next[1])], SECOND)).await;
        for (at, result) in results.iter().enumerate() {
            for (offset, _) in crate::batches::records(&result.records) {
                assert_eq!(offset, next[at], "partition {at}");
                next[at] += 1;
                seen += 1;
            }
        }
    }
}

/// The high watermark never passes bytes that are not durable.
#[tokio::test(start_paused = true)]
async fn delayed_put_hides_no_records_from_a_tailing_reader() {
    let replica = Arc::new(Replica::new().await);
    replica.store.script(StoreOperation::put, [Fault::slow(4 * SECOND)]);
    let late = replica.send(1, vec![fast(0, "late")]).await;
    tokio::time::sleep(MS).await;
    let reader = tasks::spawn("reader", read_live(Arc::clone(&replica), 41));
    for _ in 0..40 {
        replica.write(2, fast(0, "other")).await;
        tokio::time::sleep(50 * MS).await;
    }
    assert_eq!(
        offset(late.await.expect("a result")[0]),
        40,
        "it follows the records that were read"
    );
    reader.await.expect("the reader has read every record");
}

#[tokio::test(start_paused = true)]
async fn batch_after_a_late_put_waits_for_half_the_median_latency() {
    let upload = UploadSettings { hedges_burst: 0, ..UploadSettings::STANDARD };
    let interval = 10 * SECOND;
    let replica = with_measured_latency(ProduceSettings { upload, interval, ..settings() }).await;
    replica.store.script(StoreOperation::put, [Fault::slow(4 * SECOND)]);
    let _late = replica.send(1, vec![fast(0, "late")]).await;
    tokio::time::sleep(10 * MS).await;
    let start = Instant::now();
    replica.write(2, fast(0, "b")).await;
    let (least, most) = (75 * MS, 95 * MS);
    assert!((least..most).contains(&start.elapsed()), "{:?}", start.elapsed());
}

fn slow_down() -> Fault {
    let report = ReportedOutcome::Error(StoreErrorKind::SlowDown, Certainty::Determinate);
    Fault { effect: Effect::NotApplied, report, ..Fault::NONE }
}

#[tokio::test(start_paused = true)]
async fn throttling_reduces_parallel_uploads() {
    let one_each = ProduceSettings { object_bytes: 1, ..standard() };
    let replica = with_measured_latency(one_each).await;
    // Throttling until the window is one upload.
    replica.store.set_persistent(StoreOperation::put, Some(slow_down()));
    let first = replica.send(1, vec![fast(0, "x")]).await;
    tokio::time::sleep(30 * SECOND).await;
    replica.store.set_persistent(StoreOperation::put, Some(Fault::slow(SECOND)));
    offset(first.await.expect("a result")[0]);
    let before = replica.store.calls(StoreOperation::put);
    let mut replies = Vec::new();
    for connection in 0..8 {
        replies.push(replica.send(connection, vec![fast(0, "x")]).await);
        tokio::time::sleep(MS).await;
    }
    let at_once = replica.store.calls(StoreOperation::put) - before;
    assert!((1..=2).contains(&at_once), "{at_once} uploads at once");
    for reply in replies {
        offset(reply.await.expect("a result")[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn put_rate_limit_holds_and_loses_nothing() {
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
            offset(reply.await.expect("a result")[0]);
        }
        let seconds = start.elapsed().as_secs_f64();
        let puts = replica.store.calls(StoreOperation::put) as f64;
        assert!(puts <= 2.0 * seconds + 1.0, "{puts} PUTs in {seconds} s, {profile:?}");
        assert!(puts >= 1.5 * seconds, "{puts} PUTs in {seconds} s: below the limit");
        // A flush ignores the rate limit.
        let last = replica.send(1, vec![fast(0, "last")]).await;
        let start = Instant::now();
        replica.producer.flush_now().await;
        offset(last.await.expect("a result")[0]);
        assert!(start.elapsed() < 10 * MS, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn flush_now_ends_the_linger() {
    let replica = Replica::new().await;
    replica.write(1, fast(0, "first")).await;
    let mut cheap = replica.send(1, vec![Batch::of(&["x"]).to(0, FlushProfile::Cheap)]).await;
    assert!(!is_completed(&mut cheap).await);
    let start = Instant::now();
    replica.producer.flush_now().await;
    offset(cheap.await.expect("a result")[0]);
    assert!(start.elapsed() < INTERVAL / 10);
}

/// Requests that a producer sends at once after its acknowledgements share an object.
#[tokio::test(start_paused = true)]
async fn burst_after_an_upload_shares_one_object() {
    let replica = with_measured_latency(standard()).await;
    let puts = replica.store.calls(StoreOperation::put);
    let start = Instant::now();
    for _ in 0..20 {
        let mut replies = Vec::new();
        for _ in 0..5 {
            replies.push(replica.send(1, vec![fast(0, "x")]).await);
            tokio::time::sleep(MS).await;
        }
        for reply in replies {
            offset(reply.await.expect("a result")[0]);
        }
    }
    assert_eq!(replica.store.calls(StoreOperation::put) - puts, 20);
    assert!(start.elapsed() < 20 * 75 * MS, "{:?}", start.elapsed());
    // The linger is bounded.
    let start = Instant::now();
    let first = replica.send(1, vec![fast(0, "x")]).await;
    for _ in 0..30 {
        tokio::time::sleep(MS).await;
        replica.send(2, vec![fast(0, "x")]).await;
    }
    offset(first.await.expect("a result")[0]);
    assert!(start.elapsed() < 72 * MS, "{:?}", start.elapsed());
}
