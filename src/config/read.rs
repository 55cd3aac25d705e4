//! From the tree of a file to settings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::interpolate::Env;
use super::problems::Problems;
use super::raw::{Node, Reader, Section, join};
use super::topics::{Profile, TopicPattern, TopicRule, TopicRules, TopicType};
use super::units::{HostPort, is_host, parse_duration, parse_size, show_size};
use super::values::{
    coordinator, default_replica, endpoint, is_name, on_or_off, password_in, port, profile,
    sasl_mechanism, secret_in, switch,
};
use super::{
    AdminSettings, CoordinatorSettings, DisklessSettings, FlushSettings, KafkaSettings,
    ListenerSettings, MemorySettings, PeerSettings, SaslSettings, Settings, StoreSettings,
    Surroundings, Written, relations,
};
use crate::store::open::StoreUrl;
use crate::store::s3::{S3Credentials, S3Options};

const FLUSH_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const FLUSH_SIZE: RangeInclusive<u64> = 1 << 10..=256 << 20;
const PUT_RATE: RangeInclusive<f64> = 0.1..=10_000.0;
const S3_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the whole file. What is wrong gets a default meanwhile, so that reading goes on;
/// settings are given only when nothing was wrong.
pub(super) fn settings(mut tree: Node, around: &Surroundings<'_>) -> Result<Settings, Problems> {
    let mut reader = Reader::default();
    reader.interpolate("", &mut tree, around.env);
    let top = reader.section("", Some(&tree));
    let flush = reader.flush(top.find("flush"));
    let url = reader.text("store", top.find("store"), |text| {
        text.parse::<StoreUrl>().map_err(|error| format!("is no store: {error}"))
    });
    let s3_node = reader.section("s3", top.find("s3"));
    let s3 = reader.s3(s3_node, around.env);
    let default_url = || StoreUrl::File("/var/lib/odradek".into());
    let settings = Settings {
        cluster: reader.name(top, "cluster").unwrap_or_else(|| "odradek".to_owned()),
        zone: reader.name(top, "zone").unwrap_or_else(|| "default".to_owned()),
        replica: reader.name(top, "replica").unwrap_or_else(|| default_replica(around)),
        kafka: reader.kafka(top.find("kafka")),
        listeners: reader.listeners(top.find("listeners")),
        diskless: reader.diskless(top.find("diskless"), flush.profile),
        store: StoreSettings { url: url.clone().unwrap_or_else(default_url), s3 },
        coordinator: reader.coordinator(top.find("coordinator")),
        flush,
        memory: reader.memory(top.find("memory")),
        writer: reader.word("writer", top.find("writer"), on_or_off).unwrap_or(true),
        client_zones: reader.clients(top.find("clients")),
        telemetry: reader.telemetry(top.find("clients")),
        peers: reader.peers(top.find("peers")),
        admin: reader.admin(top.find("admin")),
        metrics: reader.metrics(top.find("metrics")),
        costs: reader.costs(top.find("costs")),
        log: reader.log(top.find("log")),
        written: Written::of(&tree),
    };
    // A store that could not be read may well have been an S3 one.
    let store_known = url.is_some() || top.find("store").is_none();
    if store_known && !s3_node.is_empty() && !matches!(settings.store.url, StoreUrl::S3 { .. }) {
        let url = &settings.store.url;
        let message = format!("is for s3:// stores, and `store` is `{url}`; delete this section");
        reader.problems.push("s3", message);
    }
    relations::check(&settings, &mut reader.problems);
    if reader.problems.is_empty() { Ok(settings) } else { Err(reader.problems) }
}

impl Reader {
    fn name(&mut self, top: Section<'_>, key: &str) -> Option<String> {
        self.text(key, top.find(key), |text| match is_name(text) {
            true => Ok(text.to_owned()),
            false => {
                Err("is no name; write 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`".to_owned())
            }
        })
    }

    fn kafka(&mut self, node: Option<&Node>) -> KafkaSettings {
        let section = self.section("kafka", node);
        let path = "kafka.bootstrapServers";
        let found = section.find("bootstrapServers");
        let list = self.list(path, found);
        if found.is_none() || list.is_some_and(<[Node]>::is_empty) {
            self.problems
                .push(path, "is required; name brokers, as `[kafka-1:9092, kafka-2:9092]`");
        }
        let mut bootstrap_servers = Vec::new();
        for (index, node) in list.unwrap_or_default().iter().enumerate() {
            let server = self.text(&format!("{path}[{index}]"), Some(node), |text| {
                let remedy = || "is no broker; write `host:port`, as `kafka-1:9092`".to_owned();
                HostPort::parse(text).ok_or_else(remedy)
            });
            bootstrap_servers.extend(server);
        }
        KafkaSettings { bootstrap_servers, sasl: self.sasl(section.find("sasl")) }
    }

