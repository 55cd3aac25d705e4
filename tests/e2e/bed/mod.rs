//! The test bed: a three-broker Kafka, Redis, an S3 server and replicas of Odradek on free
//! ports, started when first asked for, shared by the test binary and killed with it.

pub(crate) mod kafka;
pub(crate) mod minio;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod redis_proxy;
pub(crate) mod replica;
pub(crate) mod slow_s3;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use kafka::Kafka;
use minio::Minio;
use redis::Redis;

#[derive(Debug)]
pub(crate) struct Bed {
    dir: PathBuf,
    kafka: OnceLock<Kafka>,
    redis: OnceLock<Redis>,
    minio: OnceLock<Minio>,
    names: AtomicU32,
}

impl Bed {
    /// The one bed of this test binary.
    pub(crate) fn get() -> &'static Self {
        static BED: OnceLock<Bed> = OnceLock::new();
        BED.get_or_init(|| {
            let dir = fresh_dir();
            name_dir_when_a_test_panics(dir.clone());
            Self {
                dir,
                kafka: OnceLock::new(),
                redis: OnceLock::new(),
                minio: OnceLock::new(),
                names: AtomicU32::new(0),
            }
        })
    }

    /// Three brokers in zones of their own.
    pub(crate) fn kafka(&self) -> &Kafka {
        self.kafka.get_or_init(|| Kafka::start(&self.dir.join("kafka"), 3))
    }

    pub(crate) fn redis(&self) -> &Redis {
        self.redis.get_or_init(|| Redis::start(&self.dir))
    }

    pub(crate) fn minio(&self) -> &Minio {
        self.minio.get_or_init(|| Minio::start(&self.dir))
    }

    /// A name that no other test of this binary uses.
    pub(crate) fn unique(&self, stem: &str) -> String {
        format!("{stem}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// A fresh directory for one test, in the bed's.
    pub(crate) fn test_dir(&self, stem: &str) -> PathBuf {
        let dir = self.dir.join(self.unique(stem));
        fs::create_dir_all(&dir).expect("the bed's directory is ours");
        dir
    }
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn script(name: &str) -> Command {
    Command::new(repository().join("scripts").join(name))
}

/// Where `make setup` puts what it builds.
pub(crate) fn cache() -> PathBuf {
    std::env::var_os("ODRADEK_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/odradek"),
        PathBuf::from,
    )
}

/// Panics unless the command can be run.
pub(crate) fn require(command: &Path) {
    let found = if command.components().count() > 1 {
        command.exists()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(command).exists())
    };
    assert!(found, "{} is missing; run: make setup", command.display());
}

/// Beds of earlier runs stay for whoever reads their logs, until the next run.
fn fresh_dir() -> PathBuf {
    let beds = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for old in fs::read_dir(beds).into_iter().flatten().flatten() {
        let name = old.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("bed-").and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another binary may be removing it as well.
            let _ = fs::remove_dir_all(old.path());
        }
    }
    let dir = beds.join(format!("bed-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("cargo's own directory for tests can be written");
    dir
}

#[expect(clippy::print_stderr, reason = "whoever reads the failure must find the logs")]
fn name_dir_when_a_test_panics(dir: PathBuf) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        eprintln!("the logs of this run are in {}", dir.display());
    }));
}
