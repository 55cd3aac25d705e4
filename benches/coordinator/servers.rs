//! The Redis servers of a benchmark, and what they report.

use crate::cluster::RedisCluster;
use crate::redis_server::RedisServer;

/// One Redis, or a Redis Cluster of three masters.
pub(crate) struct Servers {
    pub(crate) name: &'static str,
    pub(crate) is_cluster: bool,
    pub(crate) url: String,
    masters: Vec<RedisServer>,
}

impl Servers {
    pub(crate) fn single() -> Option<Self> {
        let server = RedisServer::start()?;
        let url = server.url();
        Some(Self::new("one Redis", false, url, vec![server]))
    }

    pub(crate) fn cluster() -> Option<Self> {
        let cluster = RedisCluster::start(0)?;
        let url = cluster.url();
        Some(Self::new("Redis Cluster of three masters", true, url, cluster.nodes))
    }

    fn new(name: &'static str, is_cluster: bool, url: String, masters: Vec<RedisServer>) -> Self {
        for master in &masters {
            master.query::<String>(&["CONFIG", "SET", "slowlog-log-slower-than", "1000"]);
        }
        Self { name, is_cluster, url, masters }
    }

    /// Returns the CPU seconds that each master has used so far.
    pub(crate) fn cpu(&self) -> Vec<f64> {
        let cpu = |master: &RedisServer| {
            let info = info(master, "cpu");
            field(&info, "used_cpu_user") + field(&info, "used_cpu_sys")
        };
        self.masters.iter().map(cpu).collect()
    }

    /// Returns the share of a core that the busiest master used since `before`.
    pub(crate) fn cpu_percent(&self, before: &[f64], seconds: f64) -> f64 {
        let used = self.cpu().into_iter().zip(before).map(|(now, before)| now - before);
        used.fold(0.0, f64::max) * 100.0 / seconds
    }

    /// Returns the bytes that all masters have allocated.
    pub(crate) fn used_memory(&self) -> u64 {
        self.masters.iter().map(|master| field(&info(master, "memory"), "used_memory") as u64).sum()
    }

    /// Returns the longest run of a script.
    pub(crate) fn longest_script_ms(&self) -> f64 {
        let longest = |master: &RedisServer| {
            let entries: Vec<Vec<redis::Value>> = master.query(&["SLOWLOG", "GET", "-1"]);
            entries.iter().filter_map(|entry| script_micros(entry)).max().unwrap_or(0)
        };
        self.masters.iter().map(longest).max().unwrap_or(0) as f64 / 1_000.0
    }
}

/// Returns the duration of an entry of the slow log if it is of a script.
fn script_micros(entry: &[redis::Value]) -> Option<i64> {
    let [_, _, redis::Value::Int(micros), redis::Value::Array(command), ..] = entry else {
        return None;
    };
    let is_script = matches!(command.first(), Some(redis::Value::BulkString(name)) if name.starts_with(b"EVAL"));
    is_script.then_some(*micros)
}

fn info(server: &RedisServer, section: &str) -> String {
    server.query(&["INFO", section])
}

fn field(info: &str, name: &str) -> f64 {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok()).expect("INFO has the field")
}
