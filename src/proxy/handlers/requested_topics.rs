//! The topics that a request names: which of them are diskless, and what the client may do.

use std::sync::Arc;

use crate::log::ids::TopicId;
use crate::proxy::broker::authorization::Operation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::Request;
use crate::proxy::response::CloseReason;
use crate::proxy::topics::Topic;

/// What a request names, seen from where it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestTopics {
    /// Nothing diskless: the broker's business.
    ClassicOnly,
    /// Something diskless, or something whose kind cannot be known now.
    Diskless,
}

/// Whether any of the topics is diskless. A topic never seen is looked up first.
pub(super) async fn classify_topics<'a>(
    proxy: &Proxy,
    topics: impl Iterator<Item = (TopicId, &'a str)> + Clone,
) -> RequestTopics {
    let unknown: Vec<_> = topics
        .clone()
        .filter(|(id, name)| proxy.topics.registry.by_id_or_name(*id, name).is_none())
        .filter(|(_, name)| !name.starts_with("__"))
        .collect();
    if !unknown.is_empty() && !look_up(proxy, &unknown).await {
        return RequestTopics::Diskless;
    }
    let diskless = |(id, name)| {
        proxy.topics.registry.by_id_or_name(id, name).is_some_and(|topic| topic.is_diskless())
    };
    if topics.into_iter().any(diskless) {
        RequestTopics::Diskless
    } else {
        RequestTopics::ClassicOnly
    }
}

/// Asks the brokers for topics; whether every one that exists has a kind now.
async fn look_up(proxy: &Proxy, unknown: &[(TopicId, &str)]) -> bool {
    let names: Vec<_> = unknown.iter().filter(|(id, _)| id.is_zero()).map(|(_, n)| *n).collect();
    let ids: Vec<_> = unknown.iter().filter(|(id, _)| !id.is_zero()).map(|(id, _)| *id).collect();
    match proxy.topics.classifier.look_up(&names, &ids).await {
        Ok(all_decided) => all_decided,
        Err(error) => {
            tracing::warn!(%error, "topics cannot be looked up");
            false
        }
    }
}

/// The diskless topic that a request on a diskless node names, or the code that says why not.
/// A partition that is not known yet is looked up once: it may be new.
pub(super) async fn resolve_diskless_topic(
    proxy: &Proxy,
    id: TopicId,
    name: &str,
    partitions: impl Iterator<Item = i32> + Clone,
) -> Result<Arc<Topic>, ErrorCode> {
    let knows = |topic: &Arc<Topic>| {
        partitions.clone().all(|p| topic.partition(p).is_some() || !(0..1_000_000).contains(&p))
    };
    let known = proxy.topics.registry.by_id_or_name(id, name);
    let topic = match known.filter(knows) {
        Some(topic) => topic,
        None if name.starts_with("__") => return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        None => {
            let decided = look_up(proxy, &[(id, name)]).await;
            match proxy.topics.registry.by_id_or_name(id, name) {
                Some(topic) => topic,
                None if !decided => return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                None if id.is_zero() => return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                None => return Err(ErrorCode::UNKNOWN_TOPIC_ID),
            }
        }
    };
    if topic.is_diskless() { Ok(topic) } else { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) }
}

/// Whether a topic can have this name (`Topic.java`).
pub(super) fn is_legal_name(name: &str) -> bool {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(is_legal)
}

/// As [`resolve_diskless_topic`] by name, for a client that may do this; whoever may not learns nothing else.
pub(super) async fn authorize_and_resolve(
    proxy: &Proxy,
    permit: TopicPermissions,
    operation: Operation,
    name: &str,
    partitions: impl Iterator<Item = i32> + Clone,
) -> Result<Arc<Topic>, ErrorCode> {
    permit.check(operation)?;
    resolve_diskless_topic(proxy, TopicId::ZERO, name, partitions).await
}

/// The rows of topics that a classic endpoint does not lead: what a broker would say that does
/// not lead them either, and so nothing at all to whom the topic is none of his business.
pub(super) fn not_leader_error(permit: TopicPermissions, operation: Operation) -> ErrorCode {
    permit.check(operation).err().unwrap_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)
}

/// Returns the client's permissions for the topics of a request, or `None` if all topics are
/// classic, so that the request is the broker's business.
pub(super) async fn permits_unless_classic(
    request: &Request,
    topics: &[(TopicId, &str)],
    broker: &mut BrokerSession,
) -> Result<Option<Vec<TopicPermissions>>, CloseReason> {
    match classify_topics(&request.proxy, topics.iter().copied()).await {
        RequestTopics::ClassicOnly => Ok(None),
        RequestTopics::Diskless => broker.topic_permissions(topics).await.map(Some),
    }
}

pub(super) fn topic_id(uuid: &uuid::Uuid) -> TopicId {
    TopicId(*uuid.as_bytes())
}
