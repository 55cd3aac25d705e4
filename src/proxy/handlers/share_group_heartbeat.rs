//! ShareGroupHeartbeat (76).

use kafka_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;

use super::requested_topics::permits_unless_classic;
use crate::log::ids::TopicId;
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// Rejects diskless topics: brokers read only their own logs for share groups, so a member would be
/// assigned partitions and never receive records.
pub(super) async fn guard(
    request: Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested: ShareGroupHeartbeatRequest = request.decode()?;
    let topics = requested.subscribed_topic_names.unwrap_or_default();
    let named: Vec<_> = topics.iter().map(|name| (TopicId::ZERO, name.as_str())).collect();
    let Some(permits) =
        permits_unless_classic(&request, AclOperation::Describe, &named, broker).await?
    else {
        return Ok(request.forward_unread());
    };
    if permits.iter().any(|permit| permit.check(AclOperation::Describe).is_err()) {
        // The broker rejects the request for the same reason.
        return Ok(request.forward_unread());
    }
    let is_classic = |name: &&str| {
        request.proxy.topics.registry.by_name(name).is_some_and(|topic| !topic.is_diskless())
    };
    let names = topics.iter().map(|name| name.as_str()).filter(|name| !is_classic(name));
    let names: Vec<&str> = names.collect();
    let message =
        format!("diskless topics do not support share groups; subscribed: {}", names.join(", "));
    request.respond(
        &ShareGroupHeartbeatResponse::default()
            .with_error_code(ErrorCode::INVALID_REQUEST.0)
            .with_error_message(Some(StrBytes::from_string(message))),
    )
}
