//! Several replicas in several zones, which clients see as one Kafka cluster.

mod client_zone;
mod cut_off;
mod replica_failure;
mod topic_type;
mod topology;

use std::collections::BTreeMap;

use kafka_protocol::messages::{DescribeClusterRequest, MetadataRequest, MetadataResponse};

use crate::raw::client::Client;
use crate::raw::{NODE_0, requests};
use testbed::Testbed;
use testbed::ports::free_ports;
use testbed::redis_proxy::RedisProxy;
use testbed::replica::{InZone, Replica};

const A: &str = "zone-a";
const B: &str = "zone-b";
/// The number of node ids of a zone.
const STRIDE: i32 = 64;

/// An installation: a store, a coordinator that can become unavailable, and a name.
struct Installation {
    cluster: String,
    redis: RedisProxy,
}

impl Installation {
    fn new() -> Self {
        let cluster = Testbed::get().unique("zones");
        Self { cluster, redis: RedisProxy::start(Testbed::get().redis().port()) }
    }

    /// Starts a replica that requests `nodes` nodes. Zone indexes have the order of the first starts.
    fn replica(&self, zone: &str, replica: &str, nodes: u16, extra: &str) -> Replica {
        self.start(zone, replica, nodes, &[], extra)
    }

    /// Starts a replica whose configuration lists additional topics.
    fn listing(&self, zone: &str, replica: &str, nodes: u16, lists: &[&str]) -> Replica {
        self.start(zone, replica, nodes, lists, "")
    }

    fn start(&self, zone: &str, replica: &str, nodes: u16, lists: &[&str], extra: &str) -> Replica {
        let at = InZone { cluster: &self.cluster, zone, replica, nodes, topics: lists };
        let store = Testbed::get().minio().yaml(&self.cluster);
        let peers = format!("peers: {{bind: \"127.0.0.1:{}\"}}\n", free_ports(1));
        let extra = format!("flush: {{interval: 20ms}}\n{peers}{extra}");
        Replica::start_in(at, &store, &self.redis.yaml(), &extra)
    }

    fn sidecar(&self, zone: &str, replica: &str) -> Replica {
        let at = InZone { cluster: &self.cluster, zone, replica, nodes: 4, topics: &[] };
        Replica::start_in(at, "", &self.redis.yaml(), "writer: off\n")
    }
}

/// The address and rack of each node.
type NodeAddresses = BTreeMap<i32, (String, String)>;

fn metadata(address: &str, client_id: &'static str) -> MetadataResponse {
    let all = MetadataRequest::default().with_topics(None);
    Client::named(address, client_id).call(&all, 12)
}

/// Returns the brokers of a response that match a condition.
fn node_addresses(metadata: &MetadataResponse, is_included: impl Fn(i32) -> bool) -> NodeAddresses {
    let of = metadata.brokers.iter().filter(|b| is_included(b.node_id.0)).map(|broker| {
        let rack = broker.rack.as_deref().unwrap_or_default().to_owned();
        (broker.node_id.0, (format!("{}:{}", broker.host.as_str(), broker.port), rack))
    });
    of.collect()
}

fn nodes(metadata: &MetadataResponse) -> NodeAddresses {
    node_addresses(metadata, |id| id >= NODE_0)
}

fn brokers(metadata: &MetadataResponse) -> NodeAddresses {
    node_addresses(metadata, |id| id < NODE_0)
}

/// Returns the diskless nodes that a replica advertises, if Metadata and DescribeCluster agree.
fn nodes_of(replica: &Replica) -> NodeAddresses {
    let by_metadata = nodes(&metadata(&replica.bootstrap(), "raw"));
    let mut client = Client::connect(&replica.bootstrap());
    let cluster = client.call(&DescribeClusterRequest::default().with_endpoint_type(1), 1);
    let of = cluster.brokers.iter().filter(|b| b.broker_id.0 >= NODE_0).map(|broker| {
        let rack = broker.rack.as_deref().unwrap_or_default().to_owned();
        (broker.broker_id.0, (format!("{}:{}", broker.host.as_str(), broker.port), rack))
    });
    let by_cluster: NodeAddresses = of.collect();
    // A member may have joined or left between the two responses.
    if by_cluster == by_metadata { by_metadata } else { NodeAddresses::new() }
}

/// Returns the nodes that a replica hosts.
fn hosted_by(nodes: &NodeAddresses, replica: &Replica) -> Vec<i32> {
    let here = |address: &String| (0..8).any(|k| *address == replica.node(k));
    nodes.iter().filter(|(_, (address, _))| here(address)).map(|(id, _)| *id).collect()
}

/// Returns the value of a metric; the name includes the labels.
fn metric(replica: &Replica, name: &str) -> Option<u64> {
    let admin = u16::try_from(replica.ports().start + 1).expect("a port");
    let text = crate::raw::zone_cache::get(admin, "/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    value.map(|value| value.parse().expect("a number"))
}

/// Returns the cross-zone bytes between a replica and clients with a known zone, for one path and API.
fn crossed(replica: &Replica, path: &str, api: &str) -> u64 {
    let of = |direction| {
        let labels = format!("path=\"{path}\",api=\"{api}\",direction=\"{direction}\"");
        let name = format!("odradek_cross_zone_bytes_total{{{labels}}}");
        metric(replica, &name).unwrap_or(0)
    };
    of("received") + of("sent")
}

/// Returns the cross-zone bytes of records of diskless topics.
fn records_crossed(replica: &Replica) -> u64 {
    crossed(replica, "client_diskless", "produce") + crossed(replica, "client_diskless", "fetch")
}

/// Returns leader, replicas and in-sync replicas of each partition of a topic.
fn partitions(
    address: &str,
    client_id: &'static str,
    topic: &str,
) -> Vec<(i32, Vec<i32>, Vec<i32>)> {
    let mut client = Client::named(address, client_id);
    let topic = client.call(&requests::metadata(&[topic]), 12).topics.remove(0);
    assert_eq!(topic.error_code, 0);
    let mut partitions = topic.partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    let ids = |ids: Vec<kafka_protocol::messages::BrokerId>| ids.iter().map(|id| id.0).collect();
    let row = |p: kafka_protocol::messages::metadata_response::MetadataResponsePartition| {
        assert_eq!((p.error_code, p.offline_replicas.len()), (0, 0));
        (p.leader_id.0, ids(p.replica_nodes), ids(p.isr_nodes))
    };
    partitions.into_iter().map(row).collect()
}

fn zone_of(node: i32) -> i32 {
    (node - NODE_0) / STRIDE
}
