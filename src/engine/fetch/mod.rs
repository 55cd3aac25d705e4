//! Life of a fetch: plan → wait for a push → read runs → slice them.

mod long_poll;
mod slices;
mod tail_index;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

pub use long_poll::LongPolls;

use super::Components;
use super::cache::{ObjectCache, ReadClass};
use super::memory::{ConnectionQuota, MemoryPermit};
use crate::coordinator::{CoordinatorError, FindFrom, FindRequest, Found, Watermarks};
use crate::log::batch::Run;
use crate::log::ids::TopicPartition;
use crate::metrics::{FetchStage, Metrics, WakeupOutcome};
use crate::store::{StoreError, StoreErrorKind};
use slices::ByteLimit;

/// Runs that one partition's share of a fetch reads at most.
const RUNS_MAX: u32 = 64;
/// A reader that is further behind the end of its partition than this, besides what it is given,
/// reads history; what comes next is read ahead …
const AHEAD_BYTES: u64 = 8 << 20;
/// … from so many objects at most.
const AHEAD_OBJECTS: usize = 4;
/// How often a fetch reads on because the runs before gave less than their sizes promised.
const WAVES_MAX: u32 = 4;

/// One partition of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionFetch {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset wanted.
    pub offset: i64,
    /// Bytes of records wanted at most; the first batch of a response may exceed it.
    pub bytes_max: usize,
    /// The leader epoch that the records are to carry.
    pub leader_epoch: i32,
    /// Whether the coordinator itself is to be asked: a client that comes from another replica may
    /// have seen a high watermark that has not been heard of here.
    pub fresh: bool,
}

/// A fetch, in the order in which the budget is spent.
#[derive(Clone, Debug)]
pub struct FetchSpec {
    /// The partitions.
    pub partitions: Vec<PartitionFetch>,
    /// Wait until this many bytes are there …
    pub bytes_min: usize,
    /// … give at most this many (one batch is always given) …
    pub bytes_max: usize,
    /// … and wait no longer than this.
    pub wait: Duration,
}

/// Why a partition gives no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The offset lies below the log start offset or above the high watermark.
    OffsetOutOfRange,
    /// Object storage or the coordinator cannot be asked, or gave what cannot be right.
    Storage,
}

/// What a partition gives.
#[derive(Clone, Debug, Default)]
pub struct FetchedPartition {
    /// The partition's bounds; `None` when the coordinator could not be asked.
    pub watermarks: Option<Watermarks>,
    /// What went wrong, if anything; records may be there all the same.
    pub error: Option<FetchError>,
    /// Batches as slices to be laid end to end: a fresh prefix, then the stored rest, and so on.
    pub records: Vec<Bytes>,
}

/// What a fetch gives.
#[derive(Debug, Default)]
pub struct Fetched {
    /// One answer for each partition, in order.
    pub partitions: Vec<FetchedPartition>,
    /// The memory that the records take; to be held until they are written.
    pub permit: Option<MemoryPermit>,
    /// What was read, for [`Fetcher::reread`].
    pub plan: Option<FetchPlan>,
}

/// What a fetch read: the same will be there again, because objects never change.
#[derive(Debug)]
pub struct FetchPlan {
    request: FetchSpec,
    planned: Vec<PartitionPlan>,
}

/// Serves fetches.
#[derive(Debug)]
pub struct Fetcher {
    components: Components,
    objects: Arc<ObjectCache>,
    long_polls: Arc<LongPolls>,
    metrics: Arc<Metrics>,
}

impl Fetcher {
    /// `long_polls` must be following the same coordinator.
    pub fn new(
        components: Components,
        objects: Arc<ObjectCache>,
        long_polls: Arc<LongPolls>,
    ) -> Self {
        Self { components, objects, long_polls, metrics: Arc::default() }
    }

