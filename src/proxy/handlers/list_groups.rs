//! ListGroups (16) on a diskless node.

use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// Returns an empty list: clients query every node and merge the results, and a diskless node
/// coordinates no group.
pub(super) fn serve(request: &Request) -> Result<Action, CloseReason> {
    let _checked: ListGroupsRequest = request.decode()?;
    request.respond(&ListGroupsResponse::default())
}
