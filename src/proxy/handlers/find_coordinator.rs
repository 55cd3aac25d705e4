//! FindCoordinator (10), DescribeCluster (60), ShareFetch (78), ShareAcknowledge (79): answers that
//! carry addresses and nothing else of ours.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, FindCoordinatorRequest, ShareAcknowledgeRequest,
    ShareFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::{Action, Request};
use crate::proxy::response::CloseReason;

/// DescribeCluster's endpoint type for controllers; brokers are 1.
const CONTROLLERS: i8 = 2;

pub(super) fn edit_find_coordinator(request: Request) -> Result<Action, CloseReason> {
    let (version, to) = (request.version(), request.router());
    Ok(request.forward::<FindCoordinatorRequest, _>(move |_, mut response| async move {
        if version < 4 {
            to.rewrite_address(response.node_id, &mut response.host, &mut response.port);
        }
        for coordinator in &mut response.coordinators {
            to.rewrite_address(coordinator.node_id, &mut coordinator.host, &mut coordinator.port);
        }
        response
    }))
}

pub(super) fn edit_describe_cluster(request: Request) -> Result<Action, CloseReason> {
    let asked: DescribeClusterRequest = request.decode()?;
    if asked.endpoint_type == CONTROLLERS {
        return Ok(request.relay());
    }
    let to = request.router();
    Ok(request.forward::<DescribeClusterRequest, _>(move |_, mut response| async move {
        response.brokers.retain_mut(|broker| {
            to.rewrite_address(broker.broker_id, &mut broker.host, &mut broker.port);
            broker.port >= 0
        });
        if response.error_code != 0 {
            return response;
        }
        response.brokers.extend(to.topology().nodes().map(|node| {
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(node.id))
                .with_host(StrBytes::from_string(node.address.host.clone()))
                .with_port(i32::from(node.address.port))
                .with_rack(Some(StrBytes::from_string(node.rack.to_owned())))
        }));
        response
    }))
}

pub(super) fn edit_share_fetch(request: Request) -> Result<Action, CloseReason> {
    let to = request.router();
    Ok(request.forward::<ShareFetchRequest, _>(move |_, mut response| async move {
        for node in &mut response.node_endpoints {
            to.rewrite_address(node.node_id, &mut node.host, &mut node.port);
        }
        response
    }))
}

pub(super) fn edit_share_acknowledge(request: Request) -> Result<Action, CloseReason> {
    let to = request.router();
    Ok(request.forward::<ShareAcknowledgeRequest, _>(move |_, mut response| async move {
        for node in &mut response.node_endpoints {
            to.rewrite_address(node.node_id, &mut node.host, &mut node.port);
        }
        response
    }))
}
