//! The fetch path: plan → wait for events → read runs → slice them.

mod assemble;
mod finder;
mod learned_runs;
mod long_poll;
mod object_window;
mod plan;
mod planner;
mod response_memory;
mod slices;
mod spec;
mod tail_index;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesOrdered;
use tokio::time::Instant;

use self::assemble::assemble_partition;
pub(super) use self::finder::{Finder, bounds_of};
pub use self::long_poll::LongPolls;
pub use self::plan::FetchPlan;
use self::planner::{Planner, RunSource};
use self::response_memory::ResponseMemory;
use self::slices::ByteLimit;
pub use self::spec::{FetchError, FetchSpec, FetchedPartition, PartitionFetch};
use super::Components;
use super::cache::{ObjectCache, ReadClass};
use super::memory::{ConnectionQuota, MemoryPermit, ReaderId};
use crate::log::ids::TopicPartition;
use crate::metrics::{FetchStage, Metrics, WakeupOutcome};
use crate::store::StoreError;

/// Maximum number of reads per fetch: a fetch reads further runs if the previous ones yielded fewer
/// bytes than their sizes.
const WAVES_MAX: u32 = 4;

/// Result of a fetch.
#[derive(Debug, Default)]
pub struct Fetched {
    /// One result per partition, in order.
    pub partitions: Vec<FetchedPartition>,
    /// Memory of the records, to be held until they are written.
    pub permit: Option<MemoryPermit>,
    /// The plan that was read, for [`Fetcher::reread`].
    pub plan: Option<FetchPlan>,
}

impl Fetched {
    /// Returns a result with [`FetchError::Storage`] for each partition.
    fn storage_error(spec: &FetchSpec) -> Self {
        let error = |_| FetchedPartition {
            error: Some(FetchError::Storage),
            ..FetchedPartition::default()
        };
        let partitions = spec.partitions.iter().map(error).collect();
        Self { partitions, ..Self::default() }
    }
}

/// Serves fetches.
#[derive(Debug)]
pub struct Fetcher {
    finder: Arc<Finder>,
    cache: Arc<ObjectCache>,
    long_polls: Arc<LongPolls>,
    metrics: Arc<Metrics>,
}

impl Fetcher {
    /// Creates a fetcher. `long_polls` must receive the events of the same coordinator.
    pub fn new(
        components: Components,
        cache: Arc<ObjectCache>,
        long_polls: Arc<LongPolls>,
    ) -> Self {
        let finder = Finder::of_fetches(components.coordinator, Arc::clone(&long_polls));
        Self { finder: Arc::new(finder), cache, long_polls, metrics: Arc::default() }
    }

    /// Sets the metrics in which fetches are counted.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Serves a fetch. Acquires memory from `quota` before it reads.
    ///
    /// # Cancel safety
    /// May be dropped at any point; it changes no state.
    pub async fn fetch(&self, spec: &FetchSpec, quota: &ConnectionQuota) -> Fetched {
        let started = Instant::now();
        let mut stages = FetchStageTimes::default();
        let mut plan = self.plan(spec, started, &mut stages).await;
        plan.limit_objects(self.cache.window_objects());
        self.report_positions(&plan, quota.reader());
        let acquiring = quota.acquire(plan.bytes_to_read());
        let Ok(permit) = stages.measure(FetchStage::memory, acquiring).await else {
            return Fetched::storage_error(spec);
        };
        let reading = self.read(&plan, quota.reader(), permit);
        let (partitions, permit) = stages.measure(FetchStage::read, reading).await;
        stages.record(&self.metrics, started);
        self.count(spec, &partitions);
        Fetched { partitions, permit: Some(permit), plan: Some(plan) }
    }

    /// Finds the runs of a fetch, and waits until they have enough bytes. Partitions whose
    /// coordinator does not respond delay the others by a moment at most.
    async fn plan(
        &self,
        spec: &FetchSpec,
        started: Instant,
        stages: &mut FetchStageTimes,
    ) -> FetchPlan {
        let deadline = started + spec.wait;
        // Registered before planning, so that no commit is missed between plan and wait.
        let partitions = spec.partitions.iter().map(|fetched| fetched.partition);
        let partitions = partitions.map(|partition| (partition, self.finder.shard(partition)));
        let long_poll = self.long_polls.register(partitions);
        let (finder, long_polls, metrics) = (&self.finder, &*self.long_polls, &*self.metrics);
        let source = RunSource { finder, long_polls, metrics };
        let mut planner = Planner::new(source, spec, started);
        planner.look();
        // A lost event costs latency only: the fetch looks once more before it ends without records.
        let mut may_look_again = false;
        loop {
            let (is_querying, until) = (planner.is_querying(), planner.answer_at(deadline));
            if Instant::now() >= until {
                if is_querying || !std::mem::take(&mut may_look_again) {
                    return planner.finish();
                }
                planner.look();
                continue;
            }
            let stage = if is_querying { FetchStage::plan } else { FetchStage::wait };
            let waiting = async {
                tokio::select! {
                    biased;
                    () = planner.apply_results(), if is_querying => None,
                    () = long_poll.notified() => Some(WakeupOutcome::notified),
                    () = tokio::time::sleep_until(until) => Some(WakeupOutcome::timeout),
                }
            };
            let woken = stages.measure(stage, waiting).await;
            if let Some(outcome) = woken.filter(|_| !is_querying) {
                self.metrics.fetch.wakeup(outcome);
                may_look_again = outcome == WakeupOutcome::timeout;
            }
            if woken == Some(WakeupOutcome::notified) {
                planner.look_at_changes(&long_poll.take_changes());
            }
        }
    }

