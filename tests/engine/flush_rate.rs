//! When objects are sealed: latency of acknowledgements, PUTs per second, and length of parts.

use std::time::Duration;

use odradek::engine::produce::{AppendOutcome, ProduceSettings, UploadSettings};
use odradek::entropy::Entropy;
use odradek::log::object_format::decode_footer;
use odradek::store::Store as _;
use odradek::store::faulty::{Fault, StoreOperation};
use odradek::tasks;
use testbed::print_line;
use tokio::time::Instant;

use crate::batches::fast;
use crate::harness::{Replica, offset, settings};

const MS: Duration = Duration::from_millis(1);
const RECORDS: u32 = 3_000;
const BETWEEN: Duration = Duration::from_millis(10);

/// Returns log-normal latencies with this median and, per median, the 99th percentile of 200 ms to
/// 65 ms.
fn latencies(median: Duration) -> impl Iterator<Item = Duration> {
    let entropy = Entropy::from_seed(29);
    let uniform = move || (entropy.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    std::iter::repeat_with(move || {
        // The sum of twelve is normal enough.
        let normal = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        median.mul_f64((normal * 0.483).exp())
    })
}

/// The median and the 99th percentile of acknowledgements, and the PUTs per second.
struct Measured {
    p50: Duration,
    p99: Duration,
    puts_per_second: f64,
}

/// Sends 100 records a second from `connections` connections without waiting for acknowledgements.
async fn measure(median: Duration, connections: u32, settings: ProduceSettings) -> Measured {
    let replica = Replica::with(settings).await;
    let faults = latencies(median).take(20_000).map(Fault::slow);
    replica.store.script(StoreOperation::put, faults);
    for _ in 0..100 {
        replica.write(99, fast(9, "x")).await;
    }
    let (before, start) = (replica.store.calls(StoreOperation::put), Instant::now());
    let mut acknowledged = Vec::new();
    for n in 0..RECORDS {
        tokio::time::sleep_until(start + n * BETWEEN).await;
        let connection = n % connections;
        let sent = Instant::now();
        let partition = connection.cast_signed() % 4;
        let reply = replica.send(connection.into(), vec![fast(partition, "x")]).await;
        acknowledged.push(tasks::spawn("record", async move {
            offset(reply.await.expect("a result")[0]);
            sent.elapsed()
        }));
    }
    let puts = replica.store.calls(StoreOperation::put) - before;
    let puts_per_second = puts as f64 / start.elapsed().as_secs_f64();
    let mut elapsed = Vec::new();
    for record in acknowledged {
        elapsed.push(record.await.expect("an acknowledgement"));
    }
    elapsed.sort_unstable();
    let measured = Measured {
        p50: elapsed[elapsed.len() / 2],
        p99: elapsed[elapsed.len() * 99 / 100],
        puts_per_second,
    };
    let Measured { p50, p99, puts_per_second } = measured;
    print_line(&format!(
        "PUT {median:?}, {connections} connections: acknowledged after {p50:?} (p99 {p99:?}), {puts_per_second:.1} PUTs/s"
    ));
    measured
}

fn standard() -> ProduceSettings {
    ProduceSettings { upload: UploadSettings::STANDARD, ..settings() }
}

#[tokio::test(start_paused = true)]
async fn uploads_overlap_within_a_bounded_rate() {
    for connections in [1, 20] {
        let measured = measure(65 * MS, connections, standard()).await;
        assert!(measured.p50 <= 100 * MS, "{:?}", measured.p50);
        assert!(measured.p99 <= 260 * MS, "{:?}", measured.p99);
        // Two for each median PUT, and some for those that are faster.
        assert!(measured.puts_per_second <= 32.0, "{} PUTs/s", measured.puts_per_second);
    }
}

#[tokio::test(start_paused = true)]
async fn uploads_of_a_fast_store_do_not_overlap() {
    let measured = measure(20 * MS, 20, standard()).await;
    assert!(measured.puts_per_second <= 55.0, "{} PUTs/s", measured.puts_per_second);
}

#[tokio::test(start_paused = true)]
async fn overlapping_uploads_stay_within_the_put_rate_limit() {
    let limited = ProduceSettings { puts_per_second_max: Some(10.0), ..standard() };
    let measured = measure(65 * MS, 20, limited).await;
    assert!(measured.puts_per_second <= 10.5, "{} PUTs/s", measured.puts_per_second);
}

/// The commit of a part is one call of a script, whatever its number of batches.
#[tokio::test(start_paused = true)]
async fn part_has_a_bounded_number_of_batches() {
    const BATCHES: usize = 2_500;
    let settings = ProduceSettings { object_bytes: 8 << 20, ..settings() };
    let replica = Replica::with_memory(settings, 16 << 20).await;
    replica.store.set_persistent(StoreOperation::put, Some(Fault::slow(10 * MS)));
    let mut replies = Vec::new();
    for n in 0..BATCHES / 50 {
        let batches = (0..50).map(|of| fast(0, &format!("{}", n * 50 + of))).collect();
        replies.push(replica.send(1, batches).await);
    }
    for reply in replies {
        reply.await.expect("a result").outcomes.into_iter().for_each(|outcome| {
            offset(outcome);
        });
    }
    let values: Vec<_> = replica.read(0, 0).await.into_iter().map(|(_, value)| value).collect();
    let expected: Vec<_> = (0..BATCHES).map(|n| n.to_string()).collect();
    assert_eq!(values, expected[..values.len()], "the order of the batches");
    let mut total = 0;
    for key in replica.objects().await {
        let object = replica.memory.get(&key, None).await.expect("an object");
        for part in decode_footer(object.len() as u64, &object).unwrap().parts {
            assert!(part.batches.len() <= 1_000, "{} batches in a part", part.batches.len());
            total += part.batches.len();
        }
    }
    assert_eq!(total, BATCHES);
}

/// While one part stays undecided, the coordinator stores the outcomes of those after it.
#[tokio::test(start_paused = true)]
async fn stored_outcomes_are_bounded() {
    const MAX: usize = 100;
    let settings = ProduceSettings { stored_outcomes_max: MAX, ..settings() };
    let replica = Replica::with(settings).await;
    replica.store.script(StoreOperation::put, [Fault::slow(600_000 * MS)]);
    let late = replica.send(1, vec![fast(0, "late")]).await;
    tokio::time::sleep(MS).await;
    let mut committed = 0;
    let refused = loop {
        let outcome = replica.send(2, vec![fast(0, "x")]).await.await.expect("a result")[0];
        match outcome {
            AppendOutcome::ShardFailing => break outcome,
            outcome => offset(outcome),
        };
        committed += 1;
        assert!(committed <= MAX, "more outcomes are stored");
    };
    assert_eq!((refused, committed), (AppendOutcome::ShardFailing, MAX));
    offset(late.await.expect("a result")[0]);
    offset(replica.send(2, vec![fast(0, "again")]).await.await.expect("a result")[0]);
}
