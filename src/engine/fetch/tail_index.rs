//! The ends of partitions, kept by following the coordinator's events, so that who reads the tail
//! asks nobody.
//!
//! A partition enters the index with an answer of the coordinator, and events carry it on from
//! there. What does not join on what is known (an event was missed) throws the partition out, and
//! the next reader asks again. Nothing is known while nobody follows.
//!
//! The index may lag behind the coordinator by as long as an event travels. So it never says that
//! an offset is out of range: it says nothing, and the coordinator is asked.

use std::collections::{HashMap, VecDeque};

use parking_lot::{Mutex, MutexGuard};

use crate::coordinator::{Event, FindFrom, FindRequest, Found, Watermarks};
use crate::log::batch::Run;
use crate::log::ids::TopicPartition;

/// Partitions kept at most; beyond, any other one makes room.
const PARTITIONS_MAX: usize = 16_384;
/// Runs kept of one partition; who reads further back asks the coordinator.
const RUNS_MAX: usize = 128;

/// What is known of a partition's end.
#[derive(Debug)]
struct CachedTail {
    watermarks: Watermarks,
    /// Contiguous; the last one ends at the high watermark.
    runs: VecDeque<Run>,
}

#[derive(Debug)]
enum Entry {
    /// Somebody asks the coordinator. Has something happened since, its answer may be old.
    Querying {
        queries: usize,
        stale: bool,
    },
    CachedTail(CachedTail),
}

#[derive(Debug, Default)]
struct State {
    following: bool,
    partitions: HashMap<TopicPartition, Entry>,
}

/// The index; shared by all fetches of a replica.
#[derive(Debug, Default)]
pub(crate) struct TailIndex(Mutex<State>);

/// Questions to the coordinator on whose answers the index may build.
#[derive(Debug)]
pub(crate) struct PendingQuery<'a> {
    tail: &'a TailIndex,
    partitions: Vec<TopicPartition>,
}

impl Drop for PendingQuery<'_> {
    fn drop(&mut self) {
        let mut state = self.tail.lock();
        for partition in &self.partitions {
            if let Some(Entry::Querying { queries, .. }) = state.partitions.get_mut(partition) {
                *queries -= 1;
                if *queries == 0 {
                    state.partitions.remove(partition);
                }
            }
        }
    }
}

impl TailIndex {
    /// The answer to `request`, where the index has it.
    pub(crate) fn look(&self, request: &FindRequest) -> Option<Found> {
        let state = self.lock();
        let Some(Entry::CachedTail(known)) = state.partitions.get(&request.partition) else {
            return None;
        };
        let FindFrom::Offset(offset) = request.from else { return None };
        known.find(offset, request.bytes_max, request.runs_max as usize)
    }

    /// The high watermark, where it is known.
    pub(crate) fn end(&self, partition: TopicPartition) -> Option<i64> {
        match self.lock().partitions.get(&partition) {
            Some(Entry::CachedTail(known)) => Some(known.watermarks.high_watermark),
            _ => None,
        }
    }

    /// Comes before a question to the coordinator; [`PendingQuery::learn`] comes after it.
    pub(crate) fn ask(&self, partitions: impl Iterator<Item = TopicPartition>) -> PendingQuery<'_> {
        let mut state = self.lock();
        let mut asked = Vec::new();
        for partition in partitions {
            let fresh = Entry::Querying { queries: 0, stale: !state.following };
            if let Entry::Querying { queries, .. } =
                state.partitions.entry(partition).or_insert(fresh)
            {
                *queries += 1;
                asked.push(partition);
            }
        }
        drop(state);
        PendingQuery { tail: self, partitions: asked }
    }

    /// Events come from now on, or come no more.
    pub(crate) fn set_following(&self, following: bool) {
        let mut state = self.lock();
        state.following = following;
        state.forget_all();
    }

    /// Takes note of an event.
    pub(crate) fn apply(&self, event: &Event) {
        let mut state = self.lock();
        match event {
            Event::Committed { partition, runs } => {
                state.change(*partition, |known| runs.iter().all(|run| known.append(*run)));
            }
            Event::Trimmed { partition, log_start_offset } => {
                state.change(*partition, |known| {
                    known.trim(*log_start_offset);
                    true
                });
            }
            Event::TopicDeleted(topic) => {
                state.partitions.retain(|partition, entry| match entry {
                    Entry::CachedTail(_) => partition.topic != *topic,
                    Entry::Querying { stale, .. } => {
                        *stale |= partition.topic == *topic;
                        true
                    }
                });
            }
            Event::Gap => state.forget_all(),
            Event::Bound(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl PendingQuery<'_> {
    /// Takes note of what the coordinator answered. What is known already is replaced only by what
    /// is newer: whoever was told a high watermark must not be told a lower one.
    pub(crate) fn learn<'f>(&self, found: impl Iterator<Item = (TopicPartition, &'f Found)>) {
        let mut state = self.tail.lock();
        for (partition, found) in found {
            let is_news = match state.partitions.get(&partition) {
                Some(Entry::Querying { stale, .. }) => !stale,
                Some(Entry::CachedTail(known)) => {
                    known.watermarks.high_watermark < found.watermarks.high_watermark
                }
                None => false,
            };
            if !is_news {
                continue;
            }
            if state.partitions.len() > PARTITIONS_MAX {
                state.make_room();
            }
            state.partitions.insert(partition, Entry::CachedTail(CachedTail::of(found)));
        }
    }
}

