//! Settings in the terms of the engine and the proxy.

use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{ClientZoneSettings, Profile, Settings};
use crate::engine::produce::SealProfile;
use crate::proxy::routing::client_zone::ClientZoneRules;

pub(super) fn client_zones(settings: &Settings) -> ClientZoneRules {
    let of = |clients: &ClientZoneSettings| Arc::clone(&clients.zone);
    let all = &settings.client_zones;
    let ports = all.iter().filter_map(|clients| Some((clients.port?, of(clients))));
    ClientZoneRules { networks: client_networks(settings).into(), ports: ports.collect() }
}

pub(super) fn client_networks(settings: &Settings) -> Vec<(IpNet, Arc<str>)> {
    let networks = settings
        .client_zones
        .iter()
        .flat_map(|clients| clients.cidrs.iter().map(|cidr| (*cidr, Arc::clone(&clients.zone))));
    networks.collect()
}

pub(super) fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

pub(super) fn seal_profile(profile: Profile) -> SealProfile {
    match profile {
        Profile::Fast => SealProfile::Fast,
        Profile::Cheap => SealProfile::Cheap,
    }
}
