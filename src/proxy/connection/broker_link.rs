//! The client's own connection to a broker: requests are forwarded over it, and we ask over it
//! what the broker allows this client.
//!
//! Only the reader asks, and while it waits it reads nothing: so an answer that the writer owes
//! never waits for a question, and a question waits only for what was asked before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{DescribeClusterRequest, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::{Request as ApiRequest, StrBytes};
use prometheus_client::metrics::counter::Counter;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;

use super::cross_zone::broker_counters;
use super::{Endpoint, PendingResponse};
use crate::engine::produce::ConnectionId;
use crate::log::ids::TopicId;
use crate::proxy::Proxy;
use crate::proxy::authorization::{AuthorizationCache, Operation, Operations};
use crate::proxy::error_code::ErrorCode;
use crate::proxy::response::CloseReason;
use crate::proxy::upstream::{self, UpstreamError};
use crate::wire::guard;
use crate::wire::header::ResponseHeader;

/// The version of Metadata that we ask in at most; from 8 on it tells authorized operations.
const METADATA_MAX: i16 = 12;

struct Upstream {
    write: OwnedWriteHalf,
    /// Cleared by the writer when the broker closes an idle connection.
    alive: Arc<AtomicBool>,
    /// Of bytes that go to another zone.
    cross_zone: Option<Counter>,
}

/// A question under way that nobody waits for.
struct Refresh {
    requested_at: Instant,
    version: i16,
    response: oneshot::Receiver<Bytes>,
}

/// The client's own connection to a broker, and what the broker said of the client.
pub(crate) struct BrokerLink {
    proxy: Arc<Proxy>,
    endpoint: Endpoint,
    connection: ConnectionId,
    responses: mpsc::Sender<PendingResponse>,
    upstream: Option<Upstream>,
    /// Whether SASL was spoken: a new connection would not be the client's, nor could we make it
    /// so. Shared with the writer.
    authenticated: Arc<AtomicBool>,
    authorization: AuthorizationCache,
    refresh: Option<Refresh>,
    /// Of our own questions: brokers answer in order and repeat the number, whatever it is.
    correlation_id: i32,
}

/// What a client may do with one topic that it names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicPermissions(Result<Operations, ErrorCode>);

impl TopicPermissions {
    /// The error of a row, where the operation is not allowed.
    pub(crate) fn check(self, operation: Operation) -> Result<(), ErrorCode> {
        match self.0?.allow(operation) {
            true => Ok(()),
            false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        }
    }
}

impl BrokerLink {
    pub(super) fn new(
        proxy: Arc<Proxy>,
        endpoint: Endpoint,
        connection: ConnectionId,
        responses: mpsc::Sender<PendingResponse>,
        authenticated: Arc<AtomicBool>,
    ) -> Self {
        let authorization = AuthorizationCache::default();
        let (upstream, refresh, correlation_id) = (None, None, 0);
        Self {
            proxy,
            endpoint,
            connection,
            responses,
            upstream,
            authenticated,
            authorization,
            refresh,
            correlation_id,
        }
    }

    pub(super) async fn enqueue(&self, responses: PendingResponse) -> Result<(), CloseReason> {
        let sent = self.responses.send(responses).await;
        sent.map_err(|_| CloseReason::Upstream("the connection is closing".to_owned()))
    }

    /// The client speaks SASL: from here on it is whoever the broker takes it for.
    pub(super) fn mark_authenticated(&mut self) {
        self.authenticated.store(true, Ordering::Release);
        self.authorization.clear();
        self.refresh = None;
    }

    pub(super) async fn forward(&mut self, frames: &[Bytes]) -> Result<(), CloseReason> {
        match &self.upstream {
            Some(upstream) if upstream.alive.load(Ordering::Acquire) => {}
            Some(_) if self.authenticated.load(Ordering::Acquire) => {
                let gone = "the connection that the client authenticated is gone";
                return Err(CloseReason::Upstream(gone.to_owned()));
            }
            Some(_) | None => self.connect().await?,
        }
        let Some(upstream) = &mut self.upstream else {
            return Err(CloseReason::Internal("no broker connection".to_owned()));
        };
        for frame in frames {
            if let Err(error) = upstream.write.write_all(frame).await {
                upstream.alive.store(false, Ordering::Release);
                return Err(CloseReason::Upstream(format!("broker: {error}")));
            }
            if let Some(cross_zone) = &upstream.cross_zone {
                cross_zone.inc_by(frame.len() as u64);
            }
        }
        Ok(())
    }

