//! Every key that the file may have: what is known, and what `docs/configuration.md` says.

use std::fmt::Write as _;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its path; `[]` stands for each element of a list.
    pub path: &'static str,
    /// What holds when it is left out; empty for a section.
    pub default: &'static str,
    /// What it does and what it costs.
    pub doc: &'static str,
}

const fn key(path: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { path, default, doc }
}

/// All keys, sections before what they hold.
pub const KEYS: &[Key] = &[
    key(
        "cluster",
        "`odradek`",
        "Names this installation: it begins every key in Redis and lies below `store`, so several installations may share both. Changing it later makes all diskless data invisible.",
    ),
    key(
        "zone",
        "`default`",
        "The availability zone of this replica. Clients of a zone see its diskless nodes as leaders; a name used in two real zones costs cross-zone traffic.",
    ),
    key(
        "replica",
        "the host's name, else `odradek-0`",
        "Names this replica while it lives; must be unique among all of the cluster.",
    ),
    key(
        "writer",
        "`on`",
        "`off` makes of this replica a sidecar: it relays classic traffic and names the zone's diskless nodes as leaders, but hosts none and writes nothing, so any number of them costs no PUTs. It needs `coordinator` and the same `diskless.topics` as the others; `store`, `flush` and `listeners.nodePorts` are of no use to it.",
    ),
    key("kafka", "", "The Kafka cluster behind the proxy."),
    key(
        "kafka.bootstrapServers",
        "**required**",
        "`host:port` of some brokers, as a list. More than one lets a replica start while a broker is down.",
    ),
    key(
        "kafka.sasl",
        "",
        "How Odradek's own connections to the brokers authenticate; left out, they do not. Clients authenticate for themselves, with whatever their broker's listener wants.",
    ),
    key(
        "kafka.sasl.mechanism",
        "**required**",
        "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`. `PLAIN` shows the password to whoever reads the network.",
    ),
    key(
        "kafka.sasl.username",
        "**required**",
        "The user. It needs Describe and DescribeConfigs on every topic (`docs/operations.md` has the commands).",
    ),
    key(
        "kafka.sasl.passwordFile",
        "**required**",
        "The file that holds the user's password; never the password itself, so that this file can be shown.",
    ),
    key("listeners", "", "Where clients come in, and what they are told to connect to."),
    key(
        "listeners.bind",
        "`127.0.0.1`",
        "The IP address to listen on. `0.0.0.0` takes clients from everywhere and wants `advertisedHost`.",
    ),
    key(
        "listeners.advertisedHost",
        "`bind` when that is a loopback address, else **required**",
        "The host that clients are told to connect to; they must be able to resolve and reach it from where they are.",
    ),
    key("listeners.bootstrapPort", "`9092`", "The port that clients' `bootstrap.servers` names."),
    key(
        "listeners.brokerPorts",
        "`9100`",
        "Broker *n* is reached at this port plus *n*. Leave room for your highest broker id below `nodePorts`.",
    ),
    key(
        "listeners.nodePorts",
        "`9300`",
        "Diskless node *k* of the zone is reached at this port plus *k*, where it is this replica's. Leave room for more nodes than there are now.",
    ),
    key(
        "clients",
        "",
        "In which zones clients are, for those that start at a replica of another zone: they are sent to their own. A client says it itself by `diskless_az=`, `inkless_az=`, `ws_az=` or `zone=` in its `client.id`, which comes first; then the port that it came to counts, then its address.",
    ),
    key("clients.zones", "none", "What is known of the clients of some zones, as a list."),
    key(
        "clients.zones[].zone",
        "**required**",
        "The `zone` of other replicas. While nobody lives there, its clients stay here.",
    ),
    key(
        "clients.zones[].port",
        "none",
        "A further bootstrap port, for clients of that zone alone.",
    ),
    key(
        "clients.zones[].cidrs",
        "none",
        "Networks that clients of that zone are in, as `[10.2.0.0/16]`; the narrowest counts. Behind a load balancer that hides addresses they say nothing.",
    ),
    key(
        "clients.telemetry",
        "none",
        "How often clients that can (KIP-714) are asked to push figures of their own here, 1s to 1h, as `1m`; they become series by client (`odradek_client_*`): tiny batches, clients of other zones. Left out, such requests go to the brokers.",
    ),
    key("diskless", "", "Which topics live in object storage, and who serves them."),
    key(
        "diskless.topics",
        "none",
        "Rules that decide the kind of a topic when it is created; the first match wins, what matches none is classic. They never change a topic that exists.",
    ),
    key(
        "diskless.topics[].match",
        "**required**",
        "A topic's name, or a pattern: `*` is any text, `?` any one character. Topics that begin with `__` are never diskless.",
    ),
    key("diskless.topics[].profile", "`flush.profile`", "`fast` or `cheap`, for these topics."),
    key(
        "diskless.topics[].exclude",
        "`false`",
        "`true` keeps these topics classic, ahead of a wider rule below.",
    ),
    key(
        "diskless.nodesPerZone",
        "`4`",
        "How many leaders clients of a zone see for diskless partitions, 1 to 64. A producer has its own connection and requests in flight to each; each costs every client a connection. A zone has the most that any of its replicas ever asked for, and never fewer again.",
    ),
    key(
        "store",
        "`file:///var/lib/odradek`",
        "Where objects lie: `s3://bucket/prefix`; `file:///path` for one replica on one machine; `memory:` for a demonstration that forgets everything.",
    ),
    key("s3", "", "How to reach the bucket of an `s3://` store."),
    key(
        "s3.endpoint",
        "AWS",
        "Another server than AWS, as `http://host:port` or `https://host:port`. Its certificate must come from a public authority.",
    ),
    key(
        "s3.region",
        "`AWS_REGION`, else `us-east-1`",
        "The region that requests are signed for; a wrong one is refused by AWS.",
    ),
    key(
        "s3.pathStyle",
        "`true` with an `endpoint`, else `false`",
        "Whether the bucket stands in the path (MinIO, Ceph) or in the host's name (AWS).",
    ),
    key(
        "s3.accessKeyId",
        "the `AWS_*` chain",
        "With `secretAccessKeyFile`: a fixed key pair. Without: environment, profile, web identity (IRSA), container, instance, in this order; those renew themselves, a fixed pair does not.",
    ),
    key(
        "s3.secretAccessKeyFile",
        "the `AWS_*` chain",
        "The file that holds the secret of `accessKeyId`; never the secret itself, so that this file can be shown.",
    ),
    key(
        "coordinator",
        "`embedded`",
        "Who orders records: `redis://[user:password@]host:port/db`, `rediss://` (TLS), `redis-sentinel://`, `redis-cluster://`; or `embedded`, inside the only replica. Or a section, as below.",
    ),
    key(
        "coordinator.url",
        "–",
        "The same URL, where there is more to say; required in the section.",
    ),
    key(
        "coordinator.replicas",
        "`0`",
        "Of Redis' own replicas, how many must have a commit before it is acknowledged (`WAIT`), 0 to 5. As many as a failover may choose from, or it may choose one that has not got what another acknowledged; then nothing acknowledged is lost. While fewer are there, nothing is acknowledged.",
    ),
    key(
        "flush",
        "",
        "When what producers sent is written to object storage. Each flush of each replica is one PUT; an ack waits for it.",
    ),
    key(
        "flush.interval",
        "`250ms`",
        "The longest that a record waits for others, 1ms to 60s: with `cheap`, the time between two objects. Shorter acks sooner and pays for more PUTs.",
    ),
    key(
        "flush.size",
        "`8MiB`",
        "An object is written as soon as it is this large, 1KiB to 256MiB. Memory in use grows with it.",
    ),
    key(
        "flush.profile",
        "`fast`",
        "`fast` writes at once while nothing is under way; `cheap` writes once for each interval: fewer, larger objects. For topics whose rule names none.",
    ),
    key(
        "flush.maxPutsPerSecond",
        "none",
        "The most PUTs that this replica begins in a second, on average: what caps the bill. When it is reached objects grow and acks wait. 0.1 to 10000; 10 are 26 million a month.",
    ),
    key("memory", "", "What a replica may hold in memory."),
    key(
        "memory.requests",
        "`256MiB`",
        "Produce requests between their reading and their acknowledgement. When it is spent producers' sockets are not read and `throttle_time_ms` tells them; classic traffic has as much again of its own. Objects being uploaded can add as much once more. 16MiB to 4GiB.",
    ),
    key(
        "memory.connection",
        "`64MiB`",
        "The share of `memory.requests` that one connection may take, 1MiB to 4GiB. A larger request goes alone.",
    ),
    key(
        "memory.responses",
        "`128MiB`",
        "Answers to fetches from diskless topics that clients have not taken yet; a fetch waits for its room before it reads. 16MiB to 4GiB.",
    ),
    key(
        "memory.cache",
        "`256MiB`",
        "Objects kept for readers, 1MiB to 1024GiB. Fewer mean more GETs.",
    ),
    key(
        "peers",
        "",
        "Replicas of a zone ask each other for objects, so that each is fetched from object storage once per zone, however many read it.",
    ),
    key(
        "peers.bind",
        "none",
        "The address and port at which other replicas ask this one, as `0.0.0.0:9190`. It answers only who knows the secret that the replicas share in Redis; open it inside the zone only. Left out, this replica neither asks nor is asked.",
    ),
    key(
        "peers.advertisedHost",
        "`bind`'s address when that is one interface's, else **required**",
        "The host at which the zone's other replicas reach this one.",
    ),
    key("admin", "", "The HTTP port of `/livez`, `/readyz` and `/metrics`."),
    key(
        "admin.bind",
        "`127.0.0.1:9180`",
        "Its address and port. It asks for no password: bind it where only operators and Prometheus reach.",
    ),
    key("log", "", "What is logged to standard error, and how."),
    key(
        "log.format",
        "`text`",
        "`text` for people, or `json`: one object for each line. `ODRADEK_LOG_FORMAT` comes first.",
    ),
    key(
        "log.level",
        "`info`",
        "What is logged: `info`, `debug`, or by module, as `info,odradek::proxy=debug`. `ODRADEK_LOG` comes first; `PUT /log` at the admin port changes it while the replica runs.",
    ),
    key(
        "log.traces",
        "`OTEL_EXPORTER_OTLP_ENDPOINT`, else none",
        "A collector of OpenTelemetry (OTLP over HTTP without TLS), as `http://collector:4318`: it is sent a span for each produce request and for each object, with its upload and its commit.",
    ),
    key("metrics", "", "What `/metrics` shows."),
    key(
        "metrics.perTopic",
        "`off`",
        "`on` adds series by topic (`odradek_topic_*`) for the 200 busiest. The page at the admin port has all of them in any case.",
    ),
    key(
        "costs",
        "",
        "The price book: what the figures of money are reckoned with (`docs/cost.md`). List prices of AWS in us-east-1 where nothing else is said; a cloud that charges nothing for bytes between zones has `crossZonePerGiB: 0`.",
    ),
    key(
        "costs.crossZonePerGiB",
        "`0.02`",
        "Dollars for a GiB from one zone to another, what both sides pay together.",
    ),
    key("costs.putsPer1000", "`0.005`", "Dollars for 1,000 PUTs or LISTs."),
    key("costs.getsPer1000", "`0.0004`", "Dollars for 1,000 GETs or HEADs."),
    key("costs.storagePerGiBMonth", "`0.023`", "Dollars for a GiB that lies there for a month."),
    key(
        "costs.replicationFactor",
        "`3`",
        "How many copies the replicated Kafka would keep that diskless topics are compared with, 1 to 9.",
    ),
    key(
        "costs.replicationIsCharged",
        "`true`",
        "`false` where replication between zones is free, as with Amazon MSK.",
    ),
    key(
        "costs.fetchFromFollower",
        "`true`",
        "`false` where consumers of that Kafka would read from leaders in other zones (no KIP-392).",
    ),
    key(
        "costs.zones",
        "as many as have replicas",
        "How many zones its clients and brokers would be spread over, 1 to 64.",
    ),
];

