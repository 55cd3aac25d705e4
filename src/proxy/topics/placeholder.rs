//! Asks the brokers about topics that are, or may become, diskless.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{BrokerId, DescribeConfigsRequest, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::MakeDisklessError;
use super::topic::{TopicConfig, id_of};
use crate::log::ids::TopicId;
use crate::proxy::upstream::cluster::KafkaCluster;
use crate::proxy::upstream::error::UpstreamError;

const RESOURCE_TOPIC: i8 = 2;
/// The timestamp that stands for the log end offset.
const LATEST: i64 = -1;
/// Maximum number of queries for a topic that has no leaders yet because it was just created.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);
/// Time for one query of the leaders of a topic. One that hangs must not keep others from being asked.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// Checks that a topic may become diskless: its logs never contained a record, and it is not
/// compacted. Each query of its logs takes one of `queries`.
pub(super) async fn check_eligible(
    cluster: &KafkaCluster,
    name: &str,
    queries: &Semaphore,
) -> Result<(), MakeDisklessError> {
    let upstream = |error| MakeDisklessError::Upstream(name.to_owned(), error);
    if name.starts_with("__") {
        return Err(MakeDisklessError::Internal(name.to_owned()));
    }
    let configs = configs(cluster, std::iter::once(name)).await.map_err(upstream)?;
    if configs.get(name).is_some_and(|config| config.compacted) {
        return Err(MakeDisklessError::Compacted(name.to_owned()));
    }
    match query_until_known(queries, || end_offsets(cluster, name)).await.map_err(upstream)? {
        Some(0) => Ok(()),
        Some(_) => Err(MakeDisklessError::HasRecords(name.to_owned())),
        None => Err(upstream(UpstreamError::NoBroker)),
    }
}

/// Queries until a result is known; `None` if it is not after [`TRIES`]. A permit is held during
/// queries only, so that topics whose leaders are away do not hold up others.
async fn query_until_known<T, E, F: Future<Output = Result<Option<T>, E>>>(
    queries: &Semaphore,
    mut query: impl FnMut() -> F,
) -> Result<Option<T>, E> {
    for _ in 0..TRIES {
        let result = {
            // The semaphore is never closed.
            let _one_of_few = queries.acquire().await;
            timeout(QUERY_TIMEOUT, query()).await
        };
        match result {
            Ok(Ok(None)) => tokio::time::sleep(PAUSE).await,
            Ok(known) => return known,
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// Returns whether the topic with this name and id has, or had, records; `false` also if the
/// brokers cannot tell.
pub(super) async fn has_records(cluster: &KafkaCluster, name: &str, id: TopicId) -> bool {
    let requested = MetadataRequestTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))));
    let Ok(ends) = timeout(QUERY_TIMEOUT, end_offsets(cluster, name)).await else { return false };
    // Requested afterwards: a topic of the same name created in the meantime has another id.
    let metadata = cluster.metadata(Some(vec![requested])).await;
    let is_same = metadata.is_ok_and(|m| m.topics.first().is_some_and(|t| id_of(t) == id));
    is_same && matches!(ends, Ok(Some(end)) if end > 0)
}

/// Returns the sum of the log end offsets on the brokers; `None` while a partition has no leader.
async fn end_offsets(cluster: &KafkaCluster, name: &str) -> Result<Option<i64>, UpstreamError> {
    let topic_name = TopicName(StrBytes::from_string(name.to_owned()));
    let requested = MetadataRequestTopic::default().with_name(Some(topic_name.clone()));
    let metadata = cluster.metadata(Some(vec![requested])).await?;
    let Some(topic) = metadata.topics.first().filter(|t| t.error_code == 0) else {
        return Ok(None);
    };
    let mut by_leader: BTreeMap<i32, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for partition in &topic.partitions {
        let query = ListOffsetsPartition::default()
            .with_partition_index(partition.partition_index)
            .with_current_leader_epoch(-1)
            .with_timestamp(LATEST);
        by_leader.entry(partition.leader_id.0).or_default().push(query);
    }
    let version = cluster.version_for::<ListOffsetsRequest>(7)?;
    let mut sum = 0;
    for (leader, partitions) in by_leader {
        let topic =
            ListOffsetsTopic::default().with_name(topic_name.clone()).with_partitions(partitions);
        let request =
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let Ok(response) = cluster.call_broker(leader, &request, version).await else {
            return Ok(None);
        };
        for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != 0 || partition.offset < 0 {
                return Ok(None);
            }
            sum += partition.offset;
        }
    }
    Ok(Some(sum))
}

/// Returns the configs of topics by name, without topics that the broker does not describe.
pub(super) async fn configs<'a>(
    cluster: &KafkaCluster,
    names: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, TopicConfig>, UpstreamError> {
    let resource = |name: &str| {
        DescribeConfigsResource::default()
            .with_resource_type(RESOURCE_TOPIC)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configuration_keys(Some(
                TopicConfig::KEYS.map(StrBytes::from_static_str).to_vec(),
            ))
    };
    let resources: Vec<_> = names.map(resource).collect();
    if resources.is_empty() {
        return Ok(HashMap::new());
    }
    let request = DescribeConfigsRequest::default().with_resources(resources);
    let version = cluster.version_for::<DescribeConfigsRequest>(4)?;
    let response = cluster.call(&request, version).await?;
    let mut configs = HashMap::new();
    for result in response.results.iter().filter(|result| result.error_code == 0) {
        let mut config = TopicConfig::default();
        for entry in &result.configs {
            config.set(&entry.name, entry.value.as_deref().unwrap_or_default());
        }
        configs.insert(result.resource_name.as_str().to_owned(), config);
    }
    Ok(configs)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::tasks;

    /// The leaders of 196 topics are away, and those of four hang.
    #[tokio::test(start_paused = true)]
    async fn topics_without_leaders_hold_up_no_others() {
        let queries = Arc::new(Semaphore::new(8));
        for index in 0..200 {
            let queries = Arc::clone(&queries);
            tasks::spawn("query", async move {
                let _result = query_until_known(&queries, || async move {
                    if index >= 196 {
                        std::future::pending::<()>().await;
                    }
                    Ok::<Option<i64>, UpstreamError>(None)
                })
                .await;
            });
        }
        tokio::task::yield_now().await;
        let began = Instant::now();
        let known = query_until_known(&queries, || async { Ok::<_, UpstreamError>(Some(0)) }).await;
        assert_eq!(known.unwrap(), Some(0));
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
}
