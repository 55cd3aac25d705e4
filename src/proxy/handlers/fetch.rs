//! Fetch (1).

use std::collections::HashSet;
use std::sync::Arc;

use futures::FutureExt;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::time::Instant;

use super::connection_state::ConnectionState;
use super::fetch_partitions::{
    FetchContext, FetchParams, PartitionResult, failed_row, fetch_partitions, group_by_topic,
};
use super::requested_topics::{
    Freshness, NAME_BYTES_MAX, RequestTopics, classify_topics, not_leader_error, topic_id,
};
use crate::engine::fetch::FetchPlan;
use crate::engine::memory::ConnectionQuota;
use crate::log::ids::TopicId;
use crate::metrics::ApiKind;
use crate::proxy::broker::authorization::{AclOperation, TopicPermissions};
use crate::proxy::broker::login_session::LoginSession;
use crate::proxy::broker::session::BrokerSession;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::ErrorCode;
use crate::proxy::fetch_sessions::{
    FINAL_EPOCH, FetchPosition, INITIAL_EPOCH, Naming, SessionError, SessionPartition,
};
use crate::proxy::request::{Action, Request, begin_response_frame};
use crate::proxy::response::{BodyReloader, CloseReason, ResponseFrame};
use crate::wire::fetch_response::{
    FrameSlice, ResponseBody, ResponseTopic, WITH_TOPIC_IDS, encode,
};

/// The last version whose responses carry no addresses.
const WITHOUT_ADDRESSES: i16 = 15;
/// The first version with sessions, and with an error code for the whole request.
const WITH_SESSIONS: i16 = 7;
/// The first version in which consumers state their rack (KIP-392).
const WITH_RACK: i16 = 11;

/// Forwards a request on a classic endpoint if it names classic topics only, and otherwise rejects
/// all of it with a retriable code. A session that began before a topic became diskless may contain
/// the topic without naming it; it is ended, so that the next fetch names every partition.
pub(super) async fn guard(
    request: Request,
    session: &mut ConnectionState,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let fetch: FetchRequest = request.decode()?;
    let migrations = request.proxy.topics.registry.migrations();
    if fetch.session_epoch > 0 && session.migrations != migrations {
        let code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        return request.respond(&FetchResponse::default().with_error_code(code.0));
    }
    session.migrations = migrations;
    let named = named(&fetch);
    let topics = named.iter().copied();
    match classify_topics(&request.proxy, topics, Freshness::Recent, broker).await? {
        RequestTopics::ClassicOnly if request.version() <= WITHOUT_ADDRESSES => {
            Ok(request.forward_unread())
        }
        RequestTopics::ClassicOnly => {
            let to = request.router();
            Ok(request.forward::<FetchRequest, _>(move |_, mut response| async move {
                for node in &mut response.node_endpoints {
                    to.rewrite_address(node.node_id, &mut node.host, &mut node.port);
                }
                response
            }))
        }
        RequestTopics::Diskless => {
            let permits = broker.topic_permissions(AclOperation::Read, &named).await?;
            let codes =
                permits.into_iter().map(|permit| not_leader_error(permit, AclOperation::Read));
            request.respond(&error_response(&fetch, codes))
        }
    }
}

fn named(fetch: &FetchRequest) -> Vec<(TopicId, &str)> {
    fetch.topics.iter().map(|t| (topic_id(&t.topic_id), t.topic.as_str())).collect()
}

fn error_response(fetch: &FetchRequest, codes: impl Iterator<Item = ErrorCode>) -> FetchResponse {
    let mut response = FetchResponse::default();
    for (topic, code) in fetch.topics.iter().zip(codes) {
        let refuse = |p: &kafka_protocol::messages::fetch_request::FetchPartition| {
            PartitionData::default()
                .with_partition_index(p.partition)
                .with_error_code(code.0)
                .with_high_watermark(-1)
                .with_last_stable_offset(-1)
                .with_log_start_offset(-1)
                .with_records(Some(bytes::Bytes::new()))
        };
        response.responses.push(
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(topic.partitions.iter().map(refuse).collect()),
        );
    }
    response
}

