//! Fetch (key 1).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use super::addresses::rewrite;
use super::{
    Names, Request, SessionState, Step, frame_head, names_diskless, not_led, resolve, topic_id,
};
use crate::engine::budget::{Room, Share};
use crate::engine::fetch as engine;
use crate::log::ids::{TopicId, TopicPartition};
use crate::proxy::Proxy;
use crate::proxy::authorization::Operation;
use crate::proxy::error_reply::{self, ErrorCode};
use crate::proxy::fetch_sessions::{Plan, Position, SessionError, Told, Wanted};
use crate::proxy::reply::{Close, Reply};
use crate::proxy::session::{ClientBroker, Permit};
use crate::wire::fetch_response::{Body, Partition, Topic, encode};

/// The last version whose answers carry no addresses.
const WITHOUT_ADDRESSES: i16 = 15;

/// Classic endpoints: forwards what names no diskless topic, and refuses the rest whole with a
/// retriable code. A session that began before some topic became diskless may hold it unnamed; it
/// is ended, so that the next fetch names everything.
pub(super) async fn guard(
    request: Request,
    session: &mut SessionState,
    broker: &mut ClientBroker,
) -> Result<Step, Close> {
    let fetch: FetchRequest = request.decode()?;
    let switches = request.proxy.topics.switches();
    if fetch.session_epoch > 0 && session.switches != switches {
        let code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        return request.answer(&FetchResponse::default().with_error_code(code.0));
    }
    session.switches = switches;
    let named = named(&fetch);
    match names_diskless(&request.proxy, named.iter().copied()).await {
        Names::ClassicOnly if request.version() <= WITHOUT_ADDRESSES => Ok(request.relay()),
        Names::ClassicOnly => {
            Ok(request.forward::<FetchRequest, _>(|proxy, mut response| async move {
                for node in &mut response.node_endpoints {
                    rewrite(&proxy.settings, node.node_id, &mut node.host, &mut node.port);
                }
                response
            }))
        }
        Names::Diskless => {
            let permits = broker.permits(&named).await?;
            let codes = permits.into_iter().map(|permit| not_led(permit, Operation::Read));
            request.answer(&refuse_all(&fetch, codes))
        }
    }
}

fn named(fetch: &FetchRequest) -> Vec<(TopicId, &str)> {
    fetch.topics.iter().map(|t| (topic_id(&t.topic_id), t.topic.as_str())).collect()
}

fn refuse_all(fetch: &FetchRequest, codes: impl Iterator<Item = ErrorCode>) -> FetchResponse {
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

/// Diskless nodes.
pub(super) async fn serve(
    request: Request,
    session: &SessionState,
    broker: &mut ClientBroker,
) -> Result<Step, Close> {
    let fetch: FetchRequest = request.decode()?;
    let is_follower = fetch.replica_id.0 >= 0 || fetch.replica_state.replica_id.0 >= 0;
    if is_follower {
        let code = match broker.cluster_allows(Operation::ClusterAction).await? {
            true => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            false => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        };
        return request.answer(&refuse_all(&fetch, std::iter::repeat(code)));
    }
    let (wanted, forgotten) = wanted_of(&fetch);
    let begun = request.proxy.fetch_sessions.begin(
        fetch.session_id,
        fetch.session_epoch,
        wanted,
        &forgotten,
    );
    let plan = match begun {
        Ok(plan) => plan,
        Err(error) => {
            let code = match error {
                SessionError::NotFound => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
                SessionError::InvalidEpoch => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            };
            return request.answer(&FetchResponse::default().with_error_code(code.0));
        }
    };
    // Of the whole session: it may be older than the permission is, or have been another's.
    let topics: Vec<_> =
        plan.partitions.iter().map(|(w, _)| (w.topic_id, w.name.as_str())).collect();
    let permits = broker.permits(&topics).await?;
    let (header, proxy) = (request.header, request.proxy);
    let (fetched, memory) = (Arc::clone(&session.fetched), Arc::clone(&session.responses));
    Ok(Step::Answer(
        async move {
            let asking = Asking { fetch: &fetch, plan: &plan, permits: &permits };
            let (rows, room) = fetch_rows(&proxy, asking, &fetched, &memory).await;
            let told: Vec<_> = rows.iter().map(|row| (row.told(), row.gives_records())).collect();
            let named = proxy.fetch_sessions.finish(&plan, &told);
            let named_rows =
                plan.partitions.iter().zip(rows).zip(named).filter(|(_, named)| *named);
            let body = Body {
                error_code: 0,
                session_id: plan.session_id,
                read_committed: fetch.isolation_level == 1,
                topics: group(named_rows.map(|(row, _)| row)),
            };
            let slices = encode(body, header.api_version, frame_head(&header))
                .ok_or_else(|| Close::Ours("a Fetch answer too large for a frame".to_owned()))?;
            Ok(Some(Reply { slices, room }))
        }
        .boxed(),
    ))
}

fn wanted_of(fetch: &FetchRequest) -> (Vec<(Wanted, Position)>, Vec<Wanted>) {
    let name = |id: &uuid::Uuid, name: &str, partition| Wanted {
        topic_id: topic_id(id),
        name: name.to_owned(),
        partition,
    };
    let mut wanted = Vec::new();
    for topic in &fetch.topics {
        for partition in &topic.partitions {
            let position = Position {
                offset: partition.fetch_offset,
                bytes_max: partition.partition_max_bytes,
                current_leader_epoch: partition.current_leader_epoch,
            };
            wanted.push((name(&topic.topic_id, &topic.topic, partition.partition), position));
        }
    }
    let mut forgotten = Vec::new();
    for topic in &fetch.forgotten_topics_data {
        let of_topic = topic.partitions.iter().map(|&p| name(&topic.topic_id, &topic.topic, p));
        forgotten.extend(of_topic);
    }
    (wanted, forgotten)
}

/// The partitions that were fetched on a connection. The first fetch of each asks the coordinator:
/// the client may come from another replica that was further on, and no high watermark that it was
/// told may go back.
#[derive(Debug, Default)]
pub(super) struct Fetched(Mutex<HashSet<TopicPartition>>);

impl Fetched {
    /// So many are remembered; the others are always asked for.
    const PARTITIONS_MAX: usize = 16_384;

    fn is_first(&self, partition: TopicPartition) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.len() < Self::PARTITIONS_MAX {
            true => seen.insert(partition),
            false => !seen.contains(&partition),
        }
    }
}