    /// A classic endpoint leads to its broker alone; elsewhere any broker will do.
    async fn connect(&mut self) -> Result<(), CloseReason> {
        let mut addresses = match self.endpoint {
            Endpoint::Broker(id) => {
                let view = self.proxy.cluster.view();
                view.brokers.get(&id).map(|broker| broker.address()).into_iter().collect::<Vec<_>>()
            }
            Endpoint::Bootstrap | Endpoint::Node(_) => self.proxy.cluster.addresses(),
        };
        // Connections that may go to any broker are spread over all of them.
        let offset = addresses.len().max(1) as u64;
        addresses.rotate_left((self.connection.0 % offset) as usize);
        let mut last = "no such broker".to_owned();
        for address in addresses {
            match upstream::connect(&address).await {
                Ok(stream) => {
                    let (read, write) = stream.into_split();
                    let alive = Arc::new(AtomicBool::new(true));
                    let (sent, received) = broker_counters(&self.proxy, &address).unzip();
                    let of_writer = Arc::clone(&alive);
                    self.upstream = Some(Upstream { write, alive, cross_zone: sent });
                    return self
                        .enqueue(PendingResponse::BrokerConnected(read, of_writer, received))
                        .await;
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(CloseReason::Upstream(last))
    }

    /// Asks the broker in the client's name and waits for the answer. A broker that closes the
    /// connection instead has refused the client, and the client's connection ends as well; but
    /// where nobody authenticated, it may have gone away, and another one is asked.
    pub(crate) async fn call<R: ApiRequest>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, CloseReason> {
        let response = match self.send_request(request, version).await {
            Ok(response) => response.await.ok(),
            Err(close) if !self.may_reconnect() => return Err(close),
            Err(_) => None,
        };
        let frame = match response {
            Some(frame) => frame,
            None if self.may_reconnect() => {
                let response = self.send_request(request, version).await?;
                response.await.map_err(|_| rejected())?
            }
            None => return Err(rejected()),
        };
        decode::<R>(&frame, version)
    }

    fn may_reconnect(&self) -> bool {
        matches!(self.endpoint, Endpoint::Node(_)) && !self.authenticated.load(Ordering::Acquire)
    }

    /// Sends a question; its answer comes in its turn, or the sender is dropped.
    async fn send_request<R: ApiRequest>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<oneshot::Receiver<Bytes>, CloseReason> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let correlation_id = self.correlation_id;
        let client_id = Some(StrBytes::from_static_str("odradek"));
        let frame = upstream::encode_request(request, version, correlation_id, client_id)
            .map_err(|error| CloseReason::Internal(error.to_string()))?;
        self.forward(&[frame]).await?;
        let (reply, response) = oneshot::channel();
        self.enqueue(PendingResponse::Rpc { correlation_id, reply }).await?;
        Ok(response)
    }

    /// Returns once a broker has answered this connection lately: it is authenticated, as far as
    /// the broker wants it to be.
    pub(crate) async fn ensure_accepted(&mut self) -> Result<(), CloseReason> {
        self.poll_refresh();
        match self.authorization.is_accepted(Instant::now()) {
            true => Ok(()),
            false => self.fetch_cluster_permissions().await.map(drop),
        }
    }

    /// Whether the client may do this to the cluster.
    pub(crate) async fn cluster_allows(
        &mut self,
        operation: Operation,
    ) -> Result<bool, CloseReason> {
        let operations = match self.authorization.cluster(Instant::now()) {
            Some(operations) => operations,
            None => self.fetch_cluster_permissions().await?,
        };
        Ok(operations.allow(operation))
    }

    async fn fetch_cluster_permissions(&mut self) -> Result<Operations, CloseReason> {
        let requested_at = Instant::now();
        let version = self.version::<DescribeClusterRequest>(0)?;
        let request =
            DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let response = self.call(&request, version).await?;
        // Amidst an authentication a broker does answer, with an error, before it closes.
        if response.error_code != 0 {
            return Err(rejected());
        }
        let operations = Operations::from_bits(response.cluster_authorized_operations);
        self.authorization.record_cluster(requested_at, operations);
        Ok(operations)
    }

    /// What the client may do with topics, in their order; an id of zero stands for a name.
    pub(crate) async fn topic_permissions(
        &mut self,
        topics: &[(TopicId, &str)],
    ) -> Result<Vec<TopicPermissions>, CloseReason> {
        let unknown: Vec<_> = topics.iter().map(|(id, _)| *id).filter(|id| !id.is_zero()).collect();
        let unknown: Vec<_> =
            unknown.into_iter().filter(|id| self.proxy.topics.by_id(*id).is_none()).collect();
        let mut missing_topic_error = ErrorCode::UNKNOWN_TOPIC_ID;
        if !unknown.is_empty() {
            self.ensure_accepted().await?;
            let looked_up = self.proxy.topics.look_up(&[], &unknown).await;
            if !looked_up.unwrap_or_else(|error| {
                tracing::warn!(%error, "topics cannot be looked up");
                false
            }) {
                // It may exist for all we know.
                missing_topic_error = ErrorCode::NOT_LEADER_OR_FOLLOWER;
            }
        }
        let by_id: Vec<_> = topics.iter().map(|(id, _)| self.proxy.topics.by_id(*id)).collect();
        let names: Vec<Option<&str>> = topics
            .iter()
            .zip(&by_id)
            .map(|((id, name), known)| match id.is_zero() {
                true => Some(*name),
                false => known.as_ref().map(|topic| topic.name.as_str()),
            })
            .collect();
        self.ensure_cached(names.iter().flatten().copied()).await?;
        let now = Instant::now();
        let permit = |name: Option<&str>| match name {
            None => Err(missing_topic_error),
            // A broker that was just asked and did not say allows nothing.
            Some(name) => Ok(self.authorization.topic(name, now).unwrap_or(Operations::NONE)),
        };
        Ok(names.into_iter().map(permit).map(TopicPermissions).collect())
    }

    /// Sees to it that what may be done with these topics is known now, and stays so.
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
                self.record_response(
                    refresh.requested_at,
                    &decode::<MetadataRequest>(&frame, refresh.version)?,
                )?;
            }
            uncached = self.uncached(names);
        }
        if !uncached.is_empty() {
            let (requested_at, version) =
                (Instant::now(), self.version::<MetadataRequest>(METADATA_MAX)?);
            let response = self.call(&permissions_request(&uncached), version).await?;
            self.record_response(requested_at, &response)?;
        }
        let due = match self.refresh {
            Some(_) => Vec::new(),
            None => self.authorization.due_for_refresh(Instant::now()),
        };
        if !due.is_empty() {
            let (requested_at, version) =
                (Instant::now(), self.version::<MetadataRequest>(METADATA_MAX)?);
            // What is known holds for a while yet: whoever cannot be asked now is asked then.
            if let Ok(response) = self.send_request(&permissions_request(&due), version).await {
                self.refresh = Some(Refresh { requested_at, version, response });
            }
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

    /// Takes the answer of a question that nobody waits for, if it has come.
    fn poll_refresh(&mut self) {
        let Some(mut refresh) = self.refresh.take() else { return };
        match refresh.response.try_recv() {
            Ok(frame) => {
                let said = decode::<MetadataRequest>(&frame, refresh.version);
                if let Err(error) =
                    said.and_then(|said| self.record_response(refresh.requested_at, &said))
                {
                    tracing::debug!(%error, "what a client may do is asked for again");
                }
            }
            Err(TryRecvError::Empty) => self.refresh = Some(refresh),
            // The broker is gone; another one is asked when it has to be.
            Err(TryRecvError::Closed) => {}
        }
    }

    fn record_response(
        &mut self,
        requested_at: Instant,
        response: &MetadataResponse,
    ) -> Result<(), CloseReason> {
        // A broker that refuses the client may say so in every row, and names no brokers.
        if response.brokers.is_empty() {
            return Err(rejected());
        }
        let said = response.topics.iter().filter_map(|topic| {
            let name = topic.name.as_ref()?.as_str().to_owned();
            Some((name, Operations::from_bits(topic.topic_authorized_operations)))
        });
        self.authorization.record_topics(requested_at, said);
        Ok(())
    }

    fn version<R: ApiRequest>(&self, max: i16) -> Result<i16, CloseReason> {
        let version = self.proxy.cluster.version_for::<R>(max);
        version.map_err(|error: UpstreamError| CloseReason::Upstream(error.to_string()))
    }
}

/// By name, for ACLs are by name. Neither this nor its answer depends on whether a topic exists.
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

fn decode<R: ApiRequest>(frame: &Bytes, version: i16) -> Result<R::Response, CloseReason> {
    let upstream = |error: &dyn std::fmt::Display| CloseReason::Upstream(error.to_string());
    let header = ResponseHeader::parse(frame, R::KEY, version).map_err(|e| upstream(&e))?;
    guard::decode_response::<R>(version, frame.slice(header.bytes..)).map_err(|e| upstream(&e))
}

fn rejected() -> CloseReason {
    CloseReason::Upstream("the broker does not answer this client".to_owned())
}
