//! Apache Kafka clusters.

use std::path::{Path, PathBuf};

use crate::process::{Process, run};
use crate::script;

/// Settings with which a cluster is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct KafkaConfig<'a> {
    pub brokers: usize,
    /// `PROPERTY=VALUE` for every broker.
    pub properties: &'a [&'a str],
    /// More arguments of the tool that formats the directories of the brokers.
    pub format: &'a str,
    /// `KAFKA_HEAP` and `KAFKA_JVM` of `scripts/kafka.sh run`.
    pub environment: &'a [(&'a str, &'a str)],
}

/// A running cluster. It is killed when dropped.
#[derive(Debug)]
pub struct Kafka {
    dir: PathBuf,
    bootstrap: String,
    brokers: Vec<Process>,
}

impl Kafka {
    /// Starts brokers 1..=n with racks zone-1..; they serve when this returns.
    pub fn start(dir: &Path, n: usize) -> Self {
        Self::launch(dir, &KafkaConfig { brokers: n, ..KafkaConfig::default() })
    }

    /// Starts a cluster; `dir` gets its data and logs. A cluster that `dir` already holds is resumed.
    pub fn launch(dir: &Path, config: &KafkaConfig<'_>) -> Self {
        let mut prepare = script("kafka.sh");
        prepare.env("KAFKA_FORMAT", config.format).arg("prepare").arg(dir);
        run(prepare.arg(config.brokers.to_string()).args(config.properties));
        let environment: Vec<(String, String)> =
            config.environment.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let brokers = (1..=config.brokers).map(|id| start_broker(dir, id, &environment)).collect();
        run(script("kafka.sh").arg("wait").arg(dir));
        let bootstrap = run(script("kafka.sh").arg("bootstrap").arg(dir)).trim().to_owned();
        Self { dir: dir.to_owned(), bootstrap, brokers }
    }

    /// The addresses of the brokers themselves: `host:port,host:port,…`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The process ids of the brokers, in the order of their broker ids.
    pub fn ids(&self) -> Vec<u32> {
        self.brokers.iter().map(Process::id).collect()
    }

    /// Kills all brokers with SIGKILL.
    pub fn kill9(&mut self) {
        self.brokers.iter_mut().for_each(Process::kill9);
    }

    /// Kills all brokers and starts the same cluster again, at the same ports.
    pub fn restart(&mut self) {
        self.kill9();
        let n = self.brokers.len();
        *self = Self::start(&self.dir, n);
    }
}

fn start_broker(dir: &Path, id: usize, environment: &[(String, String)]) -> Process {
    let mut command = script("kafka.sh");
    command.arg("run").arg(dir).arg(id.to_string());
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    Process::start(&format!("broker-{id}-run"), dir, &command)
}

/// Runs one of Kafka's console tools and returns its standard output.
pub fn tool(name: &str, args: &[&str]) -> String {
    run(script("kafka-tool.sh").arg(name).args(args))
}

/// Creates a topic with one replica through `bootstrap`.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: u32) {
    let partitions = partitions.to_string();
    let on_topic = ["--bootstrap-server", bootstrap, "--create", "--topic", topic];
    let shape = ["--partitions", &partitions, "--replication-factor", "1"];
    tool("kafka-topics", &[&on_topic[..], &shape].concat());
}