/// Serves a request on a diskless node.
pub(super) async fn serve(
    request: Request,
    session: &ConnectionState,
    broker: &mut BrokerSession,
) -> Result<Action, CloseReason> {
    let fetch: FetchRequest = request.decode()?;
    let is_follower = fetch.replica_id.0 >= 0 || fetch.replica_state.replica_id.0 >= 0;
    if is_follower && !broker.cluster_allows(AclOperation::ClusterAction).await? {
        let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        return request.respond(&error_response(&fetch, std::iter::repeat(code)));
    }
    if !matches!(fetch.isolation_level, 0 | 1) {
        return request.respond(&request_error_response(&fetch, request.version()));
    }
    let naming = if request.version() >= WITH_TOPIC_IDS { Naming::Ids } else { Naming::Names };
    let requested = RequestedPartitions::of(&fetch);
    let epoch = match fetch.session_epoch {
        INITIAL_EPOCH if !may_open_session(&fetch, broker).await? => FINAL_EPOCH,
        epoch => epoch,
    };
    let started = request.proxy.fetch_sessions.begin(
        fetch.session_id,
        epoch,
        naming,
        requested.partitions,
        &requested.forgotten,
    );
    let plan = match started {
        Ok(plan) => plan,
        Err(error) => return request.respond(&session_error_response(error)),
    };
    session.fetch_sessions.add(&plan);
    // Permissions are checked for the whole session: it may be older than the permission, or have
    // been another client's.
    let topics: Vec<_> =
        plan.partitions.iter().map(|(w, _)| (w.topic_id, w.name.as_ref())).collect();
    let topic_permissions = broker.topic_permissions(AclOperation::Read, &topics).await?;
    let login = Arc::clone(broker.login());
    let reader_zone = zone_of_reader(&request, &fetch);
    let params = FetchParams::of(&fetch, request.is_large);
    // The decoded request takes more memory than its frame, and the wait may be long.
    drop(fetch);
    let unknown = requested.unknown;
    let (header, proxy) = (request.header, request.proxy);
    let (fetched, memory) = (Arc::clone(&session.fetched), Arc::clone(&session.responses));
    Ok(Action::RespondInTurn(
        async move {
            let valid_until = valid_until(&topic_permissions, &login);
            login.check(Instant::now())?;
            let context = FetchContext { params, naming, is_follower, reader_zone, valid_until };
            let (results, permit, fetch_plan) =
                fetch_partitions(&proxy, &context, &plan, &topic_permissions, &fetched, &memory)
                    .await;
            for code in results.iter().filter_map(PartitionResult::error) {
                proxy.metrics.clients.partition_error(ApiKind::fetch, code.0);
            }
            let reported: Vec<_> =
                results.iter().map(|row| (row.reported_state(), row.gives_records())).collect();
            let named = proxy.fetch_sessions.finish(&plan, &reported);
            let named_rows =
                plan.partitions.iter().zip(results).zip(named).filter(|(_, named)| *named);
            let (mut topics, order) = group_by_topic(named_rows.map(|(row, _)| row), &context);
            topics.extend(unknown);
            let body = ResponseBody { error_code: 0, session_id: plan.session_id, topics };
            let slices = encode(body, header.api_version, begin_response_frame(&header))
                .ok_or_else(|| {
                    CloseReason::Internal("Fetch response is too large for a frame".to_owned())
                })?;
            let reload =
                fetch_plan.map(|fetch_plan| reload_body(proxy, memory, &slices, fetch_plan, order));
            let slices = slices.into_iter().map(|slice| slice.bytes).collect();
            Ok(Some(ResponseFrame { slices, permit, reload }))
        }
        .boxed(),
    ))
}

/// Returns whether a client gets a session, which takes memory: if it may read any of the topics.
async fn may_open_session(
    fetch: &FetchRequest,
    broker: &mut BrokerSession,
) -> Result<bool, CloseReason> {
    let mut topics = named(fetch);
    topics.retain(|(_, name)| name.len() <= NAME_BYTES_MAX);
    let permissions = broker.topic_permissions(AclOperation::Read, &topics).await?;
    Ok(topics.is_empty() || permissions.iter().any(|p| p.check(AclOperation::Read).is_ok()))
}

fn session_error_response(error: SessionError) -> FetchResponse {
    let code = match error {
        SessionError::NotFound => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        SessionError::InvalidEpoch => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        SessionError::Naming => ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
    };
    FetchResponse::default().with_error_code(code.0)
}

/// Returns until when a fetch may wait for records: until the first permission or the login expires.
/// The next fetch then has new ones.
fn valid_until(permissions: &[TopicPermissions], login: &LoginSession) -> Option<Instant> {
    let permissions = permissions.iter().filter_map(|permissions| permissions.valid_until());
    permissions.chain(login.expires_at()).min()
}