    /// All three keys or none.
    fn sasl(&mut self, node: Option<&Node>) -> Option<SaslSettings> {
        let section = self.section("kafka.sasl", node);
        node?;
        let (mechanism, username) = (section.find("mechanism"), section.find("username"));
        let password = section.find("passwordFile");
        let required = [
            ("mechanism", mechanism, "is required; write `SCRAM-SHA-512`, or delete `kafka.sasl`"),
            ("username", username, "is required; write the user that brokers know Odradek by"),
            ("passwordFile", password, "is required; name the file of the user's password"),
        ];
        for (key, found, message) in required {
            if found.is_none() {
                self.problems.push(join("kafka.sasl", key), message);
            }
        }
        let mechanism = self.text("kafka.sasl.mechanism", mechanism, sasl_mechanism);
        let username = self.text("kafka.sasl.username", username, |text| {
            match text.is_empty() || text.contains('\0') {
                true => Err("is no user; write the user that brokers know Odradek by".to_owned()),
                false => Ok(text.to_owned()),
            }
        });
        let password = self.text("kafka.sasl.passwordFile", password, password_in);
        Some(SaslSettings { mechanism: mechanism?, username: username?, password: password? })
    }

    fn listeners(&mut self, node: Option<&Node>) -> ListenerSettings {
        let section = self.section("listeners", node);
        let bind_node = section.find("bind");
        let bind = self.text("listeners.bind", bind_node, |text| {
            text.parse::<IpAddr>().map_err(|_not_one| {
                "is no IP address; write `0.0.0.0`, or the address of one interface".to_owned()
            })
        });
        let mut port = |key: &str, default: u16| {
            self.word(&join("listeners", key), section.find(key), port).unwrap_or(default)
        };
        let bootstrap_port = port("bootstrapPort", 9092);
        let broker_ports = port("brokerPorts", 9100);
        let node_ports = port("nodePorts", 9300);
        let path = "listeners.advertisedHost";
        let host_node = section.find("advertisedHost");
        let host = self.text(path, host_node, |text| match is_host(text) {
            true => Ok(text.to_owned()),
            false => Err("is no host; write a name or an address, without port".to_owned()),
        });
        // A bind address that could not be read says nothing about what it asks for.
        let known = bind_node.is_none() || bind.is_some();
        let bind = bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if host_node.is_none() && known && !bind.is_loopback() {
            let message = format!(
                "is required, because `listeners.bind` is `{bind}`; write the host at which clients \
                 reach this replica"
            );
            self.problems.push(path, message);
        }
        let advertised_host = host.unwrap_or_else(|| bind.to_string());
        ListenerSettings { bind, advertised_host, bootstrap_port, broker_ports, node_ports }
    }

    fn diskless(&mut self, node: Option<&Node>, profile: Profile) -> DisklessSettings {
        let section = self.section("diskless", node);
        let nodes = self.word("diskless.nodesPerZone", section.find("nodesPerZone"), |text| {
            let number = text.parse().ok().filter(|nodes| (1..=64).contains(nodes));
            number.ok_or_else(|| "is no number of nodes; write one from 1 to 64".to_owned())
        });
        let list = self.list("diskless.topics", section.find("topics"));
        let mut rules = Vec::new();
        let mut places = Vec::new();
        for (index, node) in list.unwrap_or_default().iter().enumerate() {
            let path = format!("diskless.topics[{index}]");
            if let Some(rule) = self.topic_rule(&path, node, profile) {
                rules.push(rule);
                places.push(path);
            }
        }
        let topics = TopicRules::new(rules);
        for (index, rule) in topics.iter().enumerate() {
            if let Some(shadow) = topics.shadow_of(index) {
                let message = format!(
                    "`{}` is never reached, because {} matches first; delete it or put it above",
                    rule.pattern, places[shadow]
                );
                self.problems.push(format!("{}.match", places[index]), message);
            }
        }
        DisklessSettings { topics, nodes_per_zone: nodes.unwrap_or(4) }
    }

