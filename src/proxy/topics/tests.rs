use std::time::Duration;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::protocol::StrBytes;

use super::*;
use crate::coordinator::faulty::{Fault, FaultyCoordinator, Operation};
use crate::coordinator::memory::MemoryCoordinator;
use crate::coordinator::{BindRule, Registration, TopicBinding, TopicType};
use crate::topic_rules::TopicRule;

fn observed(id: u8, name: &str) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_topic_id(uuid::Uuid::from_bytes([id; 16]))
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_partitions(vec![MetadataResponsePartition::default()])
}

async fn topics() -> Topics {
    topics_with(Arc::new(MemoryCoordinator::new("first"))).await
}

async fn topics_with(coordinator: Arc<dyn Coordinator>) -> Topics {
    coordinator.attach("cluster", "zone").await.unwrap();
    let cluster = Arc::new(KafkaCluster::new(Vec::new(), None));
    Topics::new(cluster, coordinator, TopicRules::default(), FlushProfile::Fast)
}

async fn bind_type(topics: &Topics, topic_type: TopicType) -> TopicBinding {
    let binding = TopicBinding { topic: TopicId([1; 16]), name: "empty".to_owned(), topic_type };
    let registration = Registration { binding, rule: BindRule::Migrate };
    let bound = topics.coordinator.register(vec![registration]).await.unwrap();
    bound.into_iter().flatten().next().expect("it is bound")
}

#[tokio::test]
async fn stale_broker_does_not_revive_deleted_topic() {
    let topics = topics().await;
    topics.classifier.observe(&[observed(1, "again")]).await;
    let id = topics.registry.by_name("again").unwrap().id;
    topics.delete(id).await.unwrap();
    topics.classifier.observe(&[observed(2, "again")]).await;
    topics.classifier.observe(&[observed(1, "again")]).await;
    assert_eq!(topics.registry.by_id(id), None);
    assert_eq!(topics.registry.by_name("again").unwrap().id, TopicId([2; 16]));
}

/// This replica has not seen the deletion, and a broker with outdated metadata names the topic.
#[tokio::test]
async fn topic_deleted_by_another_replica_is_not_revived() {
    let topics = topics().await;
    topics.coordinator.delete_topic(TopicId([1; 16])).await.unwrap();
    topics.classifier.observe(&[observed(1, "gone")]).await;
    assert_eq!(topics.registry.by_name("gone"), None);
    topics.migrator.bind_created(TopicId([1; 16]), "gone", TopicType::Diskless).await.unwrap();
    topics.classifier.observe(&[observed(1, "gone")]).await;
    assert_eq!(topics.registry.by_name("gone"), None);
    assert_eq!(topics.coordinator.topics().await.unwrap(), []);
}

#[tokio::test]
async fn pending_creation_outlives_older_one_of_same_name() {
    let topics = topics().await;
    let older = topics.classifier.begin_creation("twice", TopicType::Classic);
    let newer = topics.classifier.begin_creation("twice", TopicType::Diskless);
    drop(older);
    assert_eq!(topics.classifier.pending_type("twice"), Some(TopicType::Diskless));
    drop(newer);
    assert_eq!(topics.classifier.pending_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn records_for_empty_topic_are_forwarded_only_while_confirmed_classic() {
    let memory = Arc::new(MemoryCoordinator::new("first"));
    let faulty = Arc::new(FaultyCoordinator::new(memory));
    let topics = topics_with(Arc::clone(&faulty) as Arc<dyn Coordinator>).await;
    topics.classifier.observe(&[observed(1, "empty")]).await;
    let empty = [(TopicId::ZERO, "empty")];
    assert!(topics.record_guard.may_forward_records(&empty).await);
    // Another replica begins a migration, and its event does not arrive.
    assert_eq!(bind_type(&topics, TopicType::Migrating).await.topic_type, TopicType::Migrating);
    tokio::time::advance(Duration::from_millis(2_900)).await;
    assert!(topics.record_guard.may_forward_records(&empty).await, "confirmed shortly before");
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(!topics.record_guard.may_forward_records(&empty).await);
    assert_eq!(
        topics.registry.by_name("empty"),
        None,
        "unknown, so that requests get retriable errors"
    );
    topics.classifier.observe(&[observed(1, "empty")]).await;
    assert_eq!(topics.registry.by_name("empty"), None);
    // The migration is abandoned.
    topics.registry.bind(&bind_type(&topics, TopicType::Classic).await);
    topics.classifier.observe(&[observed(1, "empty")]).await;
    assert!(topics.record_guard.may_forward_records(&empty).await);
    // Without a response of the coordinator nothing is confirmed.
    faulty.set_persistent(Operation::Register, Some(Fault::REFUSED));
    assert!(topics.record_guard.may_forward_records(&empty).await);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(!topics.record_guard.may_forward_records(&empty).await);
}

#[tokio::test]
async fn migration_ends_fetch_sessions_that_may_contain_the_topic() {
    let topics = topics().await;
    topics.classifier.observe(&[observed(1, "empty")]).await;
    let before = topics.registry.migrations();
    topics.registry.bind(&bind_type(&topics, TopicType::Migrating).await);
    assert_eq!(topics.registry.migrations(), before + 1);
    topics.registry.bind(&bind_type(&topics, TopicType::Diskless).await);
    assert_eq!(topics.registry.migrations(), before + 2);
    topics.classifier.observe(&[observed(1, "empty")]).await;
    assert!(topics.registry.by_name("empty").unwrap().is_diskless());
}

#[tokio::test]
async fn metadata_that_changes_nothing_replaces_nothing() {
    let topics = topics().await;
    let mut metadata = observed(1, "same");
    metadata.partitions[0].leader_epoch = 5;
    topics.classifier.observe(std::slice::from_ref(&metadata)).await;
    let before = topics.registry.by_name("same").unwrap();
    topics.classifier.observe(std::slice::from_ref(&metadata)).await;
    metadata.partitions[0].leader_epoch = 4;
    topics.classifier.observe(std::slice::from_ref(&metadata)).await;
    assert!(Arc::ptr_eq(&before, &topics.registry.by_name("same").unwrap()));
    metadata.partitions[0].leader_epoch = 6;
    topics.classifier.observe(std::slice::from_ref(&metadata)).await;
    assert_eq!(topics.registry.by_name("same").unwrap().leader_epochs, [6]);
    metadata.partitions.push(MetadataResponsePartition::default().with_partition_index(1));
    topics.classifier.observe(std::slice::from_ref(&metadata)).await;
    assert_eq!(topics.registry.by_name("same").unwrap().leader_epochs, [6, 0]);
}

/// No broker can be asked whether the log of the first topic is empty.
#[tokio::test(start_paused = true)]
async fn undecided_topic_holds_up_only_itself() {
    let coordinator = Arc::new(MemoryCoordinator::new("first"));
    let topics = topics_with(coordinator).await;
    let profile = Some(FlushProfile::Fast);
    let rules = TopicRules::new(vec![TopicRule { pattern: "lost".parse().unwrap(), profile }]);
    topics.classifier.set_rules(rules, FlushProfile::Fast);
    let both = [observed(1, "lost"), observed(2, "other")];
    topics.classifier.observe(&both).await;
    assert_eq!(topics.registry.by_name("lost"), None);
    assert!(topics.registry.by_name("other").is_some());
}
