//! Fetch (1): the results of partitions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::requested_topics::{TopicQuery, resolve_diskless_topics};
use crate::coordinator::Watermarks;
use crate::engine::fetch as engine;
use crate::engine::memory::{ConnectionQuota, MemoryPermit};
use crate::log::ids::{TopicId, TopicPartition};
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::fetch_sessions::{
    FetchPosition, Naming, ReportedState, SessionPartition, SessionPlan,
};
use crate::proxy::topics::Topic;
use crate::wire::fetch_response::{ResponsePartition, ResponseTopic};

/// The default of a broker's `fetch.max.bytes`.
const BYTES_MAX: usize = 55 << 20;
/// The longest wait for records, whatever the client requests.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// The same for a request so large that it holds memory of `memory.requests` meanwhile.
const LARGE_WAIT_MAX: Duration = Duration::from_millis(500);

/// The partitions that were fetched on a connection. The first fetch of each queries the
/// coordinator: the client may come from another replica that had observed a higher high watermark,
/// and a high watermark must not go back for a client.
#[derive(Debug, Default)]
pub(super) struct FetchedPartitions(Mutex<HashSet<TopicPartition>>);

impl FetchedPartitions {
    /// The maximum number of partitions that are remembered; the others always query the
    /// coordinator.
    const PARTITIONS_MAX: usize = 16_384;

    fn is_first(&self, partition: TopicPartition) -> bool {
        let mut seen = self.0.lock();
        match seen.len() < Self::PARTITIONS_MAX {
            true => seen.insert(partition),
            false => !seen.contains(&partition),
        }
    }
}

/// The result of a partition.
pub(super) struct PartitionResult {
    error: ErrorCode,
    fetched: engine::FetchedPartition,
    /// The index of the partition in the request to the engine.
    position: Option<usize>,
    /// The node that the consumer should read from.
    preferred: Option<i32>,
}

impl PartitionResult {
    /// Returns the error of the partition, if any.
    pub(super) fn error(&self) -> Option<ErrorCode> {
        Some(self.error).filter(|error| *error != ErrorCode::NONE)
    }

    pub(super) fn failed(error: ErrorCode) -> Self {
        let fetched = engine::FetchedPartition::default();
        Self { error, fetched, position: None, preferred: None }
    }

    /// The partition at `index` of the request to the engine.
    fn read(proxy: &Proxy, index: usize, fetched: engine::FetchedPartition) -> Self {
        let error = match fetched.error {
            None => ErrorCode::NONE,
            // The client continues at another replica of the zone, which this one's metadata names.
            Some(engine::FetchError::Storage) if proxy.topology.is_superseded() => {
                ErrorCode::NOT_LEADER_OR_FOLLOWER
            }
            Some(error) => error_code::for_fetch(error),
        };
        Self { error, fetched, position: Some(index), preferred: None }
    }

