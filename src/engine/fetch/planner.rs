//! Finds the runs of a fetch: in the tail index, among the runs of earlier queries, or by queries of
//! the coordinator, each partition on its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::finder::{FindResult, Finder, bounds_of};
use super::long_poll::{Changes, LongPolls};
use super::plan::{FetchPlan, PartitionPlan, extended, find_request, suffices};
use super::spec::{FetchError, FetchSpec, PartitionFetch};
use crate::coordinator::{FindRequest, Found, Watermarks};
use crate::metrics::Metrics;

/// Queries for runs that a fetch makes of one shard at a time; each result permits another two.
/// A fetch over many partitions needs the runs of the first few only.
const QUERIES_AT_FIRST: usize = 16;
/// Responses that the runs found would fill when no more are queried: partitions that share objects
/// are read together, although their records do not fit into one response.
const PLANNED_RESPONSES: u64 = 4;
/// The wait for outstanding results once the fetch has something to return.
const GRACE: Duration = Duration::from_millis(100);
/// The wait for outstanding results otherwise, whatever the client's own wait.
const PATIENCE: Duration = Duration::from_secs(2);
/// The greatest wait of a fetch in which a partition failed: the client must learn of it, but shall
/// not fetch in a loop.
const WAIT_AFTER_ERROR: Duration = Duration::from_millis(500);

/// State of a partition.
#[derive(Debug)]
enum State {
    /// Nothing yet.
    New,
    /// A query for its bounds or its runs is outstanding since then.
    Queried(Instant),
    /// Its offset is below the high watermark, and its runs are not known.
    Deferred(Watermarks),
    Planned(PartitionPlan),
}

/// Purpose of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Bounds,
    Runs,
}

type QueryResult = (usize, Purpose, FindResult);

/// Sources of runs.
#[derive(Clone, Copy)]
pub(super) struct RunSource<'a> {
    pub(super) finder: &'a Arc<Finder>,
    pub(super) long_polls: &'a LongPolls,
    pub(super) metrics: &'a Metrics,
}

/// The queries for runs of a shard.
#[derive(Clone, Copy, Debug)]
struct Window {
    outstanding: usize,
    outstanding_max: usize,
    /// A query of this fetch has succeeded.
    has_responded: bool,
}

/// A fetch that is being planned.
pub(super) struct Planner<'a> {
    source: RunSource<'a>,
    spec: &'a FetchSpec,
    states: Vec<State>,
    queries: FuturesUnordered<BoxFuture<'static, QueryResult>>,
    /// By shard.
    windows: HashMap<u16, Window>,
    /// Partitions that events have named while their queries were outstanding: the results may be
    /// older than the events.
    missed: BTreeSet<usize>,
    /// When the last query was submitted.
    queried_at: Instant,
    started: Instant,
    /// When the fetch first had enough to return, and when its first partition failed. Waits are
    /// counted from here, so that events do not extend them.
    enough_at: Option<Instant>,
    failed_at: Option<Instant>,
    has_looked: bool,
}

impl Window {
    const EMPTY: Self =
        Self { outstanding: 0, outstanding_max: QUERIES_AT_FIRST, has_responded: false };
}

impl<'a> Planner<'a> {
    pub(super) fn new(source: RunSource<'a>, spec: &'a FetchSpec, started: Instant) -> Self {
        Self {
            source,
            spec,
            states: spec.partitions.iter().map(|_| State::New).collect(),
            queries: FuturesUnordered::new(),
            windows: HashMap::new(),
            missed: BTreeSet::new(),
            queried_at: started,
            started,
            enough_at: None,
            failed_at: None,
            has_looked: false,
        }
    }

    /// Looks at every partition without an outstanding query; submits the queries that are needed.
    pub(super) fn look(&mut self) {
        self.look_at_each(0..self.states.len());
        self.has_looked = true;
    }

    /// Looks at the partitions that events have named.
    pub(super) fn look_at_changes(&mut self, changes: &Changes) {
        for &index in &changes.deleted {
            let plan = PartitionPlan::failed(FetchError::TopicDeleted);
            self.states[index] = State::Planned(plan);
        }
        self.look_at_each(changes.changed.iter().copied());
    }

    fn look_at_each(&mut self, indexes: impl Iterator<Item = usize>) {
        let mut bounds = Vec::new();
        for index in indexes {
            let next = match &self.states[index] {
                State::Queried(_) => {
                    self.missed.insert(index);
                    continue;
                }
                State::Planned(plan) if plan.error.is_some() => continue,
                _ => self.look_at(&self.spec.partitions[index]),
            };
            match (next, &self.states[index]) {
                // Runs that were found stay what they are, unless more are known.
                (Some(State::Deferred(_)) | None, State::Planned(plan))
                    if !plan.runs.is_empty() => {}
                (Some(state), _) => self.states[index] = state,
                (None, State::Deferred(_)) => {}
                (None, _) => bounds.push(index),
            }
        }
        self.query_runs(&mut bounds);
        self.submit(Purpose::Bounds, &bounds);
    }

