//! CreateTopics (19).

use std::collections::{HashMap, HashSet};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::requested_topics::topic_id;
use super::row_order::Places;
use super::topic_configs::{
    DISKLESS_ENABLE, SOURCE_TOPIC, is_compaction, is_diskless_flag, parse_diskless_flag,
};
use crate::coordinator::TopicType;
use crate::proxy::audit::{AuditEvent, AuditOutcome, Auditor};
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::{Action, Request};
use crate::proxy::response::CloseReason;
use crate::proxy::topics::PendingCreation;

/// The types that the topics of a request are to get, where the request or the rules decide it, and
/// what holds their names meanwhile.
type PendingCreations = HashMap<String, (TopicType, Option<PendingCreation>)>;

/// The version in which requests are forwarded: its responses carry topic ids.
const WITH_TOPIC_IDS: i16 = 7;

pub(super) async fn edit(
    request: &Request,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let mut create: CreateTopicsRequest = request.decode()?;
    let validate_only = create.validate_only;
    let creatable = match validate_only {
        true => HashSet::new(),
        false => creatable(&create, broker).await?,
    };
    let order: Vec<_> = create.topics.iter().map(|topic| topic.name.clone()).collect();
    let (mut rejected, mut pending_creations) = (Vec::new(), HashMap::new());
    create.topics.retain_mut(|topic| match plan(&request.proxy, topic) {
        Ok(None) => true,
        Ok(Some(topic_type)) => {
            let name = topic.name.as_str().to_owned();
            // A client that the broker rejects must not mark a name, not even for a moment: another
            // client's topic may be about to get it.
            let pending_creation = creatable
                .contains(&name)
                .then(|| request.proxy.topics.classifier.begin_creation(&name, topic_type));
            pending_creations.insert(name, (topic_type, pending_creation));
            true
        }
        Err(message) => {
            let row = CreatableTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(ErrorCode::INVALID_CONFIG.0)
                .with_error_message(Some(StrBytes::from_string(message)));
            rejected.push(row);
            false
        }
    });
    let auditor = broker.auditor().clone();
    if create.topics.is_empty() && !rejected.is_empty() {
        if !validate_only {
            audit(&auditor, &pending_creations, &rejected);
        }
        return request.respond(&CreateTopicsResponse::default().with_topics(rejected));
    }
    request.forward_as(&create, WITH_TOPIC_IDS, move |proxy, mut response| async move {
        for topic in response.topics.iter_mut().filter(|topic| topic.error_code == 0) {
            if let Some((topic_type, _)) = pending_creations.get(topic.name.as_str()) {
                bind(&proxy, topic, *topic_type, validate_only).await;
            }
        }
        response.topics.append(&mut rejected);
        if !validate_only {
            audit(&auditor, &pending_creations, &response.topics);
        }
        order_rows(&mut response.topics, &order);
        drop::<PendingCreations>(pending_creations);
        response
    })
}

fn audit(auditor: &Auditor, pending: &PendingCreations, topics: &[CreatableTopicResult]) {
    for topic in topics {
        let topic_type = pending.get(topic.name.as_str()).map(|(topic_type, _)| *topic_type);
        auditor.record(&AuditEvent::CreateTopic {
            topic: topic.name.as_str(),
            topic_type: if topic_type == Some(TopicType::Diskless) {
                "diskless"
            } else {
                "classic"
            },
            outcome: AuditOutcome::of(ErrorCode(topic.error_code)),
        });
    }
}

/// Orders rows as the request did.
fn order_rows(rows: &mut [CreatableTopicResult], order: &[TopicName]) {
    let places = Places::of(order.iter());
    rows.sort_by_cached_key(|row| places.get(&&row.name));
}

