use super::keys::{KEYS, Key, Kind};
use super::*;
use crate::engine::produce::FlushProfile;
use crate::logging::LogFormat;
use crate::store::open::StoreUrl;
use crate::topic_rules::TopicRules;

mod clients;
mod coordinator;
mod observability;
mod peers;
mod secrets;

const KAFKA: &str = "kafka: {bootstrapServers: [k:9092]}\n";

pub(super) fn parse_with(text: &str, vars: &[(&str, &str)]) -> Result<Settings, Problems> {
    let env = |name: &str| {
        vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    Settings::parse(text, &Environment { env: &env, hostname: Some("host-1\n".to_owned()) })
}

/// Parses a file with brokers and `text`.
fn parse(text: &str) -> Result<Settings, Problems> {
    parse_with(&format!("{KAFKA}{text}"), &[])
}

#[track_caller]
pub(super) fn check(text: &str, expected: &[&str]) {
    let reported = parse(text).map_or_else(|problems| problems.to_string(), |_| String::new());
    assert_eq!(reported.lines().collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn only_bootstrap_servers_are_required() {
    let settings = parse("").unwrap();
    assert_eq!(settings.cluster, "odradek");
    assert_eq!(settings.zone, "default");
    assert_eq!(settings.replica, "host-1");
    assert_eq!(settings.kafka.bootstrap_servers[0].to_string(), "k:9092");
    let listeners = &settings.listeners;
    assert_eq!(listeners.bind.to_string(), "127.0.0.1");
    assert_eq!(listeners.advertised_host, "127.0.0.1");
    let ports = (listeners.bootstrap_port, listeners.broker_ports, listeners.node_ports);
    assert_eq!(ports, (9092, 9100, 9300));
    assert_eq!(settings.diskless.nodes_per_zone, 4);
    assert_eq!(settings.topic_rules(), TopicRules::default());
    assert_eq!(settings.store, StoreUrl::File("/var/lib/odradek".into()));
    assert_eq!(settings.objects_url(), StoreUrl::File("/var/lib/odradek/odradek".into()));
    assert_eq!(settings.coordinator, CoordinatorSettings::Embedded);
    assert_eq!(settings.flush.interval.to_string(), "250ms");
    assert_eq!(
        (settings.flush.size.bytes(), settings.flush.profile),
        (8 << 20, FlushProfile::Fast)
    );
    assert_eq!(settings.admin.bind.to_string(), "127.0.0.1:8180");
    assert_eq!(settings.warnings(), Vec::<String>::new());

    let expected = "kafka.bootstrapServers: missing key: expected a list of `host:port`, such as `kafka-1:9092`";
    for text in ["", "{}", "kafka:", "kafka: {}", "kafka: {bootstrapServers: []}", "zone: a"] {
        assert_eq!(parse_with(text, &[]).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn example_is_valid_and_names_every_key() {
    let text = include_str!("../../examples/odradek.yaml");
    let settings = parse_with(text, &[("ZONE", "b"), ("HOSTNAME", "r7")]).unwrap();
    assert_eq!((settings.zone.as_str(), settings.replica.as_str()), ("b", "r7"));
    assert_eq!(settings.listeners.advertised_host, "odradek.zone-a.example");
    assert_eq!(settings.topic_rules().diskless_profile("logs.audit"), None);
    assert_eq!(settings.topic_rules().diskless_profile("logs.x"), Some(FlushProfile::Cheap));
    assert_eq!(settings.objects_url().to_string(), "s3://odradek/data/prod");
    assert_eq!(settings.s3.endpoint.as_deref(), Some("http://minio:9000"));
    assert!(settings.s3_options().path_style);
    assert_names(&KEYS, text);
}

fn assert_names(keys: &[Key], text: &str) {
    for key in keys {
        assert!(text.contains(&format!("{}:", key.name)), "{} is not shown", key.name);
        match &key.kind {
            Kind::Section(keys) | Kind::TextOrSection(_, keys) => assert_names(keys, text),
            Kind::List { items, .. } => {
                if let Kind::Section(keys) = &**items {
                    assert_names(keys, text);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn eight_problems_are_reported_at_once() {
    let text = "\
cluster: two words
zone: ${ZONE:?zone of this replica}
listeners:
  bootstapPort: 9092
  brokerPorts: 70000
diskless:
  topics:
    - match: ok
    - match: __consumer_offsets
  nodesPerZone: 65
store: gs://bucket
flush: {interval: 250}
";
    check(
        text,
        &[
            "cluster: invalid name `two words`: expected 1–128 characters of A–Z, a–z, 0–9, `.`, `_` and `-`, without `..` or a leading `.`",
            "zone: `ZONE` is not set (zone of this replica); set it in the environment",
            "listeners.bootstapPort: unknown key; did you mean `bootstrapPort`?",
            "listeners.brokerPorts: invalid port `70000`: expected 1–65535",
            "diskless.topics[1].match: invalid topic pattern `__consumer_offsets`: topics that begin with `__` are Kafka's own (offsets, transactions) and always classic; delete this rule",
            "diskless.nodesPerZone: invalid number `65`: expected 1–64",
            "store: invalid store URL `gs://bucket`: expected `s3://bucket/prefix`, `file:///path` or `memory:`",
            "flush.interval: invalid duration `250`: expected 1ms–60s",
        ],
    );
}

#[test]
fn unknown_and_duplicate_keys_are_reported() {
    check("zonne: a", &["zonne: unknown key; did you mean `zone`?"]);
    check("nodePorts: 1", &["nodePorts: unknown key; it belongs to `listeners`"]);
    check(
        "flush: {linger: 5ms}",
        &[
            "flush.linger: unknown key: expected `interval`, `size`, `profile` or `maxPutsPerSecond`",
        ],
    );
    check("zone: a\nzone: b", &["zone: duplicate key; delete all but one"]);
    check(
        "flush: {size: 1MiB, size: 2MiB, size: 3MiB}",
        &["flush.size: duplicate key; delete all but one"],
    );
    check(
        "7: a",
        &[
            "7: unknown key: expected `cluster`, `zone`, `replica`, `writer`, `kafka`, `listeners`, `clients`, `diskless`, `store`, `s3`, `coordinator`, `flush`, `memory`, `peers`, `admin`, `log`, `metrics` or `costs`",
        ],
    );
    check(
        "s3: &a {x: 1}\n<<: *a\nstore: s3://bucket",
        &[
            "s3.x: unknown key: expected `endpoint`, `region`, `pathStyle`, `accessKeyId` or `secretAccessKeyFile`",
            "<<: unknown key: expected `cluster`, `zone`, `replica`, `writer`, `kafka`, `listeners`, `clients`, `diskless`, `store`, `s3`, `coordinator`, `flush`, `memory`, `peers`, `admin`, `log`, `metrics` or `costs`",
        ],
    );
}

#[test]
fn values_of_the_wrong_type_are_reported() {
    check("zone: 7", &["zone: `7` is a number in YAML; put it in quotes"]);
    check("zone: true", &["zone: `true` is a boolean in YAML; put it in quotes"]);
    check(
        "zone: [a]",
        &[
            "zone: invalid value (a list): expected 1–128 characters of A–Z, a–z, 0–9, `.`, `_` and `-`, without `..` or a leading `.`",
        ],
    );
    check(
        "zone:",
        &[
            "zone: missing value: expected 1–128 characters of A–Z, a–z, 0–9, `.`, `_` and `-`, without `..` or a leading `.`",
        ],
    );
    check(
        "listeners: 9092",
        &[
            "listeners: invalid value `9092`: expected a section with `bind`, `advertisedHost`, `bootstrapPort`, `brokerPorts`, `nodePorts`, `proxyProtocolFrom`, `maxConnections`, `maxConnectionsPerAddress` and `idleTimeout`",
        ],
    );
    check(
        "diskless: {topics: clicks}",
        &["diskless.topics: invalid value `clicks`: expected a list of sections"],
    );
    check(
        "diskless: {topics: [clicks]}",
        &["diskless.topics[0]: invalid value `clicks`: expected a section such as `match: clicks`"],
    );
    check("listeners: {bootstrapPort: \"9093\"}", &[]);
}

#[test]
fn invalid_values_are_reported() {
    let rows = [
        (
            "listeners: {bind: localhost}",
            "listeners.bind: invalid IP address `localhost`: expected `0.0.0.0` or the address of one interface",
        ),
        (
            "listeners: {bind: 0.0.0.0}",
            "listeners.advertisedHost: missing key: required because `listeners.bind` is `0.0.0.0`; expected the host at which clients reach this replica",
        ),
        (
            "listeners: {advertisedHost: \"a:1\"}",
            "listeners.advertisedHost: invalid host `a:1`: expected a host name or an IP address, without a port",
        ),
        (
            "listeners: {bootstrapPort: 0}",
            "listeners.bootstrapPort: invalid port `0`: expected 1–65535",
        ),
        (
            "listeners: {bootstrapPort: 9092.5}",
            "listeners.bootstrapPort: invalid port `9092.5`: expected 1–65535",
        ),
        ("diskless: {nodesPerZone: 0}", "diskless.nodesPerZone: invalid number `0`: expected 1–64"),
        ("flush: {interval: 0ms}", "flush.interval: invalid duration `0ms`: expected 1ms–60s"),
        ("flush: {interval: 2m}", "flush.interval: invalid duration `2m`: expected 1ms–60s"),
        ("flush: {size: 8M}", "flush.size: invalid byte size `8M`: expected 1KiB–256MiB"),
        (
            "memory: {requests: 1MiB}",
            "memory.requests: invalid byte size `1MiB`: expected 16MiB–4GiB",
        ),
        ("memory: {cache: 1}", "memory.cache: invalid byte size `1`: expected 1MiB–1024GiB"),
        ("flush: {size: 1GiB}", "flush.size: invalid byte size `1GiB`: expected 1KiB–256MiB"),
        (
            "flush: {maxPutsPerSecond: 0}",
            "flush.maxPutsPerSecond: invalid number `0`: expected 0.1–10000",
        ),
        (
            "flush: {profile: fats}",
            "flush.profile: invalid value `fats`: expected `fast` or `cheap`",
        ),
        ("flush: {profile: cheep}", "flush.profile: invalid value `cheep`: did you mean `cheap`?"),
        (
            "admin: {bind: \"8180\"}",
            "admin.bind: invalid socket address `8180`: expected `address:port`, such as `127.0.0.1:8180`",
        ),
        (
            "coordinator: http://x",
            "coordinator: invalid coordinator URL `http://x`: expected `redis://host:6379/0` (or `rediss://`, `redis-sentinel://`, `redis-cluster://`), or `embedded`",
        ),
        (
            "coordinator: redis://me:secret@/0",
            "coordinator: invalid coordinator URL `redis://***@/0`: expected `redis://host:6379/0` (or `rediss://`, `redis-sentinel://`, `redis-cluster://`), or `embedded`",
        ),
        (
            "replica: ../a",
            "replica: invalid name `../a`: expected 1–128 characters of A–Z, a–z, 0–9, `.`, `_` and `-`, without `..` or a leading `.`",
        ),
    ];
    for (text, expected) in rows {
        check(text, &[expected]);
    }
    assert_eq!(
        parse_with("kafka: {bootstrapServers: [kafka]}", &[]).unwrap_err().to_string(),
        "kafka.bootstrapServers[0]: invalid broker address `kafka`: expected `host:port`, such as `kafka-1:9092`"
    );
}

#[test]
fn invalid_topic_rules_are_reported() {
    let topics = |rules: &str| format!("diskless: {{topics: [{rules}]}}");
    let rows = [
        (
            "{profile: fast}",
            "[0].match: missing key: expected a topic name or a pattern, such as `logs.*`",
        ),
        (
            "{match: \"\"}",
            "[0].match: invalid topic pattern ``: expected a topic name (1–249 characters), or `*` for all topics",
        ),
        (
            "{match: \"a[bc]\"}",
            "[0].match: invalid topic pattern `a[bc]`: `[` is not allowed in topic names; expected A–Z, a–z, 0–9, `.`, `_`, `-`, `*` (any text) and `?` (any one character)",
        ),
        (
            "{match: \"__*\"}",
            "[0].match: invalid topic pattern `__*`: topics that begin with `__` are Kafka's own (offsets, transactions) and always classic; delete this rule",
        ),
        (
            "{match: a, exclude: true, profile: fast}",
            "[0].profile: conflicts with `exclude: true`: a classic topic has no profile; delete one of the two",
        ),
        (
            "{match: a, exclude: yes}",
            "[0].exclude: invalid boolean `yes`: expected `true` or `false`",
        ),
        (
            "{match: \"a*\"}, {match: ab}",
            "[1].match: `ab` never matches, because diskless.topics[0] matches first; delete it or move it up",
        ),
        ("{match: a, proflie: fast}", "[0].proflie: unknown key; did you mean `profile`?"),
    ];
    for (rules, expected) in rows {
        check(&topics(rules), &[&format!("diskless.topics{expected}")]);
    }
    let settings = parse(&format!("flush: {{profile: cheap}}\n{}", topics("{match: a}"))).unwrap();
    assert_eq!(settings.topic_rules().diskless_profile("a"), Some(FlushProfile::Cheap));
}

#[test]
fn conditions_between_keys_are_checked() {
    check(
        "listeners: {bootstrapPort: 9302}",
        &[
            "listeners.nodePorts: uses 9300–9303, and `listeners.bootstrapPort` uses 9302; change one of them",
        ],
    );
    check(
        "listeners: {brokerPorts: 9299}",
        &[
            "listeners.nodePorts: uses 9300–9303, and `listeners.brokerPorts` uses 9299–9308; change one of them",
        ],
    );
    check(
        "listeners: {nodePorts: 65533}",
        &["listeners.nodePorts: uses ports up to 65536: expected at most 65535; use a lower port"],
    );
    check(
        "admin: {bind: \"0.0.0.0:9092\"}",
        &["admin.bind: uses 9092, and `listeners.bootstrapPort` uses 9092; change one of them"],
    );
    check(
        "store: \"memory:\"\ncoordinator: redis://r:6379",
        &[
            "store: `memory:` loses all records when this process ends, but Redis keeps their index; expected s3:// or file://, or `coordinator: embedded`",
        ],
    );
    check(
        "s3: {region: eu-west-1}",
        &[
            "s3: requires an s3:// store, but `store` is `file:///var/lib/odradek`; delete this section",
        ],
    );
    check(
        "peers: {bind: \"0.0.0.0:9101\", advertisedHost: a}",
        &["peers.bind: uses 9101, and `listeners.brokerPorts` uses 9100–9299; change one of them"],
    );
    check("peers: {bind: \"127.0.0.2:9101\"}", &[]);
    check(
        "peers: {bind: \"127.0.0.2:8190\"}\nadmin: {bind: \"0.0.0.0:8190\"}",
        &["peers.bind: conflicts with `admin.bind`, which has the same port; change one of them"],
    );
    check("listeners: {bootstrapPort: 9304}\nadmin: {bind: \"127.0.0.2:9092\"}", &[]);
}

#[test]
fn variables_are_interpolated_in_every_value() {
    let text = format!(
        "{KAFKA}listeners: {{bootstrapPort: \"${{PORT:-9095}}\"}}\n\
                        coordinator: redis://:${{PASS}}@r:6379/0"
    );
    let settings = parse_with(&text, &[("PASS", "p@ss")]).unwrap();
    assert_eq!(settings.listeners.bootstrap_port, 9095);
    let CoordinatorSettings::Redis { url, .. } = &settings.coordinator else { panic!() };
    assert_eq!(url.expose(), "redis://:p@ss@r:6379/0");
    assert_eq!(format!("{settings:?}").matches("p@ss").count(), 0);
    check("zone: ${NOPE}", &["zone: `NOPE` is not set; set it, or write `${NOPE:-default}`"]);
}

#[test]
fn invalid_yaml_is_reported_with_its_line() {
    let problems = parse("zone: [a").unwrap_err().to_string();
    assert!(problems.starts_with("invalid YAML: ") && problems.contains("line"), "{problems}");
    for text in ["zone: !tag a", "- a", "a", "&a [*a]"] {
        assert!(parse_with(text, &[]).is_err(), "{text}");
    }
}

#[test]
fn unsuitable_settings_cause_warnings() {
    let warned = |text: &str| parse(text).unwrap().warnings().len();
    assert_eq!(warned("store: \"memory:\""), 1);
    assert_eq!(warned("store: s3://bucket"), 1);
    assert_eq!(warned("store: s3://bucket\ncoordinator: redis://r"), 0);
    assert_eq!(warned("coordinator: redis://r"), 1);
    assert_eq!(warned("admin: {bind: \"0.0.0.0:8180\"}"), 1);
}

#[test]
fn networks_of_load_balancers_are_small() {
    let listeners = |networks: &str| format!("listeners: {{proxyProtocolFrom: [{networks}]}}");
    let refused = |index, network, least| {
        format!(
            "listeners.proxyProtocolFrom[{index}]: `{network}` contains clients too, and each of them \
             could announce any address; expected the networks of load balancers, at most a /{least}"
        )
    };
    for (network, least) in [("0.0.0.0/0", 8), ("128.0.0.0/1", 8), ("::/0", 16), ("2000::/3", 16)] {
        let networks = listeners(&format!("10.0.0.0/28, \"{network}\""));
        check(&networks, &[&refused(1, network, least)]);
    }
    let warned = |networks: &str| parse(&listeners(networks)).unwrap().warnings();
    assert_eq!(warned("10.0.0.0/16, 10.1.2.3/32, \"fd00:2::/64\"").len(), 0);
    let warnings = warned("10.0.0.0/8, \"fd00::/32\"");
    assert!(warnings.len() == 2 && warnings[0].contains("`10.0.0.0/8`"), "{warnings:?}");
}

#[test]
fn section_without_keys_is_absent() {
    assert!(parse("peers:\nlog:\n").unwrap().peers.is_none());
}

#[test]
fn unknown_key_of_a_list_element_names_the_known_ones() {
    check(
        "diskless: {topics: [{match: a, foo: 1}]}",
        &["diskless.topics[0].foo: unknown key: expected `match`, `profile` or `exclude`"],
    );
}

#[test]
fn invalid_store_is_the_only_problem_of_its_section() {
    let problems = parse("store: \"s3:/bucket\"\ns3: {region: eu-west-1}").unwrap_err();
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["store"], "{problems}");
}
