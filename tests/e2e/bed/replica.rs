//! One replica of the Odradek under test.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Bed;
use super::kafka::Kafka;
use super::ports::free_ports;
use super::process::Process;

/// Topics with this prefix are diskless on every replica of the bed.
pub(crate) const DISKLESS_PREFIX: &str = "diskless-";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backends {
    /// The coordinator in the process, objects in a directory: what a newcomer starts with.
    Embedded,
    /// What production runs on.
    RedisS3,
}

#[derive(Debug)]
pub(crate) struct Replica {
    name: String,
    dir: PathBuf,
    port: u16,
    data_bytes_max: Option<u64>,
    process: Process,
}

/// One of several replicas of several zones.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InZone<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) zone: &'a str,
    /// Its name within the cluster, by which nodes are spread.
    pub(crate) replica: &'a str,
    /// How many diskless nodes it asks for, up to 7.
    pub(crate) nodes: u16,
    /// Topics that its YAML lists, besides those of all.
    pub(crate) lists: &'a [&'a str],
}

/// What a replica is started with, besides ports.
struct Launch {
    cluster: String,
    zone: String,
    replica: String,
    nodes: u16,
    lists: Vec<String>,
    /// Of the process and its log.
    name: String,
    dir: PathBuf,
    /// What follows `bootstrapServers:` in the section `kafka`.
    brokers: String,
    /// Store, coordinator and whatever else stands at the top level.
    yaml: String,
    data_bytes_max: Option<u64>,
}

impl Replica {
    /// A replica of a cluster of its own, ready for clients; `extra` is YAML for the top level.
    pub(crate) fn start(backends: Backends, extra: &str) -> Self {
        Self::start_before(Bed::get().kafka(), "", backends, extra)
    }

    /// As [`Replica::start`], before other brokers; `login` is more YAML for the section `kafka`.
    pub(crate) fn start_before(
        kafka: &Kafka,
        login: &str,
        backends: Backends,
        extra: &str,
    ) -> Self {
        let bed = Bed::get();
        let name = bed.unique("replica");
        let dir = bed.test_dir(&name);
        let data = match backends {
            Backends::Embedded => {
                let store = dir.join("store");
                format!("store: \"file://{}\"\ncoordinator: embedded\n", store.display())
            }
            Backends::RedisS3 => bed.minio().yaml(&name) + &bed.redis().yaml(),
        };
        let (brokers, yaml) = (brokers(kafka, login), data + extra);
        let (cluster, replica, zone) = (name.clone(), name.clone(), "zone-1".to_owned());
        let data_bytes_max = None;
        Self::launch(Launch {
            cluster,
            zone,
            replica,
            nodes: 4,
            lists: vec![],
            name,
            dir,
            brokers,
            yaml,
            data_bytes_max,
        })
    }

    /// One of several zones' replicas, on a store and a coordinator that they share.
    pub(crate) fn start_in(at: InZone<'_>, store: &str, coordinator: &str, extra: &str) -> Self {
        let name = Bed::get().unique(at.replica);
        Self::launch(Launch {
            cluster: at.cluster.to_owned(),
            zone: at.zone.to_owned(),
            replica: at.replica.to_owned(),
            nodes: at.nodes,
            lists: at.lists.iter().map(ToString::to_string).collect(),
            dir: Bed::get().test_dir(&name),
            name,
            brokers: brokers(Bed::get().kafka(), ""),
            yaml: [store, coordinator, extra].concat(),
            data_bytes_max: None,
        })
    }

    /// The same on a store and a coordinator of the test's own, each given as its YAML.
    pub(crate) fn start_on(store: &str, coordinator: &str, extra: &str) -> Self {
        let yaml = [store, coordinator, extra].concat();
        Self::start_with(&Bed::get().unique("cluster"), yaml, None)
    }

    /// The same, one of several of a cluster.
    pub(crate) fn start_of(cluster: &str, store: &str, coordinator: &str, extra: &str) -> Self {
        Self::start_with(cluster, [store, coordinator, extra].concat(), None)
    }

    /// The same, whose data segment may not grow beyond so many bytes.
    pub(crate) fn start_limited(bytes: u64, store: &str, coordinator: &str, extra: &str) -> Self {
        let yaml = [store, coordinator, extra].concat();
        Self::start_with(&Bed::get().unique("cluster"), yaml, Some(bytes))
    }