    /// Returns what is known without a query; `None` if the bounds have to be queried.
    fn look_at(&self, partition: &PartitionFetch) -> Option<State> {
        if partition.fresh && !self.has_looked {
            return None;
        }
        let request = find_request(self.spec, partition);
        let tail = self.source.long_polls.tail();
        if let Some(found) = tail.find(&extended(&request)) {
            return Some(State::Planned(PartitionPlan::new(partition, &request, found)));
        }
        // The index lags behind the coordinator, and never says that an offset is out of range.
        let watermarks = tail.watermarks(partition.partition)?;
        (partition.is_in_range(&watermarks) && partition.offset < watermarks.high_watermark)
            .then(|| self.learned(partition, watermarks).unwrap_or(State::Deferred(watermarks)))
    }

    /// Returns the runs that earlier queries returned, if they are as many as a fetch reads.
    fn learned(&self, partition: &PartitionFetch, watermarks: Watermarks) -> Option<State> {
        let request = find_request(self.spec, partition);
        let runs = self.source.finder.learned(&extended(&request));
        suffices(&request, &runs, watermarks.high_watermark).then(|| {
            let found = Found { watermarks, runs };
            State::Planned(PartitionPlan::new(partition, &request, found))
        })
    }

    /// Queries runs in the order of the partitions, as long as those that are known do not fill
    /// [`PLANNED_RESPONSES`]. Takes partitions of unknown bounds out of `unknown`: one query finds both.
    fn query_runs(&mut self, unknown: &mut Vec<usize>) {
        let (mut planned, mut chosen) = (0_u64, Vec::new());
        for (index, partition) in self.spec.partitions.iter().enumerate() {
            match &self.states[index] {
                State::Planned(plan) => {
                    planned += plan.bytes_within(partition);
                    continue;
                }
                State::Deferred(_) => {}
                State::New if unknown.binary_search(&index).is_ok() => {}
                State::New | State::Queried(_) => continue,
            }
            if planned >= PLANNED_RESPONSES * self.spec.bytes_max.max(1) as u64 {
                break;
            }
            let shard = self.source.finder.shard(partition.partition);
            let window = self.windows.entry(shard).or_insert(Window::EMPTY);
            if window.outstanding < window.outstanding_max {
                window.outstanding += 1;
                chosen.push(index);
            }
        }
        unknown.retain(|index| chosen.binary_search(index).is_err());
        self.submit(Purpose::Runs, &chosen);
    }

    fn submit(&mut self, purpose: Purpose, indices: &[usize]) {
        if indices.is_empty() {
            return;
        }
        let request = |index: &usize| -> FindRequest {
            let partition = &self.spec.partitions[*index];
            match purpose {
                Purpose::Bounds => bounds_of(partition.partition),
                Purpose::Runs => extended(&find_request(self.spec, partition)),
            }
        };
        let results = self.source.finder.submit(indices.iter().map(request));
        self.queried_at = Instant::now();
        for (&index, result) in indices.iter().zip(results) {
            self.states[index] = State::Queried(self.queried_at);
            let result = result.map(move |received| {
                (index, purpose, received.unwrap_or_else(|_| Err(super::finder::interrupted())))
            });
            self.queries.push(result.boxed());
        }
    }

    /// Returns whether results of queries are outstanding.
    pub(super) fn is_querying(&self) -> bool {
        !self.queries.is_empty()
    }

    /// Waits for the next results of queries and applies them. May submit further queries.
    ///
    /// # Cancel safety
    /// No result is lost.
    pub(super) async fn apply_results(&mut self) {
        let mut next = self.queries.next().await;
        while let Some(result) = next {
            self.apply(result);
            // The results of one call arrive together.
            next = self.queries.next().now_or_never().flatten();
        }
        let is_answered = |index: &usize| !matches!(self.states[*index], State::Queried(_));
        let (missed, waiting) = self.missed.iter().partition(|index| is_answered(index));
        self.missed = waiting;
        self.look_at_each(BTreeSet::into_iter(missed));
    }

    fn apply(&mut self, (index, purpose, result): QueryResult) {
        let partition = &self.spec.partitions[index];
        if purpose == Purpose::Runs {
            let shard = self.source.finder.shard(partition.partition);
            if let Some(window) = self.windows.get_mut(&shard) {
                window.outstanding = window.outstanding.saturating_sub(1);
                window.outstanding_max += 1;
                window.has_responded |= result.is_ok();
            }
        }
        if !matches!(self.states[index], State::Queried(_)) {
            return;
        }
        self.states[index] = match result {
            Err(_logged) => State::Planned(PartitionPlan::failed(FetchError::Storage)),
            Ok(found) if purpose == Purpose::Runs => {
                let request = find_request(self.spec, partition);
                State::Planned(PartitionPlan::new(partition, &request, found))
            }
            Ok(found) => self.with_bounds(partition, found.watermarks),
        };
        if let State::Planned(plan) = &self.states[index]
            && plan.error == Some(FetchError::IndexEntryMissing)
        {
            self.source.metrics.fetch.missing_index_entries.inc();
        }
    }

