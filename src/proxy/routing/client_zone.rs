//! Resolves the zone of a client from its client id, the port that it used, or its address.
//!
//! The keys that other systems use in client ids have the same meaning here:
//! `diskless_az=` and `inkless_az=` (Inkless), `ws_az=` (WarpStream), `zone=` (Bufstream).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::RwLock;

use super::topology::NodeTopology;
use crate::metrics::ZoneResolutionOutcome;

/// The keys that precede a zone in a client id.
const CLIENT_ID_KEYS: [&str; 4] = ["diskless_az", "inkless_az", "ws_az", "zone"];

/// The configured zones of clients.
#[derive(Clone, Debug, Default)]
pub struct ClientZoneRules {
    /// Networks and their zones. The narrowest network that contains an address counts.
    pub networks: ZoneNetworks,
    /// Additional bootstrap ports, and the zone of the clients that use them.
    pub ports: Vec<(u16, Arc<str>)>,
}

/// A network and its zone.
pub type ZoneNetwork = (IpNet, Arc<str>);

/// The networks of clients. Clones share changes.
#[derive(Clone, Debug, Default)]
pub struct ZoneNetworks(Arc<RwLock<Vec<ZoneNetwork>>>);

impl From<Vec<ZoneNetwork>> for ZoneNetworks {
    fn from(networks: Vec<ZoneNetwork>) -> Self {
        Self(Arc::new(RwLock::new(networks)))
    }
}

impl ZoneNetworks {
    /// Replaces the networks.
    pub fn set(&self, networks: Vec<ZoneNetwork>) {
        *self.0.write() = networks;
    }

    /// Returns the zone of the narrowest network that contains an address.
    fn zone_of(&self, address: IpAddr) -> Option<Arc<str>> {
        // A dual-stack socket reports IPv4 addresses as IPv6 addresses.
        let address = address.to_canonical();
        let networks = self.0.read();
        let holds = networks.iter().filter(|(network, _)| network.contains(&address));
        holds.max_by_key(|(network, _)| network.prefix_len()).map(|(_, zone)| Arc::clone(zone))
    }
}

/// Origin of a connection.
#[derive(Clone, Debug)]
pub struct ClientOrigin {
    /// The address of the client.
    pub address: IpAddr,
    /// The zone of the port that the client used, if the port has a zone.
    pub port_zone: Option<Arc<str>>,
}

/// The resolved zone of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientZone {
    /// The index of the zone; `None` if unknown.
    pub zone: Option<u16>,
    /// The outcome of the resolution, for metrics.
    pub outcome: ZoneResolutionOutcome,
}

impl ClientZoneRules {
    /// Resolves the zone of a client. A client id that names an unknown zone counts as a miss and is
    /// otherwise ignored.
    pub fn locate(
        &self,
        topology: &NodeTopology,
        client: &ClientOrigin,
        client_id: Option<&str>,
    ) -> ClientZone {
        let requested = client_id.and_then(zone_in_client_id);
        if let Some(zone) = requested.and_then(|requested| matching_zone(topology, requested)) {
            return ClientZone { zone: Some(zone), outcome: ZoneResolutionOutcome::resolved };
        }
        let zone = client.port_zone.clone().or_else(|| self.networks.zone_of(client.address));
        let known_zone = zone.as_deref().and_then(|name| topology.zone_index(name));
        let outcome = match (requested.or(zone.as_deref()), known_zone) {
            (Some(_), Some(_)) if requested.is_none() => ZoneResolutionOutcome::resolved,
            (Some(_), _) => ZoneResolutionOutcome::unknown_zone,
            (None, _) => ZoneResolutionOutcome::unspecified,
        };
        ClientZone { zone: known_zone, outcome }
    }
}

/// Returns the zone name in a client id.
fn zone_in_client_id(client_id: &str) -> Option<&str> {
    let pairs = client_id.split([',', ';', ' ', '|', '&']);
    let mut values = pairs.filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (CLIENT_ID_KEYS.contains(&key) && !value.is_empty()).then_some(value)
    });
    // Connect and Streams append the configured client id to one of their own.
    values.next_back()
}

