//! DescribeLogDirs (35): the sizes of diskless partitions are reported by the nodes that lead them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::log::ids::TopicPartition;
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::endpoint::Endpoint;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::proxy::routing::node_ids::node_id;

/// The first version with an error code in its responses (KIP-784).
const WITH_ERROR_CODE: i16 = 3;

/// Removes placeholders: they are empty, and would list each partition twice.
pub(super) fn edit(request: Request) -> Result<Action, CloseReason> {
    Ok(request.forward::<DescribeLogDirsRequest, _>(|proxy, mut response| async move {
        for dir in &mut response.results {
            dir.topics.retain(|topic| {
                !proxy.topics.registry.by_name(topic.name.as_str()).is_some_and(|t| t.is_diskless())
            });
        }
        response
    }))
}

/// Returns one directory, the object store, with the partitions that this node leads.
pub(super) async fn serve(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested: DescribeLogDirsRequest = request.decode()?;
    if !broker.cluster_allows(AclOperation::Describe).await? {
        let code = match request.version() >= WITH_ERROR_CODE {
            true => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            false => ErrorCode::NONE,
        };
        return request.respond(&DescribeLogDirsResponse::default().with_error_code(code.0));
    }
    let node = match request.endpoint {
        Endpoint::Node(k) => node_id(request.proxy.topology.zone(), k),
        Endpoint::Bootstrap | Endpoint::Broker(_) => {
            return Err(CloseReason::Internal(
                "DescribeLogDirs served on a classic endpoint".to_owned(),
            ));
        }
    };
    let proxy = Arc::clone(&request.proxy);
    Ok(request.respond_later(async move {
        let led = led_partitions(&proxy, &requested, node);
        let partitions: Vec<_> = led.iter().map(|(_, partition)| *partition).collect();
        let dir = DescribeLogDirsResult::default()
            .with_log_dir(StrBytes::from_string(proxy.settings.store_name.clone()))
            .with_total_bytes(-1)
            .with_usable_bytes(-1);
        let sizes = proxy.lookup.watermarks(&partitions).await;
        if let Some(Err(error)) = sizes.iter().find(|size| size.is_err()) {
            tracing::warn!(%error, "the sizes of some partitions are unknown");
            if sizes.iter().all(Result::is_err) {
                let dir = dir.with_error_code(error_code::for_coordinator(error).0);
                return DescribeLogDirsResponse::default().with_results(vec![dir]);
            }
        }
        let mut topics: Vec<DescribeLogDirsTopic> = Vec::new();
        // A partition cannot have an error of its own; one of unknown size is left out.
        let known = led.into_iter().zip(sizes).filter_map(|(row, size)| Some((row, size.ok()?)));
        for ((name, partition), size) in known {
            let row = DescribeLogDirsPartition::default()
                .with_partition_index(partition.partition)
                .with_partition_size(i64::try_from(size.bytes).unwrap_or(i64::MAX));
            match topics.last_mut() {
                Some(last) if last.name.as_str() == name => last.partitions.push(row),
                _ => topics.push(
                    DescribeLogDirsTopic::default()
                        .with_name(TopicName(StrBytes::from_string(name)))
                        .with_partitions(vec![row]),
                ),
            }
        }
        DescribeLogDirsResponse::default().with_results(vec![dir.with_topics(topics)])
    }))
}

/// Returns the partitions that a request names, by topic; `None` if it requests all.
pub(super) fn included_partitions(
    requested: &DescribeLogDirsRequest,
) -> Option<HashMap<&str, HashSet<i32>>> {
    let mut included: HashMap<&str, HashSet<i32>> = HashMap::new();
    for topic in requested.topics.as_ref()? {
        included.entry(topic.topic.as_str()).or_default().extend(&topic.partitions);
    }
    Some(included)
}

fn led_partitions(
    proxy: &Proxy,
    requested: &DescribeLogDirsRequest,
    node: i32,
) -> Vec<(String, TopicPartition)> {
    let (map, zone) = (proxy.topology.current(), proxy.topology.zone());
    let included = included_partitions(requested);
    let mut led = Vec::new();
    for topic in proxy.topics.registry.diskless() {
        let of_topic = included.as_ref().map(|topics| topics.get(topic.name.as_str()));
        let is_included = |index: i32| match of_topic {
            None => true,
            Some(partitions) => partitions.is_some_and(|partitions| partitions.contains(&index)),
        };
        for index in 0..i32::try_from(topic.leader_epochs.len()).unwrap_or(i32::MAX) {
            let partition = TopicPartition { topic: topic.id, partition: index };
            if is_included(index) && map.leader(zone, partition) == Some(node) {
                led.push((topic.name.clone(), partition));
            }
        }
    }
    led
}
