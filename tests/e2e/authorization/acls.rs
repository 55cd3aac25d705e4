//! The same ACLs, the same answers: a diskless topic beside a classic one on the broker itself.

use bytes::Bytes;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeLogDirsRequest, InitProducerIdRequest, ProducerId,
    WriteTxnMarkersRequest,
};
use uuid::Uuid;

use super::{
    CLUSTER, DELETE, DENY, DESCRIBE, DESCRIBE_CONFIGS, LIMIT, READ, TOPIC, Topic, WRITE, add_acl,
    allow, plain, secured,
};
use crate::raw::batch::Batch;
use crate::raw::client::Client;
use crate::raw::misrouted::codes;
use crate::raw::requests::{
    LATEST, Target, append, fetch, fetched, offset_of, produce, produced, text, topic_name,
};
use testbed::process::wait_until;

/// Both topics, and what a user with these ACLs on them is told of each: at the diskless node,
/// and at the broker.
fn compare(user: &str, acls: &[(i8, i8)]) -> ([i16; 8], Topic) {
    let (ours, theirs) = (Topic::diskless("acl"), Topic::classic("acl"));
    let mut admin = secured().admin();
    for topic in [&ours, &theirs] {
        for &(operation, kind) in acls {
            add_acl(&mut admin, user, operation, kind, (TOPIC, &topic.name));
        }
    }
    let measure = codes(&mut plain(secured().broker(), user), theirs.at());
    let seen = codes(&mut secured().client(&ours, user), ours.at());
    assert_eq!(seen, measure, "{user} {acls:?}");
    (seen, ours)
}

#[test]
fn required_operations_match_the_broker() {
    let allowed = |operation| (operation, super::ALLOW);
    // Produce by name and id, Fetch by name and id, ListOffsets, OffsetForLeaderEpoch,
    // DeleteRecords, DescribeProducers.
    let (nothing, ours) = compare("ben", &[]);
    assert_eq!(nothing, [29; 8]);
    assert_eq!(offset_of(&mut secured().client(&ours, "admin"), ours.at(), LATEST).offset, 0);
    let (describe, _) = compare("ben", &[allowed(DESCRIBE)]);
    assert_eq!(describe, [29, 29, 29, 29, 0, 0, 29, 29]);
    let (read, _) = compare("ben", &[allowed(READ)]);
    assert_eq!(read, [29, 29, 0, 0, 0, 0, 29, 0]);
    let (write, _) = compare("ben", &[allowed(WRITE)]);
    assert_eq!(write, [0, 0, 29, 29, 0, 0, 29, 29]);
    let (delete, _) = compare("ben", &[allowed(DELETE)]);
    assert_eq!(delete, [29, 29, 29, 29, 0, 0, 0, 29]);
    let (all, _) = compare("ben", &[allowed(super::ALL)]);
    assert_eq!(all, [0; 8]);
    compare("ben", &[allowed(super::ALL), (WRITE, DENY)]);
    // The only difference: if Describe is denied, brokers do not report other operations.
    let topic = Topic::diskless("acl");
    for (operation, kind) in [allowed(super::ALL), (DESCRIBE, DENY)] {
        let mut admin = secured().admin();
        add_acl(&mut admin, "ben", operation, kind, (TOPIC, &topic.name));
    }
    assert_eq!(codes(&mut secured().client(&topic, "ben"), topic.at()), [29; 8]);
}

#[test]
fn missing_topics_are_reported_only_to_authorized_users() {
    let node = secured().replica.node(0);
    let (broker, id) = (secured().broker(), Uuid::from_u128(0xacc));
    let mut admin = secured().admin();
    for operation in [READ, DELETE, WRITE] {
        allow(&mut admin, "cat", operation, TOPIC, "allowed-but-absent");
    }
    for name in ["allowed-but-absent", "not-allowed"] {
        let nothing = Target { name, id, partition: 0 };
        let measure = codes(&mut plain(broker, "cat"), nothing);
        let seen = codes(&mut plain(&node, "cat"), nothing);
        assert_eq!(seen, measure, "{name}");
        let expected = if name == "allowed-but-absent" { 3 } else { 29 };
        assert_eq!(seen, [expected, 100, expected, 100, expected, expected, expected, expected]);
    }
    // Neither kind of endpoint reveals an existing topic to an unauthorized user.
    for topic in [Topic::diskless("hidden"), Topic::classic("hidden")] {
        let elsewhere = if topic.leader == 1 { node.clone() } else { secured().replica.broker(1) };
        for address in [elsewhere, secured().replica.bootstrap(), node.clone()] {
            assert_eq!(codes(&mut plain(&address, "cat"), topic.at()), [29; 8], "{address}");
        }
    }
}

