//! Replicas of Odradek.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::kafka::Kafka;
use crate::ports::free_ports;
use crate::process::Process;
use crate::{Testbed, program};

/// Topics with this prefix are diskless on every replica that a test starts.
pub const DISKLESS_PREFIX: &str = "diskless-";

/// Number of consecutive ports that a replica uses: bootstrap, admin, up to seven diskless nodes, one
/// for its peers, and up to eleven brokers.
pub const PORTS: u16 = 21;
/// The port of a replica for its peers, from its first port.
pub const PEERS_PORT: u16 = 9;
const BROKER_PORTS: u16 = PEERS_PORT + 1;

/// Storage of a replica's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backends {
    /// The coordinator in the process and objects in a directory, as in the quick start.
    Embedded,
    /// Redis and S3, as in production.
    RedisS3,
}

/// A running replica. It is killed when dropped.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
    port: u16,
    process: Process,
}

/// The place of a replica in a cluster of several zones.
#[derive(Debug, Clone, Copy)]
pub struct InZone<'a> {
    pub cluster: &'a str,
    pub zone: &'a str,
    /// The replica's name within the cluster, by which nodes are assigned.
    pub replica: &'a str,
    /// Number of diskless nodes that it requests, up to 7.
    pub nodes: u16,
    /// Topics that its configuration lists besides those of [`DISKLESS_PREFIX`].
    pub topics: &'a [&'a str],
}

/// Settings with which a replica is started.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// The executable.
    pub binary: PathBuf,
    /// The name of the process and of its log.
    pub name: String,
    /// Gets `odradek.yaml` and the log.
    pub dir: PathBuf,
    /// The first of [`PORTS`] consecutive ports; `None` takes free ones.
    pub port: Option<u16>,
    pub zone: String,
    pub replica: String,
    /// The value of `bootstrapServers`, and what follows it in the section `kafka`.
    pub kafka: String,
    /// All other sections: `cluster`, `diskless`, `store`, `coordinator` and so on.
    pub yaml: String,
    /// The limit of its data segment in bytes (`RLIMIT_DATA`).
    pub data_bytes_max: Option<u64>,
}

impl Replica {
    /// Starts a replica of a cluster of its own before the shared Kafka; `extra` is YAML for the
    /// top level of its configuration.
    pub fn start(backends: Backends, extra: &str) -> Self {
        Self::start_before(Testbed::get().kafka(), "", backends, extra)
    }

    /// Starts a replica before other brokers; `login` is more YAML for the section `kafka`.
    pub fn start_before(kafka: &Kafka, login: &str, backends: Backends, extra: &str) -> Self {
        let testbed = Testbed::get();
        let name = testbed.unique("replica");
        let dir = testbed.test_dir(&name);
        let data = match backends {
            Backends::Embedded => {
                let store = dir.join("store");
                format!("store: \"file://{}\"\ncoordinator: embedded\n", store.display())
            }
            Backends::RedisS3 => testbed.minio().yaml(&name) + &testbed.redis().yaml(),
        };
        let yaml = [&cluster(&name, 4, &[]), &data, extra].concat();
        let kafka = kafka_servers(kafka, login);
        Self::launch(ReplicaConfig { dir, kafka, ..ReplicaConfig::of_test(&name, yaml) })
    }

    /// Starts one of several zones' replicas on a store and a coordinator that they share.
    pub fn start_in(at: InZone<'_>, store: &str, coordinator: &str, extra: &str) -> Self {
        let name = Testbed::get().unique(at.replica);
        let yaml = [&cluster(at.cluster, at.nodes, at.topics), store, coordinator, extra].concat();
        let (zone, replica) = (at.zone.to_owned(), at.replica.to_owned());
        Self::launch(ReplicaConfig { zone, replica, ..ReplicaConfig::of_test(&name, yaml) })
    }

    /// Starts a replica of a cluster of its own on a store and a coordinator, given as YAML.
    pub fn start_on(store: &str, coordinator: &str, extra: &str) -> Self {
        Self::start_of(&Testbed::get().unique("cluster"), store, coordinator, extra)
    }

    /// Starts a replica of `cluster` on a store and a coordinator, given as YAML.
    pub fn start_of(cluster_name: &str, store: &str, coordinator: &str, extra: &str) -> Self {
        let name = Testbed::get().unique("replica");
        let yaml = [&cluster(cluster_name, 4, &[]), store, coordinator, extra].concat();
        Self::launch(ReplicaConfig::of_test(&name, yaml))
    }

