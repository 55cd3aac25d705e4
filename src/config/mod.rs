//! The configuration file: read once, checked as a whole, and immutable from then on.
//!
//! The keys are a contract (`docs/configuration.md`). Every mistake is reported at once, with its
//! place, its value and what to write instead.

mod clients;
mod interpolate;
mod keys;
mod problems;
mod raw;
mod read;
mod relations;
mod schema;
mod topics;
mod units;
mod values;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
pub use keys::{KEYS, Key, reference};
pub use problems::{Problem, Problems};
pub use schema::schema;
pub use topics::{Profile, TopicPattern, TopicRule, TopicRules, TopicType};
pub use units::HostPort;

use crate::cost::Pricing;
use crate::logging::Format;
use crate::store::open::StoreUrl;
use crate::store::s3::S3Options;
use raw::Node;

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a replica is told to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the installation: it begins keys in Redis and in the store.
    pub cluster: String,
    /// The availability zone.
    pub zone: String,
    /// The name of this replica.
    pub replica: String,
    /// The Kafka cluster behind the proxy.
    pub kafka: KafkaSettings,
    /// Where clients come in.
    pub listeners: ListenerSettings,
    /// Which topics are diskless.
    pub diskless: DisklessSettings,
    /// Where objects lie.
    pub store: StoreSettings,
    /// Who orders records.
    pub coordinator: CoordinatorSettings,
    /// When objects are written.
    pub flush: FlushSettings,
    /// What may be held in memory.
    pub memory: MemorySettings,
    /// Whether it hosts diskless nodes and writes objects.
    pub writer: bool,
    /// In which zones clients are.
    pub client_zones: Vec<ClientZoneSettings>,
    /// How often clients are asked to tell of themselves; `None`: they are not asked.
    pub telemetry: Option<Duration>,
    /// How replicas of a zone ask each other; `None`: they do not.
    pub peers: Option<PeerSettings>,
    /// The HTTP port.
    pub admin: AdminSettings,
    /// What is shown of metrics.
    pub metrics: MetricsSettings,
    /// What things cost.
    pub costs: Pricing,
    /// What is logged.
    pub log: LogSettings,
    /// The file as it was written, to tell what has changed.
    pub written: Written,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// What a line looks like.
    pub format: Format,
    /// A filter of `tracing`'s: what is logged.
    pub level: String,
    /// Where spans go (OTLP over HTTP); `None` for nowhere.
    pub traces: Option<String>,
}

/// Every value that a file names, by its path; never shown, for there are secrets among them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Written(BTreeMap<String, String>);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Written({} values)", self.0.len())
    }
}

impl Written {
    fn of(tree: &Node) -> Self {
        let mut values = BTreeMap::new();
        tree.flatten("", &mut values);
        Self(values)
    }

    /// The paths of what came, went or changed.
    pub fn changed_from(&self, before: &Self) -> Vec<String> {
        let paths: BTreeSet<_> = self.0.keys().chain(before.0.keys()).collect();
        let is_changed = |path: &&&String| self.0.get(**path) != before.0.get(**path);
        paths.iter().filter(is_changed).map(ToString::to_string).collect()
    }
}

/// The Kafka cluster behind the proxy.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// Some of its brokers; at least one.
    pub bootstrap_servers: Vec<HostPort>,
    /// How our own connections authenticate; `None`: they do not.
    pub sasl: Option<SaslSettings>,
}

/// How our own connections to brokers authenticate. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslSettings {
    /// The SASL mechanism.
    pub mechanism: SaslMechanism,
    /// The user.
    pub username: String,
    /// The user's password.
    pub password: String,
}

impl fmt::Debug for SaslSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mechanism, username) = (&self.mechanism, &self.username);
        write!(f, "SaslSettings {{ {mechanism:?}, {username:?}, .. }}")
    }
}

/// A SASL mechanism that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// As RFC 7677, with SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    /// Every mechanism, with its name on the wire.
    pub const NAMES: [(&str, Self); 3] = [
        ("PLAIN", Self::Plain),
        ("SCRAM-SHA-256", Self::ScramSha256),
        ("SCRAM-SHA-512", Self::ScramSha512),
    ];
}

/// Where clients come in.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// The address to listen on.
    pub bind: IpAddr,
    /// The host that clients are told to connect to; IPv6 without brackets.
    pub advertised_host: String,
    /// Where every client starts.
    pub bootstrap_port: u16,
    /// Broker `n` is reached at this port plus `n`.
    pub broker_ports: u16,
    /// Diskless node `k` of the zone is reached at this port plus `k`.
    pub node_ports: u16,
}

