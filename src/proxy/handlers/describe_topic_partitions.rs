//! DescribeTopicPartitions (75): the leaders of diskless partitions.

use kafka_protocol::messages::DescribeTopicPartitionsRequest;

use super::metadata::{MetadataTopic, NO_LEADER, classify_topic, is_rejected};
use super::requested_topics::topic_id;
use crate::log::ids::TopicPartition;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::proxy::routing::router::Router;

pub(super) fn edit(request: Request) -> Result<Action, CloseReason> {
    let client_zone = request.client_zone();
    Ok(request.forward::<DescribeTopicPartitionsRequest, _>(
        move |proxy, mut response| async move {
            let unknown: Vec<_> = response
                .topics
                .iter()
                .map(|topic| topic_id(&topic.topic_id))
                .filter(|&id| !id.is_zero() && proxy.topics.registry.by_id(id).is_none())
                .collect();
            if !unknown.is_empty()
                && let Err(error) = proxy.topics.classifier.look_up(&[], &unknown).await
            {
                tracing::warn!(%error, "described topics cannot be looked up");
            }
            let to = Router::new(&proxy, proxy.topology.current(), client_zone);
            for topic in &mut response.topics {
                match classify_topic(&proxy, topic_id(&topic.topic_id), topic.is_internal) {
                    MetadataTopic::NotOurs => {}
                    MetadataTopic::Unknown if is_rejected(topic.error_code) => {}
                    MetadataTopic::Unknown => topic.error_code = ErrorCode::LEADER_NOT_AVAILABLE.0,
                    MetadataTopic::Diskless(cached) => {
                        for partition in &mut topic.partitions {
                            let index = partition.partition_index;
                            let at = TopicPartition { topic: cached.id, partition: index };
                            let Some(leader) = to.leader(at) else {
                                partition.error_code = ErrorCode::LEADER_NOT_AVAILABLE.0;
                                partition.leader_id = NO_LEADER;
                                continue;
                            };
                            partition.error_code = ErrorCode::NONE.0;
                            partition.leader_id = leader;
                            partition.replica_nodes = to.replicas(at);
                            partition.isr_nodes = to.replicas(at);
                            partition.eligible_leader_replicas = Some(Vec::new());
                            partition.last_known_elr = Some(Vec::new());
                            partition.offline_replicas = Vec::new();
                        }
                    }
                }
            }
            response
        },
    ))
}
