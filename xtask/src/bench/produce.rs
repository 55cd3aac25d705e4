//! Measures the cost and the latency of diskless produce on a store of known latency, and a stock
//! broker beside it, all in one run: a replica on Redis and slow-s3, one Kafka broker, stock producers
//! with default settings, and records of 1 KiB that do not compress.
//!
//! Columns: the time of an ack runs from the client's call of produce to its callback, the client's
//! own queue included. At full speed the queue is most of it: 50,000 records that all producers share.
//! `rtt` is the mean round trip of a Produce request. PUTs and their sizes are slow-s3's counters. CPU
//! is user and system time of the replica (or broker) alone. `box` is how busy all cores of the machine
//! were: at 100 % the CPU was the limit. All figures of a row were read at the same two moments
//! (`bench/clients/load.go`). An `aim` is a goal and is not asserted.

use std::path::PathBuf;

use testbed::kafka::Kafka;
use testbed::redis::Redis;
use testbed::replica::{Replica, ReplicaConfig, kafka_servers};
use testbed::slow_s3::SlowS3;

use super::{
    Bench, FAST_GET, FAST_PUT, Row, SLOW_GET, SLOW_PUT, begin_row, build, franz_go, producer, say,
    set_store_latency, start_kafka, with,
};
use crate::terminal::{number, words};

const COST_HEADING: &str = "   PUT/s   PUT/GiB   KiB/PUT  CPUs/GiB     box errors";
/// `(PUT, GET)` of a store.
const SLOW: Option<(&str, &str)> = Some((SLOW_PUT, SLOW_GET));
const FAST: Option<(&str, &str)> = Some((FAST_PUT, FAST_GET));
/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_9;

/// Which server a producer writes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    Diskless,
    Direct,
}

struct ProduceBench {
    bench: Bench,
    kafka: Kafka,
    _redis: Redis,
    store: SlowS3,
    replica: Replica,
}

pub(crate) fn run() -> Result<(), String> {
    let seconds = number("BENCH_SECONDS", 20)?;
    let blocks = words("BENCH_ONLY", &["latency", "throughput", "pipelining"])?;
    let bench = Bench::begin(seconds, &["kafka", "redis", "bench"])?;
    let odradek = build("odradek", "odradek", "release", "ODRADEK_BIN")?;
    let slow_s3 = build("testbed", "slow-s3", "release", "SLOW_S3_BIN")?;
    let mut run = ProduceBench::start(bench, odradek, slow_s3);
    for block in blocks {
        match block {
            "latency" => run.latency(),
            "throughput" => run.throughput(),
            _ => run.pipelining(),
        }
    }
    let ProduceBench { bench, .. } = run;
    bench.finish(&format!("{seconds} s a row; slow-s3, Redis and the producers share the machine"))
}

impl ProduceBench {
    fn start(bench: Bench, odradek: PathBuf, slow_s3: PathBuf) -> Self {
        say("Kafka, one broker; Odradek, one replica on Redis and slow-s3");
        // A log that does not fill the disk meanwhile.
        let kafka = start_kafka(
            &bench.dir,
            &[
                "log.segment.bytes=268435456",
                "log.retention.bytes=268435456",
                "log.retention.check.interval.ms=5000",
                "log.segment.delete.delay.ms=1000",
            ],
        );
        let redis = Redis::start(&bench.dir);
        // Nothing is read here: only what a fetch of the newest records would need is kept.
        let store = SlowS3::spawn(&slow_s3, &bench.dir, &["--keep-bytes", "256MiB"]);
        let diskless = "diskless: {topics: [{match: fast-*, profile: fast}, {match: cheap-*, profile: cheap}]}\n";
        let yaml = ["cluster: bench\n", diskless, &store.yaml(), &redis.yaml()].concat();
        let replica = Replica::launch(ReplicaConfig {
            binary: odradek,
            name: "odradek".to_owned(),
            dir: bench.dir.clone(),
            port: None,
            zone: "zone-1".to_owned(),
            replica: "odradek-0".to_owned(),
            kafka: kafka_servers(&kafka, ""),
            yaml,
            data_bytes_max: None,
        });
        Self { bench, kafka, _redis: redis, store, replica }
    }

