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

/// Partitions of a request for which calls are made at a time.
pub(super) const CALLS_MAX: usize = 512;

/// The topics of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestTopics {
    /// Only classic topics: the broker handles the request.
    ClassicOnly,
    /// At least one diskless topic, or one whose type is unknown at the moment.
    Diskless,
}

/// Age of a response of the brokers that a topic does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It may be a second old.
    Recent,
    /// It is requested now: records must not go to the broker's log of a topic that has been created
    /// as diskless meanwhile.
    Current,
}

/// Returns whether any of the topics is diskless. Uncached topics are looked up first, once a
/// broker has let the client in.
pub(super) async fn classify_topics<'a>(
    proxy: &Proxy,
    topics: impl Iterator<Item = (TopicId, &'a str)> + Clone,
    freshness: Freshness,
    broker: &mut BrokerSession,
) -> Result<RequestTopics, CloseReason> {
    let unknown: Vec<_> = topics
        .clone()
        .filter(|(id, name)| proxy.topics.registry.by_id_or_name(*id, name).is_none())
        .filter(|(id, name)| may_be_diskless(*id, name))
        .collect();
    if !unknown.is_empty() {
        broker.ensure_admitted().await?;
        if !look_up(proxy, &unknown, freshness).await {
            return Ok(RequestTopics::Diskless);
        }
    }
    let diskless = |(id, name)| {
        proxy.topics.registry.by_id_or_name(id, name).is_some_and(|topic| topic.is_diskless())
    };
    let is_diskless = topics.into_iter().any(diskless);
    Ok(if is_diskless { RequestTopics::Diskless } else { RequestTopics::ClassicOnly })
}

/// Looks topics up at the brokers; returns whether the type of every existing one is cached now.
async fn look_up(proxy: &Proxy, unknown: &[(TopicId, &str)], freshness: Freshness) -> bool {
    let names: Vec<_> = unknown.iter().filter(|(id, _)| id.is_zero()).map(|(_, n)| *n).collect();
    let ids: Vec<_> = unknown.iter().filter(|(id, _)| !id.is_zero()).map(|(id, _)| *id).collect();
    let classifier = &proxy.topics.classifier;
    let found = match freshness {
        Freshness::Recent => classifier.look_up(&names, &ids).await,
        Freshness::Current => classifier.look_up_now(&names, &ids).await,
    };
    match found {
        Ok(all_decided) => all_decided,
        Err(error) => {
            tracing::warn!(%error, "failed to look up topics");
            false
        }
    }
}

/// Returns whether a topic with this id, or with this name if the id is zero, may be diskless.
fn may_be_diskless(id: TopicId, name: &str) -> bool {
    !id.is_zero() || (is_legal_name(name) && !name.starts_with("__"))
}

/// A topic that a request on a diskless node names, by id or, if the id is zero, by name.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicQuery<'a> {
    id: TopicId,
    name: &'a str,
    /// The number of partitions that the topic has at least, if the request is valid.
    partitions: usize,
}

impl<'a> TopicQuery<'a> {
    /// Indexes from this one on are not those of new partitions.
    const PARTITIONS_MAX: i32 = 1_000_000;

    pub(super) fn new(id: TopicId, name: &'a str) -> Self {
        Self { id, name, partitions: 0 }
    }

    pub(super) fn add_partition(&mut self, index: i32) {
        let index = usize::try_from(index).ok().filter(|_| index < Self::PARTITIONS_MAX);
        self.partitions = self.partitions.max(index.map_or(0, |index| index + 1));
    }

    /// Adds partitions.
    pub(super) fn with_partitions(mut self, indexes: impl Iterator<Item = i32>) -> Self {
        indexes.for_each(|index| self.add_partition(index));
        self
    }

    fn cached(&self, proxy: &Proxy) -> Option<Arc<Topic>> {
        proxy.topics.registry.by_id_or_name(self.id, self.name)
    }
}

/// Returns the diskless topics that a request on a diskless node names, or the error code for the
/// client if it is not a diskless topic. Unknown topics, and topics with unknown partitions,
/// are looked up once, all together: they may be new.
pub(super) async fn resolve_diskless_topics(
    proxy: &Proxy,
    queries: &[TopicQuery<'_>],
) -> Vec<Result<Arc<Topic>, ErrorCode>> {
    let is_cached = |query: &&TopicQuery<'_>| {
        query.cached(proxy).is_some_and(|topic| query.partitions <= topic.leader_epochs.len())
    };
    let unknown: Vec<_> = queries
        .iter()
        .filter(|query| may_be_diskless(query.id, query.name) && !is_cached(query))
        .map(|query| (query.id, query.name))
        .collect();
    let all_decided = unknown.is_empty() || look_up(proxy, &unknown, Freshness::Recent).await;
    let resolve = |query: &TopicQuery<'_>| match query.cached(proxy) {
        Some(topic) if topic.is_diskless() => Ok(topic),
        Some(_) => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        None if query.id.is_zero() && query.name.starts_with("__") => {
            Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
        }
        None if !all_decided => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        None if query.id.is_zero() => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        None => Err(ErrorCode::UNKNOWN_TOPIC_ID),
    };
    queries.iter().map(resolve).collect()
}

/// The largest number of bytes in a topic's name (`Topic.java`).
pub(super) const NAME_BYTES_MAX: usize = 249;

/// Returns whether a topic can have this name (`Topic.java`).
pub(super) fn is_legal_name(name: &str) -> bool {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(is_legal)
}

/// Resolves diskless topics for a client with permissions; where it has none, it learns nothing
/// else. Returns the authorization error, or the results of [`resolve_diskless_topics`].
pub(super) async fn authorize_and_resolve(
    proxy: &Proxy,
    permits: &[TopicPermissions],
    operation: AclOperation,
    queries: &[TopicQuery<'_>],
) -> Vec<Result<Arc<Topic>, ErrorCode>> {
    let checked: Vec<_> = permits.iter().map(|permit| permit.check(operation)).collect();
    let allowed = queries.iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
    let allowed: Vec<_> = allowed.map(|(query, _)| *query).collect();
    let mut resolved = resolve_diskless_topics(proxy, &allowed).await.into_iter();
    let result = |checked: Result<(), ErrorCode>| {
        checked.and_then(|()| resolved.next().unwrap_or(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)))
    };
    checked.into_iter().map(result).collect()
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
    operation: AclOperation,
    topics: &[(TopicId, &str)],
    broker: &mut BrokerSession,
) -> Result<Option<Vec<TopicPermissions>>, CloseReason> {
    let named = topics.iter().copied();
    match classify_topics(&request.proxy, named, Freshness::Current, broker).await? {
        RequestTopics::ClassicOnly => Ok(None),
        RequestTopics::Diskless => broker.topic_permissions(operation, topics).await.map(Some),
    }
}

pub(super) fn topic_id(uuid: &uuid::Uuid) -> TopicId {
    TopicId(*uuid.as_bytes())
}