/// The names that may stand in a section; `path` is empty for the top of the file.
pub(super) fn children(path: &str) -> impl Iterator<Item = &'static str> {
    let base = if path.is_empty() { String::new() } else { format!("{}.", without_indices(path)) };
    KEYS.iter().filter_map(move |key| {
        let name = key.path.strip_prefix(base.as_str())?;
        (!name.contains(['.', '['])).then_some(name)
    })
}

/// The section in which a name stands when it does not belong where it was found.
pub(super) fn section_of(name: &str) -> Option<&'static str> {
    KEYS.iter().find_map(|key| {
        let (section, last) = key.path.rsplit_once('.')?;
        (last == name).then_some(section)
    })
}

/// `a[3].b` as `a[].b`.
fn without_indices(path: &str) -> String {
    let mut inside = false;
    let keep = |c: &char| {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ => return !inside,
        }
        true
    };
    path.chars().filter(keep).collect()
}

/// `docs/configuration.md`, printed from the table.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    let is_section = |key: &&Key| key.default.is_empty();
    let row = |text: &mut String, key: &Key| {
        let _infallible =
            writeln!(text, "- `{}` (default: {}). {}", key.path, key.default, key.doc);
    };
    for key in KEYS.iter().filter(|key| !key.path.contains('.') && !is_section(key)) {
        row(&mut text, key);
    }
    for section in KEYS {
        let below = |key: &&Key| {
            key.path.strip_prefix(section.path).is_some_and(|rest| rest.starts_with('.'))
        };
        let doc = match (is_section(&section), KEYS.iter().any(|key| below(&key))) {
            (true, _) => section.doc,
            (false, true) => "As a section, in the place of the single value.",
            (false, false) => continue,
        };
        let _infallible = writeln!(text, "\n## `{}`\n\n{doc}\n", section.path);
        KEYS.iter().filter(below).for_each(|key| row(&mut text, key));
    }
    text
}