    fn start_with(cluster: &str, yaml: String, data_bytes_max: Option<u64>) -> Self {
        let name = Bed::get().unique("replica");
        let dir = Bed::get().test_dir(&name);
        let (cluster, brokers) = (cluster.to_owned(), brokers(Bed::get().kafka(), ""));
        let (zone, replica) = ("zone-1".to_owned(), name.clone());
        Self::launch(Launch {
            cluster,
            zone,
            replica,
            nodes: 4,
            lists: vec![],
            name,
            dir,
            brokers,
            yaml,
            data_bytes_max,
        })
    }

    fn launch(launch: Launch) -> Self {
        // Bootstrap, admin, up to eight diskless nodes, up to ten brokers.
        let port = free_ports(20);
        fs::write(launch.dir.join("odradek.yaml"), launch.config(port))
            .expect("the bed's directory is ours");
        let process = serve(&launch.name, &launch.dir, launch.data_bytes_max);
        let Launch { name, dir, data_bytes_max, .. } = launch;
        Self { name, dir, port, data_bytes_max, process }
    }

    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Diskless node `k`.
    pub(crate) fn node(&self, k: u16) -> String {
        format!("127.0.0.1:{}", self.port + 2 + k)
    }

    /// The endpoint of broker `id`.
    pub(crate) fn broker(&self, id: u16) -> String {
        format!("127.0.0.1:{}", self.port + 9 + id)
    }

    /// The ports that it may listen at.
    pub(crate) fn ports(&self) -> Range<i32> {
        i32::from(self.port)..i32::from(self.port) + 20
    }

    /// Where its configuration, its log and, with embedded backends, its objects are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// The same configuration, the same ports, the same store: what a supervisor would do.
    pub(crate) fn restart(&mut self) {
        self.process.kill9();
        self.process = serve(&self.name, &self.dir, self.data_bytes_max);
    }

    /// Waits for its end without fault, which a SIGTERM must have brought about.
    pub(crate) fn wait_success(mut self, limit: Duration) {
        self.process.wait_success(limit);
    }
}

fn serve(name: &str, dir: &Path, data_bytes_max: Option<u64>) -> Process {
    let binary = env!("CARGO_BIN_EXE_odradek");
    let mut command = match data_bytes_max {
        None => Command::new(binary),
        Some(bytes) => {
            let mut limited = Command::new("prlimit");
            limited.arg(format!("--data={bytes}")).arg(binary);
            limited
        }
    };
    command.arg("serve").arg(dir.join("odradek.yaml"));
    let log = dir.join(format!("{name}.log"));
    let said_ready =
        || fs::read_to_string(&log).unwrap_or_default().lines().filter(|l| is_ready(l)).count();
    let before = said_ready();
    let mut process = Process::start(name, dir, &command);
    process.wait_while_alive("`ready`", Duration::from_secs(60), || said_ready() > before);
    process
}

fn is_ready(line: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "ready")
}

impl Launch {
    fn config(&self, port: u16) -> String {
        let Self { cluster, zone, replica, nodes, lists, brokers, yaml, .. } = self;
        let lists: String = lists.iter().map(|topic| format!("    - match: {topic}\n")).collect();
        format!(
            "cluster: {cluster}\nzone: {zone}\nreplica: {replica}\n\
             kafka:\n  bootstrapServers: {brokers}\n\
             listeners:\n  bind: 127.0.0.1\n  advertisedHost: 127.0.0.1\n  \
             bootstrapPort: {port}\n  nodePorts: {}\n  brokerPorts: {}\n\
             diskless:\n  nodesPerZone: {nodes}\n  topics:\n    - match: \"{DISKLESS_PREFIX}*\"\n    \
             - match: \"matrix-embedded.diskless.*\"\n    \
             - match: \"matrix-redis-s3.diskless.*\"\n{lists}\
             admin: {{bind: \"127.0.0.1:{}\"}}\n{yaml}",
            port + 2,
            port + 9,
            port + 1,
        )
    }
}

fn brokers(kafka: &Kafka, login: &str) -> String {
    format!("[{}]\n{login}", kafka.bootstrap().replace(',', ", "))
}