/// What a partition's row will say.
struct Row {
    error: ErrorCode,
    fetched: engine::FetchedPartition,
}

impl Row {
    fn refused(error: ErrorCode) -> Self {
        Self { error, fetched: engine::FetchedPartition::default() }
    }

    fn gives_records(&self) -> bool {
        !self.fetched.records.is_empty()
    }

    fn told(&self) -> Told {
        let (high_watermark, log_start_offset) = self.ends();
        Told { error_code: self.error.0, high_watermark, log_start_offset }
    }

    /// High watermark and log start offset; −1 where they are not known or an error hides them.
    fn ends(&self) -> (i64, i64) {
        match self.fetched.watermarks {
            Some(ends) if self.error == ErrorCode::NONE => {
                (ends.high_watermark, ends.log_start_offset)
            }
            _ => (-1, -1),
        }
    }
}

/// A fetch, and what is known of it before anything is read.
#[derive(Clone, Copy)]
struct Asking<'a> {
    fetch: &'a FetchRequest,
    plan: &'a Plan,
    permits: &'a [Permit],
}

async fn fetch_rows(
    proxy: &Arc<Proxy>,
    Asking { fetch, plan, permits }: Asking<'_>,
    fetched: &Fetched,
    memory: &Share,
) -> (Vec<Row>, Option<Room>) {
    let mut rows = Vec::with_capacity(plan.partitions.len());
    let mut partitions = Vec::new();
    for ((wanted, position), permit) in plan.partitions.iter().zip(permits) {
        let planned = match permit.check(Operation::Read) {
            Ok(()) => plan_partition(proxy, fetch, wanted, *position).await,
            Err(code) => Err(code),
        };
        match planned {
            Ok(mut partition) => {
                partition.fresh = fetched.is_first(partition.partition);
                partitions.push(partition);
                rows.push(None);
            }
            Err(code) => rows.push(Some(Row::refused(code))),
        }
    }
    let asked = engine::FetchRequest {
        wait: match partitions.is_empty() {
            true => Duration::ZERO,
            false => Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap_or(0)),
        },
        partitions,
        bytes_min: usize::try_from(fetch.min_bytes).unwrap_or(0),
        bytes_max: usize::try_from(fetch.max_bytes).unwrap_or(0),
    };
    let answer = proxy.fetcher.fetch(&asked, memory).await;
    let mut fetched = answer.partitions.into_iter();
    let row = |row: Option<Row>| {
        row.unwrap_or_else(|| match fetched.next() {
            Some(fetched) => {
                let error = fetched.error.map_or(ErrorCode::NONE, error_reply::of_fetch);
                Row { error, fetched }
            }
            None => Row::refused(ErrorCode::KAFKA_STORAGE_ERROR),
        })
    };
    (rows.into_iter().map(row).collect(), answer.room)
}

async fn plan_partition(
    proxy: &Proxy,
    fetch: &FetchRequest,
    wanted: &Wanted,
    position: Position,
) -> Result<engine::FetchPartition, ErrorCode> {
    let index = std::iter::once(wanted.partition);
    let topic = resolve(proxy, wanted.topic_id, &wanted.name, index).await?;
    let partition =
        topic.partition(wanted.partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let bytes_max =
        usize::try_from(position.bytes_max).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
    if !matches!(fetch.isolation_level, 0 | 1) {
        return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
    }
    Ok(engine::FetchPartition {
        partition,
        offset: position.offset,
        bytes_max,
        leader_epoch: topic.leader_epoch(wanted.partition),
        fresh: true,
    })
}

/// Rows in their order; neighbours of one topic share its entry.
fn group<'a>(rows: impl Iterator<Item = (&'a (Wanted, Position), Row)>) -> Vec<Topic> {
    let mut topics: Vec<Topic> = Vec::new();
    for ((wanted, _), row) in rows {
        let (high_watermark, log_start_offset) = row.ends();
        let partition = Partition {
            index: wanted.partition,
            error_code: row.error.0,
            high_watermark,
            log_start_offset,
            records: row.fetched.records,
        };
        match topics.last_mut() {
            Some(last) if (last.id, &last.name) == (wanted.topic_id, &wanted.name) => {
                last.partitions.push(partition);
            }
            _ => topics.push(Topic {
                id: wanted.topic_id,
                name: wanted.name.clone(),
                partitions: vec![partition],
            }),
        }
    }
    topics
}
