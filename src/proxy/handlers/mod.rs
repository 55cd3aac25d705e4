//! What becomes of a request: one module for each family of APIs.

mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod create_topics;
mod delete_records;
mod describe_configs;
mod describe_log_dirs;
mod describe_producers;
mod fetch;
mod fetch_partitions;
mod find_coordinator;
mod list_offsets;
mod metadata;
mod produce;
mod produce_validation;
mod push_telemetry;
mod share_group_heartbeat;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request as ApiRequest, StrBytes};
use tokio::time::Instant;

use super::Proxy;
use super::apis::{self, Handling};
use super::authorization::Operation;
use super::client_zone::{ClientOrigin, ClientZone};
use super::connection::{BrokerLink, Endpoint, TopicPermissions};
use super::error_code::ErrorCode;
use super::response::{self, CloseReason, ResponseFrame};
use super::router::Router;
use super::topics::Topic;
use super::upstream;
use crate::engine::memory::{ConnectionQuota, MemoryPermit};
use crate::engine::produce::ConnectionId;
use crate::log::ids::TopicId;
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
    if key == 18 {
        return api_versions::handle(request);
    }
    if version < api.min || version > api.accepted {
        return Err(CloseReason::Client(format!("{} version {version} is not served", api.name)));
    }
    if let (71 | 72, Some(telemetry)) = (key, request.proxy.telemetry.clone()) {
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
    match on {
        Handling::Forward => Ok(request.relay()),
        Handling::Reject => Err(CloseReason::Client(format!("{} is not served here", api.name))),
        Handling::Guard => guarded(request, session, broker).await,
        Handling::Edit => edited(request, broker).await,
        Handling::Serve => served(request, session, broker).await,
    }
}

async fn guarded(
    request: Request,
    session: &mut SessionState,
    broker: &mut BrokerLink,
) -> Result<Action, CloseReason> {
    match request.header.api_key {
        0 => produce::guard(request, broker).await,
        1 => fetch::guard(request, session, broker).await,
        2 => list_offsets::guard_list_offsets(request, broker).await,
        21 => delete_records::guard_delete_records(request, broker).await,
        23 => list_offsets::guard_leader_epoch(request, broker).await,
        24 => add_partitions_to_txn::guard_add_partitions(request, broker).await,
        61 => describe_producers::guard(request, broker).await,
        76 => share_group_heartbeat::guard_share_heartbeat(request, broker).await,
        key => Err(CloseReason::Internal(format!("api key {key} has no guard"))),
    }
}

async fn edited(request: Request, broker: &mut BrokerLink) -> Result<Action, CloseReason> {
    match request.header.api_key {
        3 => metadata::edit(&request),
        10 => find_coordinator::edit_find_coordinator(request),
        19 => create_topics::edit_create(&request, broker).await,
        20 => create_topics::edit_delete(request),
        32 => describe_configs::edit_describe(&request, broker).await,
        33 => alter_configs::edit_alter(&request, broker).await,
        35 => describe_log_dirs::edit(request),
        44 => alter_configs::edit_incremental_alter(&request, broker).await,
        60 => find_coordinator::edit_describe_cluster(request),
        75 => metadata::edit_describe_topic_partitions(request),
        78 => find_coordinator::edit_share_fetch(request),
        79 => find_coordinator::edit_share_acknowledge(request),
        key => Err(CloseReason::Internal(format!("api key {key} has no editor"))),
    }
}

async fn served(
    request: Request,
    session: &SessionState,
    broker: &mut BrokerLink,
) -> Result<Action, CloseReason> {
    match request.header.api_key {
        0 => produce::serve(request, broker).await,
        1 => fetch::serve(request, session, broker).await,
        2 => list_offsets::serve_list_offsets(&request, broker).await,
        16 => share_group_heartbeat::serve_list_groups(&request),
        21 => delete_records::serve_delete_records(&request, broker).await,
        23 => list_offsets::serve_leader_epoch(&request, broker).await,
        27 => add_partitions_to_txn::serve_write_markers(&request, broker).await,
        35 => describe_log_dirs::serve(&request, broker).await,
        61 => describe_producers::serve(&request, broker).await,
        66 => share_group_heartbeat::serve_list_transactions(&request),
        key => Err(CloseReason::Internal(format!("api key {key} has no handler"))),
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

/// What a request names, seen from where it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestTopics {
    /// Nothing diskless: the broker's business.
    ClassicOnly,
    /// Something diskless, or something whose kind cannot be known now.
    Diskless,
}

/// Whether any of the topics is diskless. A topic never seen is looked up first.
async fn classify_topics<'a>(
    proxy: &Proxy,
    topics: impl Iterator<Item = (TopicId, &'a str)> + Clone,
) -> RequestTopics {
    let unknown: Vec<_> = topics
        .clone()
        .filter(|(id, name)| proxy.topics.by_id_or_name(*id, name).is_none())
        .filter(|(_, name)| !name.starts_with("__"))
        .collect();
    if !unknown.is_empty() && !look_up(proxy, &unknown).await {
        return RequestTopics::Diskless;
    }
    let diskless =
        |(id, name)| proxy.topics.by_id_or_name(id, name).is_some_and(|topic| topic.is_diskless());
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
    match proxy.topics.look_up(&names, &ids).await {
        Ok(all_decided) => all_decided,
        Err(error) => {
            tracing::warn!(%error, "topics cannot be looked up");
            false
        }
    }
}

/// The diskless topic that a request on a diskless node names, or the code that says why not.
/// A partition that is not known yet is looked up once: it may be new.
async fn resolve_diskless_topic(
    proxy: &Proxy,
    id: TopicId,
    name: &str,
    partitions: impl Iterator<Item = i32> + Clone,
) -> Result<Arc<Topic>, ErrorCode> {
    let knows = |topic: &Arc<Topic>| {
        partitions.clone().all(|p| topic.partition(p).is_some() || !(0..1_000_000).contains(&p))
    };
    let known = proxy.topics.by_id_or_name(id, name);
    let topic = match known.filter(knows) {
        Some(topic) => topic,
        None if name.starts_with("__") => return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        None => {
            let decided = look_up(proxy, &[(id, name)]).await;
            match proxy.topics.by_id_or_name(id, name) {
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
fn is_legal_name(name: &str) -> bool {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && !matches!(name, "." | "..") && name.bytes().all(is_legal)
}

/// As [`resolve_diskless_topic`] by name, for a client that may do this; whoever may not learns nothing else.
async fn authorize_and_resolve(
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
fn not_leader_error(permit: TopicPermissions, operation: Operation) -> ErrorCode {
    permit.check(operation).err().unwrap_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)
}

/// An empty length prefix and the header, for an answer whose body is written by hand.
fn begin_response_frame(header: &Head) -> BytesMut {
    let mut out = frame::begin();
    put_response_header(&mut out, header.api_key, header.api_version, header.correlation_id);
    out
}

fn topic_id(uuid: &uuid::Uuid) -> TopicId {
    TopicId(*uuid.as_bytes())
}
