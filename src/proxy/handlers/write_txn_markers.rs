//! WriteTxnMarkers (27) on a diskless node: rejected, because there are no transactions.

use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

/// Rejects all markers. `kafka-transactions abort` sends the request to the leader, but there is no
/// transaction to end.
pub(super) async fn serve(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let requested: WriteTxnMarkersRequest = request.decode()?;
    // Like a broker, requires one of the two operations.
    let may = broker.cluster_allows(AclOperation::Alter).await?
        || broker.cluster_allows(AclOperation::ClusterAction).await?;
    let code = match may {
        true => ErrorCode::INVALID_TXN_STATE,
        false => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
    };
    let mut response = WriteTxnMarkersResponse::default();
    for marker in &requested.markers {
        let mut result = WritableTxnMarkerResult::default().with_producer_id(marker.producer_id);
        for topic in &marker.topics {
            let row = |&index: &i32| {
                WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(code.0)
            };
            result.topics.push(
                WritableTxnMarkerTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_partitions(topic.partition_indexes.iter().map(row).collect()),
            );
        }
        response.markers.push(result);
    }
    request.respond(&response)
}