#[test]
fn authorization_errors_in_every_form_of_produce() {
    let topic = Topic::diskless("forms");
    let mut client = secured().client(&topic, "dan");
    let batch = Batch::of(&["x"]).bytes();
    let classic = Topic::classic("forms");
    let mut broker = plain(secured().broker(), "dan");
    for acks in [1, -1, 5] {
        let measure = broker.call(&produce(classic.at(), 9, acks, batch.clone()), 9);
        let seen = client.call(&produce(topic.at(), 9, acks, batch.clone()), 9);
        let (seen, measure) = (produced(&seen), produced(&measure));
        assert_eq!(seen.error_code, measure.error_code, "acks={acks}");
        assert_eq!((seen.error_code, seen.base_offset), (29, measure.base_offset));
    }
    // An invalid batch gets the authorization error too.
    for records in [Bytes::from_static(b"junk"), Bytes::new()] {
        let seen = client.call(&produce(topic.at(), 9, -1, records), 9);
        assert_eq!(produced(&seen).error_code, 29);
    }
    client.send(&produce(topic.at(), 9, 0, batch), 9);
    assert!(client.is_closed(), "acks=0 leaves no other way to report the error");
    let mut admin = secured().client(&topic, "admin");
    assert_eq!(offset_of(&mut admin, topic.at(), LATEST).offset, 0, "nothing was produced");
}

/// Write is all that an idempotent producer needs (KIP-679).
#[test]
fn idempotent_producer_needs_only_write() {
    let topic = Topic::diskless("idempotent");
    secured().allow("dan", WRITE, &topic);
    let mut client = secured().client(&topic, "dan");
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let mut producer = client.call(&request, 4);
    wait_until("a producer id", LIMIT, || {
        producer = client.call(&request, 4);
        producer.error_code != 14 // COORDINATOR_LOAD_IN_PROGRESS
    });
    assert_eq!(producer.error_code, 0);
    let batch = Batch::of(&["x"]).by(producer.producer_id.0, producer.producer_epoch, 0).bytes();
    assert_eq!(append(&mut client, topic.at(), batch.clone()), 0);
    assert_eq!(append(&mut client, topic.at(), batch), 0, "a duplicate");
    let denied = client.call(&fetch(topic.at(), 12, 0), 12);
    assert_eq!(fetched(&denied).error_code, 29, "Write does not imply Read");
}

/// Checks that a diskless node requires the same permissions to describe itself as a broker.
#[test]
fn node_describes_itself_to_the_same_users_as_a_broker() {
    let topic = Topic::diskless("itself");
    let ask = |client: &mut Client, id: i32| {
        let log_dirs = client.call(&DescribeLogDirsRequest::default().with_topics(None), 4);
        let resource = DescribeConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(text(&id.to_string()));
        let configs = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let configs = client.call(&configs, 4).results.remove(0);
        let marker = WritableTxnMarkerTopic::default()
            .with_name(topic_name(&topic.name))
            .with_partition_indexes(vec![0]);
        let marker = WritableTxnMarker::default().with_topics(vec![marker]);
        let markers = client.call(&WriteTxnMarkersRequest::default().with_markers(vec![marker]), 1);
        let marked = markers.markers[0].topics[0].partitions[0].error_code;
        let shown = (!log_dirs.results.is_empty(), !configs.configs.is_empty());
        (log_dirs.error_code, configs.error_code, configs.error_message, shown, marked)
    };
    let both = |user: &str| {
        let seen = ask(&mut secured().client(&topic, user), topic.leader);
        (seen, ask(&mut plain(secured().broker(), user), 1))
    };
    let (seen, measure) = both("eve");
    assert_eq!(seen, measure);
    assert_eq!((seen.0, seen.1, seen.3, seen.4), (31, 31, (false, false), 31));
    for operation in [DESCRIBE, DESCRIBE_CONFIGS] {
        allow(&mut secured().admin(), "eve", operation, CLUSTER, "kafka-cluster");
    }
    let (seen, measure) = both("eve");
    assert_eq!(seen, measure);
    assert_eq!((seen.0, seen.1, seen.3), (0, 0, (true, true)));
}
