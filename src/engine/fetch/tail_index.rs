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

/// Maximum number of events that are kept for the result of a query.
const EVENTS_MAX: usize = 64;

/// The newest runs of a partition.
#[derive(Debug)]
struct CachedTail {
    shard: u16,
    watermarks: Watermarks,
    /// Contiguous; the last one ends at `runs_end`.
    runs: VecDeque<Run>,
    /// The high watermark, or below it as long as the events of runs that a query has revealed have
    /// not arrived.
    runs_end: i64,
}

#[derive(Debug)]
enum TailEntry {
    /// Queries to the coordinator are in flight. What has happened since may not be in their results.
    Querying {
        /// Distinguishes this entry from earlier ones of the partition: a query that began before
        /// the entry lacks the events since.
        id: u64,
        shard: u16,
        queries: usize,
        events: Vec<CoordinatorEvent>,
        /// True if events may be missing, so that no result can be cached.
        is_stale: bool,
    },
    Cached(CachedTail),
}

#[derive(Debug, Default)]
struct IndexState {
    is_subscribed: bool,
    /// Nothing of these enters the index while their events do not arrive.
    disconnected: HashSet<EventScope>,
    partitions: HashMap<TopicPartition, TailEntry>,
    last_id: u64,
}

/// The index, shared by all fetches of a replica.
#[derive(Debug, Default)]
pub(super) struct TailIndex(Mutex<IndexState>);

/// A query to the coordinator whose results may enter the index.
#[derive(Debug)]
pub(super) struct PendingQuery<'a> {
    index: &'a TailIndex,
    /// With the id of the entry that the query belongs to.
    partitions: Vec<(TopicPartition, u64)>,
}

