//! A topic and its configs.

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;

use crate::coordinator::TopicType;
use crate::log::ids::{TopicId, TopicPartition};
use crate::wire::record_batch::{Compression, TimestampType};
use crate::wire::records::{Codec, RecordRules};

/// A topic as last observed, its type known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The topic id.
    pub id: TopicId,
    /// The name.
    pub name: String,
    /// The type.
    pub topic_type: TopicType,
    /// The leader epoch of each partition, by partition index.
    pub leader_epochs: Vec<i32>,
    /// The configs that apply to diskless topics.
    pub config: TopicConfig,
}

impl Topic {
    /// Returns whether the topic is diskless.
    pub fn is_diskless(&self) -> bool {
        self.topic_type == TopicType::Diskless
    }

    /// Returns the partition, if the topic has it.
    pub fn partition(&self, index: i32) -> Option<TopicPartition> {
        let is_known = usize::try_from(index).is_ok_and(|i| i < self.leader_epochs.len());
        is_known.then_some(TopicPartition { topic: self.id, partition: index })
    }

    /// Returns the partition's leader epoch as last given by a broker.
    pub fn leader_epoch(&self, index: i32) -> i32 {
        usize::try_from(index).ok().and_then(|i| self.leader_epochs.get(i)).copied().unwrap_or(0)
    }
}

/// Returns the id of a topic in a Metadata response.
pub fn id_of(topic: &MetadataResponseTopic) -> TopicId {
    TopicId(*topic.topic_id.as_bytes())
}

/// The configs that apply to a diskless topic. The default, which holds while they are unknown,
/// rejects the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: usize,
    /// True if `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`: how far a record's timestamp may be in the past.
    before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a record's timestamp may be in the future.
    after_max_ms: i64,
    /// `compression.type`; `None` is `producer`.
    compression: Option<Compression>,
    /// `compression.gzip.level`; `None` is the default level.
    gzip_level: Option<u32>,
    /// `compression.zstd.level`.
    zstd_level: i32,
    /// True if `cleanup.policy` contains `compact`.
    pub compacted: bool,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            max_message_bytes: 1_048_588,
            log_append_time: false,
            before_max_ms: i64::MAX,
            after_max_ms: i64::MAX,
            compression: None,
            gzip_level: None,
            zstd_level: 3,
            compacted: false,
        }
    }
}

impl TopicConfig {
    /// The configs that are requested from brokers.
    pub(super) const KEYS: [&str; 8] = [
        "max.message.bytes",
        "message.timestamp.type",
        "message.timestamp.before.max.ms",
        "message.timestamp.after.max.ms",
        "compression.type",
        "compression.gzip.level",
        "compression.zstd.level",
        "cleanup.policy",
    ];

    /// Sets one config. Ignores a value that no broker would accept.
    pub(super) fn set(&mut self, key: &str, value: &str) {
        let number = || value.parse::<i64>().ok();
        match key {
            "max.message.bytes" => {
                self.max_message_bytes = value.parse().unwrap_or(self.max_message_bytes);
            }
            "message.timestamp.type" => self.log_append_time = value == "LogAppendTime",
            "message.timestamp.before.max.ms" => {
                self.before_max_ms = number().unwrap_or(self.before_max_ms);
            }
            "message.timestamp.after.max.ms" => {
                self.after_max_ms = number().unwrap_or(self.after_max_ms);
            }
            "compression.type" => {
                self.compression = match value {
                    "uncompressed" => Some(Compression::None),
                    "gzip" => Some(Compression::Gzip),
                    "snappy" => Some(Compression::Snappy),
                    "lz4" => Some(Compression::Lz4),
                    "zstd" => Some(Compression::Zstd),
                    _ => None,
                };
            }
            "compression.gzip.level" => {
                self.gzip_level = value.parse().ok().filter(|level| (1..=9).contains(level));
            }
            "compression.zstd.level" => self.zstd_level = value.parse().unwrap_or(self.zstd_level),
            "cleanup.policy" => self.compacted = includes_compact(value),
            _ => {}
        }
    }

    /// Returns the rules for the records of a batch.
    pub fn record_rules(&self) -> RecordRules {
        RecordRules {
            codec: self.compression.map(|compression| match compression {
                Compression::None => Codec::None,
                Compression::Gzip => Codec::Gzip(self.gzip_level),
                Compression::Snappy => Codec::Snappy,
                Compression::Lz4 => Codec::Lz4,
                Compression::Zstd => Codec::Zstd(self.zstd_level),
            }),
            timestamp_type: if self.log_append_time {
                TimestampType::LogAppendTime
            } else {
                TimestampType::CreateTime
            },
            before_max_ms: self.before_max_ms,
            after_max_ms: self.after_max_ms,
            keys_required: self.compacted,
            batch_bytes_max: self.max_message_bytes,
        }
    }
}

/// Returns whether a `cleanup.policy` includes `compact`.
pub fn includes_compact(cleanup_policy: &str) -> bool {
    cleanup_policy.split(',').any(|policy| policy.trim() == "compact")
}
