//! AddPartitionsToTxn (24): rejected for diskless partitions.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::requested_topics::permits_unless_classic;
use crate::log::ids::TopicId;
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// Rejects a transaction that names a diskless partition before any of its records is written, with
/// a code that is fatal to the producer: no retry can succeed.
pub(super) async fn guard(
    request: Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested: AddPartitionsToTxnRequest = request.decode()?;
    let topics = &requested.v3_and_below_topics;
    let named: Vec<_> = topics.iter().map(|topic| (TopicId::ZERO, topic.name.as_str())).collect();
    let Some(permits) =
        permits_unless_classic(&request, AclOperation::Write, &named, broker).await?
    else {
        return Ok(request.forward_unread());
    };
    let refuse = |(topic, permit): (&AddPartitionsToTxnTopic, TopicPermissions)| {
        let cached = request.proxy.topics.registry.by_name(topic.name.as_str());
        let code = match cached.is_none_or(|topic| topic.is_diskless()) {
            true => ErrorCode::INVALID_TXN_STATE,
            false => ErrorCode::OPERATION_NOT_ATTEMPTED,
        };
        let code = permit.check(AclOperation::Write).err().unwrap_or(code);
        let row = |&index: &i32| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code.0)
        };
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(topic.partitions.iter().map(row).collect())
    };
    let results = topics.iter().zip(permits).map(refuse).collect();
    request
        .respond(&AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results))
}
