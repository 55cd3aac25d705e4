//! DescribeConfigs (32): the proxy adds `diskless.enable`; every other config is the broker's.

use std::collections::HashSet;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::topic_configs::{DISKLESS_ENABLE, RESOURCE_TOPIC, SOURCE_TOPIC};
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::endpoint::Endpoint;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::proxy::routing::node_ids::node_id;

/// `ConfigSource` of a config in a node's own file.
const SOURCE_STATIC_BROKER: i8 = 4;
/// `ConfigType`.
const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
/// `ConfigResource.Type` of a broker.
const RESOURCE_BROKER: i8 = 4;

pub(super) async fn edit(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let mut describe: DescribeConfigsRequest = request.decode()?;
    let own_id = match request.endpoint {
        Endpoint::Node(k) => Some(node_id(request.proxy.topology.zone(), k).to_string()),
        Endpoint::Bootstrap | Endpoint::Broker(_) => None,
    };
    let flag_unrequested = flag_unrequested(&describe);
    let is_own = |resource: &DescribeConfigsResource| {
        resource.resource_type == RESOURCE_BROKER
            && own_id.as_deref() == Some(resource.resource_name.as_str())
    };
    let own = match describe.resources.iter().find(|r| is_own(r)) {
        Some(r) if broker.cluster_allows(AclOperation::DescribeConfigs).await? => {
            Some(own_configs(&request.proxy, r))
        }
        Some(r) => Some(
            DescribeConfigsResult::default()
                .with_error_code(ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0)
                .with_error_message(Some(StrBytes::from_static_str(
                    "Cluster authorization failed.",
                )))
                .with_resource_type(r.resource_type)
                .with_resource_name(r.resource_name.clone()),
        ),
        None => None,
    };
    describe.resources.retain(|resource| !is_own(resource));
    if let (Some(own), true) = (&own, describe.resources.is_empty()) {
        return request
            .respond(&DescribeConfigsResponse::default().with_results(vec![own.clone()]));
    }
    request.forward_as(&describe, request.version(), move |proxy, mut response| async move {
        response.results.extend(own);
        for result in response.results.iter_mut().filter(|result| result.error_code == 0) {
            if !flag_unrequested.contains(&result.resource_name) {
                add_diskless_flag(&proxy, result);
            }
        }
        response
    })
}

/// Returns whether a config is requested; an empty list of keys requests all of them, as at a
/// broker.
fn is_requested(requested: &DescribeConfigsResource, name: &str) -> bool {
    let keys = requested.configuration_keys.as_deref().unwrap_or_default();
    keys.is_empty() || keys.iter().any(|key| key.as_str() == name)
}

/// Returns the topics whose diskless flag is not among the requested keys. The first row of a
/// repeated topic counts.
pub(super) fn flag_unrequested(describe: &DescribeConfigsRequest) -> HashSet<StrBytes> {
    let (mut seen, mut unrequested) = (HashSet::new(), HashSet::new());
    for resource in describe.resources.iter().filter(|r| r.resource_type == RESOURCE_TOPIC) {
        let is_first = seen.insert(&resource.resource_name);
        if is_first && !is_requested(resource, DISKLESS_ENABLE) {
            unrequested.insert(resource.resource_name.clone());
        }
    }
    unrequested
}

fn add_diskless_flag(proxy: &Proxy, result: &mut DescribeConfigsResult) {
    let topic = proxy.topics.registry.by_name(result.resource_name.as_str());
    if result.resource_type == RESOURCE_TOPIC && topic.is_some_and(|t| t.is_diskless()) {
        result.configs.push(
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_static_str(DISKLESS_ENABLE))
                .with_value(Some(StrBytes::from_static_str("true")))
                .with_config_source(SOURCE_TOPIC)
                .with_config_type(TYPE_BOOLEAN),
        );
    }
}

/// Returns the configs of a diskless node.
fn own_configs(proxy: &Proxy, requested: &DescribeConfigsResource) -> DescribeConfigsResult {
    let settings = [
        ("odradek.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("odradek.zone", proxy.settings.zone.clone()),
        ("odradek.store", proxy.settings.store_name.clone()),
    ];
    let included = |name: &str| is_requested(requested, name);
    let config = |(name, value): (&'static str, String)| {
        DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_read_only(true)
            .with_config_source(SOURCE_STATIC_BROKER)
            .with_config_type(TYPE_STRING)
    };
    DescribeConfigsResult::default()
        .with_resource_type(requested.resource_type)
        .with_resource_name(requested.resource_name.clone())
        .with_configs(settings.into_iter().filter(|(name, _)| included(name)).map(config).collect())
}