    fn topic_rule(&mut self, path: &str, node: &Node, default: Profile) -> Option<TopicRule> {
        if let Node::Text(pattern) = node {
            let message =
                format!("a rule is a section; write `- match: {}`", pattern.escape_debug());
            self.problems.push(path, message);
            return None;
        }
        let section = self.section(path, Some(node));
        let pattern_node = section.find("match");
        if pattern_node.is_none() && matches!(node, Node::Map(_) | Node::Null) {
            let message = "is required; write a topic's name or a pattern such as `logs.*`";
            self.problems.push(join(path, "match"), message);
        }
        let pattern = self.text(&join(path, "match"), pattern_node, TopicPattern::parse);
        let profile = self.text(&join(path, "profile"), section.find("profile"), profile);
        let exclude = self.word(&join(path, "exclude"), section.find("exclude"), switch);
        let kind = match (exclude.unwrap_or(false), profile) {
            (true, Some(_)) => {
                let message = "a topic that is kept classic has no profile; delete one of the two";
                self.problems.push(join(path, "profile"), message);
                TopicType::Classic
            }
            (true, None) => TopicType::Classic,
            (false, profile) => TopicType::Diskless(profile.unwrap_or(default)),
        };
        Some(TopicRule { pattern: pattern?, kind })
    }

    fn s3(&mut self, section: Section<'_>, env: Env<'_>) -> S3Options {
        let endpoint = self.text("s3.endpoint", section.find("endpoint"), endpoint);
        let region = self.text("s3.region", section.find("region"), |text| match is_name(text) {
            true => Ok(text.to_owned()),
            false => Err("is no region; write one such as `us-east-1`".to_owned()),
        });
        let region = region.or_else(|| env("AWS_REGION")).or_else(|| env("AWS_DEFAULT_REGION"));
        let path_style = self.word("s3.pathStyle", section.find("pathStyle"), switch);
        S3Options {
            path_style: path_style.unwrap_or_else(|| endpoint.is_some()),
            region: region.unwrap_or_else(|| "us-east-1".to_owned()),
            credentials: self.s3_credentials(section),
            request_timeout: S3_REQUEST_TIMEOUT,
            endpoint,
        }
    }

    fn s3_credentials(&mut self, section: Section<'_>) -> S3Credentials {
        let (id_path, file_path) = ("s3.accessKeyId", "s3.secretAccessKeyFile");
        let id_node = section.find("accessKeyId");
        let file_node = section.find("secretAccessKeyFile");
        let id = self.text(id_path, id_node, |text| match text.is_empty() {
            true => Err("is empty; write the id of a key, or delete the line".to_owned()),
            false => Ok(text.to_owned()),
        });
        let secret = self.text(file_path, file_node, secret_in);
        if id_node.is_some() && file_node.is_none() {
            self.problems
                .push(file_path, "is required with `s3.accessKeyId`; name the file of its secret");
        }
        if file_node.is_some() && id_node.is_none() {
            self.problems.push(
                id_path,
                "is required with `s3.secretAccessKeyFile`; write the id of its key",
            );
        }
        match (id, secret) {
            (Some(access_key_id), Some(secret_access_key)) => {
                S3Credentials::Keys { access_key_id, secret_access_key }
            }
            _ => S3Credentials::Chain,
        }
    }

    /// A URL, or a section with one.
    fn coordinator(&mut self, node: Option<&Node>) -> CoordinatorSettings {
        let embedded = CoordinatorSettings::Embedded;
        if !matches!(node, Some(Node::Map(_))) {
            return self.text("coordinator", node, coordinator).unwrap_or(embedded);
        }
        let section = self.section("coordinator", node);
        let (path, url_node) = ("coordinator.url", section.find("url"));
        if url_node.is_none() {
            self.problems.push(path, "is required; write `redis://host:6379/0`");
        }
        let mut read = self.text(path, url_node, coordinator).unwrap_or(embedded);
        let (path, replicas_node) = ("coordinator.replicas", section.find("replicas"));
        let number = self.word(path, replicas_node, |text| {
            let number = text.parse::<u8>().ok().filter(|number| *number <= 5);
            number.ok_or_else(|| "is no number of replicas; write one from 0 to 5".to_owned())
        });
        match &mut read {
            CoordinatorSettings::Redis { replicas, .. } => *replicas = number.unwrap_or(0),
            CoordinatorSettings::Embedded
                if url_node.is_some() && number.is_some_and(|n| n > 0) =>
            {
                self.problems.push(path, "is for Redis; delete the line");
            }
            CoordinatorSettings::Embedded => {}
        }
        read
    }

