//! DescribeCluster (60): brokers at the addresses of this proxy, and the diskless nodes.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest};
use kafka_protocol::protocol::StrBytes;

use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// The endpoint type of controllers; that of brokers is 1.
const CONTROLLERS: i8 = 2;

pub(super) fn edit(request: Request) -> Result<Action, CloseReason> {
    let requested: DescribeClusterRequest = request.decode()?;
    if requested.endpoint_type == CONTROLLERS {
        return Ok(request.forward_unread());
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
