//! Queries the coordinator's index for fetches and lookups.
//!
//! Queries are collected by shard: while the calls to a shard are in flight, further queries wait,
//! and the next call takes all of them. Equal queries that wait are one query. So a burst of queries
//! becomes few calls, commits never wait behind more than [`CALLS_PER_SHARD`] of them, and a shard
//! that does not respond holds up only its own queries. A query whose fetch has
//! ended is not sent.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::learned_runs::LearnedRuns;
use super::long_poll::LongPolls;
use crate::coordinator::{Coordinator, CoordinatorError, FindFrom, FindRequest, Found};
use crate::log::batch::Run;
use crate::log::ids::TopicPartition;
use crate::tasks;

/// Calls that are in flight to one shard at most.
const CALLS_PER_SHARD: usize = 2;
/// Queries in one call at most: each costs the coordinator about 10 µs …
const QUERIES_PER_CALL: usize = 256;
/// … and a microsecond for each run that it returns. With those of the last query, fewer than Redis
/// reads in one call (`find.lua`): a further call would delay the results of the whole one.
const RUNS_PER_CALL: u32 = 3_900;
/// The limit of a call, as that of a call to Redis.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of a query.
pub(in crate::engine) type FindResult = Result<Found, CoordinatorError>;

/// Sends queries to the coordinator, and keeps the tail index of `long_polls` up to date with the
/// results.
#[derive(Debug)]
pub(in crate::engine) struct Finder {
    coordinator: Arc<dyn Coordinator>,
    long_polls: Arc<LongPolls>,
    /// The runs that queries of fetches returned.
    learned: Option<LearnedRuns>,
    shards: Mutex<HashMap<u16, ShardQueue>>,
}

/// The queries of a shard that wait for a call.
#[derive(Debug, Default)]
struct ShardQueue {
    order: VecDeque<FindRequest>,
    waiting: HashMap<FindRequest, Vec<oneshot::Sender<FindResult>>>,
    calls: usize,
}

/// A query and those that wait for its result.
type Query = (FindRequest, Vec<oneshot::Sender<FindResult>>);

/// Returns a query for the bounds of a partition alone.
pub(in crate::engine) fn bounds_of(partition: TopicPartition) -> FindRequest {
    FindRequest { partition, from: FindFrom::Offset(i64::MAX), bytes_max: 1, runs_max: 0 }
}

impl Finder {
    /// Creates a finder for lookups. Without events, so that every result is the coordinator's.
    pub(in crate::engine) fn of_lookups(coordinator: Arc<dyn Coordinator>) -> Self {
        let (long_polls, shards) = (Arc::default(), Mutex::default());
        Self { coordinator, long_polls, learned: None, shards }
    }

    /// Creates a finder for fetches, which keeps the runs that it finds.
    pub(super) fn of_fetches(
        coordinator: Arc<dyn Coordinator>,
        long_polls: Arc<LongPolls>,
    ) -> Self {
        let learned = Some(LearnedRuns::default());
        Self { coordinator, long_polls, learned, shards: Mutex::default() }
    }

    /// Returns runs that earlier queries found, as [`LearnedRuns::find`].
    pub(super) fn learned(&self, request: &FindRequest) -> Vec<Run> {
        let FindFrom::Offset(offset) = request.from else { return Vec::new() };
        let (bytes_max, runs_max) = (request.bytes_max, request.runs_max as usize);
        let learned = self.learned.as_ref();
        learned.map_or_else(Vec::new, |l| l.find(request.partition, offset, bytes_max, runs_max))
    }

    /// Returns the fault domain of a partition.
    pub(in crate::engine) fn shard(&self, partition: TopicPartition) -> u16 {
        self.coordinator.shard(partition)
    }

