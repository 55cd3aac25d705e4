//! Requests that tools send to every node, merging the responses.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeLogDirsRequest, ListGroupsRequest, ListTransactionsRequest,
};

use super::batch::Batch;
use super::client::Client;
use super::requests::{append, text, topic_name};
use super::{NODE_0, NODES, Topic, replica};

const BROKER: i8 = 4;

#[test]
fn diskless_nodes_list_no_groups_and_no_transactions() {
    for k in 0..NODES {
        let mut client = Client::connect(&replica().node(k));
        for version in 0..=5 {
            let response = client.call(&ListGroupsRequest::default(), version);
            assert_eq!((response.error_code, response.groups.len()), (0, 0), "v{version}");
        }
        for version in 0..=2 {
            let response = client.call(&ListTransactionsRequest::default(), version);
            let rows = response.transaction_states.len();
            assert_eq!((response.error_code, rows), (0, 0), "v{version}");
        }
    }
}

/// The size of a partition is returned once, by the node that leads it.
#[test]
fn diskless_partition_has_one_log_dir() {
    let (ours, theirs) = (Topic::diskless("log-dirs", 2), Topic::classic("log-dirs", 1));
    let batch = Batch::of(&["some value"]).bytes();
    for topic in [&ours, &theirs] {
        append(&mut topic.client(), topic.partition(0), batch.clone());
    }
    let requested = |topic: &Topic| {
        let topic = DescribableLogDirTopic::default()
            .with_topic(topic_name(&topic.name))
            .with_partitions(vec![0, 1]);
        DescribeLogDirsRequest::default().with_topics(Some(vec![topic]))
    };
    let sizes = |address: &str, request: &DescribeLogDirsRequest, version, name: &str| {
        let response = Client::connect(address).call(request, version);
        assert!(response.results.iter().all(|dir| dir.error_code == 0));
        let topics = response.results.into_iter().flat_map(|dir| dir.topics);
        let of_name = topics.filter(|topic| topic.name.as_str() == name);
        of_name
            .flat_map(|topic| topic.partitions)
            .map(|p| (p.partition_index, p.partition_size))
            .collect::<Vec<_>>()
    };
    let nodes: Vec<_> = (0..NODES).map(|k| replica().node(k)).collect();
    let classic = [1, 2, 3].map(|id| replica().broker(id));
    for version in 1..=4 {
        for request in [requested(&ours), DescribeLogDirsRequest::default().with_topics(None)] {
            let on_nodes = nodes.iter().flat_map(|n| sizes(n, &request, version, &ours.name));
            let mut on_nodes: Vec<_> = on_nodes.collect();
            on_nodes.sort_unstable();
            assert_eq!(on_nodes, [(0, batch.len() as i64), (1, 0)], "v{version}");
            let on_brokers = classic.iter().flat_map(|b| sizes(b, &request, version, &ours.name));
            assert_eq!(on_brokers.count(), 0, "placeholders are left out, v{version}");
        }
    }
    let real = classic.iter().flat_map(|b| sizes(b, &requested(&theirs), 4, &theirs.name));
    assert_eq!(real.collect::<Vec<_>>(), [(0, batch.len() as i64)]);
}

#[test]
fn diskless_node_describes_only_itself() {
    let broker = |id: i32| {
        DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text(&id.to_string()))
            .with_configuration_keys(None)
    };
    let mut client = Client::connect(&replica().node(2));
    for version in 1..=4 {
        let request = DescribeConfigsRequest::default().with_resources(vec![broker(NODE_0 + 2)]);
        let response = client.call(&request, version);
        let result = &response.results[0];
        assert_eq!((response.results.len(), result.error_code), (1, 0), "v{version}");
        assert_eq!(result.resource_name.as_str(), (NODE_0 + 2).to_string());
        let zone = result.configs.iter().find(|c| c.name.as_str() == "odradek.zone");
        assert_eq!(zone.and_then(|c| c.value.as_deref()), Some("zone-1"), "v{version}");
        assert!(result.configs.iter().all(|c| c.read_only), "v{version}");
    }
    let request = DescribeConfigsRequest::default().with_resources(vec![broker(NODE_0)]);
    assert_ne!(client.call(&request, 4).results[0].error_code, 0, "that is another node");
}
