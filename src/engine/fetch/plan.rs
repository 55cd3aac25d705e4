//! Plans a fetch: finds the runs to read in the tail index or, where it does not hold them, in the
//! coordinator.

use std::collections::{HashMap, HashSet};

use super::object_window::{TAILING_OBJECTS_MAX, object_order, runs_within, window};
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
/// requested ones.
const TAIL_BYTES: u64 = 8 << 20;
/// Bytes of a partition after the requested ones that a catch-up reader is expected to read next …
const READ_AHEAD_BYTES: u64 = 32 << 20;
/// … in at most this many further runs.
const READ_AHEAD_RUNS: u32 = 16;
/// Objects of a fetch that are ordered: those to be read now and next.
const ORDERED_OBJECTS_MAX: usize = 128;

/// The runs to be read for a fetch. Objects are immutable, so a plan can be read repeatedly with
/// the same result.
#[derive(Debug)]
pub struct FetchPlan {
    pub(super) spec: FetchSpec,
    /// In the order of [`FetchSpec::partitions`].
    pub(super) partitions: Vec<PartitionPlan>,
    /// A run in each of the objects to be read ahead, in the order in which they will be needed.
    pub(super) read_ahead: Vec<Run>,
}

/// The runs to be read of one partition.
#[derive(Debug)]
pub(super) struct PartitionPlan {
    pub(super) found: Found,
    pub(super) class: ReadClass,
    /// Runs after those to be read that a catch-up reader will request next.
    pub(super) next: Vec<Run>,
}

/// Result of the lookup of a partition in the tail index.
enum Lookup {
    /// The tail index holds the runs.
    Cached(FindRequest, Found),
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
            match use_index.then(|| tail.find(&extended(&request))).flatten() {
                Some(found) => lookups.push(Lookup::Cached(request, found)),
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
                Lookup::Cached(request, found) => PartitionPlan::new(&request, found),
                Lookup::Query(index) => PartitionPlan::new(&queries[index], results[index].take()?),
            });
        }
        Some(Self { spec: spec.clone(), partitions, read_ahead: Vec::new() })
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

    /// Limits the objects to be read, in an order in which the partitions pass them together: to
    /// `objects_max` if there are catch-up reads, and to [`TAILING_OBJECTS_MAX`] otherwise. The runs
    /// in further objects are left to the next fetch, and are read ahead. A partition whose runs
    /// are in more than `objects_max` objects is not read at its tail, however few bytes they have.
    pub(super) fn limit_objects(&mut self, objects_max: usize) {
        let bytes_max = self.spec.bytes_max as u64;
        let is_catch_up = |plan: &PartitionPlan| plan.class == ReadClass::CatchUp;
        let objects_to_read = match self.partitions.iter().any(is_catch_up) {
            true => objects_max,
            false => TAILING_OBJECTS_MAX,
        };
        let mut tailing = HashSet::new();
        for plan in &mut self.partitions {
            let runs = plan.found.runs.iter().chain(&plan.next);
            let objects: HashSet<_> = runs.map(|run| run.object).collect();
            if objects.len() > objects_max {
                plan.class = ReadClass::CatchUp;
            } else if plan.class == ReadClass::Tailing {
                let is_within = |run: &&Run| {
                    tailing.contains(&run.object)
                        || tailing.len() < TAILING_OBJECTS_MAX && tailing.insert(run.object)
                };
                let within = plan.found.runs.iter().take_while(is_within).count();
                plan.found.runs.truncate(within);
            }
        }
        let catch_up = || self.partitions.iter().filter(|plan| is_catch_up(plan));
        let known: Vec<Vec<Run>> =
            catch_up().map(|p| [p.found.runs.as_slice(), &p.next].concat()).collect();
        let known = || known.iter().map(Vec::as_slice);
        let order = object_order(known(), ORDERED_OBJECTS_MAX);
        let read = || catch_up().map(|plan| plan.found.runs.as_slice());
        let within = window(&order, read(), objects_to_read, bytes_max);
        let ahead = order.iter().filter(|object| !within.contains(object));
        let mut run_of = HashMap::new();
        known().flatten().for_each(|run| _ = run_of.entry(run.object).or_insert(*run));
        let read_ahead = ahead.filter_map(|object| run_of.get(object).copied()).collect();
        for plan in &mut self.partitions {
            if plan.class == ReadClass::CatchUp {
                let later = plan.found.runs.split_off(runs_within(&plan.found.runs, &within));
                plan.next.splice(0..0, later);
            }
        }
        self.read_ahead = read_ahead;
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
    /// Splits a result that holds more than was `requested` into the runs to be read and those
    /// that will be requested next.
    fn new(requested: &FindRequest, mut found: Found) -> Self {
        let end = found.watermarks.high_watermark;
        let reaches_end = found.runs.last().is_none_or(|run| run.end_offset() >= end);
        let (mut runs, mut bytes) = (0, 0);
        while runs < found.runs.len().min(requested.runs_max as usize)
            && bytes < requested.bytes_max
        {
            bytes += found.runs[runs].bytes;
            runs += 1;
        }
        let next = found.runs.split_off(runs);
        let class = match reaches_end && total_bytes(&next) <= TAIL_BYTES {
            true => ReadClass::Tailing,
            false => ReadClass::CatchUp,
        };
        Self { found, class, next }
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

/// Returns a request for the requested runs and those that a catch-up reader will request next.
fn extended(request: &FindRequest) -> FindRequest {
    FindRequest {
        bytes_max: request.bytes_max.saturating_add(READ_AHEAD_BYTES),
        runs_max: RUNS_MAX + READ_AHEAD_RUNS,
        ..*request
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
    let extended: Vec<_> = requests.iter().map(extended).collect();
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
