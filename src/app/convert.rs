//! The client zones of the configuration, in the terms of the proxy.

use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{ClientZoneSettings, Settings};
use crate::proxy::routing::client_zone::ClientZoneRules;

pub(super) fn client_zones(settings: &Settings) -> ClientZoneRules {
    let zones = &settings.clients.zones;
    let port = |clients: &ClientZoneSettings| Some((clients.port?, clients.zone.as_str().into()));
    let ports = zones.iter().filter_map(port).collect();
    ClientZoneRules { networks: client_networks(settings).into(), ports }
}

pub(super) fn client_networks(settings: &Settings) -> Vec<(IpNet, Arc<str>)> {
    let mut networks = Vec::new();
    for clients in &settings.clients.zones {
        let zone: Arc<str> = clients.zone.as_str().into();
        networks.extend(clients.cidrs.iter().map(|cidr| (*cidr, Arc::clone(&zone))));
    }
    networks
}