    /// Begins queries; returns where each result will arrive, in order.
    pub(in crate::engine) fn submit(
        self: &Arc<Self>,
        requests: impl IntoIterator<Item = FindRequest>,
    ) -> Vec<oneshot::Receiver<FindResult>> {
        let mut results = Vec::new();
        let mut shards = self.shards.lock();
        for request in requests {
            let shard = self.coordinator.shard(request.partition);
            let (sender, receiver) = oneshot::channel();
            results.push(receiver);
            let queue = shards.entry(shard).or_default();
            let waiting = queue.waiting.entry(request).or_default();
            if waiting.is_empty() {
                queue.order.push_back(request);
            }
            waiting.push(sender);
            if queue.calls < CALLS_PER_SHARD {
                queue.calls += 1;
                let finder = Arc::clone(self);
                tasks::spawn("find", async move { finder.call_while_queued(shard).await });
            }
        }
        results
    }

    /// Returns the results of queries, in order.
    pub(in crate::engine) async fn find(
        self: &Arc<Self>,
        requests: impl IntoIterator<Item = FindRequest>,
    ) -> Vec<FindResult> {
        let results = join_all(self.submit(requests)).await;
        results.into_iter().map(|result| result.unwrap_or_else(|_| Err(interrupted()))).collect()
    }

    async fn call_while_queued(&self, shard: u16) {
        loop {
            let queries = {
                let mut shards = self.shards.lock();
                let Some(queue) = shards.get_mut(&shard) else { return };
                let queries = queue.take();
                if queries.is_empty() {
                    queue.calls -= 1;
                    return;
                }
                queries
            };
            self.call(shard, queries).await;
        }
    }

    async fn call(&self, shard: u16, queries: Vec<Query>) {
        let requests: Vec<_> = queries.iter().map(|(request, _)| *request).collect();
        let pending =
            self.long_polls.tail().begin_query(shard, requests.iter().map(|r| r.partition));
        let call = self.coordinator.find(requests.clone());
        let mut results = tokio::time::timeout(CALL_TIMEOUT, call).await.unwrap_or_default();
        results.resize_with(requests.len(), || Err(interrupted()));
        let found = requests.iter().zip(&results);
        pending.complete(
            found.filter_map(|(request, result)| Some((request.partition, result.as_ref().ok()?))),
        );
        drop(pending);
        self.learn(&requests, &results);
        log_errors(&results);
        for ((_, waiting), result) in queries.into_iter().zip(results) {
            for sender in waiting {
                // Its fetch may have ended.
                let _abandoned = sender.send(result.clone());
            }
        }
    }
}

impl Finder {
    /// Keeps the runs that the tail index does not hold, also of a fetch that no longer waits: a
    /// later one continues with them.
    fn learn(&self, requests: &[FindRequest], results: &[FindResult]) {
        let Some(learned) = &self.learned else { return };
        for (request, result) in requests.iter().zip(results) {
            let Ok(found) = result else { continue };
            if !found.runs.is_empty() && self.long_polls.tail().find(request).is_none() {
                learned.insert(request.partition, &found.runs);
            }
        }
    }
}

impl ShardQueue {
    /// Removes the queries of the next call.
    fn take(&mut self) -> Vec<Query> {
        let (mut queries, mut runs) = (Vec::new(), 0);
        while queries.len() < QUERIES_PER_CALL && runs < RUNS_PER_CALL {
            let Some(request) = self.order.pop_front() else { break };
            let mut waiting = self.waiting.remove(&request).unwrap_or_default();
            waiting.retain(|sender| !sender.is_closed());
            if !waiting.is_empty() {
                runs += request.runs_max;
                queries.push((request, waiting));
            }
        }
        queries
    }
}

pub(super) fn interrupted() -> CoordinatorError {
    CoordinatorError::Unavailable("the coordinator did not respond".to_owned())
}

/// Logs one error of a call.
fn log_errors(results: &[FindResult]) {
    let errors = results.iter().filter_map(|result| result.as_ref().err());
    // Lost metadata is reported by the monitor of its health.
    let first = errors.clone().find(|error| !matches!(error, CoordinatorError::MetadataLost(_)));
    if let Some(error) = first {
        tracing::warn!(%error, partitions = errors.count(), "find failed");
    }
}