impl State {
    /// `carry_on` says whether what it changed joins on what was known.
    fn change(
        &mut self,
        partition: TopicPartition,
        carry_on: impl FnOnce(&mut CachedTail) -> bool,
    ) {
        match self.partitions.get_mut(&partition) {
            None => {}
            Some(Entry::Querying { stale, .. }) => *stale = true,
            Some(Entry::CachedTail(known)) => {
                let joined = carry_on(known);
                if !joined {
                    self.partitions.remove(&partition);
                }
            }
        }
    }

    fn forget_all(&mut self) {
        self.partitions.retain(|_, entry| match entry {
            Entry::CachedTail(_) => false,
            Entry::Querying { stale, .. } => {
                *stale = true;
                true
            }
        });
    }

    fn make_room(&mut self) {
        let is_known =
            |(_, entry): &(&TopicPartition, &Entry)| matches!(entry, Entry::CachedTail(_));
        if let Some(any) = self.partitions.iter().find(is_known).map(|(partition, _)| *partition) {
            self.partitions.remove(&any);
        }
    }
}

impl CachedTail {
    fn of(found: &Found) -> Self {
        let watermarks = found.watermarks;
        let mut known = Self { watermarks, runs: VecDeque::new() };
        // An answer that ends before the high watermark is of history; the end is known all the
        // same, and what is appended from now on.
        if found.runs.last().is_some_and(|run| run.end_offset() == watermarks.high_watermark) {
            known.runs.extend(&found.runs);
            known.shorten();
        }
        known
    }

    fn find(&self, offset: i64, bytes_max: u64, runs_max: usize) -> Option<Found> {
        let Watermarks { log_start_offset, high_watermark, .. } = self.watermarks;
        if !(log_start_offset..=high_watermark).contains(&offset) {
            return None;
        }
        let first = self.runs.partition_point(|run| run.end_offset() <= offset);
        let covered = offset == high_watermark
            || self.runs.get(first).is_some_and(|run| run.base_offset <= offset);
        if !covered {
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

    /// `false` when something between what is known and this run was missed.
    fn append(&mut self, run: Run) -> bool {
        let end = self.watermarks.high_watermark;
        if run.base_offset != end {
            // Known already from an answer that was newer than the event.
            return run.end_offset() <= end;
        }
        self.watermarks.high_watermark = run.end_offset();
        self.watermarks.bytes += run.bytes;
        self.runs.push_back(run);
        self.shorten();
        true
    }

    fn trim(&mut self, log_start_offset: i64) {
        let start = &mut self.watermarks.log_start_offset;
        *start = log_start_offset.max(*start);
        let gone = self.runs.partition_point(|run| run.end_offset() <= log_start_offset);
        let gone_bytes: u64 = self.runs.drain(..gone).map(|run| run.bytes).sum();
        self.watermarks.bytes = self.watermarks.bytes.saturating_sub(gone_bytes);
    }

    fn shorten(&mut self) {
        let surplus = self.runs.len().saturating_sub(RUNS_MAX);
        self.runs.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;
