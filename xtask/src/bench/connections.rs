//! Measures the memory of a replica with many connections: one replica on Redis and slow-s3 before
//! one broker, and raw clients that connect to one of its ports and are idle, produce 1 KiB every 10
//! seconds, or wait for records.
//!
//! Each row has a replica of its own. `KiB each` is the growth of its resident memory for each
//! connection, without the kernel's socket buffers.

use std::fs;

use testbed::redis::Redis;
use testbed::replica::{Replica, ReplicaConfig, kafka_servers};
use testbed::slow_s3::SlowS3;

use super::{
    Bench, FAST_GET, FAST_PUT, begin_row, build, franz_go, note, say, set_store_latency,
    start_kafka, with,
};
use crate::terminal::number;

const PARTITIONS: u32 = 4;
/// The descriptors of a replica for each client, and those for everything else.
const DESCRIPTORS_EACH: u64 = 2;
const DESCRIPTORS_KEPT: u64 = 4_096 + 200;

/// The port, the topic, and what the connections do.
const ROWS: [(&str, &str, &str); 7] = [
    ("bootstrap", "classic", "idle"),
    ("broker", "classic", "idle"),
    ("broker", "classic", "produce"),
    ("broker", "classic", "fetch"),
    ("node", "diskless", "idle"),
    ("node", "diskless", "produce"),
    ("node", "diskless", "fetch"),
];

pub(crate) fn run() -> Result<(), String> {
    let seconds = number("BENCH_SECONDS", 20)?;
    let wanted = number("BENCH_CONNECTIONS", 10_000)?;
    let mut bench = Bench::begin(seconds, &["kafka", "redis", "bench"])?;
    let odradek = build("odradek", "odradek", "release", "ODRADEK_BIN")?;
    let slow_s3 = build("testbed", "slow-s3", "release", "SLOW_S3_BIN")?;
    let count = wanted.min(connections_max());
    say("Kafka, one broker; Odradek, one replica on Redis and slow-s3");
    if count < wanted {
        note(&format!("{count} connections: the limit on open files allows no more than that"));
    }
    let kafka = start_kafka(&bench.dir, &["log.segment.bytes=268435456"]);
    let redis = Redis::start(&bench.dir);
    let store = SlowS3::spawn(&slow_s3, &bench.dir, &[]);
    set_store_latency(&store, FAST_PUT, FAST_GET);
    let yaml = [
        "cluster: bench\n",
        "diskless: {topics: [{match: diskless-*}]}\n",
        &store.yaml(),
        &redis.yaml(),
    ];
    let mut replica = Replica::launch(ReplicaConfig {
        binary: odradek,
        name: "odradek".to_owned(),
        dir: bench.dir.clone(),
        port: None,
        zone: "zone-1".to_owned(),
        replica: "odradek-0".to_owned(),
        kafka: kafka_servers(&kafka, ""),
        yaml: yaml.concat(),
        data_bytes_max: None,
    });
    allow_one_address(&replica, count)?;
    println!(
        "{:<10} {:<9} {:>12} {:>7} {:>9} {:>9} {:>9} {:>8} {:>7}   aim",
        "port", "state", "connections", "failed", "MiB idle", "MiB", "KiB each", "calls", "errors"
    );
    for (port, kind, state) in ROWS {
        let topic = format!("{kind}-connections");
        bench.create_topic(&replica.bootstrap(), &topic, PARTITIONS);
        row(&mut bench, &mut replica, count, (port, &topic, state));
    }
    note("MiB idle: of the replica before; MiB: its most while it had the connections");
    bench.finish(&format!("{seconds} s each; everything shares the machine"))
}

fn row(bench: &mut Bench, replica: &mut Replica, count: u64, row: (&str, &str, &str)) {
    let (port, topic, state) = row;
    begin_row(&format!("{port:<10} {state:<9}"));
    // Memory that an earlier row freed does not count.
    replica.restart();
    let (count, seconds) = (count.to_string(), bench.seconds.to_string());
    let (pid, partitions) = (replica.id().to_string(), PARTITIONS.to_string());
    let words = ["-count", &count, "-seconds", &seconds, "-pid", &pid, "-state", state];
    let command = with(with(franz_go("connections"), &words), &["-partitions", &partitions]);
    let at_bootstrap = format!("-at-bootstrap={}", port == "bootstrap");
    let command = with(command, &[&at_bootstrap, &replica.bootstrap(), topic]);
    let rows = bench.run_client(bench.seconds + 300, &command);
    let Some(row) = rows.and_then(|rows| rows.into_iter().next()) else { return };
    println!(
        " {:>12} {:>7} {:>9} {:>9} {:>9} {:>8} {:>7}   {}",
        row.text("connections"),
        row.text("failed"),
        row.text("before_mib"),
        row.text("mib"),
        row.text("kib_each"),
        row.text("calls"),
        row.text("errors"),
        if state == "idle" { "KiB each <= 16, MiB idle <= 24" } else { "" },
    );
}

/// Returns the number of connections that a replica started from here can have.
fn connections_max() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4)?.parse::<u64>().ok());
    hard.map_or(u64::MAX, |hard| hard.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_EACH)
}

/// Lets one address have all connections; the next start of the replica reads it.
fn allow_one_address(replica: &Replica, count: u64) -> Result<(), String> {
    let path = replica.dir().join("odradek.yaml");
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    // The admin port and the client's own look at the topic need some more.
    let limits = format!(
        "listeners:\n  maxConnections: {}\n  maxConnectionsPerAddress: {}\n",
        count + 50,
        count + 50
    );
    fs::write(&path, text.replace("listeners:\n", &limits))
        .map_err(|e| format!("{}: {e}", path.display()))
}
