//! Which address and which node id a client is told.

use crate::log::ids::TopicPartition;

/// The first diskless node id. Broker ids lie below; ids near 2³¹ would collide with the
/// connections that the Java consumer opens to its coordinator (`i32::MAX` − broker id).
pub const NODE_ID_BASE: i32 = 1_000_000_000;
/// Node ids that a zone owns.
pub const NODES_PER_ZONE_MAX: u16 = 64;

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