impl Drop for PendingQuery<'_> {
    fn drop(&mut self) {
        let mut state = self.index.0.lock();
        for (partition, own) in &self.partitions {
            if let Some(TailEntry::Querying { id, queries, .. }) =
                state.partitions.get_mut(partition)
                && id == own
            {
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

    /// Returns the bounds of a partition if they are cached.
    pub(super) fn watermarks(&self, partition: TopicPartition) -> Option<Watermarks> {
        match self.0.lock().partitions.get(&partition) {
            Some(TailEntry::Cached(tail)) => Some(tail.watermarks),
            _ => None,
        }
    }

    /// Registers a query of partitions of a shard. Must be called before the query is sent; [`PendingQuery::complete`]
    /// follows when its results have arrived.
    pub(super) fn begin_query(
        &self,
        shard: u16,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> PendingQuery<'_> {
        let mut state = self.0.lock();
        let mut queried = Vec::new();
        for partition in partitions {
            let (events, is_stale) = (Vec::new(), !state.is_complete(shard));
            state.last_id += 1;
            let id = state.last_id;
            let new = TailEntry::Querying { id, shard, queries: 0, events, is_stale };
            if let TailEntry::Querying { id, queries, .. } =
                state.partitions.entry(partition).or_insert(new)
            {
                *queries += 1;
                queried.push((partition, *id));
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
        state.invalidate(EventScope::All);
    }

    /// Returns the number of shards whose events do not arrive; `u16::MAX` if none arrive.
    pub(super) fn disconnected_shards(&self) -> u16 {
        let state = self.0.lock();
        if !state.is_subscribed || state.disconnected.contains(&EventScope::All) {
            return u16::MAX;
        }
        let shards = state.disconnected.iter().filter(|of| matches!(of, EventScope::Shard(_)));
        u16::try_from(shards.count()).unwrap_or(u16::MAX)
    }

    /// Applies an event of the coordinator.
    pub(super) fn apply(&self, event: &CoordinatorEvent) {
        let mut state = self.0.lock();
        match event {
            CoordinatorEvent::Committed { partition, .. }
            | CoordinatorEvent::Trimmed { partition, .. } => state.update(*partition, event),
            CoordinatorEvent::TopicDeleted(topic) => {
                state.partitions.retain(|partition, entry| match entry {
                    TailEntry::Cached(_) => partition.topic != *topic,
                    TailEntry::Querying { is_stale, .. } => {
                        *is_stale |= partition.topic == *topic;
                        true
                    }
                });
            }
            CoordinatorEvent::Disconnected(scope) => {
                state.disconnected.insert(*scope);
                state.invalidate(*scope);
            }
            CoordinatorEvent::Gap(scope) => {
                state.disconnected.remove(scope);
                state.invalidate(*scope);
            }
            CoordinatorEvent::Bound(_) => {}
        }
    }
}

impl PendingQuery<'_> {
    /// Caches the coordinator's results. A cached partition is replaced only by a newer result: a
    /// reader that has received a high watermark must not receive a lower one. Older runs that
    /// continue a cached tail to lower offsets are added to it.
    pub(super) fn complete<'f>(&self, results: impl Iterator<Item = (TopicPartition, &'f Found)>) {
        let own: HashMap<_, _> = self.partitions.iter().copied().collect();
        let mut state = self.index.0.lock();
        for (partition, found) in results {
            let new = match state.partitions.get_mut(&partition) {
                Some(TailEntry::Querying { id, is_stale: false, events, shard, .. })
                    if own.get(&partition) == Some(id) =>
                {
                    let mut tail = CachedTail::new(*shard, found);
                    events.iter().all(|event| tail.apply(event)).then_some(tail)
                }
                Some(TailEntry::Cached(tail)) => {
                    let is_newer = tail.runs_end < found.watermarks.high_watermark;
                    let is_replaced = is_newer && tail.update(found);
                    if !is_replaced {
                        tail.extend_back(&found.runs);
                    }
                    is_replaced.then(|| CachedTail::new(tail.shard, found))
                }
                _ => None,
            };
            let Some(new) = new else { continue };
            if state.partitions.len() > PARTITIONS_MAX {
                state.evict_one();
            }
            state.partitions.insert(partition, TailEntry::Cached(new));
        }
    }
}

impl IndexState {
    /// Applies an event of a partition. A partition is removed if the event does not continue it.
    fn update(&mut self, partition: TopicPartition, event: &CoordinatorEvent) {
        match self.partitions.get_mut(&partition) {
            None => {}
            Some(TailEntry::Querying { events, is_stale, .. }) => {
                *is_stale |= events.len() >= EVENTS_MAX;
                if !*is_stale {
                    events.push(event.clone());
                }
            }
            Some(TailEntry::Cached(tail)) => {
                let is_current = tail.apply(event);
                if !is_current {
                    self.partitions.remove(&partition);
                }
            }
        }
    }

    /// Returns whether all events of a shard arrive.
    fn is_complete(&self, shard: u16) -> bool {
        let disconnected = [EventScope::All, EventScope::Shard(shard)];
        self.is_subscribed && !disconnected.iter().any(|scope| self.disconnected.contains(scope))
    }

    fn invalidate(&mut self, scope: EventScope) {
        let is_included = |of: u16| match scope {
            EventScope::All => true,
            EventScope::Topics => false,
            EventScope::Shard(shard) => shard == of,
        };
        self.partitions.retain(|_, entry| match entry {
            TailEntry::Cached(tail) => !is_included(tail.shard),
            TailEntry::Querying { shard, is_stale, .. } => {
                *is_stale |= is_included(*shard);
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
    fn new(shard: u16, found: &Found) -> Self {
        let watermarks = found.watermarks;
        let (runs, runs_end) = (VecDeque::new(), watermarks.high_watermark);
        let mut tail = Self { shard, watermarks, runs, runs_end };
        // A result that ends below the high watermark holds older runs. The high watermark is
        // cached nevertheless, and with it whatever is appended from now on.
        if found.runs.last().is_some_and(|run| run.end_offset() == watermarks.high_watermark) {
            tail.runs.extend(&found.runs);
            tail.drop_oldest();
        }
        tail
    }

    /// Applies an event of the partition. Returns false if an event before it was missed.
    fn apply(&mut self, event: &CoordinatorEvent) -> bool {
        match event {
            CoordinatorEvent::Committed { runs, .. } => runs.iter().all(|run| self.append(*run)),
            CoordinatorEvent::Trimmed { log_start_offset, .. } => {
                self.trim(*log_start_offset);
                true
            }
            _ => true,
        }
    }

    /// Applies a newer result of the coordinator. Returns whether it replaces the tail: one without
    /// the newest runs only raises the high watermark, because their events will arrive.
    fn update(&mut self, found: &Found) -> bool {
        let end = found.watermarks.high_watermark;
        if found.runs.last().is_some_and(|run| run.end_offset() == end) {
            return true;
        }
        if self.watermarks.high_watermark < end {
            self.watermarks = found.watermarks;
        }
        false
    }

    /// Adds runs before the cached ones, if they reach them without a gap.
    fn extend_back(&mut self, runs: &[Run]) {
        let first = self.runs.front().map_or(self.runs_end, |run| run.base_offset);
        let older = runs.partition_point(|run| run.end_offset() <= first);
        if older == 0 || runs[older - 1].end_offset() != first {
            return;
        }
        let log_start = self.watermarks.log_start_offset;
        let held = runs[..older].iter().rev().take_while(|run| run.end_offset() > log_start);
        for run in held.take(RUNS_MAX.saturating_sub(self.runs.len())) {
            self.runs.push_front(*run);
        }
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
        if run.base_offset != self.runs_end {
            // Cached already, by a result that was newer than the event.
            return run.end_offset() <= self.runs_end;
        }
        self.runs_end = run.end_offset();
        if self.watermarks.high_watermark < self.runs_end {
            self.watermarks.high_watermark = self.runs_end;
            self.watermarks.bytes += run.bytes;
        }
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
