//! The batch coordinator on real Redis servers: `make bench-coordinator`.
//!
//! `BENCH_SECONDS=3` for each row.
#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]

#[expect(dead_code, reason = "shared with tests/coordinator, which needs more of it")]
#[path = "../../tests/coordinator/cluster.rs"]
mod cluster;
mod load;
#[path = "../../tests/coordinator/redis_server.rs"]
mod redis_server;
mod servers;

use odradek::tasks;
use std::sync::Arc;
use std::time::Duration;

use odradek::coordinator::redis::{RedisCoordinator, RedisSettings};
use odradek::coordinator::{Coordinator as _, CoordinatorExt as _, FindFrom, FindRequest};
use odradek::entropy::Entropy;
use odradek::log::ids::{TopicId, TopicPartition};
use tokio::time::Instant;

use load::{Latencies, Writer};
use servers::Servers;

/// The partitions that the objects of a row contain in turn.
const PARTITIONS: u32 = 1_000;
/// The parts of an object.
const PARTS: u32 = 100;
/// The objects that are committed at one time.
const WRITERS: u32 = 8;
const SHARDS: [u16; 3] = [1, 4, 16];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    // `cargo test --all-targets` runs benchmarks too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let seconds = std::env::var("BENCH_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds = Duration::from_secs(seconds.unwrap_or(3));
    for servers in [Servers::single(), Servers::cluster()].into_iter().flatten() {
        println!("== {}", servers.name);
        for shards in SHARDS {
            commits(&servers, shards, seconds).await;
        }
        let shards = if servers.is_cluster { 16 } else { 4 };
        finds(&servers, shards).await;
        memory(&servers, shards).await;
        flushes(&servers, shards, seconds).await;
        println!("  longest script: {:.1} ms", servers.longest_script_ms());
    }
}

/// Attaches to new metadata.
async fn attach(servers: &Servers, name: &str, shards: u16) -> Arc<RedisCoordinator> {
    let settings = RedisSettings {
        url: servers.url.clone(),
        cluster: name.to_owned(),
        shards,
        metadata_id: None,
        timeout: Duration::from_secs(2),
        replica: "bench".to_owned(),
        may_verify: true,
        lease: Duration::from_secs(10),
        replicas: 0,
        position_store: None,
        clock: None,
    };
    let coordinator = RedisCoordinator::new(&Entropy::from_os(), settings).expect("a good URL");
    coordinator.attach("bench", "a").await.expect("Redis answers");
    Arc::new(coordinator)
}

/// Prints part-commits per second at full speed, and the latency of small commits without load.
async fn commits(servers: &Servers, shards: u16, duration: Duration) {
    let coordinator = attach(servers, &format!("commits-{shards}"), shards).await;
    let mut one = Writer::new(&coordinator, 0, PARTITIONS);
    let mut idle = Latencies::default();
    for _ in 0..500 {
        idle.add(one.commit(10).await);
    }
    let (start, cpu) = (Instant::now(), servers.cpu());
    let writers = (1..=WRITERS).map(|id| {
        let mut writer = Writer::new(&coordinator, id, PARTITIONS);
        tasks::spawn("test load", async move {
            let (mut latencies, mut parts) = (Latencies::default(), 0_u32);
            while start.elapsed() < duration {
                latencies.add(writer.commit(PARTS).await);
                parts += PARTS;
            }
            (latencies, parts)
        })
    });
    let (mut latencies, mut parts) = (Latencies::default(), 0);
    for writer in writers.collect::<Vec<_>>() {
        let (its, count) = writer.await.expect("a writer does not panic");
        latencies.extend(&its);
        parts += count;
    }
    let seconds = start.elapsed().as_secs_f64();
    let used = servers.cpu_percent(&cpu, 100.0);
    println!(
        "  {shards:>2} shards: {:>7.0} part-commits/s (commit of {PARTS} parts, {WRITERS} at a time: \
         {latencies}; Redis {:.0} % of a core, {:.0} µs for each part), commit of 10 parts alone: {idle}",
        f64::from(parts) / seconds,
        used * 100.0 / seconds,
        used * 1e6 / f64::from(parts),
    );
}

/// Prints the cost of finding runs at the end and in the history of partitions.
async fn finds(servers: &Servers, shards: u16) {
    const RUNS: u32 = 2_000;
    let coordinator = attach(servers, "finds", shards).await;
    let mut writer = Writer::new(&coordinator, 0, 100);
    for _ in 0..RUNS {
        writer.commit(100).await;
    }
    let request = |partition: i32, offset| FindRequest {
        partition: TopicPartition { topic: TopicId([7; 16]), partition },
        from: FindFrom::Offset(offset),
        bytes_max: u64::MAX,
        runs_max: 68,
    };
    for (what, count, offset) in [
        ("1 partition at the tail", 1, i64::from(RUNS)),
        ("1 partition in history, 68 runs", 1, 100),
        ("100 partitions at the tail", 100, i64::from(RUNS)),
        ("100 partitions in history", 100, 100),
    ] {
        let mut latencies = Latencies::default();
        let cpu = servers.cpu();
        for _ in 0..200 {
            let requests = (0..count).map(|partition| request(partition, offset)).collect();
            let start = Instant::now();
            coordinator.find_all(requests).await.expect("Redis answers");
            latencies.add(start.elapsed());
        }
        let seconds_used = servers.cpu_percent(&cpu, 100.0);
        let micros = seconds_used * 1e6 / (200.0 * f64::from(count));
        println!("  find, {what}: {latencies}; Redis {micros:.0} µs for each partition");
    }
}

/// Prints what one part-commit adds to the memory of Redis.
async fn memory(servers: &Servers, shards: u16) {
    let coordinator = attach(servers, "memory", shards).await;
    let mut writer = Writer::new(&coordinator, 0, PARTITIONS);
    writer.commit(PARTITIONS).await;
    let before = servers.used_memory();
    let objects = 100;
    for _ in 0..objects {
        writer.commit(PARTITIONS).await;
    }
    let parts = f64::from(objects * PARTITIONS);
    let bytes = servers.used_memory().saturating_sub(before) as f64 / parts;
    println!("  memory: {bytes:.0} bytes for each part-commit ({PARTITIONS} parts in an object)");
}

/// Prints whether 10,000 partitions that are flushed four times a second are kept up with.
async fn flushes(servers: &Servers, shards: u16, duration: Duration) {
    const FLUSHED: u32 = 10_000;
    const INTERVAL: Duration = Duration::from_millis(250);
    let coordinator = attach(servers, "flushes", shards).await;
    let mut writer = Writer::new(&coordinator, 0, FLUSHED);
    writer.commit(FLUSHED).await;
    let (cpu, start) = (servers.cpu(), Instant::now());
    let (mut latencies, mut flush) = (Latencies::default(), 0);
    let mut late = Duration::ZERO;
    while start.elapsed() < 3 * duration {
        let due = start + flush * INTERVAL;
        tokio::time::sleep_until(due).await;
        late = due.elapsed();
        latencies.add(writer.commit(FLUSHED).await);
        flush += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let verdict = if late < INTERVAL { "keeps up" } else { "does not keep up" };
    println!(
        "  {FLUSHED} partitions × 4 flushes/s: {verdict}: {:.1} flushes/s, {latencies}; Redis {:.0} % \
         of a core at the busiest master",
        f64::from(flush) / seconds,
        servers.cpu_percent(&cpu, seconds),
    );
}