    /// Takes note of what it does in `metrics`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Serves one fetch. Nothing is read before there is room for it in `memory`.
    ///
    /// # Cancel safety
    /// May be dropped at any point; it changes nothing.
    pub async fn fetch(&self, request: &FetchSpec, memory: &ConnectionQuota) -> Fetched {
        let begun = Instant::now();
        let deadline = begun + request.wait;
        let mut took = FetchStageTimes::default();
        // Registered before the first look, so that no commit falls between look and wait.
        let waiting = self.long_polls.register(request.partitions.iter().map(|p| p.partition));
        let mut fresh = true;
        loop {
            let Some(planned) = took.of(FetchStage::plan, self.find(request, fresh)).await else {
                return storage_errors(request);
            };
            if ends_the_wait(request, &planned) || Instant::now() >= deadline {
                let taking = memory.acquire(bytes_to_read(request, &planned));
                let Ok(permit) = took.of(FetchStage::memory, taking).await else {
                    return storage_errors(request);
                };
                let plan = self.read(request, &planned);
                let partitions = took.of(FetchStage::read, plan).await;
                took.tell(&self.metrics, begun);
                self.count(request, &partitions);
                let plan = Some(FetchPlan { request: request.clone(), planned });
                return Fetched { partitions, permit: Some(permit), plan };
            }
            fresh = false;
            // Woken or not, look once more: a lost wake-up costs latency only.
            let woken = tokio::time::timeout_at(deadline, waiting.notified());
            let woken = took.of(FetchStage::wait, woken).await;
            let how = if woken.is_ok() { WakeupOutcome::notified } else { WakeupOutcome::timeout };
            self.metrics.fetch.wakeup(how);
        }
    }

    /// The high watermark that fetches are told without asking anybody, where there is one.
    pub fn cached_high_watermark(&self, partition: TopicPartition) -> Option<i64> {
        self.long_polls.tail().end(partition)
    }

    /// Counts what is given, by topic.
    fn count(&self, request: &FetchSpec, partitions: &[FetchedPartition]) {
        for (asked, given) in request.partitions.iter().zip(partitions) {
            let bytes: u64 = given.records.iter().map(|slice| slice.len() as u64).sum();
            if bytes > 0 {
                self.metrics.fetch.bytes.inc_by(bytes);
                self.metrics.topics.get(asked.partition.topic).record_fetched(bytes);
            }
        }
    }

    /// Reads the same once more, once there is room for it; `None` when the replica drains. What
    /// could be read then and cannot be read now is missing.
    pub async fn reread(
        &self,
        plan: &FetchPlan,
        memory: &ConnectionQuota,
    ) -> Option<(Vec<FetchedPartition>, MemoryPermit)> {
        let FetchPlan { request, planned } = plan;
        let permit = memory.acquire(bytes_to_read(request, planned)).await.ok()?;
        Some((self.read(request, planned).await, permit))
    }

    /// What the tail index knows, and for the rest the coordinator's answer; `fresh` obeys
    /// [`PartitionFetch::fresh`].
    async fn find(&self, request: &FetchSpec, fresh: bool) -> Option<Vec<PartitionPlan>> {
        let find_request = |p: &PartitionFetch| FindRequest {
            partition: p.partition,
            from: FindFrom::Offset(p.offset),
            bytes_max: p.bytes_max.min(request.bytes_max).max(1) as u64,
            runs_max: RUNS_MAX,
        };
        let tail = self.long_polls.tail();
        let known = |p: &PartitionFetch| match p.fresh && fresh {
            true => None,
            false => tail.look(&find_request(p)).map(PartitionPlan::of_tail),
        };
        let mut planned: Vec<_> = request.partitions.iter().map(known).collect();
        let unknown = request.partitions.iter().zip(&planned).filter(|(_, known)| known.is_none());
        let wanted: Vec<_> = unknown.map(|(partition, _)| find_request(partition)).collect();
        if !wanted.is_empty() {
            let asking = tail.ask(wanted.iter().map(|request| request.partition));
            let further = |wanted: &FindRequest| FindRequest {
                bytes_max: wanted.bytes_max + AHEAD_BYTES,
                runs_max: RUNS_MAX + AHEAD_OBJECTS as u32,
                ..*wanted
            };
            let answers = self.ask(wanted.iter().map(further).collect()).await?;
            asking.learn(wanted.iter().map(|request| request.partition).zip(&answers));
            let mut answers =
                wanted.iter().zip(answers).map(|(w, found)| PartitionPlan::new(w, found));
            planned.iter_mut().filter(|p| p.is_none()).for_each(|p| *p = answers.next());
        }
        planned.into_iter().collect()
    }

