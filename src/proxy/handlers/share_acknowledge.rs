//! ShareAcknowledge (79): the addresses of current leaders are those of this proxy.

use kafka_protocol::messages::ShareAcknowledgeRequest;

use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

pub(super) fn edit(request: Request) -> Result<Action, CloseReason> {
    let to = request.router();
    Ok(request.forward::<ShareAcknowledgeRequest, _>(move |_, mut response| async move {
        for node in &mut response.node_endpoints {
            to.rewrite_address(node.node_id, &mut node.host, &mut node.port);
        }
        response
    }))
}
