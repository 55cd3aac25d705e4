//! Checks of the Kafka cluster: brokers, the advertised address, and topics that rules match.

use std::sync::Arc;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::{DescribeConfigsRequest, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;

use super::report::Finding;
use crate::app::kafka_login;
use crate::config::Settings;
use crate::entropy::Entropy;
use crate::proxy::upstream::cluster::{ClusterView, KafkaCluster};
use crate::proxy::upstream::connection::connect;

const KAFKA: &str = "kafka";
const LISTENERS: &str = "listeners";
const TOPICS: &str = "topics";
/// Topic ids are in Metadata from this version on (KIP-516): Kafka 2.8.
const TOPIC_IDS_SINCE: i16 = 10;
/// ConfigResource.Type.TOPIC of Kafka.
const TOPIC_RESOURCE: i8 = 2;
/// The maximum number of topics whose configs are read.
const TOPICS_MAX: usize = 1_000;

pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let servers: Vec<String> =
        settings.kafka.bootstrap_servers.iter().map(ToString::to_string).collect();
    for server in &servers {
        if let Err(error) = connect(server).await {
            let impact =
                "a replica that starts while the other brokers are down waits for this one";
            let remedy = "check kafka.bootstrapServers, and that the broker runs";
            findings.push(Finding::warn(KAFKA, error.to_string(), impact).remedy(remedy));
        }
    }
    let cluster = cluster(settings, servers);
    let metadata = match cluster.refresh().await {
        Ok(metadata) => metadata,
        Err(error) => {
            let impact = "a replica waits for a broker before it serves clients";
            let remedy = "check kafka.bootstrapServers, and kafka.sasl if the brokers require SASL";
            findings.push(Finding::fail(KAFKA, error.to_string(), impact).remedy(remedy));
            return findings;
        }
    };
    let view = cluster.view();
    findings.extend(check_brokers(settings, &cluster, &view).await);
    findings.extend(check_listeners(settings, &view).await);
    findings.extend(check_topics(settings, &cluster, &metadata).await);
    findings
}

fn cluster(settings: &Settings, servers: Vec<String>) -> KafkaCluster {
    KafkaCluster::new(servers, kafka_login(settings, &Arc::new(Entropy::from_os())))
}

async fn check_brokers(
    settings: &Settings,
    cluster: &KafkaCluster,
    view: &ClusterView,
) -> Vec<Finding> {
    let summary = format!("cluster {}, {} brokers", view.cluster_id, view.brokers.len());
    let mut findings = vec![Finding::ok(KAFKA, summary)];
    if cluster.version_for::<MetadataRequest>(12).is_ok_and(|version| version < TOPIC_IDS_SINCE) {
        let impact = "the type of a topic is bound to its id";
        let found = Finding::fail(KAFKA, "the brokers do not support topic ids", impact);
        findings.push(found.remedy("upgrade to Kafka 2.8 or later"));
    }
    for broker in view.brokers.values() {
        if let Err(error) = connect(&broker.address()).await {
            let summary = format!("broker {}: {error}", broker.id);
            let impact = "this replica cannot serve its classic partitions";
            findings.push(
                Finding::fail(KAFKA, summary, impact)
                    .remedy("make its advertised.listeners reachable from here"),
            );
        }
    }
    let ports = &settings.listeners;
    let highest = view.brokers.keys().max().copied().unwrap_or_default();
    let last = i64::from(ports.broker_ports) + i64::from(highest);
    if settings.writer
        && ports.broker_ports < ports.node_ports
        && last >= i64::from(ports.node_ports)
    {
        let summary = format!(
            "broker {highest} would use port {last}, but diskless nodes begin at {}",
            ports.node_ports
        );
        let impact = "clients cannot reach this broker";
        findings
            .push(Finding::fail(LISTENERS, summary, impact).remedy("raise listeners.nodePorts"));
    }
    let racks: Vec<&str> = view.brokers.values().filter_map(|b| b.rack.as_deref()).collect();
    if !racks.is_empty() && !racks.contains(&settings.zone.as_str()) {
        let summary =
            format!("zone is {}, the brokers' racks are {}", settings.zone, racks.join(", "));
        let impact = "if a zone has two names, traffic within it is counted as cross-zone traffic";
        let remedy = "use zone ids (use1-az1) for both, or zone names (us-east-1a)";
        findings.push(Finding::warn(KAFKA, summary, impact).remedy(remedy));
    }
    findings
}

