//! Real brokers, as children of the test binary.

use std::path::{Path, PathBuf};

use crate::process::{Process, run};
use crate::script;

#[derive(Debug)]
pub struct Kafka {
    dir: PathBuf,
    bootstrap: String,
    brokers: Vec<Process>,
}

impl Kafka {
    /// Brokers 1..=n with racks zone-1..; serving when this returns.
    pub fn start(dir: &Path, n: usize) -> Self {
        Self::start_with(dir, n, &[], "")
    }

    /// As [`Kafka::start`], with `PROPERTY=VALUE` for every broker, and arguments for the tool
    /// that formats their directories.
    pub fn start_with(dir: &Path, n: usize, properties: &[&str], format: &str) -> Self {
        let mut prepare = script("kafka.sh");
        prepare.env("KAFKA_FORMAT", format).arg("prepare").arg(dir).arg(n.to_string());
        run(prepare.args(properties));
        let brokers = (1..=n).map(|id| start_broker(dir, id)).collect();
        run(script("kafka.sh").arg("wait").arg(dir));
        let bootstrap = run(script("kafka.sh").arg("bootstrap").arg(dir)).trim().to_owned();
        Self { dir: dir.to_owned(), bootstrap, brokers }
    }

    /// `host:port,host:port,…` of the brokers themselves.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub fn kill9(&mut self) {
        self.brokers.iter_mut().for_each(Process::kill9);
    }

    /// The same cluster again, at the same ports.
    pub fn restart(&mut self) {
        self.kill9();
        let n = self.brokers.len();
        *self = Self::start(&self.dir, n);
    }
}

fn start_broker(dir: &Path, id: usize) -> Process {
    let name = format!("broker-{id}-run");
    Process::start(&name, dir, script("kafka.sh").arg("run").arg(dir).arg(id.to_string()))
}

/// Runs a stock console tool and returns what it printed.
pub fn tool(name: &str, args: &[&str]) -> String {
    run(script("kafka-tool.sh").arg(name).args(args))
}
