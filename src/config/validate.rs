//! Conditions between keys, and warnings.

use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::coordinator::CoordinatorSettings;
use super::model::Settings;
use super::problems::{Problems, element, join};
use crate::store::open::StoreUrl;

/// The number of brokers for which there must be ports at least.
const BROKER_PORTS_MIN: u32 = 10;

/// Reports the conditions between keys that do not hold, except for keys with a problem of their
/// own.
pub(super) fn check(settings: &Settings, problems: &mut Problems) {
    let mut found = Problems::default();
    check_hosts(settings, &mut found);
    check_topics(settings, &mut found);
    check_client_zones(settings, &mut found);
    check_s3(settings, &mut found);
    check_coordinator(settings, &mut found);
    check_ports(settings, &mut found);
    check_load_balancers(settings, &mut found);
    // An invalid `store` was replaced by the default, which says nothing of `s3`.
    let is_known =
        |path: &str| problems.is_reported(path) || path == "s3" && problems.is_reported("store");
    let found: Vec<_> = found.iter().filter(|problem| !is_known(&problem.path)).collect();
    found.into_iter().for_each(|problem| problems.push(&problem.path, &problem.message));
}

fn check_hosts(settings: &Settings, problems: &mut Problems) {
    let (bind, has) = (settings.listeners.bind, |path| settings.written.has(path));
    if !has("listeners.advertisedHost") && !bind.is_loopback() {
        let message = format!(
            "missing key: required because `listeners.bind` is `{bind}`; expected the host at which \
             clients reach this replica"
        );
        problems.push("listeners.advertisedHost", message);
    }
    let Some(peers) = &settings.peers else { return };
    if peers.bind.port() == 0 {
        let message = format!("invalid port in `{}`: expected 1–65535", peers.bind);
        problems.push("peers.bind", message);
    }
    if !has("peers.advertisedHost") && peers.bind.ip().is_unspecified() {
        let message = format!(
            "missing key: required because `peers.bind` is `{}`; expected the host at which the \
             other replicas of the zone reach this one",
            peers.bind
        );
        problems.push("peers.advertisedHost", message);
    }
}

fn check_topics(settings: &Settings, problems: &mut Problems) {
    let rules = settings.topic_rules();
    for (index, rule) in settings.diskless.topics.iter().enumerate() {
        let path = element("diskless.topics", index);
        if let Some(earlier) = rules.shadow_of(index) {
            let message = format!(
                "`{}` never matches, because {} matches first; delete it or move it up",
                rule.pattern,
                element("diskless.topics", earlier)
            );
            problems.push(join(&path, "match"), message);
        }
        if rule.exclude && rule.profile.is_some() {
            let message = "conflicts with `exclude: true`: a classic topic has no profile; delete one \
                           of the two";
            problems.push(join(&path, "profile"), message);
        }
    }
}

fn check_client_zones(settings: &Settings, problems: &mut Problems) {
    let zones = &settings.clients.zones;
    for (index, clients) in zones.iter().enumerate() {
        let path = element("clients.zones", index);
        if clients.port.is_none() && clients.cidrs.is_empty() {
            problems.push(&path, "missing key: expected `port: 9093` or `cidrs: [10.2.0.0/16]`");
        }
        for cidr in &clients.cidrs {
            let mut earlier = zones[..index].iter().filter(|other| other.zone != clients.zone);
            if let Some(other) = earlier.find(|other| other.cidrs.contains(cidr)) {
                let message = format!(
                    "`{cidr}` is already a network of zone `{}`; delete one of the two",
                    other.zone
                );
                problems.push(join(&path, "cidrs"), message);
            }
        }
    }
}

fn check_s3(settings: &Settings, problems: &mut Problems) {
    let has = |path| settings.written.has(path);
    let (id, secret) = ("s3.accessKeyId", "s3.secretAccessKeyFile");
    if has(secret) && !has(id) {
        let message = format!("missing key: required by `{secret}`; expected the id of its key");
        problems.push(id, message);
    }
    if has(id) && !has(secret) {
        let message = format!("missing key: required by `{id}`; expected the path of a file");
        problems.push(secret, message);
    }
    let secret_value = settings.s3.secret_access_key.as_ref().map(|secret| secret.expose().trim());
    let is_one_word = |secret: &str| !secret.is_empty() && !secret.contains(char::is_whitespace);
    if secret_value.is_some_and(|secret| !is_one_word(secret)) {
        problems.push(secret, "invalid secret: expected a file with one word");
    }
    if has("s3") && !matches!(settings.store, StoreUrl::S3 { .. }) {
        let url = &settings.store;
        problems.push(
            "s3",
            format!("requires an s3:// store, but `store` is `{url}`; delete this section"),
        );
    }
}

fn check_coordinator(settings: &Settings, problems: &mut Problems) {
    let is_embedded = settings.coordinator == CoordinatorSettings::Embedded;
    let written = |key| settings.written.get(key);
    let replicas = written("coordinator.replicas").is_some_and(|replicas| replicas != "0");
    if is_embedded && replicas && written("coordinator.url").is_some() {
        problems.push(
            "coordinator.replicas",
            "requires Redis, but `url` is `embedded`; delete the line",
        );
    }
    if !settings.writer && is_embedded {
        problems.push(
            "writer",
            "`false` requires the Redis of the other replicas, but `coordinator` is `embedded`, which \
             is inside the only replica; set the Redis URL there, or delete `writer`",
        );
    }
    if !settings.writer && settings.peers.is_some() {
        problems.push("peers", "requires `writer: true`; delete this section, or `writer`");
    }
    if settings.writer && settings.store == StoreUrl::Memory && !is_embedded {
        problems.push(
            "store",
            "`memory:` loses all records when this process ends, but Redis keeps their index; \
             expected s3:// or file://, or `coordinator: embedded`",
        );
    }
}

