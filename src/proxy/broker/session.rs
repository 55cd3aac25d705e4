//! Permissions of a client, according to the broker to which it is connected.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{DescribeClusterRequest, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::{Request as ApiRequest, StrBytes};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;

use super::authorization::{
    AclOperation, AuthorizationCache, DECISION_TTL, Decision, Operations, TopicPermissions,
};
use super::link::BrokerLink;
use super::login_session::LoginSession;
use super::response_queue::ResponseQueue;
use super::rpc::{BrokerRpc, decode, rejected};
use super::topic_decisions::{DecisionSource, decide};
use crate::log::ids::TopicId;
use crate::proxy::audit::{AuditEvent, Auditor};
use crate::proxy::context::Proxy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::response::CloseReason;

/// The highest version of Metadata that is requested. Authorized operations come from version 8 on.
const METADATA_MAX: i16 = 12;
/// The largest number of bytes in a topic's name. A longer one is that of no topic, and the broker
/// is not asked about it.
const NAME_BYTES_MAX: usize = 249;
/// The bit field of a topic whose operations a broker did not determine.
const NOT_DECIDED: i32 = i32::MIN;

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
    auditor: Auditor,
}

impl BrokerSession {
    pub(crate) fn new(proxy: Arc<Proxy>, link: BrokerLink, client: IpAddr) -> Self {
        let auditor = Auditor::new(Arc::clone(&proxy.audit), Arc::clone(link.login()), client);
        let rpc = BrokerRpc::new(Arc::clone(&proxy), link);
        Self { proxy, rpc, authorization: AuthorizationCache::default(), refresh: None, auditor }
    }

    /// Returns the recorder of what this client does.
    pub(crate) fn auditor(&self) -> &Auditor {
        &self.auditor
    }

    /// The same, to note the request that is handled.
    pub(crate) fn auditor_mut(&mut self) -> &mut Auditor {
        &mut self.auditor
    }

    /// Returns the queue of responses to the client.
    pub(crate) fn responses(&self) -> &ResponseQueue {
        self.rpc.link().responses()
    }

    /// Returns the broker to which the client is connected, once that is known.
    pub(crate) fn broker_id(&self) -> Option<i32> {
        self.rpc.link().broker_id()
    }

    /// Returns the login of the client.
    pub(crate) fn login(&self) -> &Arc<LoginSession> {
        self.rpc.link().login()
    }

    /// Notes that the client sent a SASL request: earlier permissions are void.
    pub(crate) fn mark_authenticated(&mut self) {
        self.login().mark_authenticated();
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
        if !self.authorization.is_accepted(Instant::now()) {
            self.fetch_cluster_permissions().await?;
        }
        self.rpc.link().status().admit();
        Ok(())
    }

