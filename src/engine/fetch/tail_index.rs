//! In-memory index of the newest runs of partitions, so that tailing reads need no query.
//!
//! A partition enters the index with a result of the coordinator and is kept up to date by the
//! coordinator's events. An event that does not continue the cached runs reveals a missed one: the
//! partition is removed, and the next read queries the coordinator. The index is empty while the
//! replica has no subscription.
//!
//! The index lags behind the coordinator by the propagation delay of events. It therefore never
//! reports an offset as out of range; it returns nothing, and the coordinator is queried.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;

use crate::coordinator::{CoordinatorEvent, EventScope, FindFrom, FindRequest, Found, Watermarks};
use crate::log::batch::Run;
use crate::log::ids::TopicPartition;

/// Maximum number of cached partitions; an arbitrary one is evicted beyond it.
const PARTITIONS_MAX: usize = 16_384;
/// Maximum number of cached runs per partition; older ones are left to the coordinator.
const RUNS_MAX: usize = 128;

/// The newest runs of a partition.
#[derive(Debug)]
struct CachedTail {
    watermarks: Watermarks,
    /// Contiguous; the last one ends at the high watermark.
    runs: VecDeque<Run>,
}

#[derive(Debug)]
enum TailEntry {
    /// Queries to the coordinator are in flight. Their results are stale if an event has arrived
    /// since.
    Querying {
        queries: usize,
        is_stale: bool,
    },
    Cached(CachedTail),
}

#[derive(Debug, Default)]
struct IndexState {
    is_subscribed: bool,
    /// Nothing enters the index while events do not arrive.
    disconnected: HashSet<EventScope>,
    partitions: HashMap<TopicPartition, TailEntry>,
}

/// The index, shared by all fetches of a replica.
#[derive(Debug, Default)]
pub(super) struct TailIndex(Mutex<IndexState>);

/// A query to the coordinator whose results may enter the index.
#[derive(Debug)]
pub(super) struct PendingQuery<'a> {
    index: &'a TailIndex,
    partitions: Vec<TopicPartition>,
}

impl Drop for PendingQuery<'_> {
    fn drop(&mut self) {
        let mut state = self.index.0.lock();
        for partition in &self.partitions {
            if let Some(TailEntry::Querying { queries, .. }) = state.partitions.get_mut(partition) {
                *queries -= 1;
                if *queries == 0 {
                    state.partitions.remove(partition);
                }
            }
        }
    }
}

impl TailIndex {
    /// Returns the result of `request` if it is cached.
    pub(super) fn find(&self, request: &FindRequest) -> Option<Found> {
        let FindFrom::Offset(offset) = request.from else { return None };
        match self.0.lock().partitions.get(&request.partition) {
            Some(TailEntry::Cached(tail)) => {
                tail.find(offset, request.bytes_max, request.runs_max as usize)
            }
            _ => None,
        }
    }

    /// Returns the high watermark of a partition if it is cached.
    pub(super) fn high_watermark(&self, partition: TopicPartition) -> Option<i64> {
        match self.0.lock().partitions.get(&partition) {
            Some(TailEntry::Cached(tail)) => Some(tail.watermarks.high_watermark),
            _ => None,
        }
    }

    /// Registers a query. Must be called before the query is sent; [`PendingQuery::complete`]
    /// follows when its results have arrived.
    pub(super) fn begin_query(
        &self,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> PendingQuery<'_> {
        let mut state = self.0.lock();
        let mut queried = Vec::new();
        for partition in partitions {
            let new = TailEntry::Querying { queries: 0, is_stale: !state.is_complete() };
            if let TailEntry::Querying { queries, .. } =
                state.partitions.entry(partition).or_insert(new)
            {
                *queries += 1;
                queried.push(partition);
            }
        }
        drop(state);
        PendingQuery { index: self, partitions: queried }
    }

    /// Sets whether events arrive from now on, and clears the index.
    pub(super) fn set_subscribed(&self, is_subscribed: bool) {
        let mut state = self.0.lock();
        state.is_subscribed = is_subscribed;
        state.disconnected.clear();
        state.invalidate_all();
    }

    /// Applies an event of the coordinator.
    pub(super) fn apply(&self, event: &CoordinatorEvent) {
        let mut state = self.0.lock();
        match event {
            CoordinatorEvent::Committed { partition, runs } => {
                state.update(*partition, |tail| runs.iter().all(|run| tail.append(*run)));
            }
            CoordinatorEvent::Trimmed { partition, log_start_offset } => {
                state.update(*partition, |tail| {
                    tail.trim(*log_start_offset);
                    true
                });
            }
            CoordinatorEvent::TopicDeleted(topic) => {
                state.partitions.retain(|partition, entry| match entry {
                    TailEntry::Cached(_) => partition.topic != *topic,
                    TailEntry::Querying { is_stale, .. } => {
                        *is_stale |= partition.topic == *topic;
                        true
                    }
                });
            }
            CoordinatorEvent::Disconnected(EventScope::Topics)
            | CoordinatorEvent::Gap(EventScope::Topics) => {}
            CoordinatorEvent::Disconnected(scope) => {
                state.disconnected.insert(*scope);
                state.invalidate_all();
            }
            CoordinatorEvent::Gap(scope) => {
                state.disconnected.remove(scope);
                state.invalidate_all();
            }
            CoordinatorEvent::Bound(_) => {}
        }
    }
}

