//! Measures what producers of other shards notice while one master of a Redis Cluster stands still:
//! one replica on a Redis Cluster of three masters and slow-s3, and 24 franz-go producers, each with
//! a client and a partition of its own, 20 records/s each.
//!
//! Each row stops one master with SIGSTOP, once under idempotent producers and once under plain
//! ones. A producer with an ack of 3 s or more while the master stood still is `affected`; the
//! latencies are those of all others, before and meanwhile, in one process. `repeated` and `lost` are
//! acknowledged records that a consumer got twice, or not at all, afterwards.

use std::path::PathBuf;
use std::process::Command;

use testbed::kafka::Kafka;
use testbed::ports::free_ports;
use testbed::process::run as run_command;
use testbed::redis::Redis;
use testbed::replica::{Replica, ReplicaConfig, kafka_servers};
use testbed::slow_s3::SlowS3;

use super::{
    Bench, FAST_GET, FAST_PUT, begin_row, build, franz_go, note, say, set_store_latency,
    start_kafka, with,
};
use crate::terminal::number;

const PRODUCERS: u32 = 24;
const MASTERS: usize = 3;

pub(crate) fn run() -> Result<(), String> {
    let seconds = number("BENCH_SECONDS", 20)?;
    let mut bench = Bench::begin(seconds, &["kafka", "redis", "bench"])?;
    let odradek = build("odradek", "odradek", "release", "ODRADEK_BIN")?;
    let slow_s3 = build("testbed", "slow-s3", "release", "SLOW_S3_BIN")?;
    say("Kafka, one broker; Odradek, one replica on a Redis Cluster of three masters and slow-s3");
    let kafka = start_kafka(&bench.dir, &["log.segment.bytes=268435456"]);
    let masters = start_cluster(&bench);
    let store = SlowS3::spawn(&slow_s3, &bench.dir, &[]);
    set_store_latency(&store, FAST_PUT, FAST_GET);
    let replica = start_replica(&bench, odradek, &kafka, &masters, &store);
    println!(
        "{:<8} {:<11} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6} {:>6} {:>8}   aim",
        "stopped",
        "producers",
        "affected",
        "p50",
        "p50 then",
        "p99",
        "p99 then",
        "ratio",
        "errors",
        "lost",
        "repeated"
    );
    for (index, master) in masters.iter().enumerate() {
        for idempotent in [true, false] {
            row(&mut bench, &replica, index, master, idempotent);
        }
    }
    note("stopped: the number of the master; then: while it stood still; milliseconds");
    bench.finish(&format!("{seconds} s each before and during; everything shares the machine"))
}

fn row(bench: &mut Bench, replica: &Replica, index: usize, master: &Redis, idempotent: bool) {
    let kind = if idempotent { "idempotent" } else { "plain" };
    let topic = format!("diskless-{kind}-{index}");
    let bootstrap = replica.bootstrap();
    bench.create_topic(&bootstrap, &topic, PRODUCERS);
    begin_row(&format!("{index:<8} {kind:<11}"));
    let (seconds, pid) = (bench.seconds.to_string(), master.id().to_string());
    let command = with(franz_go("isolation"), &["-seconds", &seconds, "-pid", &pid]);
    let command = with(command, &[&format!("-idempotent={idempotent}"), &bootstrap, &topic]);
    let rows = bench.run_client(2 * bench.seconds + 180, &command);
    // Also after a client that failed meanwhile.
    master.resume();
    let Some(row) = rows.and_then(|rows| rows.into_iter().next()) else { return };
    println!(
        " {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6} {:>6} {:>8}   ratio <= 1.2, 0 lost, 0 repeated",
        format!("{}/{}", row.text("affected"), row.text("of")),
        row.text("p50_before"),
        row.text("p50"),
        row.text("p99_before"),
        row.text("p99"),
        row.text("ratio"),
        row.text("errors"),
        row.text("lost"),
        row.text("repeated"),
    );
}

/// Starts three masters without replicas, so that none takes over from one that stands still.
fn start_cluster(bench: &Bench) -> Vec<Redis> {
    let options = [
        "--maxmemory-policy",
        "noeviction",
        "--cluster-enabled",
        "yes",
        "--cluster-node-timeout",
        "2000",
        "--cluster-require-full-coverage",
        "no",
    ];
    let start = |index: usize| {
        let dir = bench.dir.join(format!("redis-{index}"));
        std::fs::create_dir_all(&dir).expect("the directory is writable");
        // By default the port of the bus is 10,000 above, which may be none.
        let port = free_ports(1);
        let bus = ["--cluster-port", &free_ports(1).to_string()].map(str::to_owned);
        let bus = bus.each_ref().map(String::as_str);
        Redis::start_at(&dir, port, &[&options[..], &bus].concat())
    };
    let masters: Vec<_> = (0..MASTERS).map(start).collect();
    let mut create = Command::new("redis-cli");
    create.args(["--cluster", "create"]);
    create.args(masters.iter().map(|master| format!("127.0.0.1:{}", master.port())));
    run_command(create.args(["--cluster-replicas", "0", "--cluster-yes"]));
    masters
}

fn start_replica(
    bench: &Bench,
    binary: PathBuf,
    kafka: &Kafka,
    masters: &[Redis],
    store: &SlowS3,
) -> Replica {
    let nodes: Vec<_> = masters.iter().map(|m| format!("127.0.0.1:{}", m.port())).collect();
    let coordinator = format!("coordinator: redis-cluster://{}\n", nodes.join(","));
    let diskless = "diskless: {topics: [{match: diskless-*, profile: fast}]}\n";
    Replica::launch(ReplicaConfig {
        binary,
        name: "odradek".to_owned(),
        dir: bench.dir.clone(),
        port: None,
        zone: "zone-1".to_owned(),
        replica: "odradek-0".to_owned(),
        kafka: kafka_servers(kafka, ""),
        yaml: ["cluster: bench\n", diskless, &store.yaml(), &coordinator].concat(),
        data_bytes_max: None,
    })
}
