//! Measures the cost of reading a diskless topic and the delay of its readers, on a store of known latency, and
//! a classic topic and a stock broker beside it, all in one run: two replicas in each of two zones on
//! Redis and slow-s3, one Kafka broker, stock clients with default settings, 1 KiB records.
//!
//! All figures that a row relates to each other were measured in one process over the same window, with
//! one clock. `ack` runs from the producer's call of send to its callback. `e2e` runs from the same call
//! until a consumer has the record. `after ack` runs from the callback until then, for each record and
//! consumer separately; it is negative where the consumer was faster. `errors` are records that were not
//! acknowledged, that a consumer did not receive, or that it received twice. GETs are slow-s3's own count,
//! objects the writing replica's. CPU is user and system time of the replica, or the broker, alone. `box`
//! is how busy all cores of the machine were: near 100 % the row measures the machine. An `aim` is a goal
//! and is not asserted.

mod catch_up;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use testbed::kafka::Kafka;
use testbed::ports::free_ports;
use testbed::redis::Redis;
use testbed::replica::{PEERS_PORT, PORTS, Replica, ReplicaConfig, kafka_servers};
use testbed::slow_s3::SlowS3;

use super::{
    Bench, Row, SLOW_GET, SLOW_PUT, begin_row, build, franz_go, java, note, python, say,
    set_store_latency, start_kafka, with,
};
use crate::terminal::{number, words};

/// The replicas and their zones; zone-1 writes.
const REPLICAS: [(&str, &str); 4] =
    [("a1", "zone-1"), ("a2", "zone-1"), ("b1", "zone-2"), ("b2", "zone-2")];
const ALL: [&str; 4] = ["a1", "a2", "b1", "b2"];

struct FetchBench {
    bench: Bench,
    binary: PathBuf,
    /// Bytes of history that are replayed.
    mib: u64,
    kafka: Kafka,
    redis: Redis,
    store: SlowS3,
    /// A replica's ports are always the same, so that its clients find it when it comes back.
    first_port: u16,
    replicas: BTreeMap<&'static str, Replica>,
    /// Records and objects of the topics with history.
    histories: BTreeMap<String, [String; 2]>,
}

pub(crate) fn run() -> Result<(), String> {
    let seconds = number("BENCH_SECONDS", 15)?;
    let mib = number("BENCH_MIB", 1_024)?;
    let blocks = words("BENCH_ONLY", &["latency", "fanout", "catchup", "backfill"])?;
    let bench = Bench::begin(seconds, &["kafka", "redis", "bench"])?;
    let binary = build("odradek", "odradek", "release", "ODRADEK_BIN")?;
    let slow_s3 = build("testbed", "slow-s3", "release", "SLOW_S3_BIN")?;
    say("Kafka, one broker; Odradek on Redis and slow-s3");
    let kafka = start_kafka(&bench.dir, &["log.segment.bytes=268435456"]);
    let redis = Redis::start(&bench.dir);
    let store = SlowS3::spawn(&slow_s3, &bench.dir, &[]);
    set_store_latency(&store, SLOW_PUT, SLOW_GET);
    let mut run = FetchBench {
        bench,
        binary,
        mib,
        kafka,
        redis,
        store,
        first_port: free_ports(PORTS * REPLICAS.len() as u16),
        replicas: BTreeMap::new(),
        histories: BTreeMap::new(),
    };
    for block in blocks {
        match block {
            "latency" => run.latency(),
            "fanout" => run.fanout(),
            "catchup" => run.catchup(),
            _ => run.backfill(),
        }
    }
    let FetchBench { bench, .. } = run;
    let shared = "slow-s3, Redis, the broker and the clients share the machine";
    bench.finish(&format!("{seconds} s a row; {shared}"))
}

