//! FindCoordinator (10): the addresses of coordinators are those of this proxy.

use kafka_protocol::messages::FindCoordinatorRequest;

use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

pub(super) fn edit(request: Request) -> Result<Action, CloseReason> {
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
