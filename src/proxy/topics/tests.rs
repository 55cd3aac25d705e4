use std::time::Duration;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;

use super::*;
use crate::coordinator::faulty::{Fault, FaultyCoordinator, Operation};
use crate::coordinator::memory::MemoryCoordinator;

fn seen(id: u8, name: &str) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_topic_id(uuid::Uuid::from_bytes([id; 16]))
        .with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))))
        .with_partitions(vec![MetadataResponsePartition::default()])
}

async fn topics() -> Topics {
    over(Arc::new(MemoryCoordinator::new("first"))).await
}

async fn over(coordinator: Arc<dyn Coordinator>) -> Topics {
    coordinator.attach("cluster", "zone").await.unwrap();
    let cluster = Arc::new(Cluster::new(Vec::new(), None));
    Topics::new(cluster, coordinator, TopicRules::default(), SealProfile::Fast)
}

async fn switch(topics: &Topics, kind: TopicType) -> TopicBinding {
    let binding =
        TopicBinding { topic: TopicId([1; 16]), name: "empty".to_owned(), topic_type: kind };
    let registration = Registration { binding, rule: BindRule::Migrate };
    let bound = topics.coordinator.register(vec![registration]).await.unwrap();
    bound.into_iter().flatten().next().expect("it is bound")
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
    topics.coordinator.delete_topic(TopicId([1; 16])).await.unwrap();
    topics.observe(&[seen(1, "gone")]).await;
    assert_eq!(topics.by_name("gone"), None);
    topics.bind_created(TopicId([1; 16]), "gone", TopicType::Diskless).await.unwrap();
    topics.observe(&[seen(1, "gone")]).await;
    assert_eq!(topics.by_name("gone"), None);
    assert_eq!(topics.coordinator.topics().await.unwrap(), []);
}

#[tokio::test]
async fn an_intent_outlives_an_older_one_of_the_same_name() {
    let topics = Arc::new(topics().await);
    let older = topics.intend("twice", TopicType::Classic);
    let newer = topics.intend("twice", TopicType::Diskless);
    drop(older);
    assert_eq!(topics.intents().get("twice").map(|(_, kind)| *kind), Some(TopicType::Diskless));
    drop(newer);
    assert!(topics.intents().is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_for_an_empty_topic_are_relayed_only_while_it_is_sure_to_be_classic() {
    let memory = Arc::new(MemoryCoordinator::new("first"));
    let faulty = Arc::new(FaultyCoordinator::new(memory));
    let topics = Arc::new(over(Arc::clone(&faulty) as Arc<dyn Coordinator>).await);
    topics.observe(&[seen(1, "empty")]).await;
    let empty = [(TopicId::ZERO, "empty")];
    assert!(topics.may_relay(&empty).await);
    // Another replica begins a switch, and nobody tells us.
    assert_eq!(switch(&topics, TopicType::Migrating).await.topic_type, TopicType::Migrating);
    tokio::time::advance(Duration::from_millis(2_900)).await;
    assert!(topics.may_relay(&empty).await, "as was made sure of just before");
    tokio::time::advance(Duration::from_millis(200)).await;
    assert!(!topics.may_relay(&empty).await);
    assert_eq!(topics.by_name("empty"), None, "unknown, so that nobody asks for more");
    topics.observe(&[seen(1, "empty")]).await;
    assert_eq!(topics.by_name("empty"), None);
    // The switch is given up.
    topics.bind(&switch(&topics, TopicType::Classic).await);
    topics.observe(&[seen(1, "empty")]).await;
    assert!(topics.may_relay(&empty).await);
    // Without a word of the coordinator there is no being sure.
    faulty.set_standing(Operation::Register, Some(Fault::REFUSED));
    assert!(topics.may_relay(&empty).await);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert!(!topics.may_relay(&empty).await);
}

#[tokio::test]
async fn a_switch_ends_the_sessions_that_may_hold_the_topic() {
    let topics = topics().await;
    topics.observe(&[seen(1, "empty")]).await;
    let before = topics.switches();
    topics.bind(&switch(&topics, TopicType::Migrating).await);
    assert_eq!(topics.switches(), before + 1);
    topics.bind(&switch(&topics, TopicType::Diskless).await);
    assert_eq!(topics.switches(), before + 2);
    topics.observe(&[seen(1, "empty")]).await;
    assert!(topics.by_name("empty").unwrap().is_diskless());
}