    fn bootstrap(&self, path: Path) -> String {
        match path {
            Path::Diskless => self.replica.bootstrap(),
            Path::Direct => self.kafka.bootstrap().to_owned(),
        }
    }

    fn create_topic(&mut self, path: Path, topic: &str, partitions: u32) {
        let bootstrap = self.bootstrap(path);
        self.bench.create_topic(&bootstrap, topic, partitions);
    }

    /// Runs franz-go producers for the length of a row, or for `seconds`.
    fn load(&mut self, path: Path, topic: &str, parameters: &[&str]) -> Option<Row> {
        let seconds = self.bench.seconds;
        self.load_for(seconds, path, topic, parameters)
    }

    fn load_for(
        &mut self,
        seconds: u64,
        path: Path,
        topic: &str,
        parameters: &[&str],
    ) -> Option<Row> {
        let mut command = with(franz_go("load"), &["-seconds", &seconds.to_string()]);
        let pid = match path {
            Path::Diskless => self.replica.id(),
            Path::Direct => self.kafka.ids()[0],
        };
        command = with(command, &["-pid", &pid.to_string()]);
        if path == Path::Diskless {
            command = with(command, &["-s3", &self.store.address().to_string()]);
        }
        command = with(with(command, parameters), &[&self.bootstrap(path), topic]);
        self.bench.run_client(seconds + 60, &command)?.into_iter().next()
    }

    fn latency(&mut self) {
        println!();
        say(
            "Ack latency: 100 records/s of all producers together, one partition, default settings",
        );
        println!(
            "{:<9} {:<9} {:<13} {:>8} {:>8} {:>8}{COST_HEADING}   aim",
            "store", "path", "producers", "p50 ms", "p99 ms", "p99.9 ms"
        );
        for producers in [1, 16, 64] {
            let cheap = "p50 <= 200, p99 <= 450, <= 4 PUT/s";
            self.latency_row(SLOW, "fast", producers, "p50 <= 110, p99 <= 300");
            self.latency_row(SLOW, "cheap", producers, cheap);
            self.latency_row(FAST, "fast", producers, "p50 <= 25, p99 <= 45");
            self.latency_row(FAST, "cheap", producers, "");
            self.latency_row(None, "direct", producers, "");
        }
        for client in ["java", "librdkafka"] {
            self.client_row(SLOW, "fast", client, "p50 <= 110, p99 <= 300");
            self.client_row(SLOW, "cheap", client, "p50 <= 200, p99 <= 450");
            self.client_row(None, "direct", client, "");
        }
    }

    /// Prepares a row of the block `latency` and prints its beginning; returns path and topic.
    fn begin_latency_row(
        &mut self,
        store: Option<(&str, &str)>,
        profile: &str,
        producers: &str,
    ) -> (Path, String) {
        let path = if store.is_some() { Path::Diskless } else { Path::Direct };
        let topic = format!("{profile}-1");
        self.create_topic(path, &topic, 1);
        if let Some((put, get)) = store {
            set_store_latency(&self.store, put, get);
        }
        begin_row(&format!("{:<9} {profile:<9} {producers:<13}", store.map_or("-", |s| s.0)));
        (path, topic)
    }

    /// A row of franz-go.
    fn latency_row(
        &mut self,
        store: Option<(&str, &str)>,
        profile: &str,
        producers: u32,
        aim: &str,
    ) {
        let (path, topic) =
            self.begin_latency_row(store, profile, &format!("{producers} franz-go"));
        let parameters = ["-producers", &producers.to_string(), "-rate", "100"];
        let Some(row) = self.load(path, &topic, &parameters) else { return };
        let [p50, p99, p999] = ["p50", "p99", "p999"].map(|name| row.text(name));
        println!(" {p50:>8} {p99:>8} {p999:>8}{}   {aim}", cost(&row, path));
    }

