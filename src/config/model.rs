//! The keys of the configuration file: one field a key, with its type, default, valid values and
//! documentation.
//!
//! Everything else about a key is derived from here by [`keys`](super::keys): what
//! `odradek validate` checks, `docs/configuration.md`, and the JSON schemas of the file and of the
//! Helm chart's values. Beside what serde and schemars define, these attributes are used:
//!
//! - `format`: the syntax of a text, one of [`FORMATS`](super::formats::FORMATS)
//! - `x-required`: the key must be present
//! - `x-minimum`, `x-maximum`: the range of a size or a duration
//! - `x-default`: describes a default that depends on something else

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use smart_default::SmartDefault;

use super::coordinator::{CoordinatorForm, CoordinatorSettings};
use super::secret::SecretFile;
use super::text;
use super::units::{ByteSize, HostPort, Interval};
use super::written::Written;
use crate::cost::Pricing;
use crate::engine::produce::FlushProfile;
use crate::logging::{AuditOutput, LogFormat};
use crate::sasl::SaslMechanism;
use crate::store::open::StoreUrl;
use crate::topic_rules::TopicPattern;

/// The configuration of a replica.
#[derive(Clone, Debug, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct Settings {
    /// The name of this installation: the prefix of its keys in Redis and of its objects below
    /// `store`. Several installations may share both. Changing the name makes all existing
    /// diskless data invisible.
    #[default = "odradek"]
    #[schemars(extend("format" = "name"))]
    pub cluster: String,

    /// The availability zone of this replica. Clients of a zone see the zone's diskless nodes as
    /// leaders. Using one name for two real zones causes cross-zone traffic.
    #[default = "default"]
    #[schemars(extend("format" = "name"))]
    pub zone: String,

    /// The name of this replica. It must be unique in the cluster while the replica runs.
    #[default = "odradek-0"]
    #[schemars(extend("format" = "name", "x-default" = "`HOSTNAME`, else the host's name, else `odradek-0`"))]
    pub replica: String,

    /// Makes this replica host diskless nodes and write objects. With `false` it is a sidecar:
    /// it forwards classic traffic and names the zone's diskless nodes as leaders, so any number of
    /// sidecars cost no PUTs. A sidecar needs the `coordinator` and the `diskless.topics` of the
    /// other replicas; it ignores `store`, `flush` and `listeners.nodePorts`.
    #[default = true]
    pub writer: bool,

    pub kafka: KafkaSettings,
    pub listeners: ListenerSettings,
    pub clients: ClientSettings,
    pub diskless: DisklessSettings,

    /// The object store: `s3://bucket/prefix`; `file:///path`, a directory, for one replica on one
    /// machine; or `memory:`, for demonstrations, which loses all records when the process ends.
    #[default(StoreUrl::File("/var/lib/odradek".into()))]
    #[serde(with = "text")]
    #[schemars(with = "String", extend("format" = "store URL"))]
    pub store: StoreUrl,

    pub s3: S3Settings,

    /// The batch coordinator, which assigns offsets: `redis://[user:password@]host:port/db`,
    /// `rediss://` (TLS), `redis-sentinel://` or `redis-cluster://`; or `embedded`, inside the
    /// only replica. Either the URL alone, or a section with the URL and further keys.
    #[schemars(with = "CoordinatorForm", extend("x-default" = "`embedded`"))]
    pub coordinator: CoordinatorSettings,

    pub flush: FlushSettings,
    pub memory: MemorySettings,
    pub peers: Option<PeerSettings>,
    pub admin: AdminSettings,
    pub log: LogSettings,
    pub metrics: MetricsSettings,
    pub costs: Pricing,

    /// The values as the file contains them, for comparison with the next version of the file.
    #[serde(skip)]
    pub written: Written,
}

/// The Kafka cluster behind the proxy.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("x-required" = true))]
pub struct KafkaSettings {
    /// The addresses of some brokers, as `host:port`. With more than one, a replica can start while a broker is
    /// down.
    #[schemars(
        with = "Vec<String>",
        length(min = 1),
        extend("items" = {"type": "string", "format": "broker address"}, "x-required" = true)
    )]
    pub bootstrap_servers: Vec<HostPort>,

    pub sasl: Option<SaslSettings>,
}

