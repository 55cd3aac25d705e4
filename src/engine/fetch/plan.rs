//! The runs that a fetch reads.

use std::collections::{HashMap, HashSet};

use super::object_window::{TAILING_OBJECTS_MAX, object_order, runs_within, window};
use super::spec::{FetchError, FetchSpec, PartitionFetch};
use crate::coordinator::{FindFrom, FindRequest, Found, Watermarks};
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
#[derive(Clone, Debug)]
pub(super) struct PartitionPlan {
    /// `None` if the coordinator did not respond.
    pub(super) watermarks: Option<Watermarks>,
    pub(super) error: Option<FetchError>,
    /// None if there is an error.
    pub(super) runs: Vec<Run>,
    pub(super) class: ReadClass,
    /// Runs after those to be read that a catch-up reader will request next.
    pub(super) next: Vec<Run>,
    /// Estimate of the bytes between the runs to be read and the high watermark.
    bytes_behind: u64,
}

impl FetchPlan {
    /// Limits the objects to be read, in an order in which the partitions pass them together: to
    /// `objects_max` if the fetch is behind, and to [`TAILING_OBJECTS_MAX`] otherwise. The runs
    /// in further objects are left to the next fetch, and are read ahead. A partition whose runs
    /// are in more than `objects_max` objects is not read at its tail, however few bytes they have.
    pub(super) fn limit_objects(&mut self, objects_max: usize) {
        let bytes_max = self.spec.bytes_max as u64;
        let is_catch_up = |plan: &PartitionPlan| plan.class == ReadClass::CatchUp;
        // Partitions that are a little behind each, but in different places, need many objects.
        let bytes_behind =
            self.partitions.iter().map(|p| p.bytes_behind).fold(0, u64::saturating_add);
        let objects_to_read = match bytes_behind > TAIL_BYTES {
            true => objects_max,
            false => TAILING_OBJECTS_MAX,
        };
        let mut tailing = HashSet::new();
        for plan in &mut self.partitions {
            let runs = plan.runs.iter().chain(&plan.next);
            let objects: HashSet<_> = runs.map(|run| run.object).collect();
            if objects.len() > objects_max {
                plan.class = ReadClass::CatchUp;
            } else if plan.class == ReadClass::Tailing {
                let is_within = |run: &&Run| {
                    tailing.contains(&run.object)
                        || tailing.len() < TAILING_OBJECTS_MAX && tailing.insert(run.object)
                };
                let within = plan.runs.iter().take_while(is_within).count();
                plan.runs.truncate(within);
            }
        }
        let catch_up = || self.partitions.iter().filter(|plan| is_catch_up(plan));
        let known: Vec<Vec<Run>> =
            catch_up().map(|p| [p.runs.as_slice(), &p.next].concat()).collect();
        let known = || known.iter().map(Vec::as_slice);
        let order = object_order(known(), ORDERED_OBJECTS_MAX);
        let read = || catch_up().map(|plan| plan.runs.as_slice());
        let within = window(&order, read(), objects_to_read, bytes_max);
        let ahead = order.iter().filter(|object| !within.contains(object));
        let mut run_of = HashMap::new();
        known().flatten().for_each(|run| _ = run_of.entry(run.object).or_insert(*run));
        let read_ahead = ahead.filter_map(|object| run_of.get(object).copied()).collect();
        for plan in &mut self.partitions {
            if plan.class == ReadClass::CatchUp {
                let later = plan.runs.split_off(runs_within(&plan.runs, &within));
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
        for run in self.partitions.iter().flat_map(|plan| &plan.runs) {
            first.get_or_insert(run.bytes);
            total += run.bytes;
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
            remaining = remaining.saturating_sub(total_bytes(&self.partitions[end].runs));
            end += 1;
        }
        end
    }
}

impl PartitionPlan {
    /// A partition of which nothing is read.
    pub(super) fn failed(error: FetchError) -> Self {
        Self { error: Some(error), ..Self::without_runs(None) }
    }

    /// A partition of which nothing is read now.
    pub(super) fn without_runs(watermarks: Option<Watermarks>) -> Self {
        let (runs, next) = (Vec::new(), Vec::new());
        let class = ReadClass::Tailing;
        Self { watermarks, error: None, runs, class, next, bytes_behind: 0 }
    }

    /// Splits a result that may hold more than was `requested` into the runs to be read and those
    /// that will be requested next.
    pub(super) fn new(
        partition: &PartitionFetch,
        requested: &FindRequest,
        mut found: Found,
    ) -> Self {
        let (mut runs, mut bytes) = (0, 0);
        while runs < found.runs.len().min(requested.runs_max as usize)
            && bytes < requested.bytes_max
        {
            bytes += found.runs[runs].bytes;
            runs += 1;
        }
        let bytes_behind = bytes_behind(&found);
        let next = found.runs.split_off(runs);
        let bytes_behind = bytes_behind.saturating_add(total_bytes(&next));
        let class = match bytes_behind <= TAIL_BYTES {
            true => ReadClass::Tailing,
            false => ReadClass::CatchUp,
        };
        let (watermarks, runs) = (Some(found.watermarks), found.runs);
        Self { watermarks, error: None, runs, class, next, bytes_behind }.checked(partition)
    }

    /// Sets the error of an offset that the log does not have, or that the index lacks.
    fn checked(mut self, partition: &PartitionFetch) -> Self {
        let Some(watermarks) = self.watermarks else { return self };
        self.error = if !partition.is_in_range(&watermarks) {
            Some(FetchError::OffsetOutOfRange)
        } else if partition.offset < watermarks.high_watermark
            && !self.runs.first().is_some_and(|run| contains(run, partition.offset))
        {
            let (offset, high_watermark) = (partition.offset, watermarks.high_watermark);
            let partition = partition.partition;
            tracing::error!(
                ?partition,
                offset,
                high_watermark,
                "the index has no entry for an offset below the high watermark"
            );
            Some(FetchError::IndexEntryMissing)
        } else {
            None
        };
        if self.error.is_some() {
            self.runs.clear();
            self.next.clear();
            self.bytes_behind = 0;
        }
        self
    }

    /// Returns whether the fetch must not wait for more of this partition: it has as many runs as a
    /// fetch returns, or the client must learn at once that its offset does not exist.
    pub(super) fn ends_wait(&self) -> bool {
        let is_final =
            matches!(self.error, Some(FetchError::OffsetOutOfRange | FetchError::TopicDeleted));
        is_final || self.runs.len() >= RUNS_MAX as usize
    }

    /// Returns the bytes of the runs, at most the limit of the partition. One batch is always
    /// returned, so a limit of 0 counts as 1.
    pub(super) fn bytes_within(&self, partition: &PartitionFetch) -> u64 {
        total_bytes(&self.runs).min(partition.bytes_max.max(1) as u64)
    }
}

/// Returns the query for the runs that a fetch reads of a partition.
pub(super) fn find_request(spec: &FetchSpec, partition: &PartitionFetch) -> FindRequest {
    FindRequest {
        partition: partition.partition,
        from: FindFrom::Offset(partition.offset),
        bytes_max: partition.bytes_max.min(spec.bytes_max).max(1) as u64,
        runs_max: RUNS_MAX,
    }
}

/// Returns a request for the requested runs and those that a catch-up reader will request next.
pub(super) fn extended(request: &FindRequest) -> FindRequest {
    FindRequest {
        bytes_max: request.bytes_max.saturating_add(READ_AHEAD_BYTES),
        runs_max: RUNS_MAX + READ_AHEAD_RUNS,
        ..*request
    }
}

/// Returns whether runs reach the high watermark, or are those requested and enough of the next ones
/// to read ahead.
pub(super) fn suffices(request: &FindRequest, runs: &[Run], high_watermark: i64) -> bool {
    runs.last().is_some_and(|run| run.end_offset() >= high_watermark)
        || runs.len() >= (request.runs_max + READ_AHEAD_RUNS / 2) as usize
        || total_bytes(runs) >= request.bytes_max.saturating_add(READ_AHEAD_BYTES / 2)
}

/// Estimates the bytes between the last run found and the high watermark.
fn bytes_behind(found: &Found) -> u64 {
    let (Some(first), Some(last)) = (found.runs.first(), found.runs.last()) else { return 0 };
    let offsets = |from: i64, to: i64| u64::try_from(to.saturating_sub(from)).unwrap_or(0);
    let found_offsets = offsets(first.base_offset, last.end_offset()).max(1);
    let behind = offsets(last.end_offset(), found.watermarks.high_watermark);
    let estimate =
        u128::from(behind) * u128::from(total_bytes(&found.runs)) / u128::from(found_offsets);
    u64::try_from(estimate).unwrap_or(u64::MAX)
}

fn contains(run: &Run, offset: i64) -> bool {
    (run.base_offset..run.end_offset()).contains(&offset)
}

pub(super) fn total_bytes(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.bytes).sum()
}

#[cfg(test)]
mod tests;
