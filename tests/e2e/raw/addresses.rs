//! No response reveals the real address of a broker, and every response that lists nodes lists the
//! diskless ones.

use bytes::Bytes;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    ApiKey, BrokerId, DescribeClusterRequest, DescribeTopicPartitionsRequest, FetchRequest,
    FindCoordinatorRequest, MetadataRequest, MetadataResponse, ProduceRequest,
};
use kafka_protocol::protocol::Request;

use super::batch::Batch;
use super::client::Client;
use super::lifecycle::LIMIT;
use super::requests::{append, fetch, fetched, metadata, produce, produced, text, topic_name};
use super::{NODE_0, NODES, Topic, brokers, replica};

/// An endpoint of every kind.
fn endpoints() -> [String; 3] {
    [replica().bootstrap(), replica().broker(2), replica().node(1)]
}

/// Sends a request and checks every byte of its response before it is decoded: it must not contain
/// a broker's port as four bytes. All hosts are the same, so only ports distinguish them.
fn call_without_leak<R: Request>(client: &mut Client, request: &R, version: i16) -> R::Response {
    client.send(request, version);
    let frame = client.receive_frame(R::KEY, version);
    for address in brokers() {
        let port: i32 = address.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
        let leak = frame.windows(4).any(|bytes| bytes == port.to_be_bytes());
        assert!(!leak, "{} v{version} names {address}: {frame:?}", R::KEY);
    }
    let header =
        odradek::wire::header::ResponseHeader::parse(&frame, R::KEY, version).expect("a header");
    let body = frame.slice(header.bytes..);
    odradek::wire::guard::decode_response::<R>(version, body).expect("an answer")
}

#[track_caller]
fn assert_proxy_address(host: &str, port: i32) {
    assert!(host == "127.0.0.1" && replica().ports().contains(&port), "{host}:{port}");
}

#[test]
fn metadata_advertises_proxy_addresses_in_every_version() {
    let (ours, theirs) = (Topic::diskless("metadata", 12), Topic::classic("metadata", 3));
    let mut stable = None;
    for address in endpoints() {
        let mut client = Client::connect(&address);
        for version in 0..=13 {
            let mut request = metadata(&[&ours.name, &theirs.name]);
            request.allow_auto_topic_creation = version < 4;
            let response = call_without_leak(&mut client, &request, version);
            check_nodes(&response);
            let of = |name: &str| {
                let named = |t: &&MetadataResponseTopic| {
                    t.name.as_ref().is_some_and(|n| n.as_str() == name)
                };
                response.topics.iter().find(named).expect("the topic").clone()
            };
            let leaders = check_diskless(&of(&ours.name), version);
            assert_eq!(*stable.get_or_insert_with(|| leaders.clone()), leaders, "v{version}");
            for partition in of(&theirs.name).partitions {
                assert!((1..=3).contains(&partition.leader_id.0), "v{version}: {partition:?}");
            }
        }
    }
    let mut distinct = stable.expect("leaders");
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() > 1, "twelve partitions are spread over the nodes");
}

fn check_nodes(response: &MetadataResponse) {
    let ids: Vec<i32> = response.brokers.iter().map(|b| b.node_id.0).collect();
    let nodes = (0..i32::from(NODES)).map(|k| NODE_0 + k);
    for id in (1..=3).chain(nodes) {
        assert!(ids.contains(&id), "{id} is missing of {ids:?}");
    }
    assert_eq!(ids.len(), 3 + usize::from(NODES), "{ids:?}");
    let mut ports: Vec<i32> = response.brokers.iter().map(|b| b.port).collect();
    for broker in &response.brokers {
        assert_proxy_address(&broker.host, broker.port);
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), ids.len(), "every node has an address of its own");
}

fn check_diskless(topic: &MetadataResponseTopic, version: i16) -> Vec<i32> {
    assert_eq!(topic.error_code, 0, "v{version}");
    let leader = |p: &kafka_protocol::messages::metadata_response::MetadataResponsePartition| {
        assert_eq!(p.error_code, 0, "v{version}");
        assert!((NODE_0..NODE_0 + i32::from(NODES)).contains(&p.leader_id.0), "{p:?}");
        let leader_alone = vec![p.leader_id];
        assert_eq!((&p.replica_nodes, &p.isr_nodes), (&leader_alone, &leader_alone));
        assert!(p.offline_replicas.is_empty(), "{p:?}");
        (p.partition_index, p.leader_id.0)
    };
    let mut leaders: Vec<_> = topic.partitions.iter().map(leader).collect();
    leaders.sort_unstable();
    leaders.into_iter().map(|(_, id)| id).collect()
}