/// Authentication of Odradek's own connections to the brokers; without this section they do not
/// authenticate.
/// Clients authenticate themselves, with any mechanism that the broker's listener offers.
#[derive(Clone, Debug, PartialEq, Eq, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct SaslSettings {
    /// The SASL mechanism. `PLAIN` sends the password unencrypted.
    #[default(SaslMechanism::ScramSha512)]
    #[schemars(extend("x-required" = true))]
    pub mechanism: SaslMechanism,

    /// The user. It needs the operations Describe and DescribeConfigs on every topic;
    /// `docs/operations.md` lists the commands.
    #[schemars(extend("format" = "text", "x-required" = true))]
    pub username: String,

    /// The file that contains the user's password, on one line; the configuration itself contains
    /// no secrets.
    #[serde(rename = "passwordFile")]
    #[schemars(with = "String", extend("format" = "secret file", "x-required" = true))]
    pub password: SecretFile,
}

/// The ports that clients connect to, and the addresses that they are given.
#[derive(Clone, Debug, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ListenerSettings {
    /// The IP address to listen on. `0.0.0.0` accepts clients on every interface and requires
    /// `advertisedHost`.
    #[default(IpAddr::V4(Ipv4Addr::LOCALHOST))]
    #[schemars(extend("format" = "IP address"))]
    pub bind: IpAddr,

    /// The host that clients are told to connect to. They must be able to resolve and reach it.
    #[schemars(extend(
        "format" = "host",
        "x-default" = "`bind` if that is a loopback address, else **required**"
    ))]
    pub advertised_host: String,

    /// The port for the clients' `bootstrap.servers`.
    #[default = 9092]
    #[schemars(range(min = 1), extend("format" = "port"))]
    pub bootstrap_port: u16,

    /// Broker *n* is reached at this port plus *n*. Leave room for the highest broker id below
    /// `nodePorts`.
    #[default = 9100]
    #[schemars(range(min = 1), extend("format" = "port"))]
    pub broker_ports: u16,

    /// Diskless node *k* of the zone is reached at this port plus *k*, if this replica hosts it.
    /// Leave room for a larger `diskless.nodesPerZone`.
    #[default = 9300]
    #[schemars(range(min = 1), extend("format" = "port"))]
    pub node_ports: u16,

    /// The networks of load balancers that announce the addresses of clients with the PROXY protocol,
    /// version 2, such as `[10.0.0.0/28]`. Every connection from them must begin with a header; from
    /// other addresses none is accepted. Whatever is in these networks can announce any address, so
    /// they must contain nothing but load balancers; a network larger than `/8`, or `/16` with IPv6,
    /// is refused. The announced address counts for `maxConnectionsPerAddress`
    /// and for `clients.zones`.
    #[schemars(
        with = "Vec<String>",
        extend("items" = {"type": "string", "format": "network"})
    )]
    pub proxy_protocol_from: Vec<IpNet>,

    /// The maximum number of client connections of this replica, to all ports together. Further ones
    /// are closed at once. Each needs two of the files that the process may open (`ulimit -Hn`), and
    /// a quarter of those, at most 4096, is kept for the store, Redis and brokers.
    #[schemars(
        range(min = 1, max = 1_000_000),
        extend("x-default" = "what the limit on open files and a quarter of the memory allow, 64 KiB each, at most 30000")
    )]
    pub max_connections: Option<u32>,

    /// The maximum number of connections of one client: an IPv4 address, or a /64 network of IPv6.
    /// Behind a load balancer that hides client addresses, its clients count as one, unless it
    /// announces them (`proxyProtocolFrom`).
    #[schemars(
        range(min = 1, max = 1_000_000),
        extend("x-default" = "`maxConnections`; with `proxyProtocolFrom`, half of it")
    )]
    pub max_connections_per_address: Option<u32>,

    /// Connections on which no byte has moved in either direction for this time are closed, as by
    /// `connections.max.idle.ms` of a broker.
    #[default(Interval::from_millis(600_000))]
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "24h"))]
    pub idle_timeout: Interval,
}

/// Which zone a client is in. A client of another zone is given that zone's leaders. A zone that the
/// client names itself (`diskless_az=`, `inkless_az=`, `ws_az=` or `zone=` in its `client.id`) takes
/// precedence; then the port that it connected to counts, then its address.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientSettings {
    /// Rules that assign clients to zones.
    pub zones: Vec<ClientZoneSettings>,

    /// Interval at which clients that support it (KIP-714) push their own metrics to this
    /// replica. It exports series by client (`odradek_client_*`) for tiny batches and for clients
    /// of other zones. Without this key, such requests are forwarded to the brokers.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub telemetry: Option<Interval>,
}

