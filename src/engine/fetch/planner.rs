//! Finds the runs of a fetch: in the tail index, among the runs of earlier queries, or by queries of
//! the coordinator, each partition on its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::finder::{FindResult, Finder, bounds_of};
use super::long_poll::{LongPoll, LongPolls};
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
    /// A query for its bounds or its runs is outstanding.
    Queried,
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

/// A fetch that is being planned.
pub(super) struct Planner<'a> {
    source: RunSource<'a>,
    spec: &'a FetchSpec,
    states: Vec<State>,
    queries: FuturesUnordered<BoxFuture<'static, QueryResult>>,
    /// Outstanding queries for runs of each shard, and how many there may be.
    windows: HashMap<u16, (usize, usize)>,
    /// When the last query was submitted.
    queried_at: Instant,
    started: Instant,
    has_looked: bool,
}

impl<'a> Planner<'a> {
    pub(super) fn new(source: RunSource<'a>, spec: &'a FetchSpec, started: Instant) -> Self {
        Self {
            source,
            spec,
            states: spec.partitions.iter().map(|_| State::New).collect(),
            queries: FuturesUnordered::new(),
            windows: HashMap::new(),
            queried_at: started,
            started,
            has_looked: false,
        }
    }

    /// Looks at every partition without an outstanding query; submits the queries that are needed.
    pub(super) fn look(&mut self, long_poll: &LongPoll) {
        let deleted = long_poll.deleted_topics();
        let mut bounds = Vec::new();
        for index in 0..self.states.len() {
            let partition = &self.spec.partitions[index];
            if deleted.contains(&partition.partition.topic) {
                let plan = PartitionPlan::failed(FetchError::TopicDeleted);
                self.states[index] = State::Planned(plan);
                continue;
            }
            let next = match &self.states[index] {
                State::Queried => continue,
                State::Planned(plan) if plan.error.is_some() => continue,
                _ => self.look_at(partition),
            };
            match (next, &self.states[index]) {
                (Some(state), _) => self.states[index] = state,
                // Runs that were found stay what they are.
                (None, State::Planned(plan)) if !plan.runs.is_empty() => {}
                (None, State::Deferred(_)) => {}
                (None, _) => bounds.push(index),
            }
        }
        self.has_looked = true;
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
                State::New | State::Queried => continue,
            }
            if planned >= PLANNED_RESPONSES * self.spec.bytes_max.max(1) as u64 {
                break;
            }
            let shard = self.source.finder.shard(partition.partition);
            let window = self.windows.entry(shard).or_insert((0, QUERIES_AT_FIRST));
            if window.0 < window.1 {
                window.0 += 1;
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
        for (&index, result) in indices.iter().zip(results) {
            self.states[index] = State::Queried;
            let result = result.map(move |received| {
                (index, purpose, received.unwrap_or_else(|_| Err(super::finder::interrupted())))
            });
            self.queries.push(result.boxed());
        }
        self.queried_at = Instant::now();
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
        self.query_runs(&mut Vec::new());
    }

    fn apply(&mut self, (index, purpose, result): QueryResult) {
        let partition = &self.spec.partitions[index];
        if purpose == Purpose::Runs {
            let shard = self.source.finder.shard(partition.partition);
            if let Some((outstanding, limit)) = self.windows.get_mut(&shard) {
                *outstanding = outstanding.saturating_sub(1);
                *limit += 1;
            }
        }
        if !matches!(self.states[index], State::Queried) {
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

    /// Returns when to answer if nothing else happens.
    pub(super) fn answer_at(&self, deadline: Instant) -> Instant {
        let (mut available, mut is_enough, mut has_failed) = (0_u64, false, false);
        for (partition, state) in self.spec.partitions.iter().zip(&self.states) {
            if let State::Planned(plan) = state {
                available += plan.bytes_within(partition);
                is_enough |= plan.ends_wait();
                has_failed |= plan.error.is_some();
            }
        }
        // A fetch never returns more than `bytes_max`, so waiting for more would be futile.
        is_enough |= available >= self.spec.bytes_min.min(self.spec.bytes_max.max(1)) as u64;
        let after_error = deadline.min(self.started + WAIT_AFTER_ERROR);
        match (self.is_querying(), is_enough, has_failed) {
            (false, true, _) => self.started,
            (false, false, true) => after_error,
            (false, false, false) => deadline,
            (true, true, _) => self.queried_at + GRACE,
            (true, false, true) => after_error.max(self.queried_at + GRACE),
            (true, false, false) => self.queried_at + PATIENCE,
        }
    }

    /// Returns the plan. Partitions whose results are outstanding have failed, unless some of their
    /// runs are known.
    pub(super) fn finish(self) -> FetchPlan {
        let plan = |(partition, state): (&PartitionFetch, &State)| match state {
            State::Planned(plan) => plan.clone(),
            State::Deferred(watermarks) => PartitionPlan::without_runs(Some(*watermarks)),
            State::New | State::Queried => self
                .known_runs(partition)
                .unwrap_or_else(|| PartitionPlan::failed(FetchError::Storage)),
        };
        let partitions = self.spec.partitions.iter().zip(&self.states).map(plan).collect();
        FetchPlan { spec: self.spec.clone(), partitions, read_ahead: Vec::new() }
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
