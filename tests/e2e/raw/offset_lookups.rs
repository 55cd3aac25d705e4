//! Start offset, end offset and offsets by timestamp of a diskless log.

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::PartitionResponse;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    BrokerId, DeleteRecordsRequest, DescribeProducersRequest, OffsetForLeaderEpochRequest,
};

use super::Topic;
use super::batch::Batch;
use super::client::Client;
use super::produce::producer_id;
use super::requests::{
    EARLIEST, LATEST, MAX_TIMESTAMP, Target, append, fetch, fetched, list_offsets, offset_of,
    topic_name,
};

/// Timestamps of the batches: the second is the latest.
const TIMES: [i64; 3] = [1_000_000, 3_000_000, 2_000_000];

#[test]
fn list_offsets_matches_a_broker() {
    let (ours, theirs) = (Topic::diskless("list", 1), Topic::classic("list", 1));
    for topic in [ours, theirs] {
        let (mut client, at) = (topic.client(), topic.partition(0));
        for time in TIMES {
            append(&mut client, at, Batch::of(&["a", "b"]).at(time).bytes());
        }
        for version in 1..=10 {
            let mut query = |timestamp| {
                let response = client.call(&list_offsets(at, timestamp), version);
                let row = &response.topics[0].partitions[0];
                assert_eq!(row.error_code, 0, "{} v{version} {timestamp}", topic.name);
                (row.timestamp, row.offset)
            };
            assert_eq!(query(EARLIEST), (-1, 0), "{} v{version}", topic.name);
            assert_eq!(query(LATEST), (-1, 6), "{} v{version}", topic.name);
            assert_eq!(query(0), (TIMES[0], 0), "{} v{version}", topic.name);
            assert_eq!(query(TIMES[0] + 1), (TIMES[0] + 1, 1), "{} v{version}", topic.name);
            assert_eq!(query(TIMES[0] + 2), (TIMES[1], 2), "{} v{version}", topic.name);
            assert_eq!(query(TIMES[1] + 2), (-1, -1), "later than all: {} v{version}", topic.name);
            if version >= 7 {
                assert_eq!(query(MAX_TIMESTAMP), (TIMES[1] + 1, 3), "{} v{version}", topic.name);
            }
        }
    }
}

#[test]
fn delete_records_moves_the_log_start_offset() {
    let (ours, theirs) = (Topic::diskless("delete", 1), Topic::classic("delete", 1));
    for topic in [ours, theirs] {
        let (mut client, at) = (topic.client(), topic.partition(0));
        for _ in 0..3 {
            append(&mut client, at, Batch::of(&["a", "b"]).bytes());
        }
        for version in 0..=2 {
            let offset = i64::from(version) + 1;
            assert_eq!(delete(&mut client, at, version, offset), (0, offset), "{}", topic.name);
        }
        assert_eq!(delete(&mut client, at, 2, 7), (1, -1), "{}: beyond the end", topic.name);
        assert_eq!(offset_of(&mut client, at, EARLIEST).offset, 3, "{}", topic.name);
        let below = client.call(&fetch(at, 12, 2), 12);
        assert_eq!(fetched(&below).error_code, 1, "{}", topic.name);
        let within = client.call(&fetch(at, 12, 3), 12);
        let row = fetched(&within);
        assert_eq!((row.error_code, row.log_start_offset, row.high_watermark), (0, 3, 6));
        assert_eq!(delete(&mut client, at, 2, -1), (0, 6), "{}: all of it", topic.name);
        assert_eq!(append(&mut client, at, Batch::of(&["c"]).bytes()), 6, "{}", topic.name);
    }
}

fn delete(client: &mut Client, at: Target<'_>, version: i16, offset: i64) -> (i16, i64) {
    let partition =
        DeleteRecordsPartition::default().with_partition_index(at.partition).with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name(at.name))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = client.call(&request, version);
    let row = &response.topics[0].partitions[0];
    (row.error_code, row.low_watermark)
}

#[test]
fn every_leader_epoch_ends_at_the_high_watermark() {
    let topic = Topic::diskless("epoch", 1);
    let (mut client, at) = (topic.client(), topic.partition(0));
    append(&mut client, at, Batch::of(&["a", "b"]).bytes());
    for version in 2..=4 {
        for epoch in [0, 5] {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(0)
                .with_current_leader_epoch(-1)
                .with_leader_epoch(epoch);
            let requested = OffsetForLeaderTopic::default()
                .with_topic(topic_name(at.name))
                .with_partitions(vec![partition]);
            let mut request = OffsetForLeaderEpochRequest::default().with_topics(vec![requested]);
            if version >= 3 {
                request.replica_id = BrokerId(-1);
            }
            let response = client.call(&request, version);
            let row = &response.topics[0].partitions[0];
            assert_eq!((row.error_code, row.end_offset, row.leader_epoch), (0, 2, epoch));
        }
    }
}

#[test]
fn describe_producers_matches_a_broker() {
    let (ours, theirs) = (Topic::diskless("producers", 1), Topic::classic("producers", 1));
    for topic in [ours, theirs] {
        let (mut client, at) = (topic.client(), topic.partition(0));
        assert_eq!(producers(&mut client, at).active_producers, [], "{}", topic.name);
        let id = producer_id(&mut client);
        let batch = Batch::of(&["a", "b", "c"]).by(id, 4, 0);
        append(&mut client, at, batch.bytes());
        let row = producers(&mut client, at);
        assert_eq!((row.error_code, row.active_producers.len()), (0, 1), "{}", topic.name);
        let state = &row.active_producers[0];
        assert_eq!((state.producer_id.0, state.producer_epoch), (id, 4), "{}", topic.name);
        assert_eq!((state.last_sequence, state.last_timestamp), (2, batch.timestamp + 2));
        assert_eq!(state.current_txn_start_offset, -1, "{}", topic.name);
    }
}

fn producers(client: &mut Client, at: Target<'_>) -> PartitionResponse {
    let topic = TopicRequest::default()
        .with_name(topic_name(at.name))
        .with_partition_indexes(vec![at.partition]);
    let response = client.call(&DescribeProducersRequest::default().with_topics(vec![topic]), 0);
    response.topics[0].partitions[0].clone()
}
