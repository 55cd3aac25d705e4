//! The fetch path: plan → wait for events → read runs → slice them.

mod assemble;
mod long_poll;
mod plan;
mod slices;
mod spec;
mod tail_index;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

use self::assemble::assemble_partition;
pub use self::long_poll::LongPolls;
pub use self::plan::FetchPlan;
use self::slices::ByteLimit;
pub use self::spec::{FetchError, FetchSpec, FetchedPartition, PartitionFetch};
use super::Components;
use super::cache::ObjectCache;
use super::memory::{ConnectionQuota, MemoryPermit};
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
    components: Components,
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
        Self { components, cache, long_polls, metrics: Arc::default() }
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
        let deadline = started + spec.wait;
        let mut stages = FetchStageTimes::default();
        // Registered before planning, so that no commit is missed between plan and wait.
        let long_poll = self.long_polls.register(spec.partitions.iter().map(|p| p.partition));
        let mut allow_cached = false;
        loop {
            let planning = FetchPlan::new(
                spec,
                allow_cached,
                self.long_polls.tail(),
                &*self.components.coordinator,
            );
            let Some(plan) = stages.measure(FetchStage::plan, planning).await else {
                return Fetched::storage_error(spec);
            };
            if plan.ends_wait() || Instant::now() >= deadline {
                let acquiring = quota.acquire(plan.bytes_to_read());
                let Ok(permit) = stages.measure(FetchStage::memory, acquiring).await else {
                    return Fetched::storage_error(spec);
                };
                let partitions = stages.measure(FetchStage::read, self.read(&plan)).await;
                stages.record(&self.metrics, started);
                self.count(spec, &partitions);
                return Fetched { partitions, permit: Some(permit), plan: Some(plan) };
            }
            allow_cached = true;
            // Plans again whether woken or not: a lost event costs latency only.
            let waiting = tokio::time::timeout_at(deadline, long_poll.notified());
            let woken = stages.measure(FetchStage::wait, waiting).await;
            self.metrics.fetch.wakeup(match woken {
                Ok(()) => WakeupOutcome::notified,
                Err(_elapsed) => WakeupOutcome::timeout,
            });
        }
    }

    /// Returns the high watermark of a partition if the tail index holds it.
    pub fn cached_high_watermark(&self, partition: TopicPartition) -> Option<i64> {
        self.long_polls.tail().high_watermark(partition)
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
        Some((self.read(plan).await, permit))
    }

    /// Reads in parallel the runs that fit the byte limit by their sizes, then consumes the limit in
    /// request order. Runs yield fewer bytes than their sizes if they start below the requested
    /// offset or cannot be read; the remaining partitions then get what is left.
    async fn read(&self, plan: &FetchPlan) -> Vec<FetchedPartition> {
        let (requested, plans) = (&plan.spec.partitions, &plan.partitions);
        for (partition, plan) in requested.iter().zip(plans) {
            for run in &plan.read_ahead {
                self.cache.read_ahead(partition.partition, *run);
            }
        }
        let mut limit = ByteLimit::new(plan.spec.bytes_max);
        let mut fetched = Vec::with_capacity(plans.len());
        for _wave in 0..WAVES_MAX {
            let wave = fetched.len()..plan.end_of_wave(fetched.len(), limit.remaining());
            let reads = join_all(wave.clone().map(|index| self.read_runs(plan, index))).await;
            for (index, runs) in wave.zip(reads) {
                let (partition, plan) = (&requested[index], &plans[index]);
                fetched.push(assemble_partition(partition, plan, runs, &mut limit, &self.cache));
            }
            if fetched.len() == plans.len() || limit.remaining() == 0 {
                break;
            }
        }
        // The limit is reached before these.
        for index in fetched.len()..plans.len() {
            let (partition, plan) = (&requested[index], &plans[index]);
            fetched.push(assemble_partition(partition, plan, Vec::new(), &mut limit, &self.cache));
        }
        fetched
    }

    /// Reads the runs of the partition with this index in parallel.
    async fn read_runs(&self, plan: &FetchPlan, index: usize) -> Vec<Result<Bytes, StoreError>> {
        let partition = plan.spec.partitions[index].partition;
        let class = plan.partitions[index].class;
        let runs = plan.readable_runs(index).iter();
        join_all(runs.map(|run| self.cache.read(partition, run, class))).await
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