/// Rule that assigns clients to one zone. At least one of `port` and `cidrs` is required.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientZoneSettings {
    /// The `zone` of other replicas. While none of them runs, the clients stay at this replica.
    #[schemars(extend("format" = "name", "x-required" = true))]
    pub zone: String,

    /// An additional bootstrap port, for clients of that zone only.
    #[schemars(range(min = 1), extend("format" = "port"))]
    pub port: Option<u16>,

    /// The networks of that zone, such as `[10.2.0.0/16]`; the longest matching prefix counts.
    /// Behind a load balancer that hides client addresses this needs `listeners.proxyProtocolFrom`.
    #[schemars(
        with = "Vec<String>",
        extend("items" = {"type": "string", "format": "network"})
    )]
    pub cidrs: Vec<IpNet>,
}

/// The topics that are stored in object storage, and the nodes that lead them.
#[derive(Clone, Debug, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct DisklessSettings {
    /// Rules that decide the type of a topic when it is created. The first match wins; a topic
    /// without a match is classic. The rules never change an existing topic.
    pub topics: Vec<TopicRuleSettings>,

    /// The number of diskless nodes (leaders of diskless partitions) that clients of a zone see. A
    /// producer has a connection and requests in flight to each of them; each costs every client a
    /// connection. The largest value that any replica of a zone ever had applies to the whole zone;
    /// the number never decreases.
    #[default = 4]
    #[schemars(range(min = 1, max = 64))]
    pub nodes_per_zone: u8,
}

/// A rule for the topics that one pattern matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicRuleSettings {
    /// A topic name, or a pattern: `*` matches any text, `?` any one character. Topics whose names
    /// begin with `__` are never diskless.
    #[serde(rename = "match", with = "text")]
    #[schemars(with = "String", extend("format" = "topic pattern", "x-required" = true))]
    pub pattern: TopicPattern,

    /// The flush profile of these topics.
    #[schemars(extend("x-default" = "`flush.profile`"))]
    pub profile: Option<FlushProfile>,

    /// `true` keeps these topics classic although a later rule matches them.
    pub exclude: bool,
}

/// Access to the bucket of an `s3://` store.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct S3Settings {
    /// The URL of a server other than AWS. With `https://`, its certificate must be signed by a
    /// public certificate authority.
    #[schemars(extend("format" = "endpoint", "x-default" = "AWS"))]
    pub endpoint: Option<String>,

    /// The region that requests are signed for. AWS rejects requests for a wrong region.
    #[schemars(extend("format" = "name", "x-default" = "`AWS_REGION`, else `AWS_DEFAULT_REGION`, else `us-east-1`"))]
    pub region: String,

    /// Makes the bucket a part of the path (MinIO, Ceph) or of the host name (AWS).
    #[schemars(extend("x-default" = "`true` with an `endpoint`, else `false`"))]
    pub path_style: Option<bool>,

    /// The id of a fixed key pair, with `secretAccessKeyFile`. Without them, credentials come from
    /// the environment, the profile, web identity (IRSA), the container or the instance, in this
    /// order; those are renewed automatically, a fixed pair is not.
    #[schemars(extend("format" = "text", "x-default" = "the `AWS_*` chain"))]
    pub access_key_id: Option<String>,

    /// The file that contains the secret of `accessKeyId`, on one line.
    #[serde(rename = "secretAccessKeyFile")]
    #[schemars(
        with = "Option<String>",
        extend("format" = "secret file", "x-default" = "the `AWS_*` chain")
    )]
    pub secret_access_key: Option<SecretFile>,
}

/// When the records of producers are written to object storage. Each flush of each replica is one
/// PUT; the producers are acknowledged after it.
#[derive(Clone, Debug, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct FlushSettings {
    /// The longest time that a record is buffered; with profile `cheap`, the time between two
    /// objects. A shorter interval acknowledges sooner and costs more PUTs.
    #[default(Interval::from_millis(250))]
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "60s"))]
    pub interval: Interval,

    /// The size at which an object is written before the interval ends. Memory use grows with it.
    #[default(ByteSize::mib(8))]
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "256MiB"))]
    pub size: ByteSize,

    /// The profile of topics whose rule does not name one. `fast` writes an object immediately
    /// while no upload is in flight, and otherwise half a median PUT, and at least 25 ms, after the
    /// previous one; `cheap` writes one object for each interval: fewer and larger objects.
    #[default(FlushProfile::Fast)]
    pub profile: FlushProfile,

    /// The maximum average number of PUTs that this replica starts in a second, which limits the
    /// cost. At the limit, objects grow and acknowledgements are delayed. 10 PUTs a second are 26
    /// million a month.
    #[schemars(range(min = 0.1, max = 10_000.0))]
    pub max_puts_per_second: Option<f64>,
}

