//! One replica of the Odradek under test.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Bed;
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

impl Replica {
    /// A replica of a cluster of its own, ready for clients; `extra` is YAML for the top level.
    pub(crate) fn start(backends: Backends, extra: &str) -> Self {
        let bed = Bed::get();
        let name = bed.unique("replica");
        let dir = bed.test_dir(&name);
        let (store, coordinator) = match backends {
            Backends::Embedded => (
                format!("store: \"file://{}\"\n", dir.join("store").display()),
                "coordinator: embedded\n".to_owned(),
            ),
            Backends::RedisS3 => (bed.minio().yaml(&name), bed.redis().yaml()),
        };
        let yaml = [&store, &coordinator, extra].concat();
        Self::start_in(&name.clone(), name, dir, &yaml, None)
    }

    /// The same on a store and a coordinator of the test's own, each given as its YAML.
    pub(crate) fn start_on(store: &str, coordinator: &str, extra: &str) -> Self {
        let yaml = [store, coordinator, extra].concat();
        Self::start_with(&Bed::get().unique("cluster"), &yaml, None)
    }

    /// The same, one of several of a cluster.
    pub(crate) fn start_of(cluster: &str, store: &str, coordinator: &str, extra: &str) -> Self {
        Self::start_with(cluster, &[store, coordinator, extra].concat(), None)
    }

    /// The same, whose data segment may not grow beyond so many bytes.
    pub(crate) fn start_limited(bytes: u64, store: &str, coordinator: &str, extra: &str) -> Self {
        let yaml = [store, coordinator, extra].concat();
        Self::start_with(&Bed::get().unique("cluster"), &yaml, Some(bytes))
    }

    fn start_with(cluster: &str, yaml: &str, data_bytes_max: Option<u64>) -> Self {
        let name = Bed::get().unique("replica");
        let dir = Bed::get().test_dir(&name);
        Self::start_in(cluster, name, dir, yaml, data_bytes_max)
    }

    fn start_in(
        cluster: &str,
        name: String,
        dir: PathBuf,
        yaml: &str,
        data_bytes_max: Option<u64>,
    ) -> Self {
        // Bootstrap, admin, up to eight diskless nodes, up to ten brokers.
        let port = free_ports(20);
        let config = config(cluster, &name, port) + yaml;
        fs::write(dir.join("odradek.yaml"), config).expect("the bed's directory is ours");
        let process = serve(&name, &dir, data_bytes_max);
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

/// Everything but the store and the coordinator.
fn config(cluster: &str, name: &str, port: u16) -> String {
    format!(
        "cluster: {cluster}\nzone: zone-1\nreplica: {name}\n\
         kafka:\n  bootstrapServers: [{}]\n\
         listeners:\n  bind: 127.0.0.1\n  advertisedHost: 127.0.0.1\n  \
         bootstrapPort: {port}\n  nodePorts: {}\n  brokerPorts: {}\n\
         diskless:\n  topics:\n    - match: \"{DISKLESS_PREFIX}*\"\n    \
         - match: \"matrix-embedded.diskless.*\"\n    \
         - match: \"matrix-redis-s3.diskless.*\"\n\
         admin: {{bind: \"127.0.0.1:{}\"}}\n",
        Bed::get().kafka().bootstrap().replace(',', ", "),
        port + 2,
        port + 9,
        port + 1,
    )
}
