//! Handlers of requests, one module for each Kafka API.

mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod config_changes;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod fetch;
mod fetch_partitions;
mod find_coordinator;
mod incremental_alter_configs;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
mod produce_validation;
mod push_telemetry;
mod requested_topics;
mod share_acknowledge;
mod share_fetch;
mod share_group_heartbeat;
mod topic_configs;
mod write_txn_markers;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request as ApiRequest, StrBytes};
use tokio::time::Instant;

use super::Proxy;
use super::apis::{self, Handling};
use super::client_zone::{ClientOrigin, ClientZone};
use super::connection::{BrokerLink, Endpoint};
use super::response::{self, CloseReason, ResponseFrame};
use super::router::Router;
use super::upstream;
use crate::engine::memory::{ConnectionQuota, MemoryPermit};
use crate::engine::produce::ConnectionId;
use crate::wire::header::{HeaderError, RequestHeader, ResponseHeader, put_response_header};
use crate::wire::{frame, guard};

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) endpoint: Endpoint,
    pub(crate) client: ClientOrigin,
    pub(crate) connection: ConnectionId,
    pub(crate) header: OwnedRequestHeader,
    /// Behind the header.
    pub(crate) body: Bytes,
    /// Header and body, without the length prefix.
    pub(crate) frame: Bytes,
    /// The memory that the frame takes, where it is produced to a diskless node.
    pub(crate) room: Option<MemoryPermit>,
    /// When it was first looked at, before any wait for memory.
    pub(crate) received: Instant,
}

/// A request's header, free of its frame.
#[derive(Clone, Debug)]
pub(crate) struct OwnedRequestHeader {
    pub(crate) api_key: i16,
    pub(crate) api_version: i16,
    pub(crate) correlation_id: i32,
    /// As far as it is UTF-8: a broker does not insist on it.
    pub(crate) client_id: Option<String>,
    /// Where the body begins in the frame.
    pub(crate) bytes: usize,
}

impl OwnedRequestHeader {
    pub(crate) fn parse(frame: &[u8]) -> Result<Self, HeaderError> {
        let header = RequestHeader::parse(frame)?;
        Ok(Self {
            api_key: header.api_key,
            api_version: header.api_version,
            correlation_id: header.correlation_id,
            client_id: header.client_id.map(|id| String::from_utf8_lossy(id).into_owned()),
            bytes: header.bytes,
        })
    }
}

/// What is remembered of a connection between its requests.
#[derive(Debug)]
pub(crate) struct SessionState {
    /// [`TopicRegistry::migrations`] when the connection's fetch sessions were last checked whole.
    migrations: u64,
    /// Partitions that the client fetched from this replica on this connection.
    fetched: Arc<fetch_partitions::FetchedPartitions>,
    /// The connection's share of the memory for answers to fetches.
    responses: Arc<ConnectionQuota>,
}

impl SessionState {
    pub(crate) fn new(proxy: &Proxy) -> Self {
        let responses = proxy.fetch_memory.quota(proxy.settings.response_bytes_max);
        let migrations = proxy.topics.migrations();
        Self { migrations, fetched: Arc::default(), responses: Arc::new(responses) }
    }
}

/// Turns a broker's answer (a frame without its length prefix) into ours.
pub(crate) type ResponseEdit =
    Box<dyn FnOnce(Bytes) -> BoxFuture<'static, Result<ResponseFrame, CloseReason>> + Send>;

/// What the broker's answer needs.
pub(crate) enum ResponseHandling {
    /// There will be none.
    NotExpected,
    /// It passes unread.
    Forward,
    /// It is edited.
    Edit(ResponseEdit),
}