    async fn ask(&self, asked: Vec<FindRequest>) -> Option<Vec<Found>> {
        let partitions = asked.len();
        match self.components.coordinator.find(asked).await {
            Ok(found) if found.len() == partitions => Some(found),
            Ok(found) => {
                tracing::error!(
                    got = found.len(),
                    "the coordinator answered another number of partitions"
                );
                None
            }
            Err(CoordinatorError::MetadataLost(detail)) => {
                tracing::debug!(detail, "find refused");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "find failed");
                None
            }
        }
    }

    /// Reads the runs that fit the budget by their sizes side by side, then spends the budget in
    /// the request's order. Sizes promise more than is given where runs begin below the offset
    /// or cannot be read; what that leaves goes to the partitions after them.
    async fn read(&self, request: &FetchSpec, planned: &[PartitionPlan]) -> Vec<FetchedPartition> {
        let mut budget = ByteLimit::new(request.bytes_max);
        let asked: Vec<_> = request.partitions.iter().zip(planned).collect();
        for (partition, planned) in &asked {
            let ahead = planned.ahead.iter();
            ahead.for_each(|run| self.objects.read_ahead(partition.partition, *run));
        }
        let mut answers = Vec::with_capacity(asked.len());
        for wave in 1..=WAVES_MAX {
            let rest = &asked[answers.len()..];
            let mut left = budget.left() as u64;
            let fits = |(partition, planned): &&(&PartitionFetch, &PartitionPlan)| {
                let fits = left > 0;
                left = left.saturating_sub(bytes_of(readable_runs(partition, &planned.found)));
                fits
            };
            let taken = rest.iter().take_while(fits).count();
            let reads = rest[..taken].iter().map(|(partition, planned)| {
                let runs = readable_runs(partition, &planned.found);
                join_all(
                    runs.iter()
                        .map(|run| self.objects.read(partition.partition, run, planned.read_class)),
                )
            });
            let reads = join_all(reads).await;
            for ((partition, planned), read) in rest.iter().zip(reads) {
                answers.push(give(partition, &planned.found, read, &mut budget, &self.objects));
            }
            if answers.len() == asked.len() || budget.left() == 0 || wave == WAVES_MAX {
                break;
            }
        }
        // The budget ended before these.
        for (partition, planned) in &asked[answers.len()..] {
            answers.push(give(partition, &planned.found, Vec::new(), &mut budget, &self.objects));
        }
        answers
    }
}

/// How long each stage of a fetch took; some come several times.
#[derive(Debug, Default)]
struct FetchStageTimes([Duration; FetchStage::ALL.len()]);

impl FetchStageTimes {
    async fn of<T>(&mut self, stage: FetchStage, work: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = work.await;
        self.0[stage as usize] += begun.elapsed();
        done
    }

    fn tell(&self, metrics: &Metrics, begun: Instant) {
        for stage in FetchStage::ALL {
            metrics.fetch.stage(*stage).observe(self.0[*stage as usize]);
        }
        metrics.fetch.duration.observe(begun.elapsed());
    }
}

/// What is to be read of a partition.
#[derive(Debug)]
struct PartitionPlan {
    found: Found,
    read_class: ReadClass,
    /// The first runs in objects that will be wanted next.
    ahead: Vec<Run>,
}

impl PartitionPlan {
    fn of_tail(found: Found) -> Self {
        Self { found, read_class: ReadClass::Tailing, ahead: Vec::new() }
    }

    /// From an answer that goes further than what is wanted.
    fn new(wanted: &FindRequest, mut found: Found) -> Self {
        let end = found.watermarks.high_watermark;
        let at_end = found.runs.last().is_none_or(|run| run.end_offset() >= end);
        let mut bytes = 0;
        let is_wanted = |run: &&Run| {
            let is_wanted = bytes < wanted.bytes_max;
            bytes += run.bytes;
            is_wanted
        };
        let wanted_runs = found.runs.iter().take_while(is_wanted).count();
        let further = found.runs.split_off(wanted_runs.min(wanted.runs_max as usize));
        if at_end {
            return Self::of_tail(found);
        }
        let given = found.runs.last().map(|run| run.object);
        let mut ahead: Vec<Run> = Vec::new();
        for run in further.into_iter().filter(|run| Some(run.object) != given) {
            if ahead.last().is_none_or(|last| last.object != run.object) {
                ahead.push(run);
            }
        }
        ahead.truncate(AHEAD_OBJECTS);
        Self { found, read_class: ReadClass::CatchUp, ahead }
    }
}

