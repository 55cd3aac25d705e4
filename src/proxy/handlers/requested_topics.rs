//! The topics that a request names: which of them are diskless, and what the client may do.

use std::sync::Arc;

use crate::log::ids::TopicId;
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::request::Request;
use crate::proxy::response::CloseReason;
use crate::proxy::topics::Topic;

/// The topics of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestTopics {
    /// Only classic topics: the broker handles the request.
    ClassicOnly,
    /// At least one diskless topic, or one whose type is unknown at the moment.
    Diskless,
}

/// Returns whether any of the topics is diskless. Uncached topics are looked up first, once a broker
/// has let the client in.
pub(super) async fn classify_topics<'a>(
    proxy: &Proxy,
    topics: impl Iterator<Item = (TopicId, &'a str)> + Clone,
    broker: &mut BrokerSession,
) -> Result<RequestTopics, CloseReason> {
    let unknown: Vec<_> = topics
        .clone()
        .filter(|(id, name)| proxy.topics.registry.by_id_or_name(*id, name).is_none())
        .filter(|(_, name)| !name.starts_with("__"))
        .collect();
    if !unknown.is_empty() {
        broker.ensure_admitted().await?;
        if !look_up(proxy, &unknown).await {
            return Ok(RequestTopics::Diskless);
        }
    }
    let diskless = |(id, name)| {
        proxy.topics.registry.by_id_or_name(id, name).is_some_and(|topic| topic.is_diskless())
    };
    Ok(match topics.into_iter().any(diskless) {
        true => RequestTopics::Diskless,
        false => RequestTopics::ClassicOnly,
    })
}

/// Looks topics up at the brokers; returns whether the type of every existing one is cached now.
async fn look_up(proxy: &Proxy, unknown: &[(TopicId, &str)]) -> bool {
    let names: Vec<_> = unknown.iter().filter(|(id, _)| id.is_zero()).map(|(_, n)| *n).collect();
    let ids: Vec<_> = unknown.iter().filter(|(id, _)| !id.is_zero()).map(|(id, _)| *id).collect();
    match proxy.topics.classifier.look_up(&names, &ids).await {
        Ok(all_decided) => all_decided,
        Err(error) => {
            tracing::warn!(%error, "failed to look up topics");
            false
        }
    }
}

/// Returns the diskless topic that a request on a diskless node names. A topic with unknown
/// partitions is looked up once: they may be new.
///
/// # Errors
/// Returns the error code for the client if there is no such diskless topic.
pub(super) async fn resolve_diskless_topic(
    proxy: &Proxy,
    id: TopicId,
    name: &str,
    partitions: impl Iterator<Item = i32> + Clone,
) -> Result<Arc<Topic>, ErrorCode> {
    let has_partitions = |topic: &Arc<Topic>| {
        partitions.clone().all(|p| topic.partition(p).is_some() || !(0..1_000_000).contains(&p))
    };
    let cached = proxy.topics.registry.by_id_or_name(id, name);
    let topic = match cached.filter(has_partitions) {
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

/// Returns whether a topic can have this name (`Topic.java`).
pub(super) fn is_legal_name(name: &str) -> bool {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(is_legal)
}

/// Resolves a diskless topic by name for a client with permission; a client without it learns
/// nothing else.
///
/// # Errors
/// Returns the authorization error, or the error of [`resolve_diskless_topic`].
pub(super) async fn authorize_and_resolve(
    proxy: &Proxy,
    permit: TopicPermissions,
    operation: AclOperation,
    name: &str,
    partitions: impl Iterator<Item = i32> + Clone,
) -> Result<Arc<Topic>, ErrorCode> {
    permit.check(operation)?;
    resolve_diskless_topic(proxy, TopicId::ZERO, name, partitions).await
}

/// Returns the error of a topic that a classic endpoint does not lead: the authorization error if
/// the client has no permission, otherwise NOT_LEADER_OR_FOLLOWER.
pub(super) fn not_leader_error(permit: TopicPermissions, operation: AclOperation) -> ErrorCode {
    permit.check(operation).err().unwrap_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)
}

/// Returns the client's permissions for the topics of a request, or `None` if all topics are
/// classic, so that the request is the broker's business.
pub(super) async fn permits_unless_classic(
    request: &Request,
    topics: &[(TopicId, &str)],
    broker: &mut BrokerSession,
) -> Result<Option<Vec<TopicPermissions>>, CloseReason> {
    match classify_topics(&request.proxy, topics.iter().copied(), broker).await? {
        RequestTopics::ClassicOnly => Ok(None),
        RequestTopics::Diskless => broker.topic_permissions(topics).await.map(Some),
    }
}

pub(super) fn topic_id(uuid: &uuid::Uuid) -> TopicId {
    TopicId(*uuid.as_bytes())
}