/// What becomes of a request.
pub(crate) enum Action {
    /// These bytes go to the broker.
    Forward { frames: Vec<Bytes>, response: ResponseHandling },
    /// We answer; `None` where the client wants no answer.
    Respond(BoxFuture<'static, Result<Option<ResponseFrame>, CloseReason>>),
    /// The same, not begun before everything owed earlier is with the client: an answer that took
    /// memory must not wait for one that still needs some. A broker does no request before its
    /// turn either.
    RespondInTurn(BoxFuture<'static, Result<Option<ResponseFrame>, CloseReason>>),
}

/// Decides what becomes of a request.
pub(crate) async fn dispatch(
    request: Request,
    session: &mut SessionState,
    broker: &mut BrokerLink,
) -> Result<Action, CloseReason> {
    let (key, version) = (request.header.api_key, request.header.api_version);
    let Some(api) = apis::lookup(key) else {
        return Err(CloseReason::Client(format!("api key {key} is not served")));
    };
    let named = ApiKey::try_from(key).ok();
    if named == Some(ApiKey::ApiVersions) {
        return api_versions::handle(request);
    }
    if version < api.min || version > api.accepted {
        return Err(CloseReason::Client(format!("{} version {version} is not served", api.name)));
    }
    if let Some(ApiKey::GetTelemetrySubscriptions | ApiKey::PushTelemetry) = named
        && let Some(telemetry) = request.proxy.telemetry.clone()
    {
        return push_telemetry::serve(request, &telemetry, broker).await;
    }
    let on = match request.endpoint {
        Endpoint::Bootstrap | Endpoint::Broker(_) => api.classic,
        Endpoint::Node(_) => api.node,
    };
    // A diskless node looks at nothing of a client that the broker has not let in. What is
    // forwarded unread, the broker sees to itself.
    if matches!(request.endpoint, Endpoint::Node(_))
        && matches!(on, Handling::Guard | Handling::Serve)
    {
        broker.ensure_accepted().await?;
    }
    match (on, named) {
        (Handling::Forward, _) => Ok(request.relay()),
        (Handling::Reject, _) => {
            Err(CloseReason::Client(format!("{} is not served here", api.name)))
        }
        (Handling::Guard, Some(api)) => guard(api, request, session, broker).await,
        (Handling::Edit, Some(api)) => edit(api, request, broker).await,
        (Handling::Serve, Some(api)) => serve(api, request, session, broker).await,
        (Handling::Guard | Handling::Edit | Handling::Serve, None) => {
            Err(CloseReason::Internal(format!("{} has no handler", api.name)))
        }
    }
}

async fn guard(
    api: ApiKey,
    request: Request,
    session: &mut SessionState,
    broker: &mut BrokerLink,
) -> Result<Action, CloseReason> {
    match api {
        ApiKey::Produce => produce::guard(request, broker).await,
        ApiKey::Fetch => fetch::guard(request, session, broker).await,
        ApiKey::ListOffsets => list_offsets::guard(request, broker).await,
        ApiKey::DeleteRecords => delete_records::guard(request, broker).await,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::guard(request, broker).await,
        ApiKey::AddPartitionsToTxn => add_partitions_to_txn::guard(request, broker).await,
        ApiKey::DescribeProducers => describe_producers::guard(request, broker).await,
        ApiKey::ShareGroupHeartbeat => share_group_heartbeat::guard(request, broker).await,
        api => Err(CloseReason::Internal(format!("{api:?} has no guard"))),
    }
}

async fn edit(
    api: ApiKey,
    request: Request,
    broker: &mut BrokerLink,
) -> Result<Action, CloseReason> {
    match api {
        ApiKey::Metadata => metadata::edit(&request),
        ApiKey::FindCoordinator => find_coordinator::edit(request),
        ApiKey::CreateTopics => create_topics::edit(&request, broker).await,
        ApiKey::DeleteTopics => delete_topics::edit(request),
        ApiKey::DescribeConfigs => describe_configs::edit(&request, broker).await,
        ApiKey::AlterConfigs => alter_configs::edit(&request, broker).await,
        ApiKey::DescribeLogDirs => describe_log_dirs::edit(request),
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs::edit(&request, broker).await,
        ApiKey::DescribeCluster => describe_cluster::edit(request),
        ApiKey::DescribeTopicPartitions => describe_topic_partitions::edit(request),
        ApiKey::ShareFetch => share_fetch::edit(request),
        ApiKey::ShareAcknowledge => share_acknowledge::edit(request),
        api => Err(CloseReason::Internal(format!("{api:?} has no editor"))),
    }
}

async fn serve(
    api: ApiKey,
    request: Request,
    session: &SessionState,
    broker: &mut BrokerLink,
) -> Result<Action, CloseReason> {
    match api {
        ApiKey::Produce => produce::serve(request, broker).await,
        ApiKey::Fetch => fetch::serve(request, session, broker).await,
        ApiKey::ListOffsets => list_offsets::serve(&request, broker).await,
        ApiKey::ListGroups => list_groups::serve(&request),
        ApiKey::DeleteRecords => delete_records::serve(&request, broker).await,
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::serve(&request, broker).await,
        ApiKey::WriteTxnMarkers => write_txn_markers::serve(&request, broker).await,
        ApiKey::DescribeLogDirs => describe_log_dirs::serve(&request, broker).await,
        ApiKey::DescribeProducers => describe_producers::serve(&request, broker).await,
        ApiKey::ListTransactions => list_transactions::serve(&request),
        api => Err(CloseReason::Internal(format!("{api:?} has no handler"))),
    }
}

impl Request {
    fn version(&self) -> i16 {
        self.header.api_version
    }

    /// Where the client is, as far as is known.
    pub(crate) fn client_zone(&self) -> ClientZone {
        let (zones, map) = (&self.proxy.settings.client_zones, self.proxy.topology.current());
        zones.locate(&map, &self.client, self.header.client_id.as_deref())
    }

    /// Where the client is sent.
    fn router(&self) -> Router {
        Router::new(&self.proxy, self.proxy.topology.current(), self.client_zone())
    }

    /// Decodes the body, guarded.
    fn decode<R: ApiRequest>(&self) -> Result<R, CloseReason> {
        Ok(guard::decode_request::<R>(self.version(), self.body.clone())?)
    }

    fn frames(self) -> Vec<Bytes> {
        // A frame that was read is shorter than its reader's limit, which is an `i32`.
        let prefix = frame::length_prefix(self.frame.len()).unwrap_or([0xff; 4]);
        vec![Bytes::copy_from_slice(&prefix), self.frame]
    }

    fn relay(self) -> Action {
        Action::Forward { frames: self.frames(), response: ResponseHandling::Forward }
    }

    /// Forwards the request as it came; `edit` turns the answer, decoded in the request's version,
    /// into the one that the client gets.
    fn forward<R, F>(
        self,
        edit: impl FnOnce(Arc<Proxy>, R::Response) -> F + Send + 'static,
    ) -> Action
    where
        R: ApiRequest,
        F: Future<Output = R::Response> + Send + 'static,
        R::Response: Send,
    {
        let (version, proxy) = (self.version(), Arc::clone(&self.proxy));
        let correlation_id = self.header.correlation_id;
        let response = on_response::<R, _>(correlation_id, version, version, move |response| {
            edit(proxy, response)
        });
        Action::Forward { frames: self.frames(), response }
    }

    /// Forwards another request in its place, in a version of our choice.
    fn forward_as<R, F>(
        &self,
        request: &R,
        version: i16,
        edit: impl FnOnce(Arc<Proxy>, R::Response) -> F + Send + 'static,
    ) -> Result<Action, CloseReason>
    where
        R: ApiRequest,
        F: Future<Output = R::Response> + Send + 'static,
        R::Response: Send,
    {
        let correlation_id = self.header.correlation_id;
        let client_id = self.header.client_id.clone().map(StrBytes::from_string);
        let frame = upstream::encode_request(request, version, correlation_id, client_id)
            .map_err(|error| CloseReason::Internal(error.to_string()))?;
        let proxy = Arc::clone(&self.proxy);
        let response =
            on_response::<R, _>(correlation_id, version, self.version(), move |response| {
                edit(proxy, response)
            });
        Ok(Action::Forward { frames: vec![frame], response })
    }

    /// Answers at once.
    fn answer<T: Encodable + HeaderVersion>(&self, response: &T) -> Result<Action, CloseReason> {
        let reply = response::encode(self.header.correlation_id, self.version(), response)?;
        Ok(Action::Respond(std::future::ready(Ok(Some(reply))).boxed()))
    }

    /// Answers when the future is done.
    fn answer_later<T, F>(&self, response: F) -> Action
    where
        T: Encodable + HeaderVersion,
        F: Future<Output = T> + Send + 'static,
    {
        let (correlation_id, version) = (self.header.correlation_id, self.version());
        let answer =
            async move { response::encode(correlation_id, version, &response.await).map(Some) };
        Action::Respond(answer.boxed())
    }
}

/// Decodes the broker's answer in one version, edits it, and encodes it in another.
fn on_response<R, F>(
    correlation_id: i32,
    upstream_version: i16,
    client_version: i16,
    edit: impl FnOnce(R::Response) -> F + Send + 'static,
) -> ResponseHandling
where
    R: ApiRequest,
    F: Future<Output = R::Response> + Send + 'static,
    R::Response: Send,
{
    ResponseHandling::Edit(Box::new(move |frame| {
        async move {
            let upstream = |error: &dyn std::fmt::Display| CloseReason::Upstream(error.to_string());
            let header = ResponseHeader::parse(&frame, R::KEY, upstream_version)
                .map_err(|e| upstream(&e))?;
            let response =
                guard::decode_response::<R>(upstream_version, frame.slice(header.bytes..))
                    .map_err(|e| upstream(&e))?;
            response::encode(correlation_id, client_version, &edit(response).await)
        }
        .boxed()
    }))
}

/// An empty length prefix and the header, for an answer whose body is written by hand.
fn begin_response_frame(header: &OwnedRequestHeader) -> BytesMut {
    let mut out = frame::begin();
    put_response_header(&mut out, header.api_key, header.api_version, header.correlation_id);
    out
}
