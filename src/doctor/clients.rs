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
/// `AclOperation.ALTER` of Kafka. On the cluster it is the right to change ACLs.
const ALTER: i32 = 7;
/// `ConfigResource.Type.BROKER` of Kafka.
const BROKER_RESOURCE: i8 = 4;
const AUTHORIZER: &str = "authorizer.class.name";

/// The rights of a client that has not logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Anonymous {
    /// It has to log in.
    Refused,
    /// It has rights that the brokers' ACLs give it.
    Limited,
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
        Ok(_) => rights(&cluster).await.ok()?,
        Err(UpstreamError::Io { source, .. })
            if source.kind() != std::io::ErrorKind::ConnectionRefused =>
        {
            Anonymous::Refused
        }
        Err(_) => return None,
    };
    Some(finding(rights))
}

async fn rights(cluster: &KafkaCluster) -> Result<Anonymous, UpstreamError> {
    let version = cluster.version_for::<DescribeClusterRequest>(0)?;
    let request =
        DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    let described = cluster.call(&request, version).await?;
    if described.error_code != 0 || described.cluster_authorized_operations & (1 << ALTER) == 0 {
        return Ok(Anonymous::Limited);
    }
    // A client that may alter the cluster may read the configs of its brokers.
    let broker = cluster.view().brokers.keys().next().copied().unwrap_or_default();
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER_RESOURCE)
        .with_resource_name(StrBytes::from_string(broker.to_string()))
        .with_configuration_keys(Some(vec![StrBytes::from_static_str(AUTHORIZER)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let version = cluster.version_for::<DescribeConfigsRequest>(4)?;
    // Each broker has its own configs.
    let response = cluster.call_broker(broker, &request, version).await?;
    let configs = response.results.iter().flat_map(|result| &result.configs);
    let mut authorizers = configs.filter(|config| config.name.as_str() == AUTHORIZER);
    let is_set = authorizers.any(|config| config.value.as_ref().is_some_and(|v| !v.is_empty()));
    Ok(if is_set { Anonymous::Superuser } else { Anonymous::Unchecked })
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
