//! Metadata (3): the leaders of partitions, and the addresses of nodes.

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;

use crate::log::ids::{TopicId, TopicPartition};
use crate::proxy::context::Proxy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::proxy::routing::router::Router;
use crate::proxy::topics::{Topic, id_of};

/// The first version whose responses carry topic ids: without the id, a recreated topic could not
/// be distinguished from its predecessor.
const WITH_TOPIC_IDS: i16 = 10;
pub(super) const NO_LEADER: BrokerId = BrokerId(-1);

pub(super) fn edit(request: &Request) -> Result<Action, CloseReason> {
    let version = request.version();
    let mut metadata: MetadataRequest = request.decode()?;
    if version == 0 && metadata.topics.as_ref().is_some_and(Vec::is_empty) {
        metadata.topics = None;
    }
    if version < 4 {
        metadata.allow_auto_topic_creation = true;
    }
    let client_zone = request.client_zone();
    request.proxy.metrics.clients.zone_resolution(client_zone.outcome);
    let version = version.max(WITH_TOPIC_IDS);
    request.forward_as(&metadata, version, move |proxy, mut response| async move {
        proxy.topics.classifier.observe(&response.topics).await;
        // The current topology: the broker may have taken its time.
        let to = Router::new(&proxy, proxy.topology.current(), client_zone);
        rewrite_brokers(&to, &mut response);
        for topic in &mut response.topics {
            rewrite_topic(&proxy, &to, topic);
        }
        response
    })
}

fn rewrite_brokers(to: &Router, response: &mut MetadataResponse) {
    response.brokers.retain_mut(|broker| match to.broker_address(broker.node_id) {
        Some(address) => {
            broker.host = StrBytes::from_string(address.host);
            broker.port = i32::from(address.port);
            true
        }
        None => false,
    });
    response.brokers.extend(to.topology().nodes().map(|node| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node.id))
            .with_host(StrBytes::from_string(node.address.host.clone()))
            .with_port(i32::from(node.address.port))
            .with_rack(Some(StrBytes::from_string(node.rack.to_owned())))
    }));
}

fn rewrite_topic(proxy: &Proxy, to: &Router, topic: &mut MetadataResponseTopic) {
    match classify_topic(proxy, id_of(topic), topic.is_internal) {
        MetadataTopic::NotOurs => {}
        // The row of an unknown id repeats the id.
        MetadataTopic::Unknown if is_rejected(topic.error_code) => {}
        MetadataTopic::Unknown => {
            topic.error_code = ErrorCode::LEADER_NOT_AVAILABLE.0;
            topic.partitions.iter_mut().for_each(hide_leader);
        }
        MetadataTopic::Diskless(cached) => {
            topic.error_code = ErrorCode::NONE.0;
            for partition in &mut topic.partitions {
                let at = TopicPartition { topic: cached.id, partition: partition.partition_index };
                let Some(leader) = to.leader(at) else {
                    hide_leader(partition);
                    continue;
                };
                // The placeholder's broker may be down without any effect on the partition.
                partition.error_code = ErrorCode::NONE.0;
                partition.leader_id = leader;
                partition.leader_epoch = cached.leader_epoch(partition.partition_index);
                partition.replica_nodes = to.replicas(at);
                partition.isr_nodes = to.replicas(at);
                partition.offline_replicas = Vec::new();
            }
        }
    }
}

/// Returns whether a broker's error says that it describes no topic.
pub(super) fn is_rejected(error_code: i16) -> bool {
    !matches!(ErrorCode(error_code), ErrorCode::NONE | ErrorCode::LEADER_NOT_AVAILABLE)
}

fn hide_leader(partition: &mut MetadataResponsePartition) {
    partition.error_code = ErrorCode::LEADER_NOT_AVAILABLE.0;
    partition.leader_id = NO_LEADER;
}

pub(super) enum MetadataTopic {
    /// Classic, or an error without a topic.
    NotOurs,
    /// The type is unknown at the moment, and never assumed to be classic.
    Unknown,
    Diskless(std::sync::Arc<Topic>),
}

pub(super) fn classify_topic(proxy: &Proxy, id: TopicId, internal: bool) -> MetadataTopic {
    match proxy.topics.registry.by_id(id) {
        Some(topic) if topic.is_diskless() => MetadataTopic::Diskless(topic),
        None if !id.is_zero() && !internal => MetadataTopic::Unknown,
        Some(_) | None => MetadataTopic::NotOurs,
    }
}
