//! FindCoordinator (10), DescribeCluster (60), ShareFetch (78), ShareAcknowledge (79): answers that
//! carry addresses and nothing else of ours.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, FindCoordinatorRequest, ShareAcknowledgeRequest,
    ShareFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::{Request, Step};
use crate::proxy::ProxySettings;
use crate::proxy::reply::Close;

/// DescribeCluster's endpoint type for controllers; brokers are 1.
const CONTROLLERS: i8 = 2;

/// Where a node is reached through us, in place of where it says it is. A node without a port of
/// ours (−1 for "none") keeps what it has only if that leads nowhere.
pub(super) fn rewrite(settings: &ProxySettings, id: BrokerId, host: &mut StrBytes, port: &mut i32) {
    match settings.broker_port(id.0) {
        Some(ours) => {
            *host = StrBytes::from_string(settings.advertised_host.clone());
            *port = i32::from(ours);
        }
        None => {
            *host = StrBytes::default();
            *port = -1;
        }
    }
}

pub(super) fn edit_find_coordinator(request: Request) -> Result<Step, Close> {
    let version = request.version();
    Ok(request.forward::<FindCoordinatorRequest, _>(move |proxy, mut response| async move {
        let settings = &proxy.settings;
        if version < 4 {
            rewrite(settings, response.node_id, &mut response.host, &mut response.port);
        }
        for coordinator in &mut response.coordinators {
            rewrite(settings, coordinator.node_id, &mut coordinator.host, &mut coordinator.port);
        }
        response
    }))
}

pub(super) fn edit_describe_cluster(request: Request) -> Result<Step, Close> {
    let asked: DescribeClusterRequest = request.decode()?;
    if asked.endpoint_type == CONTROLLERS {
        return Ok(request.relay());
    }
    Ok(request.forward::<DescribeClusterRequest, _>(|proxy, mut response| async move {
        let settings = &proxy.settings;
        response.brokers.retain_mut(|broker| {
            rewrite(settings, broker.broker_id, &mut broker.host, &mut broker.port);
            broker.port >= 0
        });
        if response.error_code != 0 {
            return response;
        }
        for k in 0..settings.nodes_per_zone {
            response.brokers.push(
                DescribeClusterBroker::default()
                    .with_broker_id(BrokerId(settings.node_id(k)))
                    .with_host(StrBytes::from_string(settings.advertised_host.clone()))
                    .with_port(i32::from(settings.node_port(k)))
                    .with_rack(Some(StrBytes::from_string(settings.zone.clone()))),
            );
        }
        response
    }))
}

pub(super) fn edit_share_fetch(request: Request) -> Result<Step, Close> {
    Ok(request.forward::<ShareFetchRequest, _>(|proxy, mut response| async move {
        for node in &mut response.node_endpoints {
            rewrite(&proxy.settings, node.node_id, &mut node.host, &mut node.port);
        }
        response
    }))
}

pub(super) fn edit_share_acknowledge(request: Request) -> Result<Step, Close> {
    Ok(request.forward::<ShareAcknowledgeRequest, _>(|proxy, mut response| async move {
        for node in &mut response.node_endpoints {
            rewrite(&proxy.settings, node.node_id, &mut node.host, &mut node.port);
        }
        response
    }))
}