/// Orders a row for each topic of a request, the last one first.
#[cfg(any(test, feature = "test-util"))]
pub(super) fn order_rows_of(create: &CreateTopicsRequest) {
    let order: Vec<_> = create.topics.iter().map(|topic| topic.name.clone()).collect();
    let row = |name: &TopicName| CreatableTopicResult::default().with_name(name.clone());
    order_rows(&mut order.iter().rev().map(row).collect::<Vec<_>>(), &order);
}

/// Returns the topics with a diskless flag that the broker would create for this client.
async fn creatable(
    create: &CreateTopicsRequest,
    broker: &mut BrokerSession,
) -> Result<HashSet<String>, CloseReason> {
    let flagged = |topic: &&CreatableTopic| topic.configs.iter().any(|c| is_diskless_flag(&c.name));
    let mut topics: Vec<_> = create.topics.iter().filter(flagged).cloned().collect();
    if topics.is_empty() {
        return Ok(HashSet::new());
    }
    topics
        .iter_mut()
        .for_each(|topic| topic.configs.retain(|config| !is_diskless_flag(&config.name)));
    let requested = CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(create.timeout_ms)
        .with_validate_only(true);
    let response = broker.call(&requested, WITH_TOPIC_IDS).await?;
    let allowed = response.topics.iter().filter(|topic| topic.error_code == 0);
    Ok(allowed.map(|topic| topic.name.as_str().to_owned()).collect())
}

/// Removes the diskless flag from the topic's configs. Returns the type to bind the topic to, if
/// the request or the YAML decides it.
///
/// # Errors
/// Returns a message for the client if the topic cannot be created.
fn plan(proxy: &Proxy, topic: &mut CreatableTopic) -> Result<Option<TopicType>, String> {
    let mut flag = None;
    for config in topic.configs.iter().filter(|config| is_diskless_flag(&config.name)) {
        flag = Some(parse_diskless_flag(&config.name, config.value.as_deref())?);
    }
    topic.configs.retain(|config| !is_diskless_flag(&config.name));
    let name = topic.name.as_str();
    let compacted = topic.configs.iter().any(|c| is_compaction(&c.name, c.value.as_deref()));
    match flag {
        Some(true) if name.starts_with("__") => Err(format!(
            "topic {name} cannot be diskless: names that begin with __ are reserved for Kafka"
        )),
        Some(true) if compacted => Err(format!(
            "topic {name} cannot be diskless with cleanup.policy=compact; use cleanup.policy=delete"
        )),
        Some(true) => Ok(Some(TopicType::Diskless)),
        Some(false) => Ok(Some(TopicType::Classic)),
        None if !proxy.topics.classifier.is_diskless_by_rules(name) => Ok(None),
        None if compacted => {
            tracing::warn!(
                topic = name,
                "topic matches a diskless rule, but is compacted and stays classic"
            );
            Ok(Some(TopicType::Classic))
        }
        None => Ok(Some(TopicType::Diskless)),
    }
}

/// Binds the id of a topic that the brokers have created.
async fn bind(
    proxy: &Proxy,
    topic: &mut CreatableTopicResult,
    topic_type: TopicType,
    validate_only: bool,
) {
    if let (Some(configs), TopicType::Diskless) = (&mut topic.configs, topic_type) {
        configs.push(
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(DISKLESS_ENABLE))
                .with_value(Some(StrBytes::from_static_str("true")))
                .with_config_source(SOURCE_TOPIC),
        );
    }
    if validate_only {
        return;
    }
    let name = topic.name.as_str();
    if let Err(error) =
        proxy.topics.migrator.bind_created(topic_id(&topic.topic_id), name, topic_type).await
    {
        let message = format!(
            "topic {name} was created, but could not be made diskless: {error}; \
             delete it, or set {DISKLESS_ENABLE}=true with kafka-configs --alter"
        );
        tracing::error!(topic = name, %error, "created topic could not be bound");
        topic.error_code = ErrorCode::KAFKA_STORAGE_ERROR.0;
        topic.error_message = Some(StrBytes::from_string(message));
    }
}
