use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;

use super::*;
use crate::coordinator::memory::MemoryCoordinator;

fn seen(id: u8, name: &str) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_topic_id(uuid::Uuid::from_bytes([id; 16]))
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_partitions(vec![MetadataResponsePartition::default()])
}

async fn topics() -> Topics {
    let coordinator = Arc::new(MemoryCoordinator::new("first"));
    coordinator.attach("cluster", "zone").await.unwrap();
    let cluster = Arc::new(Cluster::new(Vec::new(), None));
    Topics::new(cluster, coordinator, TopicRules::default(), SealProfile::Fast)
}

#[tokio::test]
async fn a_broker_that_lags_behind_brings_no_deleted_topic_back() {
    let topics = topics().await;
    topics.observe(&[seen(1, "again")]).await;
    let id = topics.by_name("again").unwrap().id;
    topics.forget(id).await.unwrap();
    topics.observe(&[seen(2, "again")]).await;
    topics.observe(&[seen(1, "again")]).await;
    assert_eq!(topics.by_id(id), None);
    assert_eq!(topics.by_name("again").unwrap().id, TopicId([2; 16]));
}

/// This replica has not heard of the deletion, and a broker that lags behind names the topic.
#[tokio::test]
async fn what_another_replica_deleted_is_dead_here_too() {
    let topics = topics().await;
    topics.coordinator.forget(TopicId([1; 16])).await.unwrap();
    topics.observe(&[seen(1, "gone")]).await;
    assert_eq!(topics.by_name("gone"), None);
    topics.bind_created(TopicId([1; 16]), "gone", TopicKind::Diskless).await.unwrap();
    topics.observe(&[seen(1, "gone")]).await;
    assert_eq!(topics.by_name("gone"), None);
    assert_eq!(topics.coordinator.topics().await.unwrap(), []);
}

#[tokio::test]
async fn an_intent_outlives_an_older_one_of_the_same_name() {
    let topics = Arc::new(topics().await);
    let older = topics.intend("twice", TopicKind::Classic);
    let newer = topics.intend("twice", TopicKind::Diskless);
    drop(older);
    assert_eq!(topics.intents().get("twice").map(|(_, kind)| *kind), Some(TopicKind::Diskless));
    drop(newer);
    assert!(topics.intents().is_empty());
}