/// Returns the index of the zone with a name. Connect, MirrorMaker and Streams append `-` and a
/// suffix to the configured client id, so the longest zone name that is a prefix also counts.
fn matching_zone(topology: &NodeTopology, requested: &str) -> Option<u16> {
    let begins = |name: &&str| {
        requested.strip_prefix(*name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let name = topology.zone_names().filter(begins).max_by_key(|name| name.len())?;
    topology.zone_index(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::{Membership, ZoneRecord};
    use ZoneResolutionOutcome::{resolved, unknown_zone, unspecified};

    fn map() -> NodeTopology {
        let zone = |name: &str| ZoneRecord { name: name.to_owned(), nodes: 0, last: None };
        let zones = ["a", "b", "us-east-1a", "use1-az1"].map(zone).to_vec();
        NodeTopology::of(&Membership { zones, ..Membership::default() })
    }

    fn client(address: &str, port_zone: Option<&str>) -> ClientOrigin {
        ClientOrigin { address: address.parse().unwrap(), port_zone: port_zone.map(Arc::from) }
    }

    #[test]
    fn client_id_conventions_of_other_systems_are_understood() {
        #[rustfmt::skip]
        let table = [
            ("diskless_az=a", Some(0), resolved),
            ("app,diskless_az=b", Some(1), resolved),
            ("app,inkless_az=b,x=y", Some(1), resolved),
            ("app ws_az=us-east-1a", Some(2), resolved),
            ("app;zone=use1-az1", Some(3), resolved),
            ("automq_type=consumer&zone=b", Some(1), resolved),
            ("mm2|diskless_az=b|source", Some(1), resolved),
            // MirrorMaker, Connect, Streams, and consumers with a generated client id.
            ("diskless_az=b-source-1", Some(1), resolved),
            ("worker,zone=us-east-1a-connector-consumer-sink-0", Some(2), resolved),
            ("connect,zone=us-east-1a-configs", Some(2), resolved),
            ("app,zone=b-5f2c-StreamThread-1-consumer", Some(1), resolved),
            ("zone=use1-az1-producer", Some(3), resolved),
            ("zone=b-admin", Some(1), resolved),
            // The last one counts.
            ("zone=a,zone=b", Some(1), resolved),
            ("zone=mars", None, unknown_zone),
            ("zone=bb", None, unknown_zone),
            ("zone=us-east-1", None, unknown_zone),
            ("zone=B", None, unknown_zone),
            ("", None, unspecified),
            ("app", None, unspecified),
            ("zone=", None, unspecified),
            ("timezone=b", None, unspecified),
            ("zone", None, unspecified),
            ("b", None, unspecified),
        ];
        let (map, zones) = (map(), ClientZoneRules::default());
        for (id, zone, outcome) in table {
            let located = zones.locate(&map, &client("10.0.0.1", None), Some(id));
            assert_eq!(located, ClientZone { zone, outcome }, "{id:?}");
        }
    }

    #[test]
    fn client_id_precedes_port_and_port_precedes_address() {
        let network = |text: &str, zone| (text.parse().unwrap(), Arc::from(zone));
        let networks = vec![
            network("10.0.0.0/8", "a"),
            network("10.2.0.0/16", "b"),
            network("fd00::/8", "b"),
            network("192.168.0.0/16", "mars"),
        ];
        let zones = ClientZoneRules { networks: networks.into(), ports: Vec::new() };
        #[rustfmt::skip]
        let table = [
            ("10.2.3.4", Some("us-east-1a"), "zone=use1-az1", Some(3), resolved),
            ("10.2.3.4", Some("us-east-1a"), "app", Some(2), resolved),
            ("10.2.3.4", None, "app", Some(1), resolved),
            ("10.3.3.4", None, "app", Some(0), resolved),
            ("::ffff:10.2.3.4", None, "app", Some(1), resolved),
            ("fd00::1", None, "app", Some(1), resolved),
            ("127.0.0.1", None, "app", None, unspecified),
            // An unknown zone in the client id is ignored, and counted as a miss.
            ("10.2.3.4", None, "zone=mars", Some(1), unknown_zone),
            ("127.0.0.1", Some("mars"), "app", None, unknown_zone),
            ("192.168.1.1", None, "app", None, unknown_zone),
        ];
        for (address, port, id, zone, outcome) in table {
            let located = zones.locate(&map(), &client(address, port), Some(id));
            assert_eq!(located, ClientZone { zone, outcome }, "{address} {port:?} {id}");
        }
    }
}
