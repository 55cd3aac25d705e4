use super::*;
use crate::store::s3::S3Credentials;

mod coordinator;
mod peers;
mod watching;

const KAFKA: &str = "kafka: {bootstrapServers: [k:9092]}\n";

pub(super) fn parse_with(text: &str, vars: &[(&str, &str)]) -> Result<Settings, Problems> {
    let env = |name: &str| {
        vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    Settings::parse(text, &Surroundings { env: &env, hostname: Some("host-1\n".to_owned()) })
}

/// A file that has brokers and otherwise only `text`.
fn parse(text: &str) -> Result<Settings, Problems> {
    parse_with(&format!("{KAFKA}{text}"), &[])
}

#[track_caller]
pub(super) fn check(text: &str, expected: &[&str]) {
    let told = parse(text).map_or_else(|problems| problems.to_string(), |_| String::new());
    assert_eq!(told.lines().collect::<Vec<_>>(), expected, "{text}");
}

#[test]
fn only_the_brokers_are_required() {
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
    assert_eq!(settings.diskless.topics, TopicRules::default());
    assert_eq!(settings.store.url, StoreUrl::File("/var/lib/odradek".into()));
    assert_eq!(settings.objects_url(), StoreUrl::File("/var/lib/odradek/odradek".into()));
    assert_eq!(settings.coordinator, CoordinatorSettings::Embedded);
    assert_eq!(settings.flush.interval, Duration::from_millis(250));
    assert_eq!((settings.flush.size_bytes, settings.flush.profile), (8 << 20, Profile::Fast));
    assert_eq!(settings.admin.bind.to_string(), "127.0.0.1:9180");
    assert_eq!(settings.warnings(), Vec::<String>::new());

    let expected =
        "kafka.bootstrapServers: is required; name brokers, as `[kafka-1:9092, kafka-2:9092]`";
    for text in ["", "{}", "kafka:", "kafka: {}", "kafka: {bootstrapServers: []}", "zone: a"] {
        assert_eq!(parse_with(text, &[]).unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn the_example_is_right_and_names_every_key_that_has_a_default() {
    let text = include_str!("../../examples/odradek.yaml");
    let settings = parse_with(text, &[("ZONE", "b"), ("HOSTNAME", "r7")]).unwrap();
    assert_eq!((settings.zone.as_str(), settings.replica.as_str()), ("b", "r7"));
    assert_eq!(settings.listeners.advertised_host, "odradek.zone-a.example");
    assert_eq!(settings.diskless.topics.kind_of("logs.audit"), TopicType::Classic);
    assert_eq!(settings.diskless.topics.kind_of("logs.x"), TopicType::Diskless(Profile::Cheap));
    assert_eq!(settings.objects_url().to_string(), "s3://odradek/data/prod");
    assert_eq!(settings.store.s3.endpoint.as_deref(), Some("http://minio:9000"));
    assert!(settings.store.s3.path_style);
    for key in KEYS {
        let name = key.path.rsplit(['.']).next().unwrap_or_default();
        assert!(text.contains(&format!("{name}:")), "{} is not shown", key.path);
    }
}

#[test]
fn a_file_with_eight_mistakes_reports_eight() {
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
            "zone: `ZONE` is not set (zone of this replica); set it in the environment",
            "flush.interval: `250` is no interval; write 1ms to 60s, as `250ms`",
            "store: `gs://bucket` is no store: a store is s3://BUCKET/PREFIX, file:///PATH or memory:",
            "cluster: `two words` is no name; write 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`",
            "listeners.bootstapPort: unknown key; did you mean `bootstrapPort`?",
            "listeners.brokerPorts: `70000` is no port; write a number from 1 to 65535",
            "diskless.nodesPerZone: `65` is no number of nodes; write one from 1 to 64",
            "diskless.topics[1].match: `__consumer_offsets` topics that begin with `__` are Kafka's \
             own (offsets, transactions) and always classic; delete this rule",
        ],
    );
}

#[test]
fn keys_that_are_not_known_or_stand_twice() {
    check("zonne: a", &["zonne: unknown key; did you mean `zone`?"]);
    check("nodePorts: 1", &["nodePorts: unknown key; it belongs into `listeners`"]);
    check(
        "flush: {linger: 5ms}",
        &["flush.linger: unknown key; known are `interval`, `size`, `profile`, `maxPutsPerSecond`"],
    );
    check("zone: a\nzone: b", &["zone: stands here twice; delete one of the two"]);
    check(
        "flush: {size: 1MiB, size: 2MiB, size: 3MiB}",
        &["flush.size: stands here twice; delete one of the two"],
    );
    check(
        "7: a",
        &["7: unknown key; known are `cluster`, `zone`, `replica`, `writer`, `kafka`, \
           `listeners`, `clients`, `diskless`, `store`, `s3`, `coordinator`, `flush`, `memory`, `peers`, `admin`, `log`, `metrics`, `costs`"],
    );
    check(
        "s3: &a {x: 1}\n<<: *a\nstore: s3://bucket",
        &[
            "<<: unknown key; known are `cluster`, `zone`, `replica`, `writer`, `kafka`, \
           `listeners`, `clients`, `diskless`, `store`, `s3`, `coordinator`, `flush`, `memory`, `peers`, `admin`, `log`, `metrics`, `costs`",
            "s3.x: unknown key; known are `endpoint`, `region`, `pathStyle`, `accessKeyId`, \
           `secretAccessKeyFile`",
        ],
    );
}

#[test]
fn values_of_the_wrong_kind() {
    check("zone: 7", &["zone: `7` is a number to YAML; put it in quotes"]);
    check("zone: true", &["zone: `true` is a boolean to YAML; put it in quotes"]);
    check("zone: [a]", &["zone: a list stands where a single value belongs"]);
    check("zone:", &["zone: has no value; give it one or delete the line"]);
    check(
        "listeners: 9092",
        &["listeners: `9092` is no section; it holds `bind`, \
           `advertisedHost`, `bootstrapPort`, `brokerPorts`, `nodePorts`"],
    );
    check(
        "diskless: {topics: clicks}",
        &["diskless.topics: `clicks` is no list; write `[a, b]` \
           or lines of `- a`"],
    );
    check(
        "diskless: {topics: [clicks]}",
        &["diskless.topics[0]: a rule is a section; write \
           `- match: clicks`"],
    );
    check("listeners: {bootstrapPort: \"9093\"}", &[]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn single_values() {
    let rows = [
        (
            "listeners: {bind: localhost}",
            "listeners.bind: `localhost` is no IP address; write \
          `0.0.0.0`, or the address of one interface",
        ),
        (
            "listeners: {bind: 0.0.0.0}",
            "listeners.advertisedHost: is required, because \
          `listeners.bind` is `0.0.0.0`; write the host at which clients reach this replica",
        ),
        (
            "listeners: {advertisedHost: \"a:1\"}",
            "listeners.advertisedHost: `a:1` is no host; \
          write a name or an address, without port",
        ),
        (
            "listeners: {bootstrapPort: 0}",
            "listeners.bootstrapPort: `0` is no port; write a number \
          from 1 to 65535",
        ),
        (
            "listeners: {bootstrapPort: 9092.5}",
            "listeners.bootstrapPort: `9092.5` is no port; \
          write a number from 1 to 65535",
        ),
        (
            "diskless: {nodesPerZone: 0}",
            "diskless.nodesPerZone: `0` is no number of nodes; write \
          one from 1 to 64",
        ),
        (
            "flush: {interval: 0ms}",
            "flush.interval: `0ms` is no interval; write 1ms to 60s, as `250ms`",
        ),
        (
            "flush: {interval: 2m}",
            "flush.interval: `2m` is no interval; write 1ms to 60s, as `250ms`",
        ),
        ("flush: {size: 8M}", "flush.size: `8M` is no size; write 1KiB to 256MiB, as `8MiB`"),
        ("memory: {requests: 1MiB}", "memory.requests: `1MiB` is no size; write 16MiB to 4GiB"),
        ("memory: {cache: 1}", "memory.cache: `1` is no size; write 1MiB to 1024GiB"),
        ("flush: {size: 1GiB}", "flush.size: `1GiB` is no size; write 1KiB to 256MiB, as `8MiB`"),
        (
            "flush: {maxPutsPerSecond: 0}",
            "flush.maxPutsPerSecond: `0` is no rate; write 0.1 to 10000, as `10`",
        ),
        ("flush: {profile: fats}", "flush.profile: `fats` is no profile; write `fast` or `cheap`"),
        ("flush: {profile: cheep}", "flush.profile: `cheep` is no profile; did you mean `cheap`?"),
        (
            "admin: {bind: \"9180\"}",
            "admin.bind: `9180` is no address with a port; write one such as \
          `127.0.0.1:9180`",
        ),
        (
            "coordinator: http://x",
            "coordinator: `http://x` is no coordinator; write \
          `redis://host:6379/0` (or rediss://, redis-sentinel://, redis-cluster://), or `embedded`",
        ),
        (
            "coordinator: redis://me:secret@/0",
            "coordinator: `redis://***@/0` names no host that can \
          be; write `redis://host:6379/0`",
        ),
        (
            "replica: ../a",
            "replica: `../a` is no name; write 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`",
        ),
    ];
    for (text, expected) in rows {
        check(text, &[expected]);
    }
    assert_eq!(
        parse_with("kafka: {bootstrapServers: [kafka]}", &[]).unwrap_err().to_string(),
        "kafka.bootstrapServers[0]: `kafka` is no broker; write `host:port`, as `kafka-1:9092`"
    );
}

#[test]
fn rules_for_topics() {
    let topics = |rules: &str| format!("diskless: {{topics: [{rules}]}}");
    let rows = [
        (
            "{profile: fast}",
            "[0].match: is required; write a topic's name or a pattern such as `logs.*`",
        ),
        ("{match: \"\"}", "[0].match: `` is empty; write a topic's name, or `*` for all topics"),
        (
            "{match: \"a[bc]\"}",
            "[0].match: `a[bc]` has `[`, which stands in no topic's name; a \
          pattern knows only `*` (any text) and `?` (any one character)",
        ),
        (
            "{match: \"__*\"}",
            "[0].match: `__*` topics that begin with `__` are Kafka's own (offsets, \
          transactions) and always classic; delete this rule",
        ),
        (
            "{match: a, exclude: true, profile: fast}",
            "[0].profile: a topic that is kept classic has \
          no profile; delete one of the two",
        ),
        ("{match: a, exclude: yes}", "[0].exclude: `yes` is no switch; write `true` or `false`"),
        (
            "{match: \"a*\"}, {match: ab}",
            "[1].match: `ab` is never reached, because \
          diskless.topics[0] matches first; delete it or put it above",
        ),
        ("{match: a, proflie: fast}", "[0].proflie: unknown key; did you mean `profile`?"),
    ];
    for (rules, expected) in rows {
        check(&topics(rules), &[&format!("diskless.topics{expected}")]);
    }
    let settings = parse(&format!("flush: {{profile: cheap}}\n{}", topics("{match: a}"))).unwrap();
    assert_eq!(settings.diskless.topics.kind_of("a"), TopicType::Diskless(Profile::Cheap));
}

#[test]
fn relations() {
    check(
        "listeners: {bootstrapPort: 9302}",
        &[
            "listeners.nodePorts: takes 9300-9303, and `listeners.bootstrapPort` takes 9302; move one of them",
        ],
    );
    check(
        "listeners: {brokerPorts: 9299}",
        &[
            "listeners.nodePorts: takes 9300-9303, and `listeners.brokerPorts` takes 9299-9308; move one of them",
        ],
    );
    check(
        "listeners: {nodePorts: 65533}",
        &["listeners.nodePorts: needs ports up to 65536, and the last is 65535; begin lower"],
    );
    check(
        "admin: {bind: \"0.0.0.0:9092\"}",
        &["admin.bind: takes 9092, and `listeners.bootstrapPort` takes 9092; move one of them"],
    );
    check(
        "store: \"memory:\"\ncoordinator: redis://r:6379",
        &[
            "store: `memory:` forgets all records when this process ends, while Redis goes on saying \
           that they exist; use s3:// or file://, or `coordinator: embedded`",
        ],
    );
    check(
        "s3: {region: eu-west-1}",
        &["s3: is for s3:// stores, and `store` is `file:///var/lib/odradek`; delete this section"],
    );
    check(
        "peers: {bind: \"0.0.0.0:9101\", advertisedHost: a}",
        &["peers.bind: takes 9101, and `listeners.brokerPorts` takes 9100-9109; move one of them"],
    );
    check("peers: {bind: \"127.0.0.2:9101\"}", &[]);
    check(
        "peers: {bind: \"127.0.0.2:9190\"}\nadmin: {bind: \"0.0.0.0:9190\"}",
        &["peers.bind: is the port of `admin.bind` as well; move one of them"],
    );
    check("listeners: {bootstrapPort: 9304}\nadmin: {bind: \"127.0.0.2:9092\"}", &[]);
}

#[test]
fn credentials_of_s3() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hush\n").unwrap();
    let path = file.path().display();
    let s3 = |keys: &str| format!("store: s3://bucket\ns3: {{{keys}}}");
    let settings = parse(&s3(&format!("accessKeyId: me, secretAccessKeyFile: {path}"))).unwrap();
    let S3Credentials::Keys { access_key_id, secret_access_key } = &settings.store.s3.credentials
    else {
        panic!("a key pair was given")
    };
    assert_eq!((access_key_id.as_str(), secret_access_key.as_str()), ("me", "hush"));
    assert!(!format!("{settings:?}").contains("hush"));

    check(
        &s3("accessKeyId: me"),
        &["s3.secretAccessKeyFile: is required with `s3.accessKeyId`; \
           name the file of its secret"],
    );
    check(
        &s3(&format!("secretAccessKeyFile: {path}")),
        &["s3.accessKeyId: is required with \
           `s3.secretAccessKeyFile`; write the id of its key"],
    );
    check(
        &s3("accessKeyId: me, secretAccessKeyFile: /no/file"),
        &["s3.secretAccessKeyFile: \
           `/no/file` cannot be read: No such file or directory (os error 2); name a file that \
           this user may read"],
    );
    check(
        &s3("endpoint: minio:9000"),
        &["s3.endpoint: `minio:9000` is no endpoint; write \
           `http://host:port` or `https://host`, without a path"],
    );
    assert_eq!(parse(&s3("")).unwrap().store.s3.credentials, S3Credentials::Chain);
    let vars = [("AWS_REGION", "eu-central-1")];
    let text = format!("{KAFKA}store: s3://bucket");
    let s3 = parse_with(&text, &vars).unwrap().store.s3;
    assert_eq!((s3.region.as_str(), s3.path_style), ("eu-central-1", false));
}

#[test]
fn variables_are_read_in_every_value() {
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
fn what_is_no_yaml_says_where() {
    let problems = parse("zone: [a").unwrap_err().to_string();
    assert!(problems.starts_with("this is no YAML: ") && problems.contains("line"), "{problems}");
    for text in ["zone: !tag a", "- a", "a", "&a [*a]"] {
        assert!(parse_with(text, &[]).is_err(), "{text}");
    }
}

#[test]
fn warnings_of_what_works_and_is_likely_not_meant() {
    let warned = |text: &str| parse(text).unwrap().warnings().len();
    assert_eq!(warned("store: \"memory:\""), 1);
    assert_eq!(warned("store: s3://bucket"), 1);
    assert_eq!(warned("store: s3://bucket\ncoordinator: redis://r"), 0);
    assert_eq!(warned("coordinator: redis://r"), 1);
    assert_eq!(warned("admin: {bind: \"0.0.0.0:9180\"}"), 1);
}

#[test]
fn sasl_is_given_whole_and_shows_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "swordfish and chips\n").unwrap();
    let file = file.display().to_string();
    let sasl = |inner: &str| format!("kafka: {{bootstrapServers: [k:9092], sasl: {{{inner}}}}}\n");

    let text = sasl(&format!("mechanism: SCRAM-SHA-512, username: odradek, passwordFile: {file}"));
    let settings = parse_with(&text, &[]).unwrap();
    let given = settings.kafka.sasl.clone().unwrap();
    assert_eq!(given.mechanism, SaslMechanism::ScramSha512);
    assert_eq!(
        (given.username.as_str(), given.password.as_str()),
        ("odradek", "swordfish and chips")
    );
    assert!(!format!("{settings:?}").contains("swordfish"));
    assert!(parse_with(KAFKA, &[]).unwrap().kafka.sasl.is_none());

    let wrong = |text: &str| parse_with(text, &[]).unwrap_err().to_string();
    assert_eq!(
        wrong(&sasl(&format!("mechanism: GSSAPI, username: odradek, passwordFile: {file}"))),
        "kafka.sasl.mechanism: `GSSAPI` is no SASL mechanism known here; write `PLAIN`, \
         `SCRAM-SHA-256` or `SCRAM-SHA-512`"
    );
    let missing = wrong(&sasl("mechanism: PLAIN"));
    assert!(missing.contains("kafka.sasl.username: is required"), "{missing}");
    assert!(missing.contains("kafka.sasl.passwordFile: is required"), "{missing}");
    let unreadable = wrong(&sasl("mechanism: PLAIN, username: u, passwordFile: /no/file"));
    assert!(unreadable.contains("kafka.sasl.passwordFile"), "{unreadable}");
}
