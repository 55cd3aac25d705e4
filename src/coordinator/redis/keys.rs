//! Every key in Redis; `docs/redis-schema.md` explains the layout.
//!
//! `{name:3}` is shard 3 of the cluster `name`, `{name:registry}` is its registry: the braces are
//! Redis Cluster's hash tag, so each shard is in one hash slot. Scripts get the `meta` key and
//! derive the others from its prefix, by the suffixes listed here.
//!
//! | Key: after `odradek:{<cluster>:<shard>}:` | Value |
//! |---|---|
//! | `meta` | hash: `metadata_id`, `sequence`, `stream_half`, `replication_id`, `quarantined`, `wait_marker`; numbers of elements: `partitions`, `fence`, `deleted_topics` |
//! | `replication_history` | list: each replication id under which it was verified, and the sequence at which that began |
//! | `verifying` | hash: the replication id that is being verified, since when, and which replicas reported |
//! | `partitions` | hash: partition to its counters, packed (`scripts/partition.lua`) |
//! | `i:<partition>` | sorted set: runs, packed, by base offset |
//! | `t:<partition>` | sorted set: the end of each block of 256 runs and its greatest timestamp, by offset |
//! | `d:<partition>` | hash: producer id (8 bytes) to epoch, last append (ms), last five batches |
//! | `fence` | hash: process (12 bytes) to the lowest sequence that it may still commit, the number of its outcomes, and the sequence below which some are lost |
//! | `o:<process>` | hash: sequence of an object (4 bytes) to the outcomes of its parts, packed |
//! | `deleted_topics` | set: deleted topics |
//! | `events` | stream: changes, one entry for each increment of `sequence`, which is its id |
//!
//! | Key: after `odradek:{<cluster>:registry}:` | Value |
//! |---|---|
//! | `meta` | hash: `format`, `metadata_id`, `sequence`, `cluster`, `shards`, `ready`, `secret`; `stream_half`, `replication_id`, `quarantined`, `wait_marker`; numbers of elements: `topics`, `deleted_topics`, `zones`, `zone_nodes`, `last_members` |
//! | `replication_history`, `verifying` | as a shard's |
//! | `zones` | list: zones by index |
//! | `topics` | hash: topic id to topic type (`c` classic, `d` diskless, `m` migrating) and name |
//! | `deleted_topics` | set: deleted topics |
//! | `members` | hash: replica to the end of its lease and its member record |
//! | `processes` | hash: process (12 bytes) to the time until which it counts as running (ms) |
//! | `zone_nodes` | hash: index of a zone to the number of its diskless nodes |
//! | `last_members` | hash: index of a zone to the member that renewed last there, as in `members` |
//! | `events` | stream: bindings and deletions of topics |

use crate::log::ids::TopicPartition;

/// The version of the keys and of the packed values, which the registry's `meta` names. Metadata
/// without a version counts as version 1.
pub(super) const KEYS_VERSION: u32 = 2;

/// The keys of one cluster's metadata.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    cluster: String,
}

/// A hash tag: the registry or a shard, with a meta key, a sequence and a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum HashTag {
    Registry,
    Shard(u16),
}

impl Keys {
    pub(super) fn new(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned() }
    }

    /// Returns the key of the metadata id, the sequence and the replication id.
    pub(super) fn meta(&self, hash_tag: HashTag) -> String {
        format!("{}meta", self.prefix(hash_tag))
    }

    /// Returns the keys of the members' leases and of the zones.
    pub(super) fn membership(&self) -> (String, String) {
        let prefix = self.prefix(HashTag::Registry);
        (format!("{prefix}members"), format!("{prefix}zones"))
    }

    /// Returns the key of the event stream.
    pub(super) fn events(&self, hash_tag: HashTag) -> String {
        format!("{}events", self.prefix(hash_tag))
    }

    /// Returns the slot of a Redis Cluster that the keys of a hash tag have.
    pub(super) fn slot(&self, hash_tag: HashTag) -> u16 {
        let cluster = &self.cluster;
        let tag = match hash_tag {
            HashTag::Registry => format!("{cluster}:registry"),
            HashTag::Shard(shard) => format!("{cluster}:{shard}"),
        };
        (crc_fast::checksum(crc_fast::CrcAlgorithm::Crc16Xmodem, tag.as_bytes()) % 16_384) as u16
    }

    fn prefix(&self, hash_tag: HashTag) -> String {
        let cluster = &self.cluster;
        match hash_tag {
            HashTag::Registry => format!("odradek:{{{cluster}:registry}}:"),
            HashTag::Shard(shard) => format!("odradek:{{{cluster}:{shard}}}:"),
        }
    }
}

/// Returns the shard of a partition. It never changes, because the number of shards is fixed at
/// the first attach.
pub(super) fn shard_of(partition: TopicPartition, shards: u16) -> u16 {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&partition.topic.0);
    bytes[16..].copy_from_slice(&partition.partition.to_be_bytes());
    let crc = crc_fast::crc32_iscsi(&bytes);
    // A checksum is linear: without MurmurHash3's finalizer, neighbouring partitions would be
    // concentrated in a few shards.
    let mut hash = (crc ^ (crc >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^= hash >> 16;
    (hash % u32::from(shards.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::TopicId;

    #[test]
    fn keys_match_the_documentation() {
        let keys = Keys::new("prod");
        assert_eq!(keys.meta(HashTag::Registry), "odradek:{prod:registry}:meta");
        assert_eq!(keys.events(HashTag::Shard(3)), "odradek:{prod:3}:events");
    }

    /// Compared with `CLUSTER KEYSLOT`.
    #[test]
    fn slots_are_those_of_redis() {
        let keys = Keys::new("c");
        assert_eq!(keys.slot(HashTag::Registry), 11_848);
        let slots: Vec<_> = (0..4).map(|shard| keys.slot(HashTag::Shard(shard))).collect();
        assert_eq!(slots, [7_734, 3_607, 15_988, 11_861]);
    }

    #[test]
    fn shard_of_a_partition_never_changes() {
        let shard = |partition| shard_of(TopicPartition { topic: TopicId([7; 16]), partition }, 4);
        let shards: Vec<_> = (0..8).map(shard).collect();
        assert_eq!(shards, GOLDEN_SHARDS, "changing the hash orphans every partition");
    }

    const GOLDEN_SHARDS: [u16; 8] = [3, 3, 2, 0, 1, 1, 0, 2];
}