/// Which topics are diskless, and who serves them.
#[derive(Clone, Debug)]
pub struct DisklessSettings {
    /// What becomes of a topic when it is created.
    pub topics: TopicRules,
    /// How many diskless nodes a zone has: 1 to 64.
    pub nodes_per_zone: u8,
}

/// Where objects lie.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// As the file has it; this cluster's own place is [`Settings::objects_url`].
    pub url: StoreUrl,
    /// How to reach an S3 store; of no use to others.
    pub s3: S3Options,
}

/// Who orders records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorSettings {
    /// This process: for one replica only.
    Embedded,
    /// A Redis, shared by all replicas.
    Redis {
        /// Where it is.
        url: RedisUrl,
        /// Of its own replicas, how many must have a change before it is acknowledged.
        replicas: u8,
    },
}

/// `redis://`, `rediss://`, `redis-sentinel://` or `redis-cluster://`; shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The URL with its password: for whoever connects, never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&problems::without_userinfo(&self.0))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// When what producers sent is written to object storage.
#[derive(Clone, Debug)]
pub struct FlushSettings {
    /// The longest that a record waits for others.
    pub interval: Duration,
    /// The size in bytes at which an object is written.
    pub size_bytes: u64,
    /// For topics whose rule names none.
    pub profile: Profile,
    /// PUTs begun in a second, on average; `None` without a cap.
    pub puts_per_second_max: Option<f64>,
}

/// What may be held in memory, in bytes.
#[derive(Clone, Debug)]
pub struct MemorySettings {
    /// Produce requests between their reading and their acknowledgement.
    pub requests: u64,
    /// Of these, what one connection may hold.
    pub connection: u64,
    /// Answers to fetches that clients have not taken yet.
    pub responses: u64,
    /// Objects kept for readers.
    pub cache: u64,
}

/// By what the clients of a zone are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientZoneSettings {
    /// The zone.
    pub zone: Arc<str>,
    /// A bootstrap port for them alone.
    pub port: Option<u16>,
    /// The networks that they are in.
    pub cidrs: Vec<IpNet>,
}

/// How replicas of a zone ask each other for objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Where this one listens for the others.
    pub bind: SocketAddr,
    /// The host at which they reach it; IPv6 without brackets.
    pub advertised_host: String,
}

impl PeerSettings {
    /// `host:port` as others reach it.
    pub fn address(&self) -> String {
        let (host, port) = (&self.advertised_host, self.bind.port());
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// The HTTP port of health, metrics and the console.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Where it listens.
    pub bind: SocketAddr,
}

/// What is shown of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Whether there are series by topic.
    pub per_topic: bool,
}

/// What the file does not say and the machine does.
pub struct Surroundings<'a> {
    /// The environment's variables.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The host's name, if it has one.
    pub hostname: Option<String>,
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads a file, with this process's environment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let unreadable = |detail: String| {
            Problems::one("", format!("{}: {detail}; name a configuration file", path.display()))
        };
        let meta = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
        if meta.len() > FILE_BYTES_MAX {
            return Err(unreadable(format!("is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let env = |name: &str| std::env::var(name).ok();
        Self::parse(&text, &Surroundings { env: &env, hostname })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, surroundings: &Surroundings<'_>) -> Result<Self, Problems> {
        let tree: Node = serde_yaml::from_str(text)
            .map_err(|error| Problems::one("", format!("this is no YAML: {error}")))?;
        read::settings(tree, surroundings)
    }

    /// Where this cluster's objects lie: several may share a bucket or a directory.
    pub fn objects_url(&self) -> StoreUrl {
        self.store.url.join(&self.cluster)
    }

    /// A digest of that in which all replicas of a cluster must agree: which topics are diskless,
    /// and how many replicas of Redis must have a commit. Never 0.
    pub fn digest(&self) -> u64 {
        let rules =
            self.diskless.topics.iter().map(|rule| format!("{}:{:?}", rule.pattern, rule.kind));
        let replicas = match &self.coordinator {
            CoordinatorSettings::Embedded => 0,
            CoordinatorSettings::Redis { replicas, .. } => *replicas,
        };
        let text = rules.chain([format!("replicas:{replicas}")]).collect::<Vec<_>>().join("\n");
        // FNV-1a: the same in every version and on every machine.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, mix).max(1)
    }

    /// What works and is likely not what is wanted in production, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        relations::warnings(self)
    }
}

#[cfg(test)]
mod tests;
