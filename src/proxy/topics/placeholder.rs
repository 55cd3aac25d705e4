//! What the brokers say of a topic that is, or is to be, diskless.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{BrokerId, DescribeConfigsRequest, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::kinds::MakeDisklessError;
use crate::proxy::cluster::Cluster;
use crate::proxy::upstream::UpstreamError;

const RESOURCE_TOPIC: i8 = 2;
const LATEST: i64 = -1;
/// A topic seconds old has no leaders yet: how often, and how long apart, it is asked again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// The topic configs that a diskless topic obeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: usize,
    /// Whether `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// Whether `cleanup.policy` contains `compact`.
    pub compacted: bool,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self { max_message_bytes: 1_048_588, log_append_time: false, compacted: false }
    }
}

/// Whether a topic may become diskless: its logs are empty and always were, nothing compacts it.
pub(super) async fn check(cluster: &Cluster, name: &str) -> Result<(), MakeDisklessError> {
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

/// The sum of the log end offsets on the brokers; `None` while a partition has no leader.
async fn end_offsets(cluster: &Cluster, name: &str) -> Result<Option<i64>, UpstreamError> {
    let topic_name = TopicName(StrBytes::from_string(name.to_owned()));
    let wanted = MetadataRequestTopic::default().with_name(Some(topic_name.clone()));
    let metadata = cluster.metadata(Some(vec![wanted])).await?;
    let Some(topic) = metadata.topics.first().filter(|t| t.error_code == 0) else {
        return Ok(None);
    };
    let mut by_leader: BTreeMap<i32, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for partition in &topic.partitions {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition.partition_index)
            .with_current_leader_epoch(-1)
            .with_timestamp(LATEST);
        by_leader.entry(partition.leader_id.0).or_default().push(asked);
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
    cluster: &Cluster,
    names: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, TopicConfig>, UpstreamError> {
    let keys = ["max.message.bytes", "message.timestamp.type", "cleanup.policy"];
    let resource = |name: &str| {
        DescribeConfigsResource::default()
            .with_resource_type(RESOURCE_TOPIC)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configuration_keys(Some(keys.map(StrBytes::from_static_str).to_vec()))
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
            let value = entry.value.as_deref().unwrap_or_default();
            match entry.name.as_str() {
                "max.message.bytes" => {
                    config.max_message_bytes = value.parse().unwrap_or(config.max_message_bytes);
                }
                "message.timestamp.type" => config.log_append_time = value == "LogAppendTime",
                "cleanup.policy" => {
                    config.compacted = value.split(',').any(|p| p.trim() == "compact")
                }
                _ => {}
            }
        }
        configs.insert(result.resource_name.as_str().to_owned(), config);
    }
    Ok(configs)
}
