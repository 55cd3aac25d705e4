//! Requests with empty lists.

use std::fmt::Debug;

use kafka_protocol::messages::delete_records_request::DeleteRecordsTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::{
    ApiKey, BrokerId, DeleteRecordsRequest, DescribeProducersRequest, FetchRequest,
    ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request};
use testbed::replica::DISKLESS_PREFIX;
use uuid::Uuid;

use super::super::client::{Client, Received};
use super::super::requests::{Target, topic_name};
use super::super::{brokers, replica};
use super::{LIMIT, create_on_broker_1, wait_for_leadership};

/// Returns the response as text, without names that differ between both sides.
fn answer<R>(address: &str, at: Target<'_>, request: &R, version: i16) -> String
where
    R: Request + Encodable,
    R::Response: Decodable + Debug,
{
    let mut client = Client::connect(address);
    client.send(request, version);
    let text = match client.receive_within(LIMIT) {
        Received::Frame(frame) => {
            let header = odradek::wire::header::ResponseHeader::parse(&frame, R::KEY, version);
            let body = frame.slice(header.expect("a header").bytes..);
            format!("{:?}", odradek::wire::guard::decode_response::<R>(version, body))
        }
        Received::Closed => "closed".to_owned(),
        Received::Timeout => "silent".to_owned(),
    };
    text.replace(at.name, "NAME").replace(&at.id.to_string(), "ID")
}

/// The topics that a request names with an empty list of partitions.
#[derive(Clone, Copy, Debug)]
enum Topics {
    None,
    Known,
    Unknown,
    KnownTwice,
}

fn names(at: Target<'_>, topics: Topics, by_id: bool) -> Vec<(TopicName, Uuid)> {
    let named = |name: &str, id| match by_id {
        true => (topic_name(""), id),
        false => (topic_name(name), Uuid::nil()),
    };
    let known = || named(at.name, at.id);
    match topics {
        Topics::None => vec![],
        Topics::Known => vec![known()],
        Topics::Unknown => vec![named("diskless-unknown", Uuid::from_u128(7 << 64 | 7))],
        Topics::KnownTwice => vec![known(), known()],
    }
}

fn ask(address: &str, at: Target<'_>, topics: Topics, key: ApiKey, version: i16) -> String {
    let by_id = match key {
        ApiKey::Produce | ApiKey::Fetch => version >= 13,
        _ => false,
    };
    let named = names(at, topics, by_id).into_iter();
    match key {
        ApiKey::Produce => {
            let topic = |(name, id)| TopicProduceData::default().with_name(name).with_topic_id(id);
            let request = ProduceRequest::default()
                .with_acks(if version % 2 == 0 { 1 } else { -1 })
                .with_timeout_ms(5_000)
                .with_topic_data(named.map(topic).collect());
            answer(address, at, &request, version)
        }
        ApiKey::Fetch => {
            let topic = |(name, id)| FetchTopic::default().with_topic(name).with_topic_id(id);
            let request = FetchRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_max_wait_ms(100)
                .with_session_epoch(-1)
                .with_topics(named.map(topic).collect());
            answer(address, at, &request, version)
        }
        ApiKey::ListOffsets => {
            let topic = |(name, _)| ListOffsetsTopic::default().with_name(name);
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_topics(named.map(topic).collect());
            answer(address, at, &request, version)
        }
        ApiKey::OffsetForLeaderEpoch => {
            let topic = |(name, _)| OffsetForLeaderTopic::default().with_topic(name);
            let request = OffsetForLeaderEpochRequest::default()
                .with_replica_id(BrokerId(if version >= 3 { -1 } else { -2 }))
                .with_topics(named.map(topic).collect());
            answer(address, at, &request, version)
        }
        ApiKey::DeleteRecords => {
            let topic = |(name, _)| DeleteRecordsTopic::default().with_name(name);
            let request = DeleteRecordsRequest::default()
                .with_timeout_ms(5_000)
                .with_topics(named.map(topic).collect());
            answer(address, at, &request, version)
        }
        ApiKey::DescribeProducers => {
            let topic = |(name, _)| TopicRequest::default().with_name(name);
            let request =
                DescribeProducersRequest::default().with_topics(named.map(topic).collect());
            answer(address, at, &request, version)
        }
        key => panic!("{key:?}"),
    }
}

#[test]
fn requests_with_empty_lists_match_a_broker() {
    let ours = create_on_broker_1(&format!("{DISKLESS_PREFIX}empty-lists"), 1, &[]);
    let theirs = create_on_broker_1("classic-empty-lists", 1, &[]);
    wait_for_leadership(&brokers()[0], &theirs, 1);
    let (address, broker) = (ours.address(replica(), 0), brokers()[0].clone());
    let versions: [(ApiKey, &[i16]); 6] = [
        (ApiKey::Produce, &[3, 8, 9, 12, 13]),
        (ApiKey::Fetch, &[4, 7, 12, 13, 15]),
        (ApiKey::ListOffsets, &[1, 7, 10]),
        (ApiKey::OffsetForLeaderEpoch, &[2, 4]),
        (ApiKey::DeleteRecords, &[0, 2]),
        (ApiKey::DescribeProducers, &[0]),
    ];
    let mut differences = Vec::new();
    for (key, versions) in versions {
        for topics in [Topics::None, Topics::Known, Topics::Unknown, Topics::KnownTwice] {
            for &version in versions {
                let ours = ask(&address, ours.partition(0), topics, key, version);
                let theirs = ask(&broker, theirs.partition(0), topics, key, version);
                if ours != theirs {
                    differences.push(format!(
                        "{key:?} v{version} {topics:?}\n  ours   {ours}\n  theirs {theirs}"
                    ));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
