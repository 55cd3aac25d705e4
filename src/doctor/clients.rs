//! Checks the rights of a client that has not logged in: every client of a replica connects to the
//! listener that `kafka.bootstrapServers` names.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeConfigsRequest};
use kafka_protocol::protocol::StrBytes;

use super::report::Finding;
use crate::config::Settings;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::proxy::upstream::error::UpstreamError;

const KAFKA: &str = "kafka";
/// `AclOperation` of Kafka: on the cluster, ALTER is the right to change ACLs, CLUSTER_ACTION that of
/// brokers, and ALTER_CONFIGS that to change the brokers' configs.
const ALTER: i32 = 7;
const CLUSTER_ACTION: i32 = 9;
const ALTER_CONFIGS: i32 = 11;
/// `ConfigResource.Type.BROKER` of Kafka.
const BROKER_RESOURCE: i8 = 4;
const AUTHORIZER: &str = "authorizer.class.name";

/// The rights of a client that has not logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anonymous {
    /// It has to log in.
    Refused,
    /// It has rights that the brokers' ACLs give it, none of them on the cluster itself.
    Limited,
    /// It may administer the cluster, and it is unknown whether the brokers have an authorizer.
    Administrator,
    /// It may do everything, because the brokers have no authorizer.
    Unchecked,
    /// It may do everything, although the brokers have an authorizer.
    Superuser,
}

/// Returns what a client that has not logged in may do; no finding if no broker responds at all, which
/// other checks report.
pub(super) async fn check(settings: &Settings) -> Option<Finding> {
    let servers = settings.kafka.bootstrap_servers.iter().map(ToString::to_string).collect();
    let cluster = KafkaCluster::new(servers, None);
    let rights = match cluster.refresh().await {
        Ok(_) => rights(&cluster).await?,
        // It responds to ApiVersions, and closes the connection at the first other request.
        Err(UpstreamError::Io { .. }) if !cluster.view().versions.is_empty() => Anonymous::Refused,
        Err(_) => return None,
    };
    Some(finding(rights))
}

/// Returns the rights of a client that the brokers serve without a login; `None` if they do not say.
async fn rights(cluster: &KafkaCluster) -> Option<Anonymous> {
    let version = cluster.version_for::<DescribeClusterRequest>(0).ok()?;
    let request =
        DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    let described = cluster.call(&request, version).await.ok()?;
    let operations = described.cluster_authorized_operations;
    let may = |operation: i32| operations & (1 << operation) != 0;
    // Without a decision, only the highest bit is set.
    if described.error_code != 0
        || operations == i32::MIN
        || ![ALTER, CLUSTER_ACTION, ALTER_CONFIGS].into_iter().any(may)
    {
        return Some(Anonymous::Limited);
    }
    Some(match has_authorizer(cluster).await {
        Some(true) => Anonymous::Superuser,
        Some(false) => Anonymous::Unchecked,
        None => Anonymous::Administrator,
    })
}

/// Returns whether the brokers have an authorizer, if a broker's configs say so.
async fn has_authorizer(cluster: &KafkaCluster) -> Option<bool> {
    let broker = cluster.view().brokers.keys().next().copied()?;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER_RESOURCE)
        .with_resource_name(StrBytes::from_string(broker.to_string()))
        .with_configuration_keys(Some(vec![StrBytes::from_static_str(AUTHORIZER)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let version = cluster.version_for::<DescribeConfigsRequest>(4).ok()?;
    // Each broker has its own configs.
    let response = cluster.call_broker(broker, &request, version).await.ok()?;
    let mut configs = response.results.iter().flat_map(|result| &result.configs);
    let authorizer = configs.find(|config| config.name.as_str() == AUTHORIZER)?;
    Some(authorizer.value.as_ref().is_some_and(|value| !value.is_empty()))
}

fn finding(rights: Anonymous) -> Finding {
    match rights {
        Anonymous::Refused => Finding::ok(KAFKA, "clients have to log in"),
        Anonymous::Limited => {
            Finding::ok(KAFKA, "clients that do not log in have limited rights")
        }
        Anonymous::Unchecked => {
            Finding::ok(KAFKA, "the brokers have no authorizer: every client may do everything")
        }
        Anonymous::Administrator => Finding::warn(
            KAFKA,
            "clients that do not log in may administer the cluster",
            "every client that reaches a replica may change it",
        )
        .remedy("name a listener with SASL in kafka.bootstrapServers, or check the brokers' ACLs"),
        Anonymous::Superuser => Finding::fail(
            KAFKA,
            "clients that do not log in are superusers at the listener of kafka.bootstrapServers",
            "every client that reaches a replica may do everything, on classic topics too, and ACLs \
             that name hosts or users do not apply to it",
        )
        .remedy(
            "name a listener with SASL in kafka.bootstrapServers, or remove User:ANONYMOUS from \
             super.users of the brokers",
        ),
    }
}