/// Limits of a replica's memory use.
#[derive(Clone, Debug, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MemorySettings {
    /// Produce requests, from reading them to acknowledging them. At the limit, the sockets of
    /// producers are not read, and `throttle_time_ms` reports it to them. Classic traffic has a
    /// separate limit of the same size. Objects that are being uploaded can use the same amount
    /// again.
    #[default(ByteSize::mib(256))]
    #[schemars(extend("x-minimum" = "16MiB", "x-maximum" = "4GiB"))]
    pub requests: ByteSize,

    /// The part of `memory.requests` that one connection may use. A larger request is processed
    /// alone.
    #[default(ByteSize::mib(64))]
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "4GiB"))]
    pub connection: ByteSize,

    /// Fetch responses of diskless topics that clients have not read yet. A fetch reserves memory
    /// here before it reads.
    #[default(ByteSize::mib(128))]
    #[schemars(extend("x-minimum" = "16MiB", "x-maximum" = "4GiB"))]
    pub responses: ByteSize,

    /// Objects that are cached for consumers. A smaller cache causes more GETs.
    #[default(ByteSize::mib(256))]
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "1024GiB"))]
    pub cache: ByteSize,
}

/// The zone cache: replicas of a zone fetch objects from each other, so each object is read from
/// object storage once per zone. Without this section, this replica neither sends nor answers such
/// requests.
#[derive(Clone, Debug, PartialEq, Eq, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct PeerSettings {
    /// The address and port for requests from other replicas of the zone, such as `0.0.0.0:8190`.
    /// Requests are authenticated with a secret that the replicas share in Redis; make the port
    /// reachable inside the zone only.
    #[default(SocketAddr::from((Ipv4Addr::LOCALHOST, 8190)))]
    #[schemars(with = "String", extend("format" = "socket address", "x-required" = true))]
    pub bind: SocketAddr,

    /// The host at which the other replicas of the zone reach this one.
    #[schemars(extend(
        "format" = "host",
        "x-default" = "the address of `bind` if that is one interface's, else **required**"
    ))]
    pub advertised_host: String,
}

/// The HTTP port of health checks (`/livez`, `/readyz`), metrics (`/metrics`) and the console.
#[derive(Clone, Debug, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct AdminSettings {
    /// The address and port to listen on. The port is not authenticated: make it reachable for
    /// operators and Prometheus only.
    #[default(SocketAddr::from((Ipv4Addr::LOCALHOST, 8180)))]
    #[schemars(with = "String", extend("format" = "socket address"))]
    pub bind: SocketAddr,
}

/// Logs on standard error, and the destination of traces.
#[derive(Clone, Debug, PartialEq, Eq, SmartDefault, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct LogSettings {
    /// `text` for people, or `json`: one object a line. The variable `ODRADEK_LOG_FORMAT` takes
    /// precedence.
    pub format: LogFormat,

    /// Log level: a level such as `info` or `debug`, or levels by module, such as
    /// `info,odradek::proxy=debug`. The variable `ODRADEK_LOG` takes precedence. `PUT /log` at the
    /// admin port changes the level while the replica runs.
    #[default = "info"]
    #[schemars(extend("format" = "log filter"))]
    pub level: String,

    /// Destination of the audit log: `stdout`, which has nothing else, `stderr`, or `off`. It is JSON, one
    /// object a line, whatever `log.format` and `log.level` are.
    pub audit: AuditOutput,

    /// The URL of an OpenTelemetry collector (OTLP over HTTP without TLS), such as
    /// `http://collector:4318`. It receives a span for each produce request and for each object,
    /// with its upload and its commit.
    #[schemars(extend(
        "format" = "collector URL",
        "x-default" = "`OTEL_EXPORTER_OTLP_ENDPOINT`, else none"
    ))]
    pub traces: Option<String>,
}

/// Metrics exported at `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
pub struct MetricsSettings {
    /// Exports series by topic (`odradek_topic_*`), for the 200 busiest topics. The
    /// console shows all topics in any case.
    pub per_topic: bool,
}