/// One partition's answer from what was read of its runs.
fn give(
    partition: &PartitionFetch,
    found: &Found,
    read: Vec<Result<Bytes, StoreError>>,
    budget: &mut ByteLimit,
    objects: &ObjectCache,
) -> FetchedPartition {
    let mut answer = FetchedPartition { watermarks: Some(found.watermarks), ..Default::default() };
    if !in_range(partition, &found.watermarks) {
        answer.error = Some(FetchError::OffsetOutOfRange);
        return answer;
    }
    budget.begin_partition(partition.bytes_max);
    let mut next_offset = partition.offset;
    for (run, bytes) in found.runs.iter().zip(read) {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                match error.kind {
                    StoreErrorKind::Corrupt => {
                        tracing::error!(%error, "an object is damaged; its records are not served");
                    }
                    _ => tracing::warn!(%error, "run cannot be read"),
                }
                answer.error = Some(FetchError::Storage);
                break;
            }
        };
        let (epoch, records) = (partition.leader_epoch, &mut answer.records);
        match slices::slice_run(run, &bytes, next_offset, epoch, budget, records) {
            Ok(slices::More::Yes) => {
                objects.record_progress(run);
                next_offset = run.end_offset();
            }
            Ok(slices::More::No) => break,
            Err(error) => {
                tracing::error!(object = %run.object, start = run.start, %error,
                    "the object does not hold what the index says");
                answer.error = Some(FetchError::Storage);
                break;
            }
        }
    }
    if !answer.records.is_empty() {
        // What was read is good; the client meets the fault when it comes to it.
        answer.error = None;
    }
    answer
}

fn readable_runs<'a>(partition: &PartitionFetch, found: &'a Found) -> &'a [Run] {
    if in_range(partition, &found.watermarks) { &found.runs } else { &[] }
}

fn bytes_of(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.bytes).sum()
}

fn in_range(partition: &PartitionFetch, watermarks: &Watermarks) -> bool {
    (watermarks.log_start_offset..=watermarks.high_watermark).contains(&partition.offset)
}

/// Enough bytes, as many runs as are ever given, or an offset out of range; an empty partition
/// does not end the wait.
fn ends_the_wait(request: &FetchSpec, planned: &[PartitionPlan]) -> bool {
    let mut available = 0_u64;
    for (partition, PartitionPlan { found, .. }) in request.partitions.iter().zip(planned) {
        if !in_range(partition, &found.watermarks) || found.runs.len() >= RUNS_MAX as usize {
            return true;
        }
        available += bytes_of(&found.runs);
    }
    // More than `bytes_max` is never given, so waiting for more would wait in vain.
    available >= request.bytes_min.min(request.bytes_max.max(1)) as u64
}

/// As many bytes as the answer may have, or the first run when that is more: at least one batch of
/// it is given.
fn bytes_to_read(request: &FetchSpec, planned: &[PartitionPlan]) -> usize {
    let runs =
        request.partitions.iter().zip(planned).map(|(p, plan)| readable_runs(p, &plan.found));
    let sizes: Vec<u64> = runs.flatten().map(|run| run.bytes).collect();
    let (all, first) = (sizes.iter().sum::<u64>(), sizes.first().copied().unwrap_or(0));
    usize::try_from(all.min(first.max(request.bytes_max as u64))).unwrap_or(usize::MAX)
}

fn storage_errors(request: &FetchSpec) -> Fetched {
    let error = || FetchedPartition { error: Some(FetchError::Storage), ..Default::default() };
    let partitions = request.partitions.iter().map(|_| error()).collect();
    Fetched { partitions, ..Fetched::default() }
}