impl PendingQuery<'_> {
    /// Caches the coordinator's results. A cached partition is replaced only by a newer result: a
    /// reader that has received a high watermark must not receive a lower one.
    pub(super) fn complete<'f>(&self, results: impl Iterator<Item = (TopicPartition, &'f Found)>) {
        let mut state = self.index.0.lock();
        for (partition, found) in results {
            let is_newer = match state.partitions.get(&partition) {
                Some(TailEntry::Querying { is_stale, .. }) => !is_stale,
                Some(TailEntry::Cached(tail)) => {
                    tail.watermarks.high_watermark < found.watermarks.high_watermark
                }
                None => false,
            };
            if !is_newer {
                continue;
            }
            if state.partitions.len() > PARTITIONS_MAX {
                state.evict_one();
            }
            state.partitions.insert(partition, TailEntry::Cached(CachedTail::new(found)));
        }
    }
}

impl IndexState {
    /// Returns whether all events arrive.
    fn is_complete(&self) -> bool {
        self.is_subscribed && self.disconnected.is_empty()
    }

    /// Updates a cached partition. `update` returns whether the event continues the cached runs; the
    /// partition is removed if not.
    fn update(&mut self, partition: TopicPartition, update: impl FnOnce(&mut CachedTail) -> bool) {
        match self.partitions.get_mut(&partition) {
            None => {}
            Some(TailEntry::Querying { is_stale, .. }) => *is_stale = true,
            Some(TailEntry::Cached(tail)) => {
                let is_continuous = update(tail);
                if !is_continuous {
                    self.partitions.remove(&partition);
                }
            }
        }
    }

    fn invalidate_all(&mut self) {
        self.partitions.retain(|_, entry| match entry {
            TailEntry::Cached(_) => false,
            TailEntry::Querying { is_stale, .. } => {
                *is_stale = true;
                true
            }
        });
    }

    fn evict_one(&mut self) {
        let is_cached =
            |(_, entry): &(&TopicPartition, &TailEntry)| matches!(entry, TailEntry::Cached(_));
        if let Some(any) = self.partitions.iter().find(is_cached).map(|(partition, _)| *partition) {
            self.partitions.remove(&any);
        }
    }
}

impl CachedTail {
    fn new(found: &Found) -> Self {
        let watermarks = found.watermarks;
        let mut tail = Self { watermarks, runs: VecDeque::new() };
        // A result that ends below the high watermark holds older runs. The high watermark is
        // cached nevertheless, and with it whatever is appended from now on.
        if found.runs.last().is_some_and(|run| run.end_offset() == watermarks.high_watermark) {
            tail.runs.extend(&found.runs);
            tail.drop_oldest();
        }
        tail
    }

    fn find(&self, offset: i64, bytes_max: u64, runs_max: usize) -> Option<Found> {
        let Watermarks { log_start_offset, high_watermark, .. } = self.watermarks;
        if !(log_start_offset..=high_watermark).contains(&offset) {
            return None;
        }
        let first = self.runs.partition_point(|run| run.end_offset() <= offset);
        let is_covered = offset == high_watermark
            || self.runs.get(first).is_some_and(|run| run.base_offset <= offset);
        if !is_covered {
            return None;
        }
        let (mut bytes, mut runs) = (0, Vec::new());
        for run in self.runs.range(first..).take(runs_max) {
            if !runs.is_empty() && bytes >= bytes_max {
                break;
            }
            bytes += run.bytes;
            runs.push(*run);
        }
        Some(Found { watermarks: self.watermarks, runs })
    }

    /// Appends a run, and returns false if one before it was missed.
    fn append(&mut self, run: Run) -> bool {
        let end = self.watermarks.high_watermark;
        if run.base_offset != end {
            // Cached already, by a result that was newer than the event.
            return run.end_offset() <= end;
        }
        self.watermarks.high_watermark = run.end_offset();
        self.watermarks.bytes += run.bytes;
        self.runs.push_back(run);
        self.drop_oldest();
        true
    }

    fn trim(&mut self, log_start_offset: i64) {
        let start = &mut self.watermarks.log_start_offset;
        *start = log_start_offset.max(*start);
        let deleted = self.runs.partition_point(|run| run.end_offset() <= log_start_offset);
        let deleted_bytes: u64 = self.runs.drain(..deleted).map(|run| run.bytes).sum();
        self.watermarks.bytes = self.watermarks.bytes.saturating_sub(deleted_bytes);
    }

    fn drop_oldest(&mut self) {
        let surplus = self.runs.len().saturating_sub(RUNS_MAX);
        self.runs.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;
