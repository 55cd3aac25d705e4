//! Plans a fetch: finds the runs to read in the tail index or, where it does not hold them, in the
//! coordinator.

use super::spec::{FetchSpec, PartitionFetch};
use super::tail_index::TailIndex;
use crate::coordinator::{
    Coordinator, CoordinatorError, CoordinatorExt as _, FindFrom, FindRequest, Found,
};
use crate::engine::cache::ReadClass;
use crate::log::batch::Run;

/// Runs per partition that one fetch reads at most.
const RUNS_MAX: u32 = 64;
/// Distance from the high watermark beyond which a read is a catch-up read, in bytes after the
/// requested ones. Runs within this distance may be read ahead …
const READ_AHEAD_BYTES: u64 = 8 << 20;
/// … from at most this many objects.
const READ_AHEAD_OBJECTS: usize = 4;

/// The runs to be read for a fetch. Objects are immutable, so a plan can be read repeatedly with
/// the same result.
#[derive(Debug)]
pub struct FetchPlan {
    pub(super) spec: FetchSpec,
    /// In the order of [`FetchSpec::partitions`].
    pub(super) partitions: Vec<PartitionPlan>,
}

/// The runs to be read of one partition.
#[derive(Debug)]
pub(super) struct PartitionPlan {
    pub(super) found: Found,
    pub(super) class: ReadClass,
    /// The first run in each of the objects to be read ahead.
    pub(super) read_ahead: Vec<Run>,
}

/// Result of the lookup of a partition in the tail index.
enum Lookup {
    /// The tail index holds the runs.
    Cached(Found),
    /// The coordinator has to be queried: index into the queries.
    Query(usize),
}

impl FetchPlan {
    /// Plans a fetch. `allow_cached` overrides [`PartitionFetch::fresh`]. Returns `None` if the
    /// coordinator has to be queried and fails.
    pub(super) async fn new(
        spec: &FetchSpec,
        allow_cached: bool,
        tail: &TailIndex,
        coordinator: &dyn Coordinator,
    ) -> Option<Self> {
        let mut lookups = Vec::with_capacity(spec.partitions.len());
        let mut queries = Vec::new();
        for partition in &spec.partitions {
            let request = find_request(spec, partition);
            let use_index = allow_cached || !partition.fresh;
            match use_index.then(|| tail.find(&request)).flatten() {
                Some(found) => lookups.push(Lookup::Cached(found)),
                None => {
                    lookups.push(Lookup::Query(queries.len()));
                    queries.push(request);
                }
            }
        }
        let mut results = query(&queries, tail, coordinator).await?;
        let mut partitions = Vec::with_capacity(lookups.len());
        for lookup in lookups {
            partitions.push(match lookup {
                Lookup::Cached(found) => PartitionPlan::tailing(found),
                Lookup::Query(index) => {
                    PartitionPlan::from_query(&queries[index], results[index].take()?)
                }
            });
        }
        Some(Self { spec: spec.clone(), partitions })
    }

    /// Returns whether the fetch must not wait for more records: enough bytes are available, a
    /// partition has as many runs as a fetch returns, or an offset is out of range. An empty
    /// partition does not end the wait.
    pub(super) fn ends_wait(&self) -> bool {
        let mut available = 0_u64;
        for (partition, plan) in self.spec.partitions.iter().zip(&self.partitions) {
            let found = &plan.found;
            if !partition.is_in_range(&found.watermarks) || found.runs.len() >= RUNS_MAX as usize {
                return true;
            }
            available += total_bytes(&found.runs);
        }
        // A fetch never returns more than `bytes_max`, so waiting for more would be futile.
        available >= self.spec.bytes_min.min(self.spec.bytes_max.max(1)) as u64
    }

    /// Returns the memory that the result needs, in bytes: the limit of the fetch, or the size of
    /// the first run if that is greater, because at least one batch of it is returned.
    pub(super) fn bytes_to_read(&self) -> usize {
        let mut first = None;
        let mut total = 0;
        for index in 0..self.partitions.len() {
            for run in self.readable_runs(index) {
                first.get_or_insert(run.bytes);
                total += run.bytes;
            }
        }
        let limit = first.unwrap_or(0).max(self.spec.bytes_max as u64);
        usize::try_from(total.min(limit)).unwrap_or(usize::MAX)
    }

