//! Which address and which node id a client is told.

use super::ProxySettings;
use crate::log::ids::TopicPartition;

/// The first diskless node id. Broker ids lie below; ids near 2³¹ would collide with the
/// connections that the Java consumer opens to its coordinator (`i32::MAX` − broker id).
pub const NODE_ID_BASE: i32 = 1_000_000_000;
/// Node ids that a zone owns.
pub const NODES_PER_ZONE_MAX: u16 = 64;

impl ProxySettings {
    /// Where clients reach broker `id`; `None` when the port would not exist or would be one of
    /// another listener.
    pub fn broker_port(&self, id: i32) -> Option<u16> {
        let port = u16::try_from(i32::from(self.broker_ports).checked_add(id)?).ok()?;
        let nodes = self.node_ports..self.node_ports.saturating_add(self.nodes_per_zone);
        (id >= 0 && port != 0 && port != self.bootstrap_port && !nodes.contains(&port))
            .then_some(port)
    }

    /// Where clients reach diskless node `k` of this zone.
    pub fn node_port(&self, k: u16) -> u16 {
        self.node_ports.saturating_add(k)
    }

    /// The id of diskless node `k` of this zone.
    pub fn node_id(&self, k: u16) -> i32 {
        NODE_ID_BASE + i32::from(self.zone_index) * i32::from(NODES_PER_ZONE_MAX) + i32::from(k)
    }

    /// The diskless node of this zone that leads a partition: the one with the highest weight
    /// (rendezvous hashing), so that a change of K moves only the share of the nodes that change.
    pub fn leader_of(&self, partition: TopicPartition) -> i32 {
        let weight = |k: &u16| weight(partition, u64::from(*k));
        self.node_id((0..self.nodes_per_zone.max(1)).max_by_key(weight).unwrap_or(0))
    }
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

    use super::*;
    use crate::log::ids::TopicId;

    fn settings(nodes_per_zone: u16) -> ProxySettings {
        ProxySettings {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertised_host: "h".to_owned(),
            bootstrap_port: 9092,
            broker_ports: 9100,
            node_ports: 9300,
            zone: "a".to_owned(),
            zone_index: 2,
            nodes_per_zone,
            frame_bytes_max: 1 << 20,
            connection_bytes_max: 1 << 20,
            response_bytes_max: 1 << 20,
            store_name: "memory:".to_owned(),
        }
    }

    #[test]
    fn broker_ports_never_meet_other_listeners() {
        let settings = settings(4);
        assert_eq!(settings.broker_port(1), Some(9101));
        assert_eq!(settings.broker_port(200), None, "9300 is a diskless node");
        assert_eq!(settings.broker_port(204), Some(9304));
        assert_eq!(settings.broker_port(-1), None);
        assert_eq!(settings.broker_port(60_000), None);
    }

    #[test]
    fn a_new_node_takes_only_its_own_share() {
        let (before, after) = (settings(4), settings(5));
        let new = after.node_id(4);
        let mut moved = 0;
        for p in 0..1000 {
            let partition = TopicPartition { topic: TopicId([7; 16]), partition: p };
            let (was, is) = (before.leader_of(partition), after.leader_of(partition));
            assert!(was == is || is == new, "a partition moved between old nodes");
            moved += usize::from(was != is);
        }
        assert!((150..250).contains(&moved), "{moved} of 1000 moved to the fifth node");
        assert_eq!(before.node_id(3), 1_000_000_131);
    }
}