    fn with_bounds(&self, partition: &PartitionFetch, watermarks: Watermarks) -> State {
        let end = watermarks.high_watermark;
        let request = find_request(self.spec, partition);
        let plan = |found| State::Planned(PartitionPlan::new(partition, &request, found));
        if !partition.is_in_range(&watermarks) || partition.offset == end {
            return plan(Found { watermarks, runs: Vec::new() });
        }
        let tail = self.source.long_polls.tail().find(&extended(&request));
        match tail.filter(|found| found.watermarks.high_watermark >= end) {
            Some(found) => plan(found),
            None => self.learned(partition, watermarks).unwrap_or(State::Deferred(watermarks)),
        }
    }

    /// Returns when to answer if nothing else happens. However often events cause queries, the
    /// answer is at most [`GRACE`] after the fetch has enough or an error is due, and at most
    /// [`PATIENCE`] after `deadline`.
    pub(super) fn answer_at(&mut self, deadline: Instant) -> Instant {
        let (mut available, mut is_enough, mut has_failed) = (0_u64, false, false);
        let mut oldest_query = None;
        for (partition, state) in self.spec.partitions.iter().zip(&self.states) {
            match state {
                State::Planned(plan) => {
                    available += plan.bytes_within(partition);
                    is_enough |= plan.ends_wait();
                    has_failed |= plan.error.is_some();
                }
                State::Queried(at) => {
                    oldest_query =
                        Some(oldest_query.map_or(*at, |oldest: Instant| oldest.min(*at)));
                }
                State::New | State::Deferred(_) => {}
            }
        }
        // A fetch never returns more than `bytes_max`, so waiting for more would be futile.
        is_enough |= available >= self.spec.bytes_min.min(self.spec.bytes_max.max(1)) as u64;
        let now = Instant::now();
        let enough_at = is_enough.then(|| *self.enough_at.get_or_insert(now));
        let failed_at = has_failed.then(|| *self.failed_at.get_or_insert(now));
        let error_due = deadline.min(self.started + WAIT_AFTER_ERROR);
        let Some(oldest_query) = oldest_query else {
            return match (enough_at, failed_at) {
                (Some(_), _) => self.started,
                (None, Some(_)) => error_due,
                (None, None) => deadline,
            };
        };
        let with_grace = |since: Instant| (self.queried_at + GRACE).min(since + GRACE);
        match (enough_at, failed_at) {
            (Some(enough_at), _) => with_grace(enough_at),
            (None, Some(failed_at)) => error_due.max(with_grace(error_due.max(failed_at))),
            (None, None) => (oldest_query + PATIENCE).min(deadline + PATIENCE),
        }
    }

    /// Returns the plan. Partitions whose results are outstanding have failed, unless some of their
    /// runs are known. Those that were still waiting for a query have failed too, unless their shard
    /// responds to queries, or the others fill the response.
    pub(super) fn finish(self) -> FetchPlan {
        let rows = || self.spec.partitions.iter().zip(&self.states);
        let planned = rows().map(|(partition, state)| match state {
            State::Planned(plan) => plan.bytes_within(partition),
            State::New | State::Queried(_) | State::Deferred(_) => 0,
        });
        let is_full = planned.sum::<u64>() >= self.spec.bytes_max.max(1) as u64;
        let plan = |(partition, state): (&PartitionFetch, &State)| match state {
            State::Planned(plan) => plan.clone(),
            State::Deferred(watermarks) if is_full || self.has_responded(partition) => {
                PartitionPlan::without_runs(Some(*watermarks))
            }
            State::New | State::Queried(_) | State::Deferred(_) => self
                .known_runs(partition)
                .unwrap_or_else(|| PartitionPlan::failed(FetchError::Storage)),
        };
        let partitions = rows().map(plan).collect();
        FetchPlan { spec: self.spec.clone(), partitions, read_ahead: Vec::new() }
    }

    fn has_responded(&self, partition: &PartitionFetch) -> bool {
        let shard = self.source.finder.shard(partition.partition);
        self.windows.get(&shard).is_some_and(|window| window.has_responded)
    }

    fn known_runs(&self, partition: &PartitionFetch) -> Option<PartitionPlan> {
        let watermarks = self.source.long_polls.tail().watermarks(partition.partition)?;
        let request = find_request(self.spec, partition);
        let runs = self.source.finder.learned(&request);
        let is_known = !partition.fresh && partition.is_in_range(&watermarks) && !runs.is_empty();
        let found = Found { watermarks, runs };
        is_known.then(|| PartitionPlan::new(partition, &request, found))
    }
}
