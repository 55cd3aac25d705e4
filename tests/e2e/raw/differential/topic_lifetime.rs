//! Topics that do not exist, or are deleted meanwhile.

use std::time::{Duration, Instant};

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, MetadataRequest};
use testbed::process::wait_until;
use testbed::replica::DISKLESS_PREFIX;
use uuid::Uuid;

use super::super::batch::Batch;
use super::super::client::Client;
use super::super::lifecycle::LIMIT;
use super::super::misrouted::codes;
use super::super::requests::{append, fetch, topic_name};
use super::super::{Topic, brokers, replica};
use super::{create_on_broker_1, wait_for_leadership};

/// A diskless topic and its leader, and a classic topic and its broker.
fn sides(stem: &str) -> [(Topic, String); 2] {
    let ours = create_on_broker_1(&format!("{DISKLESS_PREFIX}{stem}"), 1, &[]);
    let theirs = create_on_broker_1(&format!("classic-{stem}"), 1, &[]);
    assert!(ours.is_diskless() && !theirs.is_diskless());
    let address = ours.address(replica(), 0);
    wait_for_leadership(&brokers()[0], &theirs, 1);
    [(ours, address), (theirs, brokers()[0].clone())]
}

/// Deletes a topic by id or by name.
fn delete(topic: &Topic, by_id: bool) {
    let mut client = Client::connect(&replica().bootstrap());
    let state = match by_id {
        true => DeleteTopicState::default().with_name(None).with_topic_id(topic.id),
        false => DeleteTopicState::default().with_name(Some(topic_name(&topic.name))),
    };
    let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(15_000);
    let response = client.call(&request, 6);
    assert_eq!(response.responses[0].error_code, 0, "{}", topic.name);
}

/// Waits until no broker lists a topic.
fn wait_for_absence(topic: &Topic) {
    let absent = |address: &String| {
        let requested = super::super::requests::metadata(&[&topic.name]);
        Client::connect(address).call(&requested, 12).topics[0].error_code == 3
    };
    wait_until("every broker to have deleted it", LIMIT, || brokers().iter().all(absent));
}

#[test]
fn metadata_of_an_unknown_id_matches_a_broker() {
    let unknown = Uuid::from_u128(0x0dd << 64 | 1);
    let [(known, _), _] = sides("metadata-of-unknown");
    let query = |address: &str, version: i16, ids: &[Uuid]| {
        let topic = |id: &Uuid| MetadataRequestTopic::default().with_name(None).with_topic_id(*id);
        let request = MetadataRequest::default()
            .with_topics(Some(ids.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(false);
        let mut topics = Client::connect(address).call(&request, version).topics;
        topics.sort_by_key(|topic| topic.topic_id);
        let row = |topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
            let name = topic.name.as_ref().map(|name| name.to_string());
            (topic.error_code, name, topic.topic_id, topic.partitions.len())
        };
        topics.iter().map(row).collect::<Vec<_>>()
    };
    let ports = [replica().node(0), replica().broker(1), replica().bootstrap()];
    for version in [12, 13] {
        for ids in [&[unknown][..], &[unknown, known.id]] {
            let theirs = query(&brokers()[0], version, ids);
            assert!(theirs.iter().any(|row| row.0 == 100), "{theirs:?}");
            for address in &ports {
                assert_eq!(query(address, version, ids), theirs, "{address} v{version}");
            }
        }
    }
}

/// Returns the row of a fetch that waits while its topic is deleted, and whether it waited to its
/// end.
fn fetch_until_deleted(
    topic: &Topic,
    address: &str,
    version: i16,
    in_session: bool,
) -> (i16, i16, i64, i64, bool) {
    const WAIT: Duration = Duration::from_secs(10);
    let mut client = Client::connect(address);
    let mut request = fetch(topic.partition(0), version, 1);
    if in_session {
        let opened = client.call(&request.clone().with_session_epoch(0), version);
        request = request
            .with_topics(Vec::new())
            .with_session_id(opened.session_id)
            .with_session_epoch(1);
    }
    let request = request.with_max_wait_ms(WAIT.as_millis() as i32);
    let sent = client.send(&request, version);
    assert!(client.is_silent_for(Duration::from_millis(300)), "it waits");
    let started = Instant::now();
    delete(topic, in_session);
    let response = client.receive::<FetchRequest>(sent, version);
    let row = response.responses.first().map(|topic| &topic.partitions[0]);
    let of = |field: fn(&kafka_protocol::messages::fetch_response::PartitionData) -> i64| {
        row.map_or(-99, field)
    };
    (
        response.error_code,
        of(|row| row.error_code.into()) as i16,
        of(|row| row.high_watermark),
        of(|row| row.log_start_offset),
        started.elapsed() > WAIT / 2,
    )
}

#[test]
fn deletion_ends_a_waiting_fetch_as_at_a_broker() {
    for (version, in_session) in [(4, false), (12, false), (12, true), (15, false), (15, true)] {
        let answers = sides("delete-during-wait").map(|(topic, address)| {
            append(&mut Client::connect(&address), topic.partition(0), Batch::of(&["a"]).bytes());
            fetch_until_deleted(&topic, &address, version, in_session)
        });
        assert_eq!(answers[0], answers[1], "v{version}, in a session: {in_session}");
    }
}

#[test]
fn requests_for_a_deleted_topic_match_a_broker() {
    for by_id in [false, true] {
        let answers = sides("deleted").map(|(topic, address)| {
            let mut client = Client::connect(&address);
            append(&mut client, topic.partition(0), Batch::of(&["a"]).bytes());
            delete(&topic, by_id);
            let now = topic.is_diskless().then(|| codes(&mut client, topic.partition(0)));
            wait_for_absence(&topic);
            (now, codes(&mut client, topic.partition(0)))
        });
        assert_eq!(answers[0].1, answers[1].1, "by id: {by_id}");
        // A replica knows of a deletion at once; the brokers learn of it one by one.
        assert_eq!(answers[0].0, Some(answers[1].1), "at once, by id: {by_id}");
    }
}
