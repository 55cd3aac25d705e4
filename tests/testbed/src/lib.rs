//! Everything that the tests, the benchmarks and the demos start: Apache Kafka, Redis, S3 servers
//! and replicas of Odradek, as child processes on free loopback ports.
//!
//! A [`Testbed`] is shared by all tests of one test binary: each server is started by the first test
//! that needs it and is killed when the binary ends. The servers can also be started one by one, in
//! a directory of the caller's choice.
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

pub mod cluster_proxy;
pub mod history_checker;
pub mod kafka;
pub mod minio;
pub mod ports;
pub mod process;
pub mod radosgw;
pub mod redis;
pub mod redis_proxy;
pub mod replica;
pub mod slow_s3;
pub mod three_zones;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use kafka::Kafka;
use minio::Minio;
use redis::Redis;

/// The servers that the tests of one binary share, and their directory.
#[derive(Debug)]
pub struct Testbed {
    dir: PathBuf,
    kafka: OnceLock<Kafka>,
    redis: OnceLock<Redis>,
    minio: OnceLock<Minio>,
    names: AtomicU32,
}

impl Testbed {
    /// Returns the testbed of this test binary; the first call creates its directory.
    pub fn get() -> &'static Self {
        static TESTBED: OnceLock<Testbed> = OnceLock::new();
        TESTBED.get_or_init(|| {
            let dir = fresh_dir();
            print_dir_on_panic(dir.clone());
            Self {
                dir,
                kafka: OnceLock::new(),
                redis: OnceLock::new(),
                minio: OnceLock::new(),
                names: AtomicU32::new(0),
            }
        })
    }

    /// Returns the shared cluster of three brokers, each in a zone of its own.
    pub fn kafka(&self) -> &Kafka {
        self.kafka.get_or_init(|| Kafka::start(&self.dir.join("kafka"), 3))
    }

    /// Returns the shared Redis.
    pub fn redis(&self) -> &Redis {
        self.redis.get_or_init(|| Redis::start(&self.dir))
    }

    /// Returns the shared MinIO.
    pub fn minio(&self) -> &Minio {
        self.minio.get_or_init(|| Minio::start(&self.dir))
    }

    /// Returns a name that no other test of this binary uses.
    pub fn unique(&self, stem: &str) -> String {
        format!("{stem}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates an empty directory for one test, below the testbed's own.
    pub fn test_dir(&self, stem: &str) -> PathBuf {
        let dir = self.dir.join(self.unique(stem));
        fs::create_dir_all(&dir).expect("the testbed's directory is writable");
        dir
    }
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("this crate is two folders below the root")
}

/// Returns a command that runs one of `scripts/`.
pub fn script(name: &str) -> Command {
    Command::new(repository().join("scripts").join(name))
}

/// The directory into which `make setup` installs.
pub fn cache() -> PathBuf {
    std::env::var_os("ODRADEK_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/odradek"),
        PathBuf::from,
    )
}

/// Checks that a command can be run.
///
/// # Panics
///
/// Panics with a hint at `make setup` when the command is neither a file nor on the `PATH`.
pub fn require(command: &Path) {
    let found = if command.components().count() > 1 {
        command.exists()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(command).exists())
    };
    assert!(found, "{} is missing; run: make setup", command.display());
}

/// Returns the path of a program of this workspace that cargo built beside the running one.
///
/// # Panics
///
/// Panics when the program has not been built.
pub fn program(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a process knows its executable");
    // Test binaries are one folder deeper than programs.
    let built = exe.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|p| p.exists());
    let hint = "run: cargo test --workspace --all-features --no-run";
    built.unwrap_or_else(|| panic!("{name} is missing beside {}; {hint}", exe.display()))
}

/// The directory for temporary files below cargo's target directory.
pub fn target_tmp() -> PathBuf {
    let exe = std::env::current_exe().expect("a process knows its executable");
    let target = exe.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists());
    target
        .unwrap_or_else(|| panic!("{} is not below a target directory", exe.display()))
        .join("tmp")
}

/// Creates the directory of this process and removes those of processes that have ended: logs of
/// a run are kept until the next run.
fn fresh_dir() -> PathBuf {
    let all = target_tmp();
    for old in fs::read_dir(&all).into_iter().flatten().flatten() {
        let name = old.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("testbed-").and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another process may be removing it as well.
            let _ = fs::remove_dir_all(old.path());
        }
    }
    let dir = all.join(format!("testbed-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("cargo's target directory is writable");
    dir
}

#[expect(clippy::print_stderr, reason = "a failure must say where the logs are")]
fn print_dir_on_panic(dir: PathBuf) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        eprintln!("the logs of this run are in {}", dir.display());
    }));
}

/// Prints a measurement of a test.
pub fn print_line(text: &str) {
    writeln!(std::io::stdout(), "{text}").expect("stdout is open");
}