    /// A partition that the consumer reads from another node: no records, as at a broker.
    fn redirected(watermarks: Watermarks, offset: i64, preferred: Option<i32>) -> Self {
        let readable = watermarks.log_start_offset..=watermarks.high_watermark;
        if !readable.contains(&offset) {
            return Self::failed(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let watermarks = Some(watermarks);
        let fetched = engine::FetchedPartition { watermarks, ..Default::default() };
        Self { error: ErrorCode::NONE, fetched, position: None, preferred }
    }

    /// Returns whether the result has records or names the node that has them.
    pub(super) fn gives_records(&self) -> bool {
        !self.fetched.records.is_empty() || self.preferred.is_some()
    }

    pub(super) fn reported_state(&self) -> ReportedState {
        let (high_watermark, log_start_offset) = self.ends();
        ReportedState { error_code: self.error.0, high_watermark, log_start_offset }
    }

    /// Returns whether aborted transactions are listed. A broker lists them, whatever the isolation
    /// level, if it did not look into the log.
    fn lists_aborted(&self, read_committed: bool) -> bool {
        match self.error {
            ErrorCode::NONE => read_committed,
            error => is_not_found(error),
        }
    }

    /// Returns the high watermark and the log start offset; −1 if they are unknown or hidden by an
    /// error.
    fn ends(&self) -> (i64, i64) {
        match self.fetched.watermarks {
            Some(ends) if self.error == ErrorCode::NONE => {
                (ends.high_watermark, ends.log_start_offset)
            }
            _ => (-1, -1),
        }
    }
}

/// The part of a Fetch request that is needed while it waits.
#[derive(Clone, Copy)]
pub(super) struct FetchParams {
    bytes_max: i32,
    bytes_min: i32,
    wait: Duration,
    read_committed: bool,
}

impl FetchParams {
    /// Takes them from a request. One that holds memory does not wait for long.
    pub(super) fn of(fetch: &FetchRequest, is_large: bool) -> Self {
        let wait = Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap_or(0));
        Self {
            bytes_max: fetch.max_bytes,
            bytes_min: fetch.min_bytes,
            wait: wait.min(if is_large { LARGE_WAIT_MAX } else { WAIT_MAX }),
            read_committed: fetch.isolation_level == 1,
        }
    }
}

/// A Fetch request with what the proxy derived from it.
pub(super) struct FetchContext {
    pub(super) params: FetchParams,
    pub(super) naming: Naming,
    pub(super) is_follower: bool,
    /// The consumer's zone if it is another one with live members, whose nodes it can read from.
    pub(super) reader_zone: Option<u16>,
    /// When the first of the client's permissions expires.
    pub(super) valid_until: Option<Instant>,
}

/// A partition of the session before it is read.
enum Planned {
    Failed(ErrorCode),
    /// The partition has this index in the request to the engine.
    Requested(usize),
}

/// Reads the partitions of a session; returns a result for each, the memory that the records
/// take, and what is needed to read them again.
pub(super) async fn fetch_partitions(
    proxy: &Arc<Proxy>,
    context: &FetchContext,
    plan: &SessionPlan,
    permits: &[TopicPermissions],
    fetched: &FetchedPartitions,
    memory: &ConnectionQuota,
) -> (Vec<PartitionResult>, Option<MemoryPermit>, Option<engine::FetchPlan>) {
    let topics = resolve_topics(proxy, context.naming, plan, permits).await;
    let mut planned = Vec::with_capacity(plan.partitions.len());
    let mut requested = Vec::new();
    for ((partition, position), topic) in plan.partitions.iter().zip(topics) {
        let checked = match topic {
            Ok(topic) => {
                plan_partition(proxy, context, &topic, partition.partition, *position).await
            }
            Err(code) => Err(code),
        };
        planned.push(match checked {
            Ok(mut partition) => {
                partition.fresh = fetched.is_first(partition.partition);
                requested.push(partition);
                Planned::Requested(requested.len() - 1)
            }
            Err(code) => Planned::Failed(code),
        });
    }
    if let Some(zone) = context.reader_zone {
        return (redirect_to_zone(proxy, zone, &planned, &requested).await, None, None);
    }
    // An error of a partition that exists ends the wait of all; an unknown partition does not,
    // unless no other is left.
    let has_failed =
        planned.iter().any(|p| matches!(p, Planned::Failed(code) if !is_not_found(*code)));
    let bytes_max = BYTES_MAX.min(proxy.settings.response_bytes_max);
    let request = within_limits(context, requested, has_failed, bytes_max);
    let mut response = proxy.fetcher.fetch(&request, memory).await;
    let result = |planned| match planned {
        Planned::Failed(code) => PartitionResult::failed(code),
        Planned::Requested(index) => match response.partitions.get_mut(index) {
            Some(fetched) => PartitionResult::read(proxy, index, std::mem::take(fetched)),
            None => PartitionResult::failed(ErrorCode::KAFKA_STORAGE_ERROR),
        },
    };
    let results = planned.into_iter().map(result).collect();
    (results, response.permit, response.plan)
}

/// Returns results that redirect a consumer of another zone to its zone's node for each partition
/// (KIP-392).
async fn redirect_to_zone(
    proxy: &Proxy,
    zone: u16,
    planned: &[Planned],
    requested: &[engine::PartitionFetch],
) -> Vec<PartitionResult> {
    let map = proxy.topology.current();
    let ids: Vec<_> = requested.iter().map(|partition| partition.partition).collect();
    let watermarks = proxy.lookup.watermarks(&ids).await;
    let result = |planned: &Planned| {
        let index = match planned {
            Planned::Failed(code) => return PartitionResult::failed(*code),
            Planned::Requested(index) => *index,
        };
        match (requested.get(index), watermarks.get(index)) {
            (Some(partition), Some(Ok(watermarks))) => {
                let node = map.leader(zone, partition.partition);
                PartitionResult::redirected(*watermarks, partition.offset, node)
            }
            _ => PartitionResult::failed(ErrorCode::KAFKA_STORAGE_ERROR),
        }
    };
    planned.iter().map(result).collect()
}

/// Applies a broker's limits: at most `fetch.max.bytes`, and no wait if there is nothing to wait
/// for. Nor does a fetch wait for longer than the client's permissions are valid.
fn within_limits(
    context: &FetchContext,
    partitions: Vec<engine::PartitionFetch>,
    has_failed: bool,
    bytes_max: usize,
) -> engine::FetchSpec {
    let params = context.params;
    let bytes_max = usize::try_from(params.bytes_max).unwrap_or(0).min(bytes_max);
    let wait = match partitions.is_empty() || has_failed {
        true => Duration::ZERO,
        false => {
            let valid_for =
                context.valid_until.map_or(Duration::MAX, |until| until - Instant::now());
            params.wait.min(valid_for)
        }
    };
    let bytes_min = usize::try_from(params.bytes_min).unwrap_or(0).min(bytes_max);
    engine::FetchSpec { partitions, bytes_min, bytes_max, wait }
}

/// Returns the diskless topic of each partition, if the client may read it. Each topic is looked up
/// once, together with the others.
async fn resolve_topics(
    proxy: &Proxy,
    naming: Naming,
    plan: &SessionPlan,
    permits: &[TopicPermissions],
) -> Vec<Result<Arc<Topic>, ErrorCode>> {
    let now = Instant::now();
    let mut indexes: HashMap<(TopicId, &str), usize> = HashMap::new();
    let mut queries: Vec<TopicQuery<'_>> = Vec::new();
    let mut of_partitions = Vec::with_capacity(plan.partitions.len());
    for ((partition, _), permit) in plan.partitions.iter().zip(permits) {
        let is_zero = naming == Naming::Ids && partition.topic_id.is_zero();
        let checked = match permit.check_at(now, AclOperation::Read) {
            Ok(()) if is_zero => Err(ErrorCode::UNKNOWN_TOPIC_ID),
            checked => checked,
        };
        let (id, name) = (partition.topic_id, partition.name.as_ref());
        of_partitions.push(checked.map(|()| {
            let at = *indexes.entry((id, name)).or_insert_with(|| {
                queries.push(TopicQuery::new(id, name));
                queries.len() - 1
            });
            queries[at].add_partition(partition.partition);
            at
        }));
    }
    let topics = resolve_diskless_topics(proxy, &queries).await;
    of_partitions.into_iter().map(|query| topics[query?].clone()).collect()
}

async fn plan_partition(
    proxy: &Proxy,
    context: &FetchContext,
    topic: &Topic,
    index: i32,
    position: FetchPosition,
) -> Result<engine::PartitionFetch, ErrorCode> {
    let partition = topic.partition(index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if context.is_follower {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    let bytes_max = match usize::try_from(position.bytes_max) {
        Ok(bytes_max) => bytes_max,
        Err(_) => check_negative_max_bytes(proxy, partition, position.offset).await?,
    };
    Ok(engine::PartitionFetch {
        partition,
        offset: position.offset,
        bytes_max,
        leader_epoch: topic.leader_epoch(index),
        fresh: true,
    })
}

/// Checks a negative limit like a broker, which fails with UNKNOWN_SERVER_ERROR if there are
/// records to read, and otherwise returns none.
async fn check_negative_max_bytes(
    proxy: &Proxy,
    partition: TopicPartition,
    offset: i64,
) -> Result<usize, ErrorCode> {
    let mut has_records = false;
    for ends in proxy.lookup.watermarks(&[partition]).await {
        let ends = ends.map_err(|error| error_code::for_coordinator(&error))?;
        has_records |= (ends.log_start_offset..ends.high_watermark).contains(&offset);
    }
    if has_records { Err(ErrorCode::UNKNOWN_SERVER_ERROR) } else { Ok(0) }
}

/// Returns whether a broker returns the code before it looks into a log.
fn is_not_found(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::TOPIC_AUTHORIZATION_FAILED
    )
}

/// Returns the row of a partition that was not read.
pub(super) fn failed_row(index: i32, error: ErrorCode) -> ResponsePartition {
    ResponsePartition {
        index,
        error_code: error.0,
        high_watermark: -1,
        log_start_offset: -1,
        preferred_read_replica: -1,
        lists_aborted: is_not_found(error),
        records: Vec::new(),
    }
}

/// Returns the results in a broker's order, grouped by topic, and the engine's indices of the
/// partitions that were read, in the same order.
///
/// Partitions that were read come first, then those that were not found; for a consumer, unknown
/// ids precede the latter.
pub(super) fn group_by_topic<'a>(
    rows: impl Iterator<Item = (&'a (SessionPartition, FetchPosition), PartitionResult)>,
    context: &FetchContext,
) -> (Vec<ResponseTopic>, Vec<usize>) {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(_, row)| match row.error {
        ErrorCode::UNKNOWN_TOPIC_ID if !context.is_follower => 1,
        error if is_not_found(error) => 2,
        _ => 0,
    });
    let read_committed = context.params.read_committed;
    let order = rows.iter().filter_map(|(_, row)| row.position).collect();
    let mut topics: Vec<ResponseTopic> = Vec::new();
    for ((session_partition, _), row) in rows {
        let (high_watermark, log_start_offset) = row.ends();
        let partition = ResponsePartition {
            index: session_partition.partition,
            error_code: row.error.0,
            high_watermark,
            log_start_offset,
            preferred_read_replica: row.preferred.unwrap_or(-1),
            lists_aborted: row.lists_aborted(read_committed),
            records: row.fetched.records,
        };
        match topics.last_mut() {
            Some(last)
                if last.id == session_partition.topic_id
                    && last.name == *session_partition.name =>
            {
                last.partitions.push(partition);
            }
            _ => topics.push(ResponseTopic {
                id: session_partition.topic_id,
                name: session_partition.name.as_ref().to_owned(),
                partitions: vec![partition],
            }),
        }
    }
    (topics, order)
}
