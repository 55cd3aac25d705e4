//! AlterConfigs (33) sets all configs of a resource at once: those that it omits return to their
//! defaults, except the diskless flag, which is not a broker's config and stays.

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::config_changes::{self, AlterRequest, Change, OP_SET, Resource, ResourceResult};
use super::topic_configs::is_diskless_flag;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;

pub(super) async fn edit(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    config_changes::edit::<AlterConfigsRequest>(request, broker).await
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
                operation: OP_SET,
                value: config.value.as_deref(),
            })
            .collect()
    }

    fn remove_flag(&mut self) {
        self.configs.retain(|config| !is_diskless_flag(&config.name));
    }

    fn is_done(&self) -> bool {
        // An empty list of configs resets all of them.
        false
    }
}

impl AlterRequest for AlterConfigsRequest {
    type Resource = AlterConfigsResource;

    fn resources(&mut self) -> &mut Vec<Self::Resource> {
        &mut self.resources
    }

    fn validate_only(&mut self) -> &mut bool {
        &mut self.validate_only
    }

    fn results(response: &AlterConfigsResponse) -> Vec<ResourceResult> {
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
        response: &mut AlterConfigsResponse,
        results: Vec<ResourceResult>,
        _order: &[(i8, StrBytes)],
    ) {
        response.responses.extend(results.into_iter().map(|result| {
            AlterConfigsResourceResponse::default()
                .with_resource_type(result.resource_type)
                .with_resource_name(result.name)
                .with_error_code(result.code.0)
                .with_error_message(result.message)
        }));
    }
}