    /// A row of one other producer: its ack times alone.
    fn client_row(&mut self, store: Option<(&str, &str)>, profile: &str, client: &str, aim: &str) {
        let (path, topic) = self.begin_latency_row(store, profile, &format!("1 {client}"));
        let seconds = self.bench.seconds;
        let words = ["paced", &self.bootstrap(path), &topic, &seconds.to_string(), "100"];
        let command = with(producer(client), &words);
        let Some(rows) = self.bench.run_client(seconds + 60, &command) else { return };
        let row = rows.into_iter().next().unwrap_or_default();
        let [p50, p99, p999] = ["p50", "p99", "p999"].map(|name| row.text(name));
        println!(" {p50:>8} {p99:>8} {p999:>8} {:>52}   {aim}", row.text("errors"));
    }

    fn throughput(&mut self) {
        println!();
        say(&format!(
            "Throughput: franz-go producers at full speed, store {SLOW_PUT} ms, profile fast"
        ));
        println!(
            "{:<9} {:<5} {:<10} {:>8} {:>8} {:>8} {:>8} {:>8}{COST_HEADING}   aim",
            "producers", "on", "path", "MB/s", "p50 ms", "p99 ms", "p99.9 ms", "rtt ms"
        );
        set_store_latency(&self.store, SLOW_PUT, SLOW_GET);
        // The broker's JVM compiles what it runs while it is first under load.
        for path in [Path::Diskless, Path::Direct] {
            let topic = topic_name(path, 12);
            self.create_topic(path, &topic, 12);
            self.load_for(5, path, &topic, &["-producers", "4"]);
        }
        for (producers, partitions) in [(1, 1), (1, 12), (16, 12), (64, 12)] {
            for path in [Path::Diskless, Path::Direct] {
                self.throughput_row(producers, partitions, path);
            }
        }
    }

    fn throughput_row(&mut self, producers: u32, partitions: u32, path: Path) {
        let (topic, name, aim) = match path {
            Path::Diskless => {
                (topic_name(path, partitions), "diskless", ">= 40 MB/s, <= 3 CPU s/GiB")
            }
            Path::Direct => (topic_name(path, partitions), "direct", ""),
        };
        self.create_topic(path, &topic, partitions);
        begin_row(&format!("{producers:<9} {:<5} {name:<10}", format!("{partitions} p.")));
        let Some(row) = self.load(path, &topic, &["-producers", &producers.to_string()]) else {
            return;
        };
        let figures = ["mbs", "p50", "p99", "p999", "rtt_ms"].map(|name| row.text(name));
        let figures: String = figures.iter().map(|figure| format!(" {figure:>8}")).collect();
        println!("{figures}{}   {aim}", cost(&row, path));
    }

