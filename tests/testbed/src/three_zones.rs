//! Three zones on one machine: a broker, Redis, MinIO, one replica of Odradek in each zone, and stock
//! clients in two of them. `make demo-zones` and its test use it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::kafka::{Kafka, create_topic};
use crate::minio::Minio;
use crate::ports::free_ports;
use crate::process::Process;
use crate::redis::Redis;
use crate::replica::{PEERS_PORT, PORTS, Replica, ReplicaConfig, kafka_servers};
use crate::{cache, repository};

/// The last letter of each zone's name.
pub const ZONES: [&str; 3] = ["a", "b", "c"];

/// The running servers and replicas; all are killed when it is dropped.
#[derive(Debug)]
pub struct ThreeZones {
    dir: PathBuf,
    binary: PathBuf,
    kafka: Kafka,
    redis: Redis,
    minio: Minio,
    first_port: u16,
    replicas: BTreeMap<&'static str, Replica>,
}

/// The producer in zone-a and the consumer group in zone-b.
#[derive(Debug)]
pub struct Clients {
    process: Process,
    status: PathBuf,
}

impl ThreeZones {
    /// Starts the servers, a replica in each zone, and creates the diskless topic `clicks`; `dir` is
    /// emptied first and gets all data and logs.
    pub fn start(dir: &Path, binary: PathBuf) -> Self {
        remove_earlier_run(dir);
        let kafka = Kafka::start(&dir.join("kafka"), 1);
        let (redis, minio) = (Redis::start(dir), Minio::start(dir));
        let first_port = free_ports(PORTS * ZONES.len() as u16);
        let (dir, replicas) = (dir.to_owned(), BTreeMap::new());
        let mut zones = Self { dir, binary, kafka, redis, minio, first_port, replicas };
        ZONES.iter().for_each(|zone| zones.start_zone(zone));
        create_topic(&zones.replicas["a"].bootstrap(), "clicks", 6);
        zones
    }

    /// Returns whether the replica of a zone is running.
    pub fn is_running(&self, zone: &str) -> bool {
        self.replicas.contains_key(zone)
    }

    /// Starts the replica of a zone, always at the same ports. `make demo` has one replica and needs
    /// no servers; several replicas share Redis and a bucket, and read from each other as `peers`.
    pub fn start_zone(&mut self, zone: &'static str) {
        let at = ZONES.iter().position(|z| *z == zone).expect("a known zone");
        let port = self.first_port + PORTS * at as u16;
        let dir = self.dir.join(format!("zone-{zone}"));
        fs::create_dir_all(&dir).expect("the directory is writable");
        let backends = self.minio.yaml("three-zones") + &self.redis.yaml();
        let replica = Replica::launch(ReplicaConfig {
            binary: self.binary.clone(),
            name: "odradek".to_owned(),
            dir,
            port: Some(port),
            zone: format!("zone-{zone}"),
            replica: format!("odradek-{zone}"),
            kafka: kafka_servers(&self.kafka, ""),
            yaml: format!(
                "cluster: three-zones\ndiskless: {{topics: [{{match: clicks}}]}}\n{backends}\
                 peers: {{bind: \"127.0.0.1:{}\"}}\n",
                port + PEERS_PORT
            ),
            data_bytes_max: None,
        });
        self.replicas.insert(zone, replica);
    }

    /// Kills the replica of a zone with SIGKILL.
    pub fn kill_zone(&mut self, zone: &str) {
        // Dropping a replica kills it.
        self.replicas.remove(zone);
    }

    /// Bootstrap addresses, as `host:port` of each zone.
    pub fn bootstrap(&self) -> String {
        let port = |zone| self.first_port + PORTS * zone;
        let all: Vec<_> =
            (0..).take(ZONES.len()).map(|z| format!("127.0.0.1:{}", port(z))).collect();
        all.join(",")
    }

    /// The port of Redis.
    pub fn redis_port(&self) -> u16 {
        self.redis.port()
    }

    /// The directory of all data and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kills and starts two zones, one after the other, while the clients run; `report` gets a line
    /// for each step.
    pub fn run_script(&mut self, clients: &mut Clients, report: impl Fn(&str)) {
        clients.await_progress(100);
        for zone in ["a", "b"] {
            self.kill_zone(zone);
            report(&format!("zone-{zone} is dead (kill -9)"));
            // More records than were in flight when it died: others lead for its clients.
            clients.await_progress(1_000);
            self.start_zone(zone);
            report(&format!("zone-{zone} is up"));
            clients.await_progress(300);
        }
    }

    /// Starts an idempotent producer (100 records/s) and a consumer group, both of librdkafka.
    pub fn start_clients(&self) -> Clients {
        let status = self.dir.join("status");
        fs::write(&status, "0 0\n").expect("the directory is writable");
        let mut command = Command::new(cache().join("bench/python/bin/python"));
        command.arg(repository().join("examples/three-zones/clients.py"));
        command.arg(self.bootstrap()).arg(&status);
        Clients { process: Process::start("clients", &self.dir, &command), status }
    }
}

impl Clients {
    /// Returns their output so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Returns whether they are running.
    pub fn is_alive(&mut self) -> bool {
        self.process.is_alive()
    }

    /// Waits until `records` more were acknowledged and as many more received.
    ///
    /// # Panics
    ///
    /// Panics when that takes longer than two minutes or the clients end.
    pub fn await_progress(&mut self, records: u64) {
        let goal = self.progress().map(|count| count + records);
        let status = self.status.clone();
        self.process.wait_while_alive("progress", Duration::from_secs(120), || {
            progress(&status).iter().zip(goal).all(|(count, goal)| *count >= goal)
        });
    }

    fn progress(&self) -> [u64; 2] {
        progress(&self.status)
    }

    /// Stops the producer, lets the consumers read the rest, and returns the comparison of what was
    /// acknowledged with what was received.
    ///
    /// # Panics
    ///
    /// Panics when a record is missing, came twice or could not be sent.
    pub fn finish(mut self) -> String {
        self.process.send_sigterm();
        self.process.wait_success(Duration::from_secs(180));
        self.log().lines().last().unwrap_or_default().to_owned()
    }
}

/// Returns the numbers of acknowledged and of received records.
fn progress(status: &Path) -> [u64; 2] {
    let text = fs::read_to_string(status).unwrap_or_default();
    let mut counts = text.split_whitespace().map(|count| count.parse().unwrap_or(0));
    [counts.next().unwrap_or(0), counts.next().unwrap_or(0)]
}

/// Removes the files of an earlier run, and no other: the directory may be anything.
fn remove_earlier_run(dir: &Path) {
    // What cannot be removed makes the start of its owner fail, with a better message.
    for name in ["kafka", "minio", "zone-a", "zone-b", "zone-c"] {
        let _ = fs::remove_dir_all(dir.join(name));
    }
    for name in ["status", "redis.conf", "s3-secret", "dump.rdb"] {
        let _ = fs::remove_file(dir.join(name));
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            let _ = fs::remove_file(entry.path());
        }
    }
}
