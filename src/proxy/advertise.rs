//! Which address and which node id a client is told.

use super::ProxySettings;
use crate::log::ids::TopicPartition;

/// The first diskless node id. Broker ids lie below; ids near 2³¹ would collide with the
/// connections that the Java consumer opens to its coordinator (`i32::MAX` − broker id).
pub const NODE_ID_BASE: i32 = 1_000_000_000;
/// Node ids that a zone owns.
pub const NODES_PER_ZONE_MAX: u16 = 64;

impl ProxySettings {
    /// The port at which clients reach broker `id` here, where `nodes` diskless nodes are; `None`
    /// when it would not exist or would be one of another listener.
    pub fn broker_port(&self, id: i32, nodes: u16) -> Option<u16> {
        let port = u16::try_from(i32::from(self.broker_ports).checked_add(id)?).ok()?;
        let nodes = self.node_ports..self.node_ports.saturating_add(nodes);
        let starts = port == self.bootstrap_port
            || self.client_zones.ports.iter().any(|(other, _)| *other == port);
        (id >= 0 && port != 0 && !starts && !nodes.contains(&port)).then_some(port)
    }
}

/// The id of diskless node `k` of a zone, for ever.
pub fn node_id(zone: u16, k: u16) -> i32 {
    NODE_ID_BASE + i32::from(zone) * i32::from(NODES_PER_ZONE_MAX) + i32::from(k)
}

/// Which of so many nodes of a zone leads a partition: the one with the highest weight (rendezvous
/// hashing), so that a change of their number moves only the share of the nodes that change.
pub fn leader_index(partition: TopicPartition, nodes: u16) -> Option<u16> {
    (0..nodes).max_by_key(|k| weight(partition, u64::from(*k)))
}

/// A hash that every replica of every version computes alike (splitmix64 over the fields).
fn weight(partition: TopicPartition, k: u64) -> u64 {
    let (high, low) = partition.topic.0.split_at(8);
    let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, &b| (word << 8) | u64::from(b));
    let mut hash = 0;
    for field in [word(high), word(low), partition.partition.unsigned_abs().into(), k] {
        hash = splitmix64(hash ^ field);
    }
    hash
}

fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::*;
    use crate::log::ids::TopicId;
    use crate::proxy::client_zone::ClientZoneRules;

    #[test]
    fn broker_ports_never_collide_with_other_listeners() {
        let ports = vec![(9_107, Arc::from("b"))];
        let settings = ProxySettings {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertised_host: "h".to_owned(),
            bootstrap_port: 9092,
            broker_ports: 9100,
            node_ports: 9300,
            zone: "a".to_owned(),
            client_zones: ClientZoneRules { ports, ..ClientZoneRules::default() },
            frame_bytes_max: 1 << 20,
            connection_bytes_max: 1 << 20,
            response_bytes_max: 1 << 20,
            store_name: "memory:".to_owned(),
        };
        assert_eq!(settings.broker_port(1, 4), Some(9101));
        assert_eq!(settings.broker_port(7, 4), None, "clients of zone b start at 9107");
        assert_eq!(settings.broker_port(200, 4), None, "9300 is a diskless node");
        assert_eq!(settings.broker_port(200, 0), Some(9300), "where there are none");
        assert_eq!(settings.broker_port(204, 4), Some(9304));
        assert_eq!(settings.broker_port(-1, 4), None);
        assert_eq!(settings.broker_port(60_000, 4), None);
    }

    #[test]
    fn new_node_takes_only_its_own_share() {
        let mut moved = 0;
        for p in 0..1000 {
            let partition = TopicPartition { topic: TopicId([7; 16]), partition: p };
            let (was, is) = (leader_index(partition, 4), leader_index(partition, 5));
            assert!(was == is || is == Some(4), "a partition moved between old nodes");
            moved += usize::from(was != is);
        }
        assert!((150..250).contains(&moved), "{moved} of 1000 moved to the fifth node");
        assert_eq!(node_id(2, 3), 1_000_000_131);
        let partition = TopicPartition { topic: TopicId([7; 16]), partition: 0 };
        assert_eq!(leader_index(partition, 0), None);
    }
}
