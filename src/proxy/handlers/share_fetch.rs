//! ShareFetch (78): the addresses of current leaders are those of this proxy.

use kafka_protocol::messages::ShareFetchRequest;

use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

pub(super) fn edit(request: Request) -> Result<Action, CloseReason> {
    let to = request.router();
    Ok(request.forward::<ShareFetchRequest, _>(move |_, mut response| async move {
        for node in &mut response.node_endpoints {
            to.rewrite_address(node.node_id, &mut node.host, &mut node.port);
        }
        response
    }))
}