/// Returns the prefix lengths of the largest network that is accepted as one of load balancers, and of
/// the largest that is probably one.
fn balancer_prefixes(network: &IpNet) -> (u8, u8) {
    match network {
        IpNet::V4(_) => (8, 16),
        IpNet::V6(_) => (16, 48),
    }
}

fn check_load_balancers(settings: &Settings, problems: &mut Problems) {
    for (index, network) in settings.listeners.proxy_protocol_from.iter().enumerate() {
        let (least, _) = balancer_prefixes(network);
        if network.prefix_len() < least {
            let message = format!(
                "`{network}` contains clients too, and each of them could announce any address; \
                 expected the networks of load balancers, at most a /{least}"
            );
            problems.push(element("listeners.proxyProtocolFrom", index), message);
        }
    }
}

/// The ports of a listener.
struct Ports {
    key: String,
    range: Range<u32>,
}

fn check_ports(settings: &Settings, problems: &mut Problems) {
    let listeners = &settings.listeners;
    let ports = |key: &str, first: u16, count: u32| Ports {
        key: key.to_owned(),
        range: u32::from(first)..u32::from(first) + count,
    };
    let mut all = vec![
        ports("listeners.bootstrapPort", listeners.bootstrap_port, 1),
        ports("listeners.brokerPorts", listeners.broker_ports, broker_port_count(settings)),
    ];
    if settings.writer {
        let nodes = settings.diskless.nodes_per_zone.into();
        all.push(ports("listeners.nodePorts", listeners.node_ports, nodes));
    }
    for (index, clients) in settings.clients.zones.iter().enumerate() {
        let key = format!("clients.zones[{index}].port");
        all.extend(clients.port.map(|port| ports(&key, port, 1)));
    }
    let overlap_on = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
    let admin = settings.admin.bind;
    if overlap_on(admin.ip(), listeners.bind) && admin.port() != 0 {
        all.push(ports("admin.bind", admin.port(), 1));
    }
    if let Some(peers) = &settings.peers {
        if overlap_on(peers.bind.ip(), listeners.bind) {
            all.push(ports("peers.bind", peers.bind.port(), 1));
        } else if overlap_on(peers.bind.ip(), admin.ip()) && peers.bind.port() == admin.port() {
            let message =
                "conflicts with `admin.bind`, which has the same port; change one of them";
            problems.push("peers.bind", message);
        }
    }
    for (index, right) in all.iter().enumerate() {
        if right.range.end > 65_536 {
            let last = right.range.end - 1;
            let message =
                format!("uses ports up to {last}: expected at most 65535; use a lower port");
            problems.push(&right.key, message);
        }
        for left in &all[..index] {
            if left.range.start < right.range.end && right.range.start < left.range.end {
                problems.push(&right.key, overlap(left, right));
            }
        }
    }
}

/// Returns the number of ports that belong to brokers. Their ids are not known before they are seen,
/// so these are all ports below the diskless nodes', or up to the last one.
fn broker_port_count(settings: &Settings) -> u32 {
    let first = u32::from(settings.listeners.broker_ports);
    let nodes = u32::from(settings.listeners.node_ports);
    let end = if settings.writer && nodes > first { nodes } else { 65_536 };
    (end - first).max(BROKER_PORTS_MIN)
}

fn overlap(left: &Ports, right: &Ports) -> String {
    let show = |ports: &Ports| match ports.range.len() {
        1 => format!("{}", ports.range.start),
        _ => format!("{}–{}", ports.range.start, ports.range.end - 1),
    };
    format!("uses {}, and `{}` uses {}; change one of them", show(right), left.key, show(left))
}

impl Settings {
    /// Returns warnings about settings that are valid but probably unsuitable for production, one
    /// sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match (&self.store, &self.coordinator) {
            _ if !self.writer => {}
            (StoreUrl::Memory, _) => {
                warnings.push("store: `memory:` loses all diskless records when this process ends");
            }
            (StoreUrl::S3 { .. }, CoordinatorSettings::Embedded) => warnings.push(
                "coordinator: `embedded` supports one replica only; a second replica on this bucket \
                 would assign the same offsets",
            ),
            (StoreUrl::File(_), CoordinatorSettings::Redis { .. }) => warnings.push(
                "store: a directory belongs to one replica; other replicas that share this Redis \
                 cannot read its records",
            ),
            _ => {}
        }
        if self.peers.is_some() && self.coordinator == CoordinatorSettings::Embedded {
            warnings.push("peers.bind: `coordinator: embedded` supports one replica only");
        }
        if !self.admin.bind.ip().is_loopback() {
            warnings
                .push("admin.bind: not authenticated; make the port reachable for operators only");
        }
        let warnings = warnings.into_iter().map(str::to_owned);
        warnings.chain(self.load_balancer_warnings()).collect()
    }

    /// Returns warnings about networks that probably contain more than load balancers.
    fn load_balancer_warnings(&self) -> impl Iterator<Item = String> {
        let networks = self.listeners.proxy_protocol_from.iter();
        let broad = networks.filter(|network| network.prefix_len() < balancer_prefixes(network).1);
        broad.map(|network| {
            format!(
                "listeners.proxyProtocolFrom: everything in `{network}` can announce any client \
                 address, and clients in it without a PROXY protocol header are refused; list the \
                 networks of the load balancers alone"
            )
        })
    }
}