    /// Returns the high watermark of a partition if the tail index holds it.
    pub fn cached_high_watermark(&self, partition: TopicPartition) -> Option<i64> {
        Some(self.long_polls.tail().watermarks(partition)?.high_watermark)
    }

    /// Counts the returned bytes per topic.
    fn count(&self, spec: &FetchSpec, partitions: &[FetchedPartition]) {
        for (requested, fetched) in spec.partitions.iter().zip(partitions) {
            let bytes = fetched.bytes();
            if bytes > 0 {
                self.metrics.fetch.bytes.inc_by(bytes);
                self.metrics.topics.get(requested.partition.topic).record_fetched(bytes);
            }
        }
    }

    /// Acquires memory and reads a plan again. Returns `None` if the replica drains. Records that
    /// can no longer be read are missing from the result.
    pub async fn reread(
        &self,
        plan: &FetchPlan,
        quota: &ConnectionQuota,
    ) -> Option<(Vec<FetchedPartition>, MemoryPermit)> {
        let permit = quota.acquire(plan.bytes_to_read()).await.ok()?;
        Some(self.read(plan, quota.reader(), permit).await)
    }

    /// Reports to the cache what a catch-up reader will read.
    fn report_positions(&self, plan: &FetchPlan, reader: ReaderId) {
        let rows = plan.spec.partitions.iter().zip(&plan.partitions);
        let positions = rows.map(|(requested, planned)| match planned.class {
            ReadClass::Tailing => (requested.partition, None, [&[][..]; 2]),
            ReadClass::CatchUp => {
                let runs = [planned.runs.as_slice(), planned.next.as_slice()];
                (requested.partition, Some(requested.offset), runs)
            }
        });
        self.cache.report_positions(reader, positions);
    }

    /// Reads in parallel the runs that fit the byte limit by their sizes, then consumes the limit in
    /// request order. Runs yield fewer bytes than their sizes if they start below the requested
    /// offset or cannot be read; the remaining partitions then get what is left.
    async fn read(
        &self,
        plan: &FetchPlan,
        reader: ReaderId,
        permit: MemoryPermit,
    ) -> (Vec<FetchedPartition>, MemoryPermit) {
        let memory = ResponseMemory::new(permit);
        let reading = self.read_waves(plan, reader, &memory);
        let reading_ahead = async {
            // The reads that the response waits for start first.
            tokio::task::yield_now().await;
            let _refused = plan.read_ahead.iter().all(|run| self.cache.read_ahead(run));
        };
        let (fetched, ()) = tokio::join!(reading, reading_ahead);
        (fetched, memory.into_permit())
    }

    async fn read_waves(
        &self,
        plan: &FetchPlan,
        reader: ReaderId,
        memory: &ResponseMemory,
    ) -> Vec<FetchedPartition> {
        let (requested, plans) = (&plan.spec.partitions, &plan.partitions);
        let mut limit = ByteLimit::new(plan.spec.bytes_max);
        let mut fetched = Vec::with_capacity(plans.len());
        for _wave in 0..WAVES_MAX {
            let wave = fetched.len()..plan.end_of_wave(fetched.len(), limit.remaining());
            let read = |index| self.read_runs(plan, index, reader, memory);
            let reads = join_all(wave.clone().map(read)).await;
            for (index, runs) in wave.zip(reads) {
                let (partition, plan) = (&requested[index], &plans[index]);
                fetched.push(assemble_partition(partition, plan, runs, &mut limit));
            }
            if fetched.len() == plans.len() || limit.remaining() == 0 {
                break;
            }
        }
        // The limit is reached before these.
        for index in fetched.len()..plans.len() {
            let (partition, plan) = (&requested[index], &plans[index]);
            fetched.push(assemble_partition(partition, plan, Vec::new(), &mut limit));
        }
        fetched
    }

    /// Reads the runs of the partition with this index in parallel, up to the first that fails.
    async fn read_runs(
        &self,
        plan: &FetchPlan,
        index: usize,
        reader: ReaderId,
        memory: &ResponseMemory,
    ) -> Vec<Result<Bytes, StoreError>> {
        let partition = plan.spec.partitions[index].partition;
        let class = plan.partitions[index].class;
        let read = async |run| {
            let run = self.cache.read(partition, run, class, Some(reader)).await?;
            Ok(memory.hold(run))
        };
        let mut reads: FuturesOrdered<_> = plan.partitions[index].runs.iter().map(read).collect();
        let mut runs = Vec::with_capacity(reads.len());
        while let Some(run) = reads.next().await {
            let is_last = run.is_err();
            runs.push(run);
            if is_last {
                break;
            }
        }
        runs
    }
}

/// Total duration of each stage of a fetch. A stage can occur several times.
#[derive(Debug, Default)]
struct FetchStageTimes([Duration; FetchStage::ALL.len()]);

impl FetchStageTimes {
    /// Awaits `work`, and adds its duration to `stage`.
    async fn measure<T>(&mut self, stage: FetchStage, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let done = work.await;
        self.0[stage as usize] += started.elapsed();
        done
    }

    fn record(&self, metrics: &Metrics, started: Instant) {
        for stage in FetchStage::ALL {
            metrics.fetch.stage(*stage).observe(self.0[*stage as usize]);
        }
        metrics.fetch.duration.observe(started.elapsed());
    }
}
