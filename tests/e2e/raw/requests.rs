//! Builders of requests for one topic, in any version.

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, FetchResponse, ListOffsetsRequest,
    MetadataRequest, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Topic;
use super::client::Client;

pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;
pub(crate) const MAX_TIMESTAMP: i64 = -3;

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub(crate) fn create(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopicsRequest {
    let config = |&(name, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(15_000)
}

pub(crate) fn metadata(names: &[&str]) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    MetadataRequest::default()
        .with_topics(Some(names.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(false)
}

/// Returns whether a row of Metadata is that of the topic with this name.
pub(crate) fn is_named(topic: &MetadataResponseTopic, name: &str) -> bool {
    topic.name.as_ref().is_some_and(|other| other.as_str() == name)
}

/// A partition by name, or by id from the version on that uses ids.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) name: &'a str,
    pub(crate) id: Uuid,
    pub(crate) partition: i32,
}

impl Topic {
    pub(crate) fn partition(&self, partition: i32) -> Target<'_> {
        Target { name: &self.name, id: self.id, partition }
    }
}

pub(crate) fn produce(at: Target<'_>, version: i16, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(at.partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_partition_data(vec![data]);
    let topic = match version >= 13 {
        true => topic.with_topic_id(at.id),
        false => topic.with_name(topic_name(at.name)),
    };
    ProduceRequest::default().with_acks(acks).with_timeout_ms(20_000).with_topic_data(vec![topic])
}

pub(crate) fn produced(response: &ProduceResponse) -> &PartitionProduceResponse {
    &response.responses[0].partition_responses[0]
}

/// Appends a batch; returns its base offset.
pub(crate) fn append(client: &mut Client, at: Target<'_>, records: Bytes) -> i64 {
    let response = client.call(&produce(at, 9, -1, records), 9);
    let row = produced(&response);
    assert_eq!(row.error_code, 0, "{at:?}: {:?}", row.error_message);
    row.base_offset
}

pub(crate) fn fetch_partition(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
}

/// Returns a fetch of one partition that does not wait.
pub(crate) fn fetch(at: Target<'_>, version: i16, offset: i64) -> FetchRequest {
    fetch_of(at, version, vec![fetch_partition(at.partition, offset)])
}

pub(crate) fn fetch_of(
    at: Target<'_>,
    version: i16,
    partitions: Vec<FetchPartition>,
) -> FetchRequest {
    let topic = FetchTopic::default().with_partitions(partitions);
    let topic = match version >= 13 {
        true => topic.with_topic_id(at.id),
        false => topic.with_topic(topic_name(at.name)),
    };
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

pub(crate) fn fetched(response: &FetchResponse) -> &PartitionData {
    assert_eq!(response.error_code, 0);
    &response.responses[0].partitions[0]
}

pub(crate) fn list_offsets(at: Target<'_>, timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(at.partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(at.name)).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

pub(crate) fn offset_of(
    client: &mut Client,
    at: Target<'_>,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    client.call(&list_offsets(at, timestamp), 7).topics[0].partitions[0].clone()
}
