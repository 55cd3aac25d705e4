//! Every key in Redis, in one place; `docs/redis-schema.md` explains the layout.
//!
//! `{name:3}` is shard 3 of the cluster `name`, `{name:registry}` its registry: the braces are
//! Redis Cluster's hash tag, so each shard lies in one slot. Scripts get the meta key and derive
//! the rest from its prefix, by the suffixes listed here.
//!
//! | Key: after `odradek:{<cluster>:<shard>}:` | Value |
//! |---|---|
//! | `meta` | hash: `metadata_id`, `sequence`, `replication_id`, `condemned`, `proof` |
//! | `lives` | list: each life in which it was settled, and the sequence at which it began |
//! | `settling` | hash: in which life, since when, and who has told what he has seen |
//! | `p:<partition>` | string: its counters, packed (`scripts/partition.lua`) |
//! | `i:<partition>` | sorted set: runs, packed, by base offset |
//! | `t:<partition>` | sorted set: every 64th boundary with the greatest timestamp below it, by offset |
//! | `d:<partition>` | hash: producer id (8 bytes) to epoch, last seen (ms), last five batches |
//! | `k:<topic>` | set: the topic's partitions in this shard |
//! | `o:<object>` | hash: part index to its outcomes; expires after two hours |
//! | `gone` | set: topics that were deleted |
//! | `log` | stream: what changed, one entry for each raise of `sequence`, which is its id |
//!
//! | Key: after `odradek:{<cluster>:registry}:` | Value |
//! |---|---|
//! | `meta` | hash: `metadata_id`, `sequence`, `cluster`, `shards`, `ready`, `secret`; `replication_id`, `condemned`, `proof` |
//! | `lives`, `settling` | as a shard's |
//! | `zones` | list: zones by index |
//! | `topics` | hash: topic id to kind (`c`, `d`, or `s` while it switches) and name |
//! | `gone` | set: topics that were deleted |
//! | `members` | hash: replica to the end of its lease and what it says of itself |
//! | `nodes` | hash: index of a zone to the number of its diskless nodes |
//! | `seen` | hash: index of a zone to who renewed last there, as in `members` |
//! | `log` | stream: bindings made and forgotten |

use crate::log::ids::TopicPartition;

/// The keys of one cluster's metadata.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    cluster: String,
}

/// One hash tag: a slot with a meta key, a sequence and a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Registry,
    Shard(u16),
}

impl Keys {
    pub(super) fn new(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned() }
    }

    /// Key: the generation and the sequence of a tag.
    pub(super) fn meta(&self, tag: Tag) -> String {
        format!("{}meta", self.prefix(tag))
    }

    /// Keys: the members' leases, and the zones.
    pub(super) fn crowd(&self) -> (String, String) {
        let prefix = self.prefix(Tag::Registry);
        (format!("{prefix}members"), format!("{prefix}zones"))
    }

    /// Key: the stream of a tag's changes.
    pub(super) fn log(&self, tag: Tag) -> String {
        format!("{}log", self.prefix(tag))
    }

    fn prefix(&self, tag: Tag) -> String {
        let cluster = &self.cluster;
        match tag {
            Tag::Registry => format!("odradek:{{{cluster}:registry}}:"),
            Tag::Shard(shard) => format!("odradek:{{{cluster}:{shard}}}:"),
        }
    }
}

/// The shard of a partition, for ever: the number of shards is fixed at the first attach.
pub(super) fn shard_of(partition: TopicPartition, shards: u16) -> u16 {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&partition.topic.0);
    bytes[16..].copy_from_slice(&partition.partition.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes) as u32;
    // A checksum is linear: without MurmurHash3's finalizer neighbours crowd into a few shards.
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
    fn keys_are_as_documented() {
        let keys = Keys::new("prod");
        assert_eq!(keys.meta(Tag::Registry), "odradek:{prod:registry}:meta");
        assert_eq!(keys.log(Tag::Shard(3)), "odradek:{prod:3}:log");
    }

    #[test]
    fn a_partition_never_moves_to_another_shard() {
        let shard = |partition| shard_of(TopicPartition { topic: TopicId([7; 16]), partition }, 4);
        let shards: Vec<_> = (0..8).map(shard).collect();
        assert_eq!(shards, GOLDEN_SHARDS, "changing the hash orphans every partition");
    }

    const GOLDEN_SHARDS: [u16; 8] = [3, 3, 2, 0, 1, 1, 0, 2];
}
