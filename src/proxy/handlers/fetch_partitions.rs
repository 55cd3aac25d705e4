//! Fetch (1): the results of partitions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::requested_topics::resolve_diskless_topic;
use crate::coordinator::Watermarks;
use crate::engine::fetch as engine;
use crate::engine::memory::{ConnectionQuota, MemoryPermit};
use crate::log::ids::TopicPartition;
use crate::proxy::broker::authorization::AclOperation;
use crate::proxy::broker::authorization::TopicPermissions;
use crate::proxy::context::Proxy;
use crate::proxy::error_code::{self, ErrorCode};
use crate::proxy::fetch_sessions::{
    FetchPosition, Naming, ReportedState, SessionPartition, SessionPlan,
};
use crate::wire::fetch_response::{ResponsePartition, ResponseTopic};

/// The default of a broker's `fetch.max.bytes`.
const BYTES_MAX: usize = 55 << 20;
/// The longest wait for records, whatever the client requests.
const WAIT_MAX: Duration = Duration::from_secs(300);

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

    fn failed(error: ErrorCode) -> Self {
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

/// A Fetch request with what the proxy derived from it.
pub(super) struct FetchContext<'a> {
    pub(super) fetch: &'a FetchRequest,
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
    context: &FetchContext<'_>,
    plan: &SessionPlan,
    permits: &[TopicPermissions],
    fetched: &FetchedPartitions,
    memory: &ConnectionQuota,
) -> (Vec<PartitionResult>, Option<MemoryPermit>, Option<engine::FetchPlan>) {
    let mut planned = Vec::with_capacity(plan.partitions.len());
    let mut requested = Vec::new();
    let now = Instant::now();
    for ((partition, position), permit) in plan.partitions.iter().zip(permits) {
        let checked = match permit.check_at(now, AclOperation::Read) {
            Ok(()) => plan_partition(proxy, context, partition, *position).await,
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
    context: &FetchContext<'_>,
    partitions: Vec<engine::PartitionFetch>,
    has_failed: bool,
    bytes_max: usize,
) -> engine::FetchSpec {
    let fetch = context.fetch;
    let bytes_max = usize::try_from(fetch.max_bytes).unwrap_or(0).min(bytes_max);
    let wait = match partitions.is_empty() || has_failed {
        true => Duration::ZERO,
        false => {
            let requested = Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap_or(0));
            let valid_for =
                context.valid_until.map_or(Duration::MAX, |until| until - Instant::now());
            requested.min(WAIT_MAX).min(valid_for)
        }
    };
    let bytes_min = usize::try_from(fetch.min_bytes).unwrap_or(0).min(bytes_max);
    engine::FetchSpec { partitions, bytes_min, bytes_max, wait }
}

async fn plan_partition(
    proxy: &Proxy,
    context: &FetchContext<'_>,
    requested: &SessionPartition,
    position: FetchPosition,
) -> Result<engine::PartitionFetch, ErrorCode> {
    if context.naming == Naming::Ids && requested.topic_id.is_zero() {
        return Err(ErrorCode::UNKNOWN_TOPIC_ID);
    }
    let index = std::iter::once(requested.partition);
    let topic = resolve_diskless_topic(proxy, requested.topic_id, &requested.name, index).await?;
    let partition =
        topic.partition(requested.partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
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
        leader_epoch: topic.leader_epoch(requested.partition),
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

/// Returns the results in a broker's order, grouped by topic, and the engine's indices of the
/// partitions that were read, in the same order.
///
/// Partitions that were read come first, then those that were not found; for a consumer, unknown
/// ids precede the latter.
pub(super) fn group_by_topic<'a>(
    rows: impl Iterator<Item = (&'a (SessionPartition, FetchPosition), PartitionResult)>,
    context: &FetchContext<'_>,
) -> (Vec<ResponseTopic>, Vec<usize>) {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(_, row)| match row.error {
        ErrorCode::UNKNOWN_TOPIC_ID if !context.is_follower => 1,
        error if is_not_found(error) => 2,
        _ => 0,
    });
    let read_committed = context.fetch.isolation_level == 1;
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
                if (last.id, &last.name)
                    == (session_partition.topic_id, &session_partition.name) =>
            {
                last.partitions.push(partition);
            }
            _ => topics.push(ResponseTopic {
                id: session_partition.topic_id,
                name: session_partition.name.clone(),
                partitions: vec![partition],
            }),
        }
    }
    (topics, order)
}
