//! Requests that are forwarded unless they name a diskless topic.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest, ProducerId,
    ShareGroupHeartbeatRequest, TransactionalId,
};
use uuid::Uuid;

use super::client::Client;
use super::lifecycle::LIMIT;
use super::requests::{text, topic_name};
use super::{Topic, replica};
use testbed::Testbed;
use testbed::process::wait_until;

/// Connects to the coordinator of a transactional id or a group.
fn coordinator(key: &str, kind: i8) -> Client {
    let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(kind);
    let mut address = String::new();
    wait_until("a coordinator", LIMIT, || {
        let response = Client::connect(&replica().bootstrap()).call(&request, 3);
        address = format!("{}:{}", response.host, response.port);
        response.error_code == 0
    });
    Client::connect(&address)
}

#[test]
fn transactions_reject_diskless_partitions() {
    let (ours, theirs) = (Topic::diskless("txn", 2), Topic::classic("txn", 1));
    let id = Testbed::get().unique("transactional");
    let mut client = coordinator(&id, 1);
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text(&id))))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let mut producer = None;
    wait_until("a producer id", LIMIT, || {
        let response = client.call(&request, 4);
        producer = Some((response.producer_id, response.producer_epoch));
        response.error_code == 0
    });
    let (producer_id, epoch) = producer.expect("just got");
    let add = |topics: &[(&Topic, i32)]| {
        let topic = |&(topic, partition): &(&Topic, i32)| {
            AddPartitionsToTxnTopic::default()
                .with_name(topic_name(&topic.name))
                .with_partitions(vec![partition])
        };
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(&id)))
            .with_v3_and_below_producer_id(producer_id)
            .with_v3_and_below_producer_epoch(epoch)
            .with_v3_and_below_topics(topics.iter().map(topic).collect())
    };
    for version in 0..=3 {
        let mut codes = |topics: &[(&Topic, i32)]| {
            let response = client.call(&add(topics), version);
            let rows = response.results_by_topic_v3_and_below.into_iter();
            rows.map(|t| t.results_by_partition[0].partition_error_code).collect::<Vec<_>>()
        };
        assert_eq!(codes(&[(&theirs, 0), (&ours, 1)]), [55, 48], "v{version}");
        assert_eq!(codes(&[(&ours, 0)]), [48], "v{version}");
        assert_eq!(codes(&[(&theirs, 0)]), [0], "v{version}: classic alone passes");
    }
}

#[test]
fn share_groups_reject_diskless_topics_with_a_message() {
    let (ours, theirs) = (Topic::diskless("share", 1), Topic::classic("share", 1));
    let group = Testbed::get().unique("share-group");
    let mut client = coordinator(&group, 0);
    let mut join = |names: &[&Topic]| {
        let names = names.iter().map(|topic| topic_name(&topic.name)).collect();
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_member_id(text(&Uuid::from_u128(7).to_string()))
            .with_subscribed_topic_names(Some(names));
        let response = client.call(&request, 1);
        (response.error_code, response.error_message.map(|m| m.to_string()).unwrap_or_default())
    };
    let (code, message) = join(&[&theirs, &ours]);
    assert_eq!(code, 42);
    assert!(message.contains("share group") && message.contains(&ours.name), "{message}");
    assert!(!message.contains(&theirs.name), "only what is at fault is named: {message}");
    assert_eq!(join(&[&theirs]), (0, String::new()), "classic alone passes");
}