    /// Utilisation of a client's pipeline. All factors are the client's own statistics of one window:
    ///
    /// ```text
    /// bound = min(requests it may have in flight × bytes of a request, bytes its queue holds)
    ///         ÷ mean round trip of a request
    /// ratio = bytes of requests that it sent per second ÷ bound
    /// ```
    ///
    /// - Java: `max.in.flight`; outgoing-byte-total, request-total and request-latency-avg of the
    ///   leader.
    /// - librdkafka: `max.in.flight`; statistics of the leader: txbytes, req.Produce, rtt. By default
    ///   it may have 1,000,000 requests in flight, so that its queue (100,000 records) is the smaller
    ///   factor, and CPU limits it earlier: compare it with its row on the stock broker. When it is
    ///   idempotent it has one request in flight at a time, whatever its settings are.
    /// - franz-go: 5, fixed for idempotent producers; BrokerE2E hooks of Produce requests.
    ///
    /// A full pipeline alone proves little: a server that takes requests one after the other fills it
    /// too, with round trips several times longer than a PUT. So `rtt/PUT`, the round trip in units
    /// of the store's mean PUT, is printed beside it and has to stay small.
    fn pipelining(&mut self) {
        println!();
        say(&format!(
            "Pipelining: one default producer on one partition, store {SLOW_PUT} ms, profile fast"
        ));
        println!(
            "{:<22} {:<9} {:>9} {:>10} {:>13} {:>9} {:>8} {:>11} {:>6}   aim",
            "producer",
            "path",
            "MB/s",
            "in flight",
            "bytes/request",
            "rtt ms",
            "rtt/PUT",
            "bound MB/s",
            "ratio"
        );
        set_store_latency(&self.store, SLOW_PUT, SLOW_GET);
        self.pipelining_row("java", Path::Diskless, "ratio >= 0.9");
        self.pipelining_row("franz-go", Path::Diskless, "ratio >= 0.9");
        self.pipelining_row("librdkafka-idempotent", Path::Diskless, "ratio >= 0.9");
        self.pipelining_row("librdkafka", Path::Diskless, "MB/s of direct");
        self.pipelining_row("librdkafka", Path::Direct, "");
    }

    fn pipelining_row(&mut self, client: &str, path: Path, aim: &str) {
        let topic = topic_name(path, 1);
        self.create_topic(path, &topic, 1);
        let name = if path == Path::Diskless { "diskless" } else { "direct" };
        begin_row(&format!("{client:<22} {name:<9}"));
        let row = if client == "franz-go" {
            self.load(path, &topic, &[])
        } else {
            let program = producer(client.trim_end_matches("-idempotent"));
            let verb =
                if client.ends_with("-idempotent") { "pipeline-idempotent" } else { "pipeline" };
            let seconds = self.bench.seconds;
            let words = [verb, &self.bootstrap(path), &topic, &seconds.to_string()];
            let rows = self.bench.run_client(seconds + 60, &with(program, &words));
            rows.and_then(|rows| rows.into_iter().next())
        };
        let Some(row) = row else { return };
        let (speed, rtt) = (row.number("wire_mbs"), row.number("rtt_ms"));
        let (in_flight, size) = (row.number("in_flight"), row.number("request_bytes"));
        let queue = row.number("queue_bytes");
        let room = if queue > 0.0 { queue.min(in_flight * size) } else { in_flight * size };
        let bound = room / 1e6 / (rtt / 1e3);
        let slower = match path {
            Path::Diskless => format!("{:.2}", rtt / mean(SLOW_PUT)),
            Path::Direct => "-".to_owned(),
        };
        println!(
            " {speed:>9.2} {in_flight:>10} {size:>13} {rtt:>9.1} {slower:>8} {bound:>11.2} {:>6.2}   {aim}",
            speed / bound
        );
    }
}

fn topic_name(path: Path, partitions: u32) -> String {
    match path {
        Path::Diskless => format!("fast-{partitions}"),
        Path::Direct => format!("direct-{partitions}"),
    }
}

/// PUTs and CPU; a broker has no PUTs.
fn cost(row: &Row, path: Path) -> String {
    let puts = ["puts_per_s", "puts_per_gib", "put_kib"];
    let [rate, per_gib, size] = puts.map(|name| match path {
        Path::Diskless => row.text(name),
        Path::Direct => "-",
    });
    let [cpu, busy, errors] = ["cpu_per_gib", "box", "errors"].map(|name| row.text(name));
    format!(" {rate:>7} {per_gib:>9} {size:>9} {cpu:>9} {busy:>6}% {errors:>6}")
}

/// The mean of a log-normal latency that is given as p50/p99, in milliseconds.
fn mean(latency: &str) -> f64 {
    let (p50, p99) = latency.split_once('/').expect("p50/p99");
    let (p50, p99): (f64, f64) = (p50.parse().expect("a number"), p99.parse().expect("a number"));
    let sigma = (p99 / p50).ln() / Z99;
    p50 * (sigma * sigma / 2.0).exp()
}
