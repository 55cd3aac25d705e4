//! Permissions of a client, according to the broker to which it is connected.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DescribeClusterRequest, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::{Request as ApiRequest, StrBytes};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;

use super::authorization::{AclOperation, AuthorizationCache, Operations, TopicPermissions};
use super::link::BrokerLink;
use super::response_queue::ResponseQueue;
use super::rpc::{BrokerRpc, decode, rejected};
use crate::log::ids::TopicId;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::response::CloseReason;

/// The highest version of Metadata that is requested. Authorized operations come from version 8 on.
const METADATA_MAX: i16 = 12;

/// A request for permissions that nothing waits for yet.
struct Refresh {
    requested_at: Instant,
    version: i16,
    response: oneshot::Receiver<Bytes>,
}

/// A client's session with a broker: the connection, and the permissions of the client.
pub(crate) struct BrokerSession {
    proxy: Arc<Proxy>,
    rpc: BrokerRpc,
    authorization: AuthorizationCache,
    refresh: Option<Refresh>,
}

impl BrokerSession {
    pub(crate) fn new(proxy: Arc<Proxy>, link: BrokerLink) -> Self {
        let rpc = BrokerRpc::new(Arc::clone(&proxy), link);
        Self { proxy, rpc, authorization: AuthorizationCache::default(), refresh: None }
    }

    /// Returns the queue of responses to the client.
    pub(crate) fn responses(&self) -> &ResponseQueue {
        self.rpc.link().responses()
    }

    /// Notes that the client sent a SASL request: earlier permissions are void.
    pub(crate) fn mark_authenticated(&mut self) {
        self.rpc.link().mark_authenticated();
        self.authorization.clear();
        self.refresh = None;
    }

    /// Sends the client's frames to the broker.
    ///
    /// # Errors
    /// No broker is reachable, or the connection that the client authenticated is lost.
    pub(crate) async fn forward(&mut self, frames: &[Bytes]) -> Result<(), CloseReason> {
        self.rpc.link_mut().send(frames).await
    }

    /// Sends a request in the client's name and returns the response.
    ///
    /// # Errors
    /// The broker closed the connection instead, which means that it refuses the client; or the
    /// response cannot be decoded.
    pub(crate) async fn call<R: ApiRequest>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, CloseReason> {
        self.rpc.call(request, version).await
    }

    /// Returns after a broker has recently responded on this connection: the client is
    /// authenticated as far as the broker requires it.
    pub(crate) async fn ensure_accepted(&mut self) -> Result<(), CloseReason> {
        self.poll_refresh();
        match self.authorization.is_accepted(Instant::now()) {
            true => Ok(()),
            false => self.fetch_cluster_permissions().await.map(drop),
        }
    }

    /// Returns whether the client may perform an operation on the cluster.
    pub(crate) async fn cluster_allows(
        &mut self,
        operation: AclOperation,
    ) -> Result<bool, CloseReason> {
        let operations = match self.authorization.cluster(Instant::now()) {
            Some(operations) => operations,
            None => self.fetch_cluster_permissions().await?,
        };
        Ok(operations.allow(operation))
    }

    async fn fetch_cluster_permissions(&mut self) -> Result<Operations, CloseReason> {
        let requested_at = Instant::now();
        let version = self.rpc.version::<DescribeClusterRequest>(0)?;
        let request =
            DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let response = self.call(&request, version).await?;
        // In the middle of an authentication, a broker responds with an error before it closes.
        if response.error_code != 0 {
            return Err(rejected());
        }
        let operations = Operations::from_bits(response.cluster_authorized_operations);
        self.authorization.record_cluster(requested_at, operations);
        Ok(operations)
    }

    /// Returns what the client may do with topics, in their order. A topic with the id zero is
    /// given by name.
    pub(crate) async fn topic_permissions(
        &mut self,
        topics: &[(TopicId, &str)],
    ) -> Result<Vec<TopicPermissions>, CloseReason> {
        let missing_topic_error = self.look_up_ids(topics).await?;
        let by_id: Vec<_> =
            topics.iter().map(|(id, _)| self.proxy.topics.registry.by_id(*id)).collect();
        let names: Vec<Option<&str>> = topics
            .iter()
            .zip(&by_id)
            .map(|((id, name), topic)| match id.is_zero() {
                true => Some(*name),
                false => topic.as_ref().map(|topic| topic.name.as_str()),
            })
            .collect();
        self.ensure_cached(names.iter().flatten().copied()).await?;
        let now = Instant::now();
        let permissions = |name: Option<&str>| match name {
            None => TopicPermissions::unknown_topic(missing_topic_error),
            // A broker that has just responded without naming the topic allows nothing.
            Some(name) => TopicPermissions::of(
                self.authorization.topic(name, now).unwrap_or(Operations::NONE),
            ),
        };
        Ok(names.into_iter().map(permissions).collect())
    }

