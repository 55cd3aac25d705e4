//! What the brokers say of a topic that is, or is to be, diskless.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{BrokerId, DescribeConfigsRequest, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::classify::MakeDisklessError;
use super::id_of;
use crate::log::ids::TopicId;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::proxy::upstream::error::UpstreamError;
use crate::wire::record_batch::{Compression, TimestampType};
use crate::wire::records::{Codec, RecordRules};

const RESOURCE_TOPIC: i8 = 2;
const LATEST: i64 = -1;
/// A topic seconds old has no leaders yet: how often, and how long apart, it is asked again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The topic configs that a diskless topic obeys; until they are known, what refuses least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: usize,
    /// Whether `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `message.timestamp.before.max.ms`: how old a record may say it is.
    before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far ahead of our clock a record may be.
    after_max_ms: i64,
    /// `compression.type`; `None` is `producer`.
    compression: Option<Compression>,
    /// `compression.gzip.level`; `None` is its default.
    gzip_level: Option<u32>,
    /// `compression.zstd.level`.
    zstd_level: i32,
    /// Whether `cleanup.policy` contains `compact`.
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
    /// The configs that count.
    const KEYS: [&str; 8] = [
        "max.message.bytes",
        "message.timestamp.type",
        "message.timestamp.before.max.ms",
        "message.timestamp.after.max.ms",
        "compression.type",
        "compression.gzip.level",
        "compression.zstd.level",
        "cleanup.policy",
    ];

    /// Takes over one config. A value that no broker would take changes nothing.
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

    /// What they ask of the records in a batch.
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

/// Whether a topic may become diskless: its logs are empty and always were, nothing compacts it.
pub(super) async fn check(cluster: &KafkaCluster, name: &str) -> Result<(), MakeDisklessError> {
    let upstream = |error| MakeDisklessError::Upstream(name.to_owned(), error);
    if name.starts_with("__") {
        return Err(MakeDisklessError::Internal(name.to_owned()));
    }
    let configs = configs(cluster, std::iter::once(name)).await.map_err(upstream)?;
    if configs.get(name).is_some_and(|config| config.compacted) {
        return Err(MakeDisklessError::Compacted(name.to_owned()));
    }
    for _ in 0..TRIES {
        if let Some(end) = end_offsets(cluster, name).await.map_err(upstream)? {
            return if end == 0 {
                Ok(())
            } else {
                Err(MakeDisklessError::HasRecords(name.to_owned()))
            };
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(upstream(UpstreamError::NoBroker))
}

/// Whether the topic of this name and id has, or had, records; `false` also when nobody can say.
pub(super) async fn has_records(cluster: &KafkaCluster, name: &str, id: TopicId) -> bool {
    let requested = MetadataRequestTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))));
    let ends = end_offsets(cluster, name).await;
    // Asked afterwards: a topic of the same name that came meanwhile has another id.
    let metadata = cluster.metadata(Some(vec![requested])).await;
    let is_same = metadata.is_ok_and(|m| m.topics.first().is_some_and(|t| id_of(t) == id));
    is_same && matches!(ends, Ok(Some(end)) if end > 0)
}

/// The sum of the log end offsets on the brokers; `None` while a partition has no leader.
async fn end_offsets(cluster: &KafkaCluster, name: &str) -> Result<Option<i64>, UpstreamError> {
    let topic_name = TopicName(StrBytes::from_string(name.to_owned()));
    let requested = MetadataRequestTopic::default().with_name(Some(topic_name.clone()));
    let metadata = cluster.metadata(Some(vec![requested])).await?;
    let Some(topic) = metadata.topics.first().filter(|t| t.error_code == 0) else {
        return Ok(None);
    };
    let mut by_leader: BTreeMap<i32, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for partition in &topic.partitions {
        let query = ListOffsetsPartition::default()
            .with_partition_index(partition.partition_index)
            .with_current_leader_epoch(-1)
            .with_timestamp(LATEST);
        by_leader.entry(partition.leader_id.0).or_default().push(query);
    }
    let version = cluster.version_for::<ListOffsetsRequest>(7)?;
    let mut sum = 0;
    for (leader, partitions) in by_leader {
        let topic =
            ListOffsetsTopic::default().with_name(topic_name.clone()).with_partitions(partitions);
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let Ok(response) = cluster.call_broker(leader, &request, version).await else {
            return Ok(None);
        };
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != 0 || partition.offset < 0 {
                return Ok(None);
            }
            sum += partition.offset;
        }
    }
    Ok(Some(sum))
}

/// The configs of topics, by name; a topic that the broker does not describe is left out.
pub(super) async fn configs<'a>(
    cluster: &KafkaCluster,
    names: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, TopicConfig>, UpstreamError> {
    let resource = |name: &str| {
        DescribeConfigsResource::default()
            .with_resource_type(RESOURCE_TOPIC)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configuration_keys(Some(
                TopicConfig::KEYS.map(StrBytes::from_static_str).to_vec(),
            ))
    };
    let resources: Vec<_> = names.map(resource).collect();
    if resources.is_empty() {
        return Ok(HashMap::new());
    }
    let request = DescribeConfigsRequest::default().with_resources(resources);
    let version = cluster.version_for::<DescribeConfigsRequest>(4)?;
    let response = cluster.call(&request, version).await?;
    let mut configs = HashMap::new();
    for result in response.results.iter().filter(|result| result.error_code == 0) {
        let mut config = TopicConfig::default();
        for entry in &result.configs {
            config.set(&entry.name, entry.value.as_deref().unwrap_or_default());
        }
        configs.insert(result.resource_name.as_str().to_owned(), config);
    }
    Ok(configs)
}

/// Returns whether a `cleanup.policy` includes `compact`.
pub fn includes_compact(cleanup_policy: &str) -> bool {
    cleanup_policy.split(',').any(|policy| policy.trim() == "compact")
}