    /// Returns after a broker has let the client in once. Nothing that costs more than a small frame
    /// happens for a client before.
    ///
    /// # Errors
    /// The broker refuses the client.
    pub(crate) async fn ensure_admitted(&mut self) -> Result<(), CloseReason> {
        match self.rpc.link().status().is_admitted() {
            true => Ok(()),
            false => self.ensure_accepted().await,
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
        loop {
            let requested_at = Instant::now();
            let version = self.rpc.version::<DescribeClusterRequest>(0)?;
            let request =
                DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
            let response = self.call(&request, version).await?;
            // In the middle of an authentication, a broker responds with an error before it closes.
            if response.error_code != 0 {
                return Err(rejected());
            }
            // A response that came behind slow ones is old on arrival; the next one is not.
            if requested_at.elapsed() < DECISION_TTL {
                let operations = Operations::from_bits(response.cluster_authorized_operations);
                self.authorization.record_cluster(requested_at, operations);
                return Ok(operations);
            }
        }
    }

    /// Returns what the client may do with topics, in their order. A topic with the id zero is
    /// given by name. That the client may not perform the operation of its request is audited.
    pub(crate) async fn topic_permissions(
        &mut self,
        operation: AclOperation,
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
        let decisions = {
            let possible = names.iter().flatten().copied();
            self.decide(possible.filter(|name| name.len() <= NAME_BYTES_MAX)).await?
        };
        let no_topic = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let permissions = |name: Option<&str>| match name {
            Some(name) if name.len() > NAME_BYTES_MAX => TopicPermissions::unknown_topic(no_topic),
            None => TopicPermissions::unknown_topic(missing_topic_error),
            Some(name) => TopicPermissions::of(decisions.get(name).copied().flatten()),
        };
        let permissions: Vec<_> = names.iter().map(|name| permissions(*name)).collect();
        for (topic, permission) in names.iter().zip(&permissions) {
            if let Some(topic) = topic
                && permission.check(operation) == Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
            {
                let (api, operation) = (self.auditor.api(), operation.name());
                self.auditor.record(&AuditEvent::Access { api, operation, topic });
            }
        }
        Ok(permissions)
    }

    /// Returns the decisions about topics, and refreshes decisions in use before they expire.
    async fn decide<'a>(
        &mut self,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<HashMap<&'a str, Option<Decision>>, CloseReason> {
        self.poll_refresh();
        if self.refresh.is_none() {
            self.start_refresh().await?;
        }
        let now = Instant::now();
        let is_cached = |name| self.authorization.topic(name, now).is_some();
        if !names.clone().all(is_cached)
            && let Some(refresh) = self.refresh.take()
            && let Ok(frame) = refresh.response.await
        {
            let answers = answers(decode::<MetadataRequest>(&frame, refresh.version)?)?;
            self.record(refresh.requested_at, &answers);
        }
        let mut broker = ClientBroker { rpc: &mut self.rpc };
        decide(&mut self.authorization, &mut broker, names).await
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

    /// Records the response to a refresh if it has arrived.
    fn poll_refresh(&mut self) {
        let Some(mut refresh) = self.refresh.take() else { return };
        match refresh.response.try_recv() {
            Ok(frame) => {
                match decode::<MetadataRequest>(&frame, refresh.version).and_then(answers) {
                    Ok(answers) => self.record(refresh.requested_at, &answers),
                    Err(error) => {
                        tracing::debug!(%error, "cannot refresh permissions of a client");
                    }
                }
            }
            Err(TryRecvError::Empty) => self.refresh = Some(refresh),
            // The broker is gone; another one is used when permissions are needed.
            Err(TryRecvError::Closed) => {}
        }
    }

    fn record(&mut self, requested_at: Instant, answers: &[(String, Operations)]) {
        let answers = answers.iter().map(|(name, operations)| (name.as_str(), *operations));
        self.authorization.record_topics(requested_at, answers);
    }
}

/// The client's broker, asked in the client's name.
struct ClientBroker<'a> {
    rpc: &'a mut BrokerRpc,
}

impl DecisionSource for ClientBroker<'_> {
    async fn ask(&mut self, topics: &[String]) -> Result<Vec<(String, Operations)>, CloseReason> {
        let version = self.rpc.version::<MetadataRequest>(METADATA_MAX)?;
        answers(self.rpc.call(&permissions_request(topics), version).await?)
    }
}

/// Returns the decisions in a broker's response.
///
/// # Errors
/// The broker refuses the client.
fn answers(response: MetadataResponse) -> Result<Vec<(String, Operations)>, CloseReason> {
    // A broker that refuses the client may set an error in every row, and names no brokers.
    if response.brokers.is_empty() {
        return Err(rejected());
    }
    let decision = |topic: MetadataResponseTopic| {
        let bits = topic.topic_authorized_operations;
        // A broker that does not describe a topic for another reason did not decide.
        let is_denied = ErrorCode(topic.error_code) == ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        let is_decided = is_denied || bits != NOT_DECIDED;
        is_decided.then_some((topic.name?.as_str().to_owned(), Operations::from_bits(bits)))
    };
    Ok(response.topics.into_iter().filter_map(decision).collect())
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