    /// Returns the end of the range of partitions from `start` on whose runs fill `bytes` bytes by
    /// their sizes.
    pub(super) fn end_of_wave(&self, start: usize, bytes: usize) -> usize {
        let mut remaining = bytes as u64;
        let mut end = start;
        while end < self.partitions.len() && remaining > 0 {
            remaining = remaining.saturating_sub(total_bytes(self.readable_runs(end)));
            end += 1;
        }
        end
    }

    /// Returns the runs of the partition with this index; none if its offset is out of range.
    pub(super) fn readable_runs(&self, index: usize) -> &[Run] {
        let found = &self.partitions[index].found;
        match self.spec.partitions[index].is_in_range(&found.watermarks) {
            true => &found.runs,
            false => &[],
        }
    }
}

impl PartitionPlan {
    fn tailing(found: Found) -> Self {
        Self { found, class: ReadClass::Tailing, read_ahead: Vec::new() }
    }

    /// Splits the result of a query for more than `requested` into the runs to be read and the
    /// objects to be read ahead.
    fn from_query(requested: &FindRequest, mut found: Found) -> Self {
        let end = found.watermarks.high_watermark;
        let reaches_end = found.runs.last().is_none_or(|run| run.end_offset() >= end);
        let (mut runs, mut bytes) = (0, 0);
        while runs < found.runs.len().min(requested.runs_max as usize)
            && bytes < requested.bytes_max
        {
            bytes += found.runs[runs].bytes;
            runs += 1;
        }
        let further = found.runs.split_off(runs);
        if reaches_end {
            return Self::tailing(found);
        }
        let last_object = found.runs.last().map(|run| run.object);
        let mut read_ahead: Vec<Run> = Vec::new();
        for run in further {
            let is_read_already = Some(run.object) == last_object
                || read_ahead.last().is_some_and(|last| last.object == run.object);
            if !is_read_already {
                read_ahead.push(run);
            }
        }
        read_ahead.truncate(READ_AHEAD_OBJECTS);
        Self { found, class: ReadClass::CatchUp, read_ahead }
    }
}

fn find_request(spec: &FetchSpec, partition: &PartitionFetch) -> FindRequest {
    FindRequest {
        partition: partition.partition,
        from: FindFrom::Offset(partition.offset),
        bytes_max: partition.bytes_max.min(spec.bytes_max).max(1) as u64,
        runs_max: RUNS_MAX,
    }
}

/// Queries the coordinator for the requested runs and those to be read ahead, and updates the tail
/// index. Returns one result per request, or `None` if the coordinator fails.
async fn query(
    requests: &[FindRequest],
    tail: &TailIndex,
    coordinator: &dyn Coordinator,
) -> Option<Vec<Option<Found>>> {
    if requests.is_empty() {
        return Some(Vec::new());
    }
    let pending = tail.begin_query(requests.iter().map(|request| request.partition));
    let mut extended = Vec::with_capacity(requests.len());
    for request in requests {
        extended.push(FindRequest {
            bytes_max: request.bytes_max + READ_AHEAD_BYTES,
            runs_max: RUNS_MAX + READ_AHEAD_OBJECTS as u32,
            ..*request
        });
    }
    let results = match coordinator.find_all(extended).await {
        Ok(results) if results.len() == requests.len() => results,
        Ok(results) => {
            let (expected, actual) = (requests.len(), results.len());
            tracing::error!(expected, actual, "the coordinator returned a wrong number of results");
            return None;
        }
        // Reported by the monitor of the metadata's health.
        Err(CoordinatorError::MetadataLost(detail)) => {
            tracing::debug!(detail, "find rejected: metadata lost");
            return None;
        }
        Err(error) => {
            tracing::warn!(%error, "find failed");
            return None;
        }
    };
    pending.complete(requests.iter().map(|request| request.partition).zip(&results));
    Some(results.into_iter().map(Some).collect())
}

fn total_bytes(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.bytes).sum()
}
