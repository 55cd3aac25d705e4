//! Life of a fetch: plan → wait for a push → read runs → slice them.

mod slices;
mod wakeups;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

pub use wakeups::Wakeups;

use super::Components;
use super::objects::Objects;
use crate::coordinator::{FindFrom, FindRequest, Found, Watermarks};
use crate::log::ids::TopicPartition;
use slices::Budget;

/// Runs that one partition's share of a fetch reads at most.
const RUNS_MAX: u32 = 64;

/// One partition of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset wanted.
    pub offset: i64,
    /// Bytes of records wanted at most; the first batch of a response may exceed it.
    pub bytes_max: usize,
    /// The leader epoch that the records are to carry.
    pub leader_epoch: i32,
}

/// A fetch, in the order in which the budget is spent.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The partitions.
    pub partitions: Vec<FetchPartition>,
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

/// Serves fetches.
#[derive(Debug)]
pub struct Fetcher {
    components: Components,
    objects: Arc<Objects>,
    wakeups: Arc<Wakeups>,
}

impl Fetcher {
    /// `wakeups` must be following the same coordinator.
    pub fn new(components: Components, objects: Arc<Objects>, wakeups: Arc<Wakeups>) -> Self {
        Self { components, objects, wakeups }
    }

    /// Serves one fetch; one answer for each partition, in order.
    ///
    /// # Cancel safety
    /// May be dropped at any point; it changes nothing.
    pub async fn fetch(&self, request: &FetchRequest) -> Vec<FetchedPartition> {
        let deadline = Instant::now() + request.wait;
        // Registered before the first look, so that no commit falls between look and wait.
        let waiting = self.wakeups.register(request.partitions.iter().map(|p| p.partition));
        loop {
            let Some(found) = self.find(request).await else {
                return request.partitions.iter().map(|_| storage_error()).collect();
            };
            if ends_the_wait(request, &found) || Instant::now() >= deadline {
                return self.read(request, found).await;
            }
            // Woken or not, look once more: a lost wake-up costs latency only.
            let _woken = tokio::time::timeout_at(deadline, waiting.notified()).await;
        }
    }

    async fn find(&self, request: &FetchRequest) -> Option<Vec<Found>> {
        let find_request = |p: &FetchPartition| FindRequest {
            partition: p.partition,
            from: FindFrom::Offset(p.offset),
            bytes_max: p.bytes_max.min(request.bytes_max).max(1) as u64,
            runs_max: RUNS_MAX,
        };
        if request.partitions.is_empty() {
            return Some(Vec::new());
        }
        let asked = request.partitions.iter().map(find_request).collect();
        match self.components.coordinator.find(asked).await {
            Ok(found) if found.len() == request.partitions.len() => Some(found),
            Ok(found) => {
                tracing::error!(
                    got = found.len(),
                    "the coordinator answered another number of partitions"
                );
                None
            }
            Err(error) => {
                tracing::warn!(%error, "find failed");
                None
            }
        }
    }

    async fn read(&self, request: &FetchRequest, found: Vec<Found>) -> Vec<FetchedPartition> {
        // The runs that fit the budget by their sizes are read side by side; the budget itself is
        // spent afterwards, in the request's order.
        let mut left = request.bytes_max.max(1) as u64;
        let mut reads = Vec::with_capacity(found.len());
        for (partition, found) in request.partitions.iter().zip(&found) {
            let wanted = in_range(partition, &found.watermarks) && left > 0;
            let runs = if wanted { found.runs.as_slice() } else { &[] };
            let bytes: u64 = runs.iter().map(|run| run.bytes).sum();
            left = left.saturating_sub(bytes);
            reads.push(join_all(runs.iter().map(|run| self.objects.read(run))));
        }
        let read = join_all(reads).await;

        let mut budget = Budget::new(request.bytes_max);
        let mut answers = Vec::with_capacity(found.len());
        for ((partition, found), read) in request.partitions.iter().zip(found).zip(read) {
            let mut answer =
                FetchedPartition { watermarks: Some(found.watermarks), ..Default::default() };
            if !in_range(partition, &found.watermarks) {
                answer.error = Some(FetchError::OffsetOutOfRange);
            }
            budget.begin_partition(partition.bytes_max);
            for (run, bytes) in found.runs.iter().zip(read) {
                let sliced = match bytes {
                    Ok(bytes) => slices::slice_run(
                        run,
                        &bytes,
                        partition.offset,
                        partition.leader_epoch,
                        &mut budget,
                        &mut answer.records,
                    ),
                    Err(error) => {
                        tracing::warn!(%error, "run cannot be read");
                        answer.error = Some(FetchError::Storage);
                        break;
                    }
                };
                match sliced {
                    Ok(slices::More::Yes) => {}
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
            answers.push(answer);
        }
        answers
    }
}

fn in_range(partition: &FetchPartition, watermarks: &Watermarks) -> bool {
    (watermarks.log_start_offset..=watermarks.high_watermark).contains(&partition.offset)
}

/// Enough bytes, or an offset out of range; an empty partition does not end the wait.
fn ends_the_wait(request: &FetchRequest, found: &[Found]) -> bool {
    let mut available = 0_u64;
    for (partition, found) in request.partitions.iter().zip(found) {
        if !in_range(partition, &found.watermarks) {
            return true;
        }
        available += found.runs.iter().map(|run| run.bytes).sum::<u64>();
    }
    // More than `bytes_max` is never given, so waiting for more would wait in vain.
    available >= request.bytes_min.min(request.bytes_max.max(1)) as u64
}

fn storage_error() -> FetchedPartition {
    FetchedPartition { error: Some(FetchError::Storage), ..Default::default() }
}
