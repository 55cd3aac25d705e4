//! IncrementalAlterConfigs (44): the diskless flag among changes of single configs.

use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::config_changes::{self, AlterRequest, Change, Resource, ResourceResult};
use super::row_order::Places;
use super::topic_configs::is_diskless_flag;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

pub(super) async fn edit(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    config_changes::edit::<IncrementalAlterConfigsRequest>(request, broker).await
}

impl Resource for AlterConfigsResource {
    fn resource_type(&self) -> i8 {
        self.resource_type
    }

    fn name(&self) -> &StrBytes {
        &self.resource_name
    }

    fn changes(&self) -> Vec<Change<'_>> {
        let configs = self.configs.iter();
        configs
            .map(|config| Change {
                name: &config.name,
                operation: config.config_operation,
                value: config.value.as_deref(),
            })
            .collect()
    }

    fn remove_flag(&mut self) {
        self.configs.retain(|config| !is_diskless_flag(&config.name));
    }

    fn is_done(&self) -> bool {
        self.configs.is_empty()
    }
}

impl AlterRequest for IncrementalAlterConfigsRequest {
    type Resource = AlterConfigsResource;

    fn resources(&mut self) -> &mut Vec<Self::Resource> {
        &mut self.resources
    }

    fn validate_only(&mut self) -> &mut bool {
        &mut self.validate_only
    }

    fn results(response: &IncrementalAlterConfigsResponse) -> Vec<ResourceResult> {
        let rows = response.responses.iter();
        rows.map(|row| ResourceResult {
            resource_type: row.resource_type,
            name: row.resource_name.clone(),
            code: ErrorCode(row.error_code),
            message: row.error_message.clone(),
        })
        .collect()
    }

    fn add_results(
        response: &mut IncrementalAlterConfigsResponse,
        results: Vec<ResourceResult>,
        order: &[(i8, StrBytes)],
    ) {
        response.responses.extend(results.into_iter().map(|result| {
            AlterConfigsResourceResponse::default()
                .with_resource_type(result.resource_type)
                .with_resource_name(result.name)
                .with_error_code(result.code.0)
                .with_error_message(result.message)
        }));
        let places = Places::of(order.iter().map(|(kind, name)| (*kind, name)));
        response
            .responses
            .sort_by_cached_key(|row| places.get(&(row.resource_type, &row.resource_name)));
    }
}