const HEAD: &str = "\
# Configuration

One YAML file per replica: `odradek serve FILE`. `odradek validate FILE` names every mistake at
once and exits with 78. Only `kafka.bootstrapServers` is required; `examples/odradek.yaml` shows the rest.

In any value, `${VAR}` is the environment's variable, `${VAR:-default}` has a default for one that is
unset or empty, `${VAR:?message}` insists on it, and `$$` is a dollar sign. Sizes are written `8MiB`
or `8MB`, durations `250ms`, `2s`, `5m`.

<!-- Printed from src/config/keys.rs; a test compares. UPDATE_DOCS=1 cargo test configuration_reference rewrites it. -->

## Top level

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_reference_is_the_table_of_keys() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, reference()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == reference(), "{path} is out of date; UPDATE_DOCS=1 rewrites it");
    }

    #[test]
    fn children_of_a_section() {
        assert!(children("").eq([
            "cluster",
            "zone",
            "replica",
            "writer",
            "kafka",
            "listeners",
            "clients",
            "diskless",
            "store",
            "s3",
            "coordinator",
            "flush",
            "memory",
            "peers",
            "admin",
            "log",
            "metrics",
            "costs"
        ]));
        assert!(children("kafka").eq(["bootstrapServers", "sasl"]));
        assert!(children("kafka.sasl").eq(["mechanism", "username", "passwordFile"]));
        assert!(children("diskless.topics[12]").eq(["match", "profile", "exclude"]));
        assert_eq!(section_of("nodePorts"), Some("listeners"));
        assert_eq!(section_of("nothing"), None);
    }
}