/// Checks that the advertised address leads to this cluster.
async fn check_listeners(settings: &Settings, view: &ClusterView) -> Vec<Finding> {
    let (host, port) = (&settings.listeners.advertised_host, settings.listeners.bootstrap_port);
    if let Err(error) = tokio::net::lookup_host((host.as_str(), port)).await {
        let summary = format!("advertisedHost {host}: {error}");
        let remedy = "use a name that clients can resolve, or an address";
        return vec![
            Finding::fail(LISTENERS, summary, "clients connect to this address").remedy(remedy),
        ];
    }
    let address = format!("{host}:{port}");
    let advertised = cluster(settings, vec![address.clone()]);
    let found = match advertised.refresh().await {
        Err(error) => {
            let summary = format!("no replica responds at {address}: {error}");
            let remedy = "none if no replica runs yet; else check advertisedHost and the firewall";
            Finding::warn(LISTENERS, summary, "clients connect to this address").remedy(remedy)
        }
        Ok(_) if advertised.view().cluster_id != view.cluster_id => {
            let summary = format!("{address} leads to cluster {}", advertised.view().cluster_id);
            let impact = "clients would write to a cluster other than this file's";
            Finding::fail(LISTENERS, summary, impact)
                .remedy("check advertisedHost and bootstrapPort")
        }
        Ok(_) => Finding::ok(LISTENERS, format!("{address} leads to the cluster")),
    };
    vec![found]
}

fn is_diskless(settings: &Settings, topic: &str) -> bool {
    settings.topic_rules().diskless_profile(topic).is_some()
}

/// Checks the topics that a rule makes diskless: readable configs, and no compaction.
async fn check_topics(
    settings: &Settings,
    cluster: &KafkaCluster,
    metadata: &MetadataResponse,
) -> Vec<Finding> {
    let names = metadata.topics.iter().filter_map(|topic| topic.name.clone());
    let matched = names.filter(|n| is_diskless(settings, n.as_str()));
    let matched: Vec<_> = matched.take(TOPICS_MAX).collect();
    let summary = format!("{} existing topics match rules of diskless.topics", matched.len());
    let mut findings = vec![Finding::ok(TOPICS, summary)];
    let resource = |name: &kafka_protocol::messages::TopicName| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(name.0.clone())
            .with_configuration_keys(Some(vec![StrBytes::from_static_str("cleanup.policy")]))
    };
    let request =
        DescribeConfigsRequest::default().with_resources(matched.iter().map(resource).collect());
    if matched.is_empty() {
        return findings;
    }
    let asked = match cluster.version_for::<DescribeConfigsRequest>(4) {
        Ok(version) => cluster.call(&request, version).await,
        Err(error) => Err(error),
    };
    let described = match asked {
        Ok(described) => described,
        Err(error) => {
            let impact = "a replica reads the configs of diskless topics from the brokers";
            findings.push(Finding::fail(TOPICS, error.to_string(), impact));
            return findings;
        }
    };
    for result in described.results {
        let name = result.resource_name.as_str();
        if result.error_code != 0 {
            let summary = format!(
                "{name}: the brokers deny access to its configs (error {})",
                result.error_code
            );
            let remedy = "allow DescribeConfigs on topics for the user of kafka.sasl";
            findings.push(
                Finding::fail(TOPICS, summary, "the configs determine how the topic is written")
                    .remedy(remedy),
            );
        }
        let policy = result.configs.iter().find_map(|config| config.value.as_deref());
        if policy.is_some_and(|policy| policy.contains("compact")) {
            let summary = format!("{name} matches a rule, but is compacted");
            let impact = "diskless topics cannot be compacted; the topic remains classic";
            let remedy = "exclude it by a rule with exclude: true before the one that matches";
            findings.push(Finding::warn(TOPICS, summary, impact).remedy(remedy));
        }
    }
    findings
}
