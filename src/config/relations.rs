//! What must hold between settings that are each right alone.

use std::net::IpAddr;
use std::ops::Range;

use super::problems::Problems;
use super::{CoordinatorSettings, Settings};
use crate::store::open::StoreUrl;

/// Brokers with ids below this are given room; whoever has higher ids is told by the replica when
/// it meets them, for only then are they known.
const BROKER_IDS_ROOM: u32 = 10;

pub(super) fn check(settings: &Settings, problems: &mut Problems) {
    check_ports(settings, problems);
    if !settings.writer {
        check_without_writer(settings, problems);
    } else if settings.store.url == StoreUrl::Memory
        && matches!(settings.coordinator, CoordinatorSettings::Redis { .. })
    {
        problems.push(
            "store",
            "`memory:` forgets all records when this process ends, while Redis goes on saying that \
             they exist; use s3:// or file://, or `coordinator: embedded`",
        );
    }
}

fn check_without_writer(settings: &Settings, problems: &mut Problems) {
    if settings.coordinator == CoordinatorSettings::Embedded {
        problems.push(
            "writer",
            "is `off`, and `coordinator` is `embedded`, which is inside the replica that writes; \
             name the Redis of the zone's replicas, or delete `writer`",
        );
    }
    if settings.peers.is_some() {
        problems.push("peers", "is for replicas with a writer; delete this section, or `writer`");
    }
}

/// Ports that some listener takes.
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
        ports("listeners.brokerPorts", listeners.broker_ports, BROKER_IDS_ROOM),
    ];
    if settings.writer {
        let nodes = settings.diskless.nodes_per_zone.into();
        all.push(ports("listeners.nodePorts", listeners.node_ports, nodes));
    }
    for (index, clients) in settings.client_zones.iter().enumerate() {
        let key = format!("clients.zones[{index}].port");
        all.extend(clients.port.map(|port| ports(&key, port, 1)));
    }
    let meet = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
    let admin = settings.admin.bind;
    if meet(admin.ip(), listeners.bind) && admin.port() != 0 {
        all.push(ports("admin.bind", admin.port(), 1));
    }
    if let Some(peers) = &settings.peers {
        if meet(peers.bind.ip(), listeners.bind) {
            all.push(ports("peers.bind", peers.bind.port(), 1));
        } else if meet(peers.bind.ip(), admin.ip()) && peers.bind.port() == admin.port() {
            let message = "is the port of `admin.bind` as well; move one of them";
            problems.push("peers.bind", message);
        }
    }
    for (index, right) in all.iter().enumerate() {
        if right.range.end > 65_536 {
            let last = right.range.end - 1;
            let message = format!("needs ports up to {last}, and the last is 65535; begin lower");
            problems.push(&right.key, message);
        }
        for left in &all[..index] {
            if left.range.start < right.range.end && right.range.start < left.range.end {
                problems.push(&right.key, overlap(left, right));
            }
        }
    }
}

fn overlap(left: &Ports, right: &Ports) -> String {
    let show = |ports: &Ports| match ports.range.len() {
        1 => format!("{}", ports.range.start),
        _ => format!("{}-{}", ports.range.start, ports.range.end - 1),
    };
    format!("takes {}, and `{}` takes {}; move one of them", show(right), left.key, show(left))
}

pub(super) fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    match (&settings.store.url, &settings.coordinator) {
        _ if !settings.writer => {}
        (StoreUrl::Memory, _) => {
            warnings.push("store: `memory:` loses all diskless records when this process ends");
        }
        (StoreUrl::S3 { .. }, CoordinatorSettings::Embedded) => warnings.push(
            "coordinator: `embedded` is for one replica only; a second one on this bucket would \
             give out the same offsets",
        ),
        (StoreUrl::File(_), CoordinatorSettings::Redis { .. }) => warnings.push(
            "store: a directory belongs to one replica; others that share this Redis could not \
             read its records",
        ),
        _ => {}
    }
    if settings.peers.is_some() && settings.coordinator == CoordinatorSettings::Embedded {
        warnings.push("peers.bind: with `coordinator: embedded` there is no other replica to ask");
    }
    if !settings.admin.bind.ip().is_loopback() {
        warnings.push("admin.bind: the port asks for no password; let only operators reach it");
    }
    warnings.into_iter().map(str::to_owned).collect()
}
