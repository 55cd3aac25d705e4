//! Handlers of requests, one module for each Kafka API.

mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod config_changes;
mod connection_state;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod fetch;
mod fetch_partitions;
mod find_coordinator;
#[cfg(any(test, feature = "test-util"))]
pub mod fuzz;
mod incremental_alter_configs;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
mod produce_validation;
mod push_telemetry;
mod requested_topics;
mod row_order;
mod sasl_authenticate;
mod share_acknowledge;
mod share_fetch;
mod share_group_heartbeat;
mod topic_configs;
mod write_txn_markers;

use std::sync::Arc;

use kafka_protocol::messages::ApiKey;
use tokio::time::Instant;

pub(crate) use self::connection_state::ConnectionState;
use super::apis::{self, Handling};
use super::broker::session::BrokerSession;
use super::endpoint::Endpoint;
use super::request::{Action, Request};
use super::response::CloseReason;

/// Dispatches a request to its handler.
///
/// # Errors
/// [`CloseReason`] if the connection has to close: the API or the version is not supported here, or
/// the broker has not accepted the client.
pub(crate) async fn dispatch(
    request: Request,
    session: &mut ConnectionState,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let (key, version) = (request.header.api_key, request.header.api_version);
    let Some(api) = apis::lookup(key) else {
        return Err(CloseReason::Client(format!("unsupported api key {key}")));
    };
    broker.auditor_mut().begin_request(api.name, request.header.client_id.as_deref());
    let named = ApiKey::try_from(key).ok();
    if named == Some(ApiKey::ApiVersions) {
        return api_versions::handle(request);
    }
    if !apis::is_sasl(key) {
        broker.login().check(Instant::now())?;
    }
    if version < api.min || version > api.accepted {
        return Err(CloseReason::Client(format!("unsupported version {version} of {}", api.name)));
    }
    if let Some(ApiKey::GetTelemetrySubscriptions | ApiKey::PushTelemetry) = named
        && let Some(telemetry) = request.proxy.telemetry.clone()
    {
        return push_telemetry::serve(request, &telemetry, broker).await;
    }
    let handling = match request.endpoint {
        Endpoint::Bootstrap | Endpoint::Broker(_) => api.classic,
        Endpoint::Node(_) => api.node,
    };
    // A diskless node handles only requests of clients that the broker has accepted. For forwarded
    // requests, the broker checks this itself.
    if matches!(request.endpoint, Endpoint::Node(_))
        && matches!(handling, Handling::Guard | Handling::Serve)
    {
        broker.ensure_accepted().await?;
    }
    match (handling, named) {
        (Handling::Forward, Some(ApiKey::SaslAuthenticate)) => Ok(sasl_authenticate::forward(
            request,
            Arc::clone(broker.login()),
            broker.auditor().clone(),
        )),
        (Handling::Forward, _) => Ok(request.forward_unread()),
        (Handling::Reject, _) => {
            Err(CloseReason::Client(format!("{} is not supported here", api.name)))
        }
        (Handling::Guard, Some(api)) => guard(api, request, session, broker).await,
        (Handling::Edit, Some(api)) => edit(api, request, broker).await,
        (Handling::Serve, Some(api)) => serve(api, request, session, broker).await,
        (Handling::Guard | Handling::Edit | Handling::Serve, None) => {
            Err(CloseReason::Internal(format!("{} has no handler", api.name)))
        }
    }
}

async fn guard(
    api: ApiKey,
    request: Request,
    session: &mut ConnectionState,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    match api {
        ApiKey::Produce => produce::guard(request, broker).await,
        ApiKey::Fetch => fetch::guard(request, session, broker).await,
        ApiKey::ListOffsets => list_offsets::guard(request, broker).await,
        ApiKey::DeleteRecords => delete_records::guard(request, broker).await,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::guard(request, broker).await,
        ApiKey::AddPartitionsToTxn => add_partitions_to_txn::guard(request, broker).await,
        ApiKey::DescribeProducers => describe_producers::guard(request, broker).await,
        ApiKey::ShareGroupHeartbeat => share_group_heartbeat::guard(request, broker).await,
        api => Err(CloseReason::Internal(format!("{api:?} has no guard"))),
    }
}

async fn edit(
    api: ApiKey,
    request: Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    match api {
        ApiKey::Metadata => metadata::edit(&request),
        ApiKey::FindCoordinator => find_coordinator::edit(request),
        ApiKey::CreateTopics => create_topics::edit(&request, broker).await,
        ApiKey::DeleteTopics => delete_topics::edit(request, broker.auditor().clone()),
        ApiKey::DescribeConfigs => describe_configs::edit(&request, broker).await,
        ApiKey::AlterConfigs => alter_configs::edit(&request, broker).await,
        ApiKey::DescribeLogDirs => describe_log_dirs::edit(request),
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs::edit(&request, broker).await,
        ApiKey::DescribeCluster => describe_cluster::edit(request),
        ApiKey::DescribeTopicPartitions => describe_topic_partitions::edit(request),
        ApiKey::ShareFetch => share_fetch::edit(request),
        ApiKey::ShareAcknowledge => share_acknowledge::edit(request),
        api => Err(CloseReason::Internal(format!("{api:?} has no editor"))),
    }
}

async fn serve(
    api: ApiKey,
    request: Request,
    session: &ConnectionState,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    match api {
        ApiKey::Produce => produce::serve(request, broker).await,
        ApiKey::Fetch => fetch::serve(request, session, broker).await,
        ApiKey::ListOffsets => list_offsets::serve(&request, broker).await,
        ApiKey::ListGroups => list_groups::serve(&request),
        ApiKey::DeleteRecords => delete_records::serve(&request, broker).await,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::serve(&request, broker).await,
        ApiKey::WriteTxnMarkers => write_txn_markers::serve(&request, broker).await,
        ApiKey::DescribeLogDirs => describe_log_dirs::serve(&request, broker).await,
        ApiKey::DescribeProducers => describe_producers::serve(&request, broker).await,
        ApiKey::ListTransactions => list_transactions::serve(&request),
        api => Err(CloseReason::Internal(format!("{api:?} has no handler"))),
    }
}