    /// Starts a replica as [`Replica::start_on`] does, with a limit on its data segment.
    pub fn start_limited(bytes: u64, store: &str, coordinator: &str, extra: &str) -> Self {
        let name = Testbed::get().unique("replica");
        let own = Testbed::get().unique("cluster");
        let yaml = [&cluster(&own, 4, &[]), store, coordinator, extra].concat();
        let data_bytes_max = Some(bytes);
        Self::launch(ReplicaConfig { data_bytes_max, ..ReplicaConfig::of_test(&name, yaml) })
    }

    /// Starts a replica and waits until it is ready for clients.
    pub fn launch(config: ReplicaConfig) -> Self {
        let port = config.port.unwrap_or_else(|| free_ports(PORTS));
        fs::write(config.dir.join("odradek.yaml"), config.yaml(port))
            .expect("the directory is writable");
        let process = config.serve();
        Self { config, port, process }
    }

    /// Bootstrap address, as `host:port`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of its admin port.
    pub fn admin(&self) -> String {
        format!("127.0.0.1:{}", self.port + 1)
    }

    /// The address of diskless node `k`.
    pub fn node(&self, k: u16) -> String {
        format!("127.0.0.1:{}", self.port + 2 + k)
    }

    /// The classic endpoint of broker `id`.
    pub fn broker(&self, id: u16) -> String {
        format!("127.0.0.1:{}", self.port + BROKER_PORTS + id)
    }

    /// The ports at which it may listen for clients and for its administrator.
    pub fn ports(&self) -> Range<i32> {
        i32::from(self.port)..i32::from(self.port + PORTS)
    }

    /// The directory of its configuration, its log and, with [`Backends::Embedded`], its objects.
    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// Returns its log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it with SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Kills it and starts it again with the same configuration, ports and store.
    pub fn restart(&mut self) {
        self.process.kill9();
        self.process = self.config.serve();
    }

    /// Waits for the end that a SIGTERM has brought about.
    ///
    /// # Panics
    ///
    /// Panics when the end takes longer than `limit` or when its exit status is not 0.
    pub fn wait_success(mut self, limit: Duration) {
        self.process.wait_success(limit);
    }
}

impl ReplicaConfig {
    /// A replica in `zone-1` before the shared Kafka, with a directory of its own.
    fn of_test(name: &str, yaml: String) -> Self {
        let testbed = Testbed::get();
        Self {
            binary: program("odradek"),
            name: name.to_owned(),
            dir: testbed.test_dir(name),
            port: None,
            zone: "zone-1".to_owned(),
            replica: name.to_owned(),
            kafka: kafka_servers(testbed.kafka(), ""),
            yaml,
            data_bytes_max: None,
        }
    }

    fn yaml(&self, port: u16) -> String {
        let Self { zone, replica, kafka, yaml, .. } = self;
        format!(
            "zone: {zone}\nreplica: {replica}\n\
             kafka:\n  bootstrapServers: {kafka}\n\
             listeners:\n  bind: 127.0.0.1\n  advertisedHost: 127.0.0.1\n  \
             bootstrapPort: {port}\n  nodePorts: {}\n  brokerPorts: {}\n\
             admin: {{bind: \"127.0.0.1:{}\"}}\n{yaml}",
            port + 2,
            port + BROKER_PORTS,
            port + 1,
        )
    }

    /// Starts the process and waits until it logs that it is ready.
    fn serve(&self) -> Process {
        let mut command = match self.data_bytes_max {
            None => Command::new(&self.binary),
            Some(bytes) => {
                let mut limited = Command::new("prlimit");
                limited.arg(format!("--data={bytes}")).arg(&self.binary);
                limited
            }
        };
        command.arg("serve").arg(self.dir.join("odradek.yaml"));
        let log = self.dir.join(format!("{}.log", self.name));
        let times_ready =
            || fs::read_to_string(&log).unwrap_or_default().lines().filter(|l| is_ready(l)).count();
        let before = times_ready();
        let mut process = Process::start(&self.name, &self.dir, &command);
        let limit = Duration::from_secs(60);
        process.wait_while_alive("`ready`", limit, || times_ready() > before);
        process
    }
}

fn is_ready(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "ready")
}

/// The sections that name a cluster and its diskless topics.
fn cluster(name: &str, nodes: u16, topics: &[&str]) -> String {
    let more: String = topics.iter().map(|topic| format!("    - match: {topic}\n")).collect();
    format!(
        "cluster: {name}\n\
         diskless:\n  nodesPerZone: {nodes}\n  topics:\n    - match: \"{DISKLESS_PREFIX}*\"\n    \
         - match: \"matrix-embedded.diskless.*\"\n    \
         - match: \"matrix-redis-s3.diskless.*\"\n{more}"
    )
}

/// The value of `bootstrapServers`, and `login` after it.
pub fn kafka_servers(kafka: &Kafka, login: &str) -> String {
    format!("[{}]\n{login}", kafka.bootstrap().replace(',', ", "))
}