    fn flush(&mut self, node: Option<&Node>) -> FlushSettings {
        let section = self.section("flush", node);
        let interval = self.word("flush.interval", section.find("interval"), |text| {
            let interval = parse_duration(text).filter(|time| FLUSH_INTERVAL.contains(time));
            interval.ok_or_else(|| "is no interval; write 1ms to 60s, as `250ms`".to_owned())
        });
        let size_bytes = self.word("flush.size", section.find("size"), |text| {
            let (least, most) = (show_size(*FLUSH_SIZE.start()), show_size(*FLUSH_SIZE.end()));
            let size = parse_size(text).filter(|size| FLUSH_SIZE.contains(size));
            size.ok_or_else(|| format!("is no size; write {least} to {most}, as `8MiB`"))
        });
        let profile = self.text("flush.profile", section.find("profile"), profile);
        let puts_per_second_max =
            self.word("flush.maxPutsPerSecond", section.find("maxPutsPerSecond"), |text| {
                let rate = text.parse::<f64>().ok().filter(|rate| PUT_RATE.contains(rate));
                rate.ok_or_else(|| "is no rate; write 0.1 to 10000, as `10`".to_owned())
            });
        FlushSettings {
            interval: interval.unwrap_or(Duration::from_millis(250)),
            size_bytes: size_bytes.unwrap_or(8 << 20),
            profile: profile.unwrap_or(Profile::Fast),
            puts_per_second_max,
        }
    }

    fn memory(&mut self, node: Option<&Node>) -> MemorySettings {
        let section = self.section("memory", node);
        let mut size = |path, name, (least, most): (u64, u64), default| {
            let read = self.word(path, section.find(name), |text| {
                let size = parse_size(text).filter(|size| (least..=most).contains(size));
                let (least, most) = (show_size(least), show_size(most));
                size.ok_or_else(|| format!("is no size; write {least} to {most}"))
            });
            read.unwrap_or(default)
        };
        const MIB: u64 = 1 << 20;
        MemorySettings {
            requests: size("memory.requests", "requests", (16 * MIB, 4096 * MIB), 256 * MIB),
            connection: size("memory.connection", "connection", (MIB, 4096 * MIB), 64 * MIB),
            responses: size("memory.responses", "responses", (16 * MIB, 4096 * MIB), 128 * MIB),
            cache: size("memory.cache", "cache", (MIB, MIB * MIB), 256 * MIB),
        }
    }

    fn peers(&mut self, node: Option<&Node>) -> Option<PeerSettings> {
        let section = self.section("peers", node);
        let bind_node = section.find("bind");
        let bind = self.text("peers.bind", bind_node, |text| {
            let address = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
            address.ok_or_else(|| {
                "is no address with a port; write one such as `0.0.0.0:9190`".to_owned()
            })
        });
        let (path, host_node) = ("peers.advertisedHost", section.find("advertisedHost"));
        let host = self.text(path, host_node, |text| match is_host(text) {
            true => Ok(text.to_owned()),
            false => Err("is no host; write a name or an address, without port".to_owned()),
        });
        if bind_node.is_none() && host_node.is_some() {
            let message =
                "is required with `peers.advertisedHost`; write one such as `0.0.0.0:9190`";
            self.problems.push("peers.bind", message);
        }
        let bind = bind?;
        if host_node.is_none() && bind.ip().is_unspecified() {
            let message = format!(
                "is required, because `peers.bind` is `{bind}`; write the host at which the zone's \
                 other replicas reach this one"
            );
            self.problems.push(path, message);
        }
        Some(PeerSettings { bind, advertised_host: host.unwrap_or_else(|| bind.ip().to_string()) })
    }

    fn admin(&mut self, node: Option<&Node>) -> AdminSettings {
        let section = self.section("admin", node);
        let bind = self.text("admin.bind", section.find("bind"), |text| {
            text.parse::<SocketAddr>().map_err(|_not_one| {
                "is no address with a port; write one such as `127.0.0.1:9180`".to_owned()
            })
        });
        AdminSettings { bind: bind.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 9180).into()) }
    }
}