#[test]
fn metadata_lists_all_or_no_topics_on_request() {
    let topic = Topic::diskless("all", 1);
    let mut client = Client::connect(&replica().bootstrap());
    for version in [0, 1, 4, 12] {
        let all = match version {
            0 => MetadataRequest::default().with_topics(Some(Vec::new())),
            _ => MetadataRequest::default().with_topics(None),
        };
        let all = all.with_allow_auto_topic_creation(version < 4);
        let response = call_without_leak(&mut client, &all, version);
        let names = response.topics.iter().filter_map(|t| t.name.as_ref());
        assert!(names.into_iter().any(|n| n.as_str() == topic.name), "v{version}");
    }
    let none = metadata(&[]);
    assert!(call_without_leak(&mut client, &none, 12).topics.is_empty());
    let by_id = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
        .with_name(None)
        .with_topic_id(topic.id);
    let request = metadata(&[]).with_topics(Some(vec![by_id]));
    let response = call_without_leak(&mut client, &request, 12);
    assert_eq!(response.topics[0].partitions[0].leader_id.0, topic.leaders[&0]);
}

#[test]
fn describe_cluster_advertises_proxy_addresses() {
    for address in endpoints() {
        let mut client = Client::connect(&address);
        for version in 0..=2 {
            let mut request = DescribeClusterRequest::default();
            if version >= 1 {
                request.endpoint_type = 1;
            }
            let response = call_without_leak(&mut client, &request, version);
            assert_eq!(response.error_code, 0);
            let mut ids: Vec<i32> = response.brokers.iter().map(|b| b.broker_id.0).collect();
            ids.sort_unstable();
            let nodes = (0..i32::from(NODES)).map(|k| NODE_0 + k);
            assert_eq!(ids, [1, 2, 3].into_iter().chain(nodes).collect::<Vec<_>>());
            for broker in &response.brokers {
                assert_proxy_address(&broker.host, broker.port);
            }
        }
    }
}

#[test]
fn find_coordinator_advertises_proxy_addresses() {
    for address in endpoints() {
        let mut client = Client::connect(&address);
        for version in 0..=6 {
            let find = || {
                let request = FindCoordinatorRequest::default();
                match version {
                    0..=3 => request.with_key(text("raw-group")),
                    _ => request.with_coordinator_keys(vec![text("raw-group"), text("other")]),
                }
            };
            // The first use of a cluster's groups creates their topic.
            let mut found = Vec::new();
            testbed::process::wait_until("a coordinator", LIMIT, || {
                let response = call_without_leak(&mut client, &find(), version);
                found = match version {
                    0..=3 => vec![(response.error_code, response.host, response.port)],
                    _ => {
                        let rows = response.coordinators.into_iter();
                        rows.map(|c| (c.error_code, c.host, c.port)).collect()
                    }
                };
                found.iter().all(|(code, ..)| *code == 0)
            });
            assert_eq!(found.len(), if version < 4 { 1 } else { 2 });
            for (_, host, port) in found {
                assert_proxy_address(&host, port);
            }
        }
    }
}

/// Produce 10 and Fetch 16 return the current leader to a client that reached another node.
#[test]
fn node_endpoints_advertise_proxy_addresses() {
    let topic = Topic::classic("missed", 1);
    let at = topic.partition(0);
    append(&mut topic.client(), at, Batch::of(&["a"]).bytes());
    let other = (1..=3).find(|id| i32::from(*id) != topic.leaders[&0]).expect("another broker");
    let mut client = Client::connect(&replica().broker(other));
    let batch = Batch::of(&["lost"]).bytes();
    for version in 10..=13 {
        let request: ProduceRequest = produce(at, version, -1, batch.clone());
        let response = call_without_leak(&mut client, &request, version);
        assert_eq!(produced(&response).error_code, 6, "v{version}");
        for node in &response.node_endpoints {
            assert_proxy_address(&node.host, node.port);
        }
        assert_eq!(response.node_endpoints.len(), 1, "the leader is named in v{version}");
    }
    for version in 12..=18 {
        let request: FetchRequest = fetch(at, version, 0);
        let response = call_without_leak(&mut client, &request, version);
        assert_eq!(fetched(&response).error_code, 6, "v{version}");
        assert_eq!(response.node_endpoints.len(), usize::from(version >= 16), "v{version}");
        for node in &response.node_endpoints {
            assert_proxy_address(&node.host, node.port);
        }
    }
}

#[test]
fn describe_topic_partitions_agrees_with_metadata() {
    let topic = Topic::diskless("described", 3);
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![TopicRequest::default().with_name(topic_name(&topic.name))])
        .with_response_partition_limit(100);
    for address in endpoints() {
        let response = call_without_leak(&mut Client::connect(&address), &request, 0);
        assert_eq!(response.topics[0].error_code, 0);
        for partition in &response.topics[0].partitions {
            let leader = topic.leaders[&partition.partition_index];
            assert_eq!(partition.leader_id.0, leader);
            assert_eq!(partition.replica_nodes, [BrokerId(leader)]);
            assert_eq!(partition.isr_nodes, [BrokerId(leader)]);
        }
        assert_eq!(response.topics[0].partitions.len(), 3);
    }
}

/// Shows that the check above detects a leak.
#[test]
fn leak_check_detects_a_broker_port() {
    let address = &brokers()[0];
    let port: i32 = address.rsplit(':').next().and_then(|p| p.parse().ok()).expect("a port");
    let mut client = Client::connect(address);
    client.send(&metadata(&[]), 12);
    let frame: Bytes = client.receive_frame(ApiKey::Metadata as i16, 12);
    assert!(frame.windows(4).any(|bytes| bytes == port.to_be_bytes()));
}
