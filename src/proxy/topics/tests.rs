use std::time::Duration;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;

use super::*;
use crate::coordinator::faulty::{Fault, FaultyCoordinator, Operation};
use crate::coordinator::memory::MemoryCoordinator;

fn observed(id: u8, name: &str) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_topic_id(uuid::Uuid::from_bytes([id; 16]))
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_partitions(vec![MetadataResponsePartition::default()])
}

async fn registry() -> TopicRegistry {
    registry_with(Arc::new(MemoryCoordinator::new("first"))).await
}

async fn registry_with(coordinator: Arc<dyn Coordinator>) -> TopicRegistry {
    coordinator.attach("cluster", "zone").await.unwrap();
    let cluster = Arc::new(KafkaCluster::new(Vec::new(), None));
    TopicRegistry::new(cluster, coordinator, TopicRules::default(), FlushProfile::Fast)
}

async fn bind_type(registry: &TopicRegistry, topic_type: TopicType) -> TopicBinding {
    let binding =
        TopicBinding { topic: TopicId([1; 16]), name: "empty".to_owned(), topic_type: topic_type };
    let registration = Registration { binding, rule: BindRule::Migrate };
    let bound = registry.coordinator.register(vec![registration]).await.unwrap();
    bound.into_iter().flatten().next().expect("it is bound")
}

#[tokio::test]
async fn stale_broker_does_not_revive_deleted_topic() {
    let registry = registry().await;
    registry.observe(&[observed(1, "again")]).await;
    let id = registry.by_name("again").unwrap().id;
    registry.delete_topic(id).await.unwrap();
    registry.observe(&[observed(2, "again")]).await;
    registry.observe(&[observed(1, "again")]).await;
    assert_eq!(registry.by_id(id), None);
    assert_eq!(registry.by_name("again").unwrap().id, TopicId([2; 16]));
}

/// This replica has not heard of the deletion, and a broker that lags behind names the topic.
#[tokio::test]
async fn topic_deleted_by_another_replica_is_not_revived() {
    let registry = registry().await;
    registry.coordinator.delete_topic(TopicId([1; 16])).await.unwrap();
    registry.observe(&[observed(1, "gone")]).await;
    assert_eq!(registry.by_name("gone"), None);
    registry.bind_created(TopicId([1; 16]), "gone", TopicType::Diskless).await.unwrap();
    registry.observe(&[observed(1, "gone")]).await;
    assert_eq!(registry.by_name("gone"), None);
    assert_eq!(registry.coordinator.topics().await.unwrap(), []);
}

#[tokio::test]
async fn pending_creation_outlives_older_one_of_same_name() {
    let registry = Arc::new(registry().await);
    let older = registry.begin_creation("twice", TopicType::Classic);
    let newer = registry.begin_creation("twice", TopicType::Diskless);
    drop(older);
    assert_eq!(
        registry.pending_creations().get("twice").map(|(_, topic_type)| *topic_type),
        Some(TopicType::Diskless)
    );
    drop(newer);
    assert!(registry.pending_creations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_for_empty_topic_are_forwarded_only_while_confirmed_classic() {
    let memory = Arc::new(MemoryCoordinator::new("first"));
    let faulty = Arc::new(FaultyCoordinator::new(memory));
    let registry = Arc::new(registry_with(Arc::clone(&faulty) as Arc<dyn Coordinator>).await);
    registry.observe(&[observed(1, "empty")]).await;
    let empty = [(TopicId::ZERO, "empty")];
    assert!(registry.may_forward_records(&empty).await);
    // Another replica begins a switch, and nobody tells us.
    assert_eq!(bind_type(&registry, TopicType::Migrating).await.topic_type, TopicType::Migrating);
    tokio::time::advance(Duration::from_millis(2_900)).await;
    assert!(registry.may_forward_records(&empty).await, "as was made sure of just before");
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(!registry.may_forward_records(&empty).await);
    assert_eq!(registry.by_name("empty"), None, "unknown, so that nobody asks for more");
    registry.observe(&[observed(1, "empty")]).await;
    assert_eq!(registry.by_name("empty"), None);
    // The switch is given up.
    registry.bind(&bind_type(&registry, TopicType::Classic).await);
    registry.observe(&[observed(1, "empty")]).await;
    assert!(registry.may_forward_records(&empty).await);
    // Without a word of the coordinator there is no being sure.
    faulty.set_persistent(Operation::Register, Some(Fault::REFUSED));
    assert!(registry.may_forward_records(&empty).await);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(!registry.may_forward_records(&empty).await);
}

#[tokio::test]
async fn migration_ends_fetch_sessions_that_may_contain_the_topic() {
    let registry = registry().await;
    registry.observe(&[observed(1, "empty")]).await;
    let before = registry.migrations();
    registry.bind(&bind_type(&registry, TopicType::Migrating).await);
    assert_eq!(registry.migrations(), before + 1);
    registry.bind(&bind_type(&registry, TopicType::Diskless).await);
    assert_eq!(registry.migrations(), before + 2);
    registry.observe(&[observed(1, "empty")]).await;
    assert!(registry.by_name("empty").unwrap().is_diskless());
}