impl FetchBench {
    /// Lets these replicas run and no others.
    fn run_replicas(&mut self, names: &[&'static str]) {
        self.replicas.retain(|name, replica| {
            let stays = names.contains(name);
            if !stays {
                replica.process().send_sigterm();
                replica.process().wait_success(Duration::from_secs(70));
            }
            stays
        });
        for &name in names {
            if !self.replicas.contains_key(name) {
                let replica = self.start_replica(name);
                self.replicas.insert(name, replica);
            }
        }
    }

    fn start_replica(&self, name: &'static str) -> Replica {
        let at = REPLICAS.iter().position(|(n, _)| *n == name).expect("a known name");
        let port = self.first_port + PORTS * at as u16;
        let dir = self.bench.dir.join(name);
        std::fs::create_dir_all(&dir).expect("the directory is writable");
        let peers = format!("peers: {{bind: \"127.0.0.1:{}\"}}\n", port + PEERS_PORT);
        let diskless = "diskless: {topics: [{match: diskless-*, profile: fast}]}\n";
        let backends = [self.store.yaml(), self.redis.yaml(), peers].concat();
        Replica::launch(ReplicaConfig {
            binary: self.binary.clone(),
            name: "odradek".to_owned(),
            dir,
            port: Some(port),
            zone: REPLICAS[at].1.to_owned(),
            replica: format!("odradek-{name}"),
            kafka: kafka_servers(&self.kafka, ""),
            yaml: ["cluster: bench\n", diskless, &backends].concat(),
            data_bytes_max: None,
        })
    }

    /// Restarts one replica as the only one: its memory is empty and it has no peer to ask.
    fn run_cold(&mut self, name: &'static str) {
        self.run_replicas(&[]);
        self.run_replicas(&[name]);
    }

    fn at(&self, name: &str) -> String {
        self.replicas[name].bootstrap()
    }

    fn direct(&self) -> String {
        self.kafka.bootstrap().to_owned()
    }

    /// Runs franz-go's `tail`, which counts objects and GETs too.
    fn tail(&mut self, consumers: &str, words: &[&str]) -> Option<Vec<Row>> {
        let seconds = self.bench.seconds;
        let (store, admin) = (self.store.address().to_string(), self.replicas["a1"].admin());
        let options = ["-seconds", &seconds.to_string(), "-consumers", consumers];
        let meters = ["-s3", &store, "-admin", &admin];
        let command = with(with(with(franz_go("tail"), &options), &meters), words);
        self.bench.run_client(seconds + 90, &command)
    }

    fn latency(&mut self) {
        self.run_replicas(&ALL);
        let (writer, direct) = (self.at("a1"), self.direct());
        self.bench.create_topic(&writer, "diskless-tail", 1);
        self.bench.create_topic(&direct, "classic-tail", 1);
        println!();
        say(&format!(
            "End to end: 100 records/s, one partition, store PUT {SLOW_PUT} and GET {SLOW_GET} ms, profile fast"
        ));
        println!(
            "{:<13} {:<13} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10} {:>6} {:>6}   aim",
            "consumers",
            "at",
            "ack p50",
            "ack p99",
            "e2e p50",
            "e2e p99",
            "after p50",
            "after p99",
            "box",
            "errors"
        );
        let places = [
            format!("writer={writer}"),
            format!("neighbour={}", self.at("a2")),
            format!("other-zone={}", self.at("b1")),
        ];
        let all: Vec<&str> = places.iter().map(String::as_str).collect();
        let classic = format!("direct={direct}");
        for client in ["franz-go", "java", "librdkafka"] {
            self.latency_rows("1", client, "diskless-tail", &writer, &all);
            self.latency_rows("1", client, "classic-tail", &direct, &[&classic]);
        }
        // Separately: 48 consumers would wait for the processor.
        for place in all {
            self.latency_rows("16", "franz-go", "diskless-tail", &writer, &[place]);
        }
        self.latency_rows("16", "franz-go", "classic-tail", &direct, &[&classic]);
        note(
            "at: the writing replica, another one of its zone, one of another zone, the broker without Odradek",
        );
    }

    /// Prints the rows of one run; `places` are `NAME=BOOTSTRAP` of the consumers.
    fn latency_rows(
        &mut self,
        consumers: &str,
        client: &str,
        topic: &str,
        bootstrap: &str,
        places: &[&str],
    ) {
        let seconds = self.bench.seconds;
        let head = [bootstrap, topic, &seconds.to_string(), "100"];
        let rows = match client {
            "franz-go" => self.tail(consumers, &[&[bootstrap, topic], places].concat()),
            "java" => {
                let command = with(java("TailBench"), &[&head[..], places].concat());
                self.bench.run_client(seconds + 90, &command)
            }
            _ => {
                let command = with(python("librdkafka_tail.py"), &[&head[..], places].concat());
                self.bench.run_client(seconds + 90, &command)
            }
        };
        for row in rows.unwrap_or_default() {
            let aim = match row.text("path") {
                "writer" | "neighbour" => "after p99 <= 10 ms",
                "other-zone" => "after p50 <= 30, p99 <= 100 ms: one GET",
                _ => "",
            };
            let times = ["ack_p50", "ack_p99", "e2e_p50", "e2e_p99"].map(|name| row.text(name));
            let times: String = times.iter().map(|time| format!(" {time:>8}")).collect();
            println!(
                "{:<13} {:<13}{times} {:>10} {:>10} {:>6} {:>6}   {aim}",
                format!("{consumers} {client}"),
                row.text("path"),
                row.text("after_p50"),
                row.text("after_p99"),
                row.percent("box"),
                row.text("errors")
            );
        }
    }

    fn fanout(&mut self) {
        self.run_replicas(&ALL);
        let writer = self.at("a1");
        self.bench.create_topic(&writer, "diskless-tail", 1);
        println!();
        say(
            "GETs per object: consumers of the tail, each in its own group, over both replicas of one zone",
        );
        println!(
            "{:<10} {:<13} {:>8} {:>6} {:>11} {:>8} {:>8} {:>10} {:>10} {:>6} {:>6}   aim",
            "consumers",
            "zone",
            "objects",
            "GETs",
            "GETs/object",
            "e2e p50",
            "e2e p99",
            "after p50",
            "after p99",
            "box",
            "errors"
        );
        for (zone, first, second) in [("writing", "a1", "a2"), ("other", "b1", "b2")] {
            for consumers in ["1", "5", "20"] {
                self.fanout_row(consumers, zone, first, second);
            }
        }
    }

    fn fanout_row(&mut self, consumers: &str, zone: &str, first: &str, second: &str) {
        let aim = if zone == "other" { "1.00" } else { "0.00" };
        begin_row(&format!("{consumers:<10} {zone:<13}"));
        // A single consumer reads at the replica that did not write.
        let (writer, place) =
            (self.at("a1"), format!("{zone}={}+{}", self.at(second), self.at(first)));
        let Some(rows) = self.tail(consumers, &[&writer, "diskless-tail", &place]) else { return };
        let row = rows.into_iter().next().unwrap_or_default();
        println!(
            " {:>8} {:>6} {:>11} {:>8} {:>8} {:>10} {:>10} {:>6} {:>6}   {aim}",
            row.text("objects"),
            row.text("gets"),
            row.text("gets_per_object"),
            row.text("e2e_p50"),
            row.text("e2e_p99"),
            row.text("after_p50"),
            row.text("after_p99"),
            row.percent("box"),
            row.text("errors")
        );
    }

    /// Fills a topic through the only replica, unless that was done; returns its name, or `None` when
    /// it could not be filled.
    fn fill(&mut self, topic_type: &str, partitions: u32) -> Option<String> {
        let topic = format!("{topic_type}-history-{partitions}");
        if self.histories.contains_key(&topic) {
            return Some(topic);
        }
        let (bootstrap, admin) = (self.at("a1"), self.replicas["a1"].admin());
        self.bench.create_topic(&bootstrap, &topic, partitions);
        let options = ["-mib", &self.mib.to_string(), "-admin", &admin, &bootstrap, &topic];
        let rows = self.bench.run_client(180, &with(franz_go("fill"), &options))?;
        let row = rows.into_iter().next().unwrap_or_default();
        if topic_type == "diskless" {
            note(&format!(
                "{topic}: {} records in {} objects of {} KiB, {} s to write",
                row.text("records"),
                row.text("objects"),
                row.text("object_kib"),
                row.text("seconds")
            ));
        }
        let sizes = ["records", "objects"].map(|name| row.text(name).to_owned());
        self.histories.insert(topic.clone(), sizes);
        Some(topic)
    }

    /// The command of a franz-go client that reads a history.
    fn reader(&self, subcommand: &str, topic: &str, options: &[&str]) -> Vec<String> {
        let [records, objects] = &self.histories[topic];
        let (pid, store) = (self.replicas["a1"].id().to_string(), self.store.address().to_string());
        let mut command = with(franz_go(subcommand), options);
        command = with(command, &["-records", records, "-objects", objects]);
        command = with(command, &["-pid", &pid, "-s3", &store]);
        match subcommand {
            "replay" => with(command, &["-broker-pid", &self.kafka.ids()[0].to_string()]),
            _ => command,
        }
    }

    fn backfill(&mut self) {
        println!();
        say(&format!(
            "Backfill: five groups (their processes at the lowest priority) read {} MiB each at once, beside 100 records/s and a reader of the tail on the same cold replica",
            self.mib
        ));
        self.run_replicas(&["a1"]);
        let Some(topic) = self.fill("diskless", 12) else { return };
        self.run_cold("a1");
        let bootstrap = self.at("a1");
        self.bench.create_topic(&bootstrap, "diskless-tail", 1);
        let options = ["-seconds", &self.bench.seconds.to_string()];
        let command = self.reader("backfill", &topic, &options);
        let command = with(command, &[&bootstrap, "diskless-tail", &topic]);
        let Some(rows) = self.bench.run_client(240, &command) else { return };
        println!(
            "{:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>11} {:>10} {:>6} {:>6}   aim",
            "part",
            "ack p50",
            "ack p99",
            "e2e p50",
            "e2e p99",
            "seconds",
            "MB/s",
            "GETs/object",
            "CPU s/GiB",
            "box",
            "errors"
        );
        for (part, row) in ["before", "during", "after"].into_iter().zip(rows) {
            let times = ["ack_p50", "ack_p99", "e2e_p50", "e2e_p99"].map(|name| row.text(name));
            let times: String = times.iter().map(|time| format!(" {time:>8}")).collect();
            let aim = match part {
                "during" => "ack p99 < 1.2 x before, GETs/object 1",
                _ => "",
            };
            println!(
                "{part:<10}{times} {:>8} {:>7} {:>11} {:>10} {:>6} {:>6}   {aim}",
                row.or_dash("seconds"),
                row.or_dash("mbs"),
                row.or_dash("gets_per_object"),
                row.or_dash("cpu_per_gib"),
                row.percent("box"),
                row.text("errors")
            );
        }
    }
}