    /// Looks up ids of topics that are not cached. Returns the error code for ids that stay
    /// unknown.
    async fn look_up_ids(&mut self, topics: &[(TopicId, &str)]) -> Result<ErrorCode, CloseReason> {
        let ids = topics.iter().map(|(id, _)| *id).filter(|id| !id.is_zero());
        let unknown: Vec<_> =
            ids.filter(|id| self.proxy.topics.registry.by_id(*id).is_none()).collect();
        if unknown.is_empty() {
            return Ok(ErrorCode::UNKNOWN_TOPIC_ID);
        }
        self.ensure_accepted().await?;
        match self.proxy.topics.classifier.look_up(&[], &unknown).await {
            Ok(true) => Ok(ErrorCode::UNKNOWN_TOPIC_ID),
            // The topic may exist.
            Ok(false) => Ok(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            Err(error) => {
                tracing::warn!(%error, "cannot look up topics");
                Ok(ErrorCode::NOT_LEADER_OR_FOLLOWER)
            }
        }
    }

    /// Makes sure that permissions for these topics are cached, and starts a refresh when the
    /// first of those in use is about to expire.
    async fn ensure_cached<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), CloseReason> {
        self.poll_refresh();
        let mut uncached = self.uncached(names.clone());
        if !uncached.is_empty()
            && let Some(refresh) = self.refresh.take()
        {
            if let Ok(frame) = refresh.response.await {
                let response = decode::<MetadataRequest>(&frame, refresh.version)?;
                self.record_response(refresh.requested_at, &response)?;
            }
            uncached = self.uncached(names);
        }
        if !uncached.is_empty() {
            let (requested_at, version) =
                (Instant::now(), self.rpc.version::<MetadataRequest>(METADATA_MAX)?);
            let response = self.call(&permissions_request(&uncached), version).await?;
            self.record_response(requested_at, &response)?;
        }
        if self.refresh.is_none() {
            self.start_refresh().await?;
        }
        Ok(())
    }

    async fn start_refresh(&mut self) -> Result<(), CloseReason> {
        let due = self.authorization.due_for_refresh(Instant::now());
        if due.is_empty() {
            return Ok(());
        }
        let (requested_at, version) =
            (Instant::now(), self.rpc.version::<MetadataRequest>(METADATA_MAX)?);
        // Cached permissions are still valid: if the request fails, it is sent again when it has
        // to be.
        if let Ok(response) = self.rpc.send(&permissions_request(&due), version).await {
            self.refresh = Some(Refresh { requested_at, version, response });
        }
        Ok(())
    }

    fn uncached<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let now = Instant::now();
        let mut uncached: Vec<_> = names
            .filter(|name| self.authorization.topic(name, now).is_none())
            .map(str::to_owned)
            .collect();
        uncached.sort();
        uncached.dedup();
        uncached
    }

    /// Records the response to a refresh if it has arrived.
    fn poll_refresh(&mut self) {
        let Some(mut refresh) = self.refresh.take() else { return };
        match refresh.response.try_recv() {
            Ok(frame) => {
                let recorded = decode::<MetadataRequest>(&frame, refresh.version)
                    .and_then(|response| self.record_response(refresh.requested_at, &response));
                if let Err(error) = recorded {
                    tracing::debug!(%error, "cannot refresh permissions of a client");
                }
            }
            Err(TryRecvError::Empty) => self.refresh = Some(refresh),
            // The broker is gone; another one is used when permissions are needed.
            Err(TryRecvError::Closed) => {}
        }
    }

    fn record_response(
        &mut self,
        requested_at: Instant,
        response: &MetadataResponse,
    ) -> Result<(), CloseReason> {
        // A broker that refuses the client may set an error in every row, and names no brokers.
        if response.brokers.is_empty() {
            return Err(rejected());
        }
        let decisions = response.topics.iter().filter_map(|topic| {
            let name = topic.name.as_ref()?.as_str().to_owned();
            Some((name, Operations::from_bits(topic.topic_authorized_operations)))
        });
        self.authorization.record_topics(requested_at, decisions);
        Ok(())
    }
}

/// Requests the authorized operations of topics, by name because ACLs are by name. Neither the
/// request nor the response depends on whether a topic exists.
fn permissions_request(names: &[String]) -> MetadataRequest {
    let topic = |name: &String| {
        let name = StrBytes::from_string(name.clone());
        MetadataRequestTopic::default().with_name(Some(name.into()))
    };
    MetadataRequest::default()
        .with_topics(Some(names.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(false)
        .with_include_topic_authorized_operations(true)
}
