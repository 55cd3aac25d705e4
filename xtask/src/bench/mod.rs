//! Common parts of the benchmarks: builds, backends, clients and rows.

pub(crate) mod connections;
pub(crate) mod coordinator;
pub(crate) mod fetch;
pub(crate) mod isolation;
pub(crate) mod paths;
pub(crate) mod produce;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testbed::kafka::{Kafka, KafkaConfig, create_topic};
use testbed::slow_s3::SlowS3;
use testbed::{Testbed, cache, repository};

use crate::build::{build, setup};
use crate::terminal::{begin_row, note, say, variable};

/// Log-normal latencies of the store, as p50/p99 in milliseconds.
const SLOW_PUT: &str = "65/200";
const SLOW_GET: &str = "20/80";
const FAST_PUT: &str = "5/15";
const FAST_GET: &str = "3/10";

/// The state of one benchmark run.
struct Bench {
    dir: PathBuf,
    /// Duration of the measurement of each row.
    seconds: u64,
    /// Rows without figures.
    failed: usize,
    topics: BTreeSet<String>,
}

impl Bench {
    /// Gets what the benchmark needs and creates its directory.
    fn begin(seconds: u64, needs: &[&str]) -> Result<Self, String> {
        setup(needs)?;
        let dir = Testbed::get().test_dir("bench");
        Ok(Self { dir, seconds, failed: 0, topics: BTreeSet::new() })
    }

    /// Creates a topic unless an earlier block did.
    fn create_topic(&mut self, bootstrap: &str, topic: &str, partitions: u32) {
        if self.topics.insert(topic.to_owned()) {
            create_topic(bootstrap, topic, partitions);
        }
    }

    /// Runs a client for at most `limit` seconds; returns its rows, one for each line that it
    /// printed. Prints why and returns `None` when it fails.
    fn run_client(&mut self, limit: u64, command: &[String]) -> Option<Vec<Row>> {
        match self.client_output(limit, command) {
            Ok(text) => Some(text.lines().map(Row::parse).collect()),
            Err(why) => {
                self.failed += 1;
                println!("failed: {why}");
                None
            }
        }
    }

    fn client_output(&self, limit: u64, command: &[String]) -> Result<String, String> {
        // What the row before left to the disk must not be paid for by this one.
        let synced = Command::new("sync").arg("-f").arg(&self.dir).status();
        synced.map_err(|e| format!("cannot run sync: {e}"))?;
        let mut client = Command::new("setpriv");
        client.args(["--pdeathsig", "TERM", "timeout", &limit.to_string()]).args(command);
        let output = client.stdin(Stdio::null()).output();
        let output = output.map_err(|e| format!("cannot run setpriv: {e}"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().last().unwrap_or("it printed no error");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{}: {last}", output.status)),
        }
    }

    /// Prints the last line and removes the directory; fails when rows have no figures.
    fn finish(self, summary: &str) -> Result<(), String> {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.splitn(4, ' ').take(3).collect::<Vec<_>>().join(" ");
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        println!("\n{summary}, {cpus} CPUs, load {load}");
        if self.failed > 0 {
            return Err(format!(
                "{} rows have no figures; logs: {}",
                self.failed,
                self.dir.display()
            ));
        }
        // A directory that cannot be removed is removed by the next run.
        let _ = fs::remove_dir_all(&self.dir);
        Ok(())
    }
}

/// The figures of one row, from `name=value` pairs.
#[derive(Debug, Default, Clone)]
struct Row(BTreeMap<String, String>);

impl Row {
    fn parse(line: &str) -> Self {
        let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The figure of that name; empty when the client has none.
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The figure of that name, or `-`.
    fn or_dash(&self, name: &str) -> &str {
        self.0.get(name).map_or("-", String::as_str)
    }

    fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or(0.0)
    }

    /// The figure of that name in percent; empty when the client has none.
    fn percent(&self, name: &str) -> String {
        self.0.get(name).map_or_else(String::new, |value| format!("{value}%"))
    }
}

/// Starts one broker with the heap and the collector of Kafka's own scripts.
fn start_kafka(dir: &Path, properties: &[&str]) -> Kafka {
    let jvm = "-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20";
    let environment = &[("KAFKA_HEAP", "-Xms1g -Xmx1g"), ("KAFKA_JVM", jvm)];
    let config = KafkaConfig { brokers: 1, properties, environment, ..KafkaConfig::default() };
    Kafka::launch(&dir.join("kafka"), &config)
}

/// Sets the latencies of the calls that begin from now on.
fn set_store_latency(store: &SlowS3, put: &str, get: &str) {
    store.control(&format!("latency?put={put}&get={get}"));
}

/// The directory of Kafka's jars.
fn kafka_libs() -> PathBuf {
    let version = variable("KAFKA_VERSION").unwrap_or_else(|| "4.3.1".to_owned());
    cache().join(format!("kafka-{version}"))
}

/// The command of a JVM with one of `bench/clients`.
fn java(class: &str) -> Vec<String> {
    let path = format!("{}/*:{}", kafka_libs().display(), cache().join("bench/java").display());
    let words = ["java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", &path, class];
    words.map(str::to_owned).to_vec()
}

/// The command of one of `bench/clients` in Python.
fn python(client: &str) -> Vec<String> {
    let interpreter = cache().join("bench/python/bin/python");
    let client = repository().join("bench/clients").join(client);
    vec![interpreter.display().to_string(), client.display().to_string()]
}

/// The command of a subcommand of `bench/clients` in Go.
fn franz_go(subcommand: &str) -> Vec<String> {
    vec![cache().join("bench/franz-go").display().to_string(), subcommand.to_owned()]
}

/// The command of a stock producer.
fn producer(client: &str) -> Vec<String> {
    match client {
        "java" => java("ProduceBench"),
        "librdkafka" => python("librdkafka.py"),
        _ => vec![cache().join("bench/franz-go").display().to_string()],
    }
}

/// Appends words to a command.
fn with(mut command: Vec<String>, words: &[&str]) -> Vec<String> {
    command.extend(words.iter().map(|&word| word.to_owned()));
    command
}