/// Returns how to read a response again. Slices without records are small and are retained. `order`
/// are the indices of the partitions whose records the response contains.
fn reload_body(
    proxy: Arc<Proxy>,
    memory: Arc<ConnectionQuota>,
    slices: &[FrameSlice],
    fetch_plan: FetchPlan,
    order: Vec<usize>,
) -> BodyReloader {
    let retained: Vec<_> =
        slices.iter().map(|s| (!s.is_records).then(|| s.bytes.clone())).collect();
    let retained = Arc::new((retained, fetch_plan, order));
    BodyReloader::new(move || {
        let (proxy, memory, retained) =
            (Arc::clone(&proxy), Arc::clone(&memory), Arc::clone(&retained));
        async move {
            let (retained, fetch_plan, order) = &*retained;
            let (mut partitions, permit) = proxy.fetcher.reread(fetch_plan, &memory).await?;
            let mut records = order.iter().flat_map(|position| {
                let partition = partitions.get_mut(*position);
                partition.map(|p| std::mem::take(&mut p.records)).unwrap_or_default()
            });
            let slices: Option<Vec<_>> = retained
                .iter()
                .map(|retained| retained.clone().or_else(|| records.next()))
                .collect();
            Some((slices?, permit))
        }
        .boxed()
    })
}

/// Returns the zone that a consumer's `client.rack` names, if it is another zone with live members.
fn zone_of_reader(request: &Request, fetch: &FetchRequest) -> Option<u16> {
    if request.version() < WITH_RACK || fetch.replica_id.0 != -1 || fetch.rack_id.is_empty() {
        return None;
    }
    let (map, own) = (request.proxy.topology.current(), request.proxy.topology.zone());
    let zone = map.zone_index(&fetch.rack_id).filter(|zone| *zone != own);
    zone.filter(|zone| !map.live_members(*zone).is_empty())
}

/// Returns a broker's response to a request that it rejects as a whole: until version 12, every
/// partition has the error too.
fn request_error_response(fetch: &FetchRequest, version: i16) -> FetchResponse {
    let code = ErrorCode::UNKNOWN_SERVER_ERROR;
    let response = match version {
        WITH_TOPIC_IDS.. => FetchResponse::default(),
        _ => error_response(fetch, std::iter::repeat(code)),
    };
    match version {
        WITH_SESSIONS.. => response.with_error_code(code.0),
        _ => response,
    }
}

/// The partitions that a request names.
pub(super) struct RequestedPartitions {
    pub(super) partitions: Vec<(SessionPartition, FetchPosition)>,
    pub(super) forgotten: HashSet<SessionPartition>,
    /// The results of topics with names that no topic has, which no session retains.
    pub(super) unknown: Vec<ResponseTopic>,
}

impl RequestedPartitions {
    pub(super) fn of(fetch: &FetchRequest) -> Self {
        let mut of_request =
            Self { partitions: Vec::new(), forgotten: HashSet::new(), unknown: Vec::new() };
        for topic in &fetch.topics {
            if topic.topic.len() > NAME_BYTES_MAX {
                of_request.unknown.push(unknown_topic(topic));
                continue;
            }
            let (topic_id, name) = (topic_id(&topic.topic_id), Arc::from(topic.topic.as_str()));
            of_request.partitions.extend(topic.partitions.iter().map(|requested| {
                let position = FetchPosition {
                    offset: requested.fetch_offset,
                    bytes_max: requested.partition_max_bytes,
                    current_leader_epoch: requested.current_leader_epoch,
                };
                let (name, partition) = (Arc::clone(&name), requested.partition);
                (SessionPartition { topic_id, name, partition }, position)
            }));
        }
        let forgotten = fetch.forgotten_topics_data.iter();
        for topic in forgotten.filter(|topic| topic.topic.len() <= NAME_BYTES_MAX) {
            let (topic_id, name) = (topic_id(&topic.topic_id), Arc::from(topic.topic.as_str()));
            let partition =
                |&partition| SessionPartition { topic_id, name: Arc::clone(&name), partition };
            of_request.forgotten.extend(topic.partitions.iter().map(partition));
        }
        of_request
    }
}

fn unknown_topic(topic: &FetchTopic) -> ResponseTopic {
    let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    ResponseTopic {
        id: topic_id(&topic.topic_id),
        name: topic.topic.as_str().to_owned(),
        partitions: topic.partitions.iter().map(|p| failed_row(p.partition, code)).collect(),
    }
}
