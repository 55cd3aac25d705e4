//! Requests at the wrong kind of endpoint: the response makes the client refresh its metadata, and
//! nothing is stored.

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, DescribeProducersRequest, MetadataRequest,
    OffsetForLeaderEpochRequest,
};
use uuid::Uuid;

use super::batch::Batch;
use super::client::Client;
use super::requests::{
    LATEST, Target, append, fetch, fetched, list_offsets, metadata, offset_of, produce, produced,
    topic_name,
};
use super::{Topic, brokers, replica};

const NOT_LEADER: i16 = 6;

#[test]
fn broker_endpoints_do_not_lead_diskless_topics() {
    let topic = Topic::diskless("misrouted", 1);
    let at = topic.partition(0);
    append(&mut topic.client(), at, Batch::of(&["kept"]).bytes());
    let classic = [1, 2, 3].map(|id| replica().broker(id));
    for address in classic.iter().chain([&replica().bootstrap()]) {
        let mut client = Client::connect(address);
        assert_eq!(codes(&mut client, at), [NOT_LEADER; 8], "at {address}");
        let silent = produce(at, 9, 0, Batch::of(&["lost"]).bytes());
        client.send(&silent, 9);
        assert!(client.is_closed(), "acks=0 has no other way to report it");
    }
    assert_eq!(placeholder_end(&topic.name), 0, "the brokers' own log stays empty");
}

#[test]
fn diskless_nodes_do_not_lead_classic_topics() {
    let topic = Topic::classic("misrouted", 1);
    for k in [0, 3] {
        let mut client = Client::connect(&replica().node(k));
        assert_eq!(codes(&mut client, topic.partition(0)), [NOT_LEADER; 8]);
    }
    assert_eq!(offset_of(&mut topic.client(), topic.partition(0), LATEST).offset, 0);
}

#[test]
fn unknown_topics_are_reported_on_every_endpoint() {
    let id = Uuid::from_u128(0x0dd);
    let nothing = Target { name: "no-such-topic", id, partition: 0 };
    for address in [replica().node(0), replica().broker(1), replica().bootstrap()] {
        let mut client = Client::connect(&address);
        assert_eq!(codes(&mut client, nothing), [3, 100, 3, 100, 3, 3, 3, 3], "at {address}");
    }
    let topic = Topic::diskless("few-partitions", 1);
    let mut client = topic.client();
    for partition in [1, -1] {
        let absent = topic.partition(partition);
        assert_eq!(codes(&mut client, absent), [3; 8], "partition {partition}");
    }
}

/// Returns the error code of each API that is sent to a leader: Produce by name and id, Fetch by
/// name and id, ListOffsets, OffsetForLeaderEpoch, DeleteRecords, DescribeProducers.
pub(crate) fn codes(client: &mut Client, at: Target<'_>) -> [i16; 8] {
    let batch = Batch::of(&["lost"]).bytes();
    let by_name = produced(&client.call(&produce(at, 9, -1, batch.clone()), 9)).error_code;
    let by_id = produced(&client.call(&produce(at, 13, -1, batch), 13)).error_code;
    let fetched_by_name = fetched(&client.call(&fetch(at, 12, 0), 12)).error_code;
    let fetched_by_id = fetched(&client.call(&fetch(at, 15, 0), 15)).error_code;
    let listed = client.call(&list_offsets(at, LATEST), 7).topics[0].partitions[0].error_code;

    let partition = OffsetForLeaderPartition::default()
        .with_partition(at.partition)
        .with_current_leader_epoch(-1);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(topic_name(at.name))
        .with_partitions(vec![partition]);
    let request = OffsetForLeaderEpochRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let epoch = client.call(&request, 4).topics[0].partitions[0].error_code;

    let partition = DeleteRecordsPartition::default().with_partition_index(at.partition);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name(at.name))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
    let deleted = client.call(&request, 2).topics[0].partitions[0].error_code;

    let topic = TopicRequest::default()
        .with_name(topic_name(at.name))
        .with_partition_indexes(vec![at.partition]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let described = client.call(&request, 0).topics[0].partitions[0].error_code;
    [by_name, by_id, fetched_by_name, fetched_by_id, listed, epoch, deleted, described]
}

/// Returns the log end offset of partition 0 on the broker that leads it.
pub(super) fn placeholder_end(name: &str) -> i64 {
    let all = brokers();
    let mut client = Client::connect(&all[0]);
    let response = client.call::<MetadataRequest>(&metadata(&[name]), 12);
    let leader = response.topics[0].partitions[0].leader_id;
    let broker = response.brokers.iter().find(|b| b.node_id == leader).expect("a live leader");
    let mut client = Client::connect(&format!("{}:{}", broker.host, broker.port));
    let row = offset_of(&mut client, Target { name, id: Uuid::nil(), partition: 0 }, LATEST);
    assert_eq!(row.error_code, 0, "{name}");
    row.offset
}
