//! The ids of diskless nodes, and which of them leads a partition.

use crate::log::hash::rendezvous_score;
use crate::log::ids::TopicPartition;

/// The first diskless node id. Broker ids are smaller. Ids near 2³¹ would collide with the
/// connections that the Java consumer opens to its coordinator (`i32::MAX` − broker id).
pub const NODE_ID_BASE: i32 = 1_000_000_000;
/// The number of node ids reserved for each zone.
pub const NODES_PER_ZONE_MAX: u16 = 64;

/// Returns the id of diskless node `k` of a zone. It never changes.
pub fn node_id(zone: u16, k: u16) -> i32 {
    NODE_ID_BASE + i32::from(zone) * i32::from(NODES_PER_ZONE_MAX) + i32::from(k)
}

/// Which of so many nodes of a zone leads a partition: the one with the highest weight (rendezvous
/// hashing), so that a change of their number moves only the share of the nodes that change.
pub fn leader_index(partition: TopicPartition, nodes: u16) -> Option<u16> {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&partition.topic.0);
    key[16..].copy_from_slice(&partition.partition.to_be_bytes());
    (0..nodes).max_by_key(|node| rendezvous_score(&node.to_be_bytes(), &key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::TopicId;

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
