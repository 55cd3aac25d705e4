//! Produce throughput and ack latency of stock producers with default settings, in one run: classic
//! straight at the broker, classic through Odradek, diskless through Odradek.

use testbed::kafka::{Kafka, create_topic};
use testbed::minio::Minio;
use testbed::redis::Redis;
use testbed::replica::{Replica, ReplicaConfig, kafka_servers};

use super::{Bench, begin_row, build, producer, say, with};
use crate::terminal::{number, variable, words};

const PARTITIONS: u32 = 6;

/// The servers behind the replica, which live as long as the benchmark.
struct Backend {
    _redis: Redis,
    _minio: Minio,
}

pub(crate) fn run() -> Result<(), String> {
    let seconds = number("BENCH_SECONDS", 10)?;
    let clients = words("BENCH_CLIENTS", &["java", "librdkafka", "franz-go"])?;
    let backend = variable("BENCH_BACKEND").unwrap_or_else(|| "embedded".to_owned());
    let mut bench = match backend.as_str() {
        "embedded" => Bench::begin(seconds, &["kafka", "bench"])?,
        "redis-s3" => Bench::begin(seconds, &["kafka", "bench", "redis", "minio"])?,
        other => {
            return Err(format!("invalid BENCH_BACKEND `{other}`: expected embedded or redis-s3"));
        }
    };
    let binary = build("odradek", "odradek", "release", "ODRADEK_BIN")?;

    say(&format!("Kafka, one broker; Odradek, one replica on {backend}"));
    let kafka = Kafka::start(&bench.dir.join("kafka"), 1);
    let (yaml, _servers) = start_backend(&bench, &backend);
    let replica = Replica::launch(ReplicaConfig {
        binary,
        name: "odradek".to_owned(),
        dir: bench.dir.clone(),
        port: None,
        zone: "zone-1".to_owned(),
        replica: "odradek-0".to_owned(),
        kafka: kafka_servers(&kafka, ""),
        yaml,
        data_bytes_max: None,
    });
    let (direct, through) = (kafka.bootstrap(), replica.bootstrap());
    create_topic(direct, "bench-direct", PARTITIONS);
    create_topic(&through, "bench-classic", PARTITIONS);
    create_topic(&through, "bench-diskless", PARTITIONS);

    println!(
        "\n{:<11} {:<16} {:>9} {:>7} {:>8} {:>8} {:>11} {:>11} {:>6}",
        "producer", "path", "MB/s", "ratio", "p50 ms", "p99 ms", "p50 @1k/s", "p99 @1k/s", "errors"
    );
    for client in clients {
        let mut baseline = None;
        cell(&mut bench, client, "classic direct", [direct, "bench-direct"], &mut baseline);
        cell(&mut bench, client, "classic through", [&through, "bench-classic"], &mut baseline);
        cell(&mut bench, client, "diskless", [&through, "bench-diskless"], &mut baseline);
    }
    bench.finish(&format!(
        "{seconds} s a cell, 1 KiB records, {PARTITIONS} partitions, default settings, backend {backend}"
    ))
}

/// Starts the servers of a backend; returns the rest of the replica's configuration too.
fn start_backend(bench: &Bench, backend: &str) -> (String, Option<Backend>) {
    let head = "cluster: bench\ndiskless: {topics: [{match: bench-diskless}]}\n";
    if backend == "embedded" {
        let store = bench.dir.join("store");
        let data = format!("store: \"file://{}\"\ncoordinator: embedded\n", store.display());
        return (head.to_owned() + &data, None);
    }
    let (redis, minio) = (Redis::start(&bench.dir), Minio::start(&bench.dir));
    let yaml = [head, &minio.yaml("bench"), &redis.yaml()].concat();
    (yaml, Some(Backend { _redis: redis, _minio: minio }))
}

/// Prints one line of the table. A producer prints MB/s, p50, p99, paced p50, paced p99 and errors;
/// the first cell of a client is the baseline of its ratios.
fn cell(
    bench: &mut Bench,
    client: &str,
    path: &str,
    target: [&str; 2],
    baseline: &mut Option<f64>,
) {
    begin_row(&format!("{client:<11} {path:<16}"));
    let seconds = bench.seconds.to_string();
    let command = with(producer(client), &[target[0], target[1], &seconds]);
    let output = bench.client_output(bench.seconds * 2 + 60, &command);
    let figures: Vec<&str> = match &output {
        Ok(text) => text.split_whitespace().collect(),
        Err(why) => {
            println!(" failed: {why}");
            bench.failed += 1;
            return;
        }
    };
    let [speed, p50, p99, paced_p50, paced_p99, errors] = figures[..] else {
        println!(" failed: unexpected output {figures:?}");
        bench.failed += 1;
        return;
    };
    let rate: f64 = speed.parse().unwrap_or(0.0);
    let baseline = *baseline.get_or_insert(rate);
    let ratio = if baseline > 0.0 { format!("{:.2}", rate / baseline) } else { "-".to_owned() };
    println!(
        " {speed:>9} {ratio:>7} {p50:>8} {p99:>8} {paced_p50:>11} {paced_p99:>11} {errors:>6}"
    );
}
