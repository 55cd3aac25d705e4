//! ListGroups (16), ListTransactions (66), ShareGroupHeartbeat (76).

use kafka_protocol::messages::{
    ListGroupsRequest, ListGroupsResponse, ListTransactionsRequest, ListTransactionsResponse,
    ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Action, Request, RequestTopics, classify_topics};
use crate::log::ids::TopicId;
use crate::proxy::authorization::Operation;
use crate::proxy::connection::BrokerLink;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::response::CloseReason;

/// Clients ask every node and add up: a diskless node coordinates no group.
pub(super) fn serve_list_groups(request: &Request) -> Result<Action, CloseReason> {
    let _checked: ListGroupsRequest = request.decode()?;
    request.answer(&ListGroupsResponse::default())
}

/// As with groups.
pub(super) fn serve_list_transactions(request: &Request) -> Result<Action, CloseReason> {
    let _checked: ListTransactionsRequest = request.decode()?;
    request.answer(&ListTransactionsResponse::default())
}

/// Brokers read only their own logs for share groups: a member of a diskless topic would be given
/// partitions and then hang in silence.
pub(super) async fn guard_share_heartbeat(
    request: Request,
    broker: &mut BrokerLink,
) -> Result<Action, CloseReason> {
    let asked: ShareGroupHeartbeatRequest = request.decode()?;
    let topics = asked.subscribed_topic_names.unwrap_or_default();
    let named: Vec<_> = topics.iter().map(|name| (TopicId::ZERO, name.as_str())).collect();
    if classify_topics(&request.proxy, named.iter().copied()).await == RequestTopics::ClassicOnly {
        return Ok(request.relay());
    }
    let permits = broker.topic_permissions(&named).await?;
    if permits.iter().any(|permit| permit.check(Operation::Describe).is_err()) {
        // The broker refuses it for that very reason.
        return Ok(request.relay());
    }
    let is_classic =
        |name: &&str| request.proxy.topics.by_name(name).is_some_and(|topic| !topic.is_diskless());
    let names = topics.iter().map(|name| name.as_str()).filter(|name| !is_classic(name));
    let names: Vec<&str> = names.collect();
    let message =
        format!("diskless topics do not support share groups; subscribed: {}", names.join(", "));
    request.answer(
        &ShareGroupHeartbeatResponse::default()
            .with_error_code(ErrorCode::INVALID_REQUEST.0)
            .with_error_message(Some(StrBytes::from_string(message))),
    )
}
