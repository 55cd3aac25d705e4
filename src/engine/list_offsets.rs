//! ListOffsets: resolves the ends of a partition, and offsets by timestamp.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Components;
use super::cache::{ObjectCache, ReadClass};
use super::fetch::{Finder, bounds_of};
use crate::coordinator::{
    CoordinatorError, CoordinatorResult, FindFrom, FindRequest, Found, Watermarks,
};
use crate::log::batch::Run;
use crate::log::ids::TopicPartition;
use crate::store::StoreError;
use crate::tasks;
use crate::wire::record_batch::batches;
use crate::wire::records;

/// Runs that a scan of the index requests at a time.
const PAGE_RUNS: u32 = 1024;
/// Runs that all lookups together read and decompress at a time.
const SEARCHES_MAX: usize = 32;

/// The offset to be resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record with the partition's greatest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record whose timestamp is at least this, in milliseconds.
    Timestamp(i64),
}

/// The resolved offset. Both fields are −1 if there is no such record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// Timestamp of the record, in milliseconds; −1 for the ends of the log.
    pub timestamp: i64,
    /// The offset.
    pub offset: i64,
}

impl TimestampAndOffset {
    const NONE: Self = Self { timestamp: -1, offset: -1 };

    fn of_log_end(offset: i64) -> Self {
        Self { timestamp: -1, offset }
    }
}

/// Reason why an offset could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ListOffsetsError {
    /// The coordinator failed.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// The object could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object or the coordinator's result is invalid.
    #[error("{0}")]
    Corrupt(&'static str),
}

impl ListOffsetsError {
    const MISSING_ENTRY: Self =
        Self::Corrupt("the index has no entry for an offset below the high watermark");
}

/// Resolves offsets. Concurrent calls share the calls to the coordinator.
#[derive(Debug)]
pub struct OffsetLookup {
    finder: Arc<Finder>,
    cache: Arc<ObjectCache>,
    searches: Semaphore,
}

impl OffsetLookup {
    /// Creates a lookup that reads objects through `cache`.
    pub fn new(components: Components, cache: Arc<ObjectCache>) -> Self {
        let finder = Arc::new(Finder::of_lookups(components.coordinator));
        Self { finder, cache, searches: Semaphore::new(SEARCHES_MAX) }
    }

    /// Resolves one offset of one partition.
    ///
    /// # Errors
    /// [`ListOffsetsError`]. No error means "no such record".
    pub async fn resolve(
        &self,
        partition: TopicPartition,
        spec: OffsetSpec,
    ) -> Result<TimestampAndOffset, ListOffsetsError> {
        match spec {
            OffsetSpec::Earliest => {
                let watermarks = self.watermarks_of(partition).await?;
                Ok(TimestampAndOffset::of_log_end(watermarks.log_start_offset))
            }
            OffsetSpec::Latest => {
                let watermarks = self.watermarks_of(partition).await?;
                Ok(TimestampAndOffset::of_log_end(watermarks.high_watermark))
            }
            OffsetSpec::MaxTimestamp => self.max_timestamp(partition).await,
            OffsetSpec::Timestamp(timestamp) => self.first_at_or_after(partition, timestamp).await,
        }
    }

    /// Returns the watermarks of partitions, in order.
    ///
    /// # Errors
    /// The coordinator's error, of each partition.
    pub async fn watermarks(
        &self,
        partitions: &[TopicPartition],
    ) -> Vec<CoordinatorResult<Watermarks>> {
        let found =
            self.finder.find(partitions.iter().map(|partition| bounds_of(*partition))).await;
        found.into_iter().map(|found| Ok(found?.watermarks)).collect()
    }

    /// Searches the runs in offset order. The first run that the index offers may contain no such
    /// record: a run cut by the log start offset keeps the maximum timestamp of the records before
    /// it, and a batch's header is set by its producer.
    async fn first_at_or_after(
        &self,
        partition: TopicPartition,
        timestamp: i64,
    ) -> Result<TimestampAndOffset, ListOffsetsError> {
        let mut found = self.find(partition, FindFrom::Timestamp(timestamp), 1).await?;
        while let Some(last) = found.runs.last() {
            let next_offset = last.end_offset();
            for run in found.runs.iter().filter(|run| run.max_timestamp >= timestamp) {
                let query = RecordQuery::AtOrAfter(timestamp);
                let record = self.search(partition, run, &found.watermarks, query).await?;
                if let Some(record) = record {
                    return Ok(record);
                }
            }
            found = self.page(partition, next_offset).await?;
        }
        Ok(TimestampAndOffset::NONE)
    }

    /// Searches the runs in descending order of their maximum timestamps, usually one.
    async fn max_timestamp(
        &self,
        partition: TopicPartition,
    ) -> Result<TimestampAndOffset, ListOffsetsError> {
        // Records without a timestamp have −1, and the first of them may be the greatest.
        let mut best: Option<TimestampAndOffset> = None;
        let mut found = self.find(partition, FindFrom::MaxTimestamp, 1).await?;
        let Watermarks { log_start_offset, high_watermark, .. } = found.watermarks;
        if found.runs.is_empty() && log_start_offset < high_watermark {
            return Err(ListOffsetsError::MISSING_ENTRY);
        }
        while let Some(run) = found.runs.pop() {
            let exceeds_best = |timestamp, offset| {
                best.is_none_or(|best| rank(timestamp, offset) > rank(best.timestamp, best.offset))
            };
            let query = RecordQuery::MaxTimestamp;
            let record = self.search(partition, &run, &found.watermarks, query).await?;
            best = record.filter(|r| exceeds_best(r.timestamp, r.offset)).or(best);
            if best.is_some_and(|best| best.timestamp >= run.max_timestamp) {
                break;
            }
            found = self.next_by_timestamp(partition, &run).await?;
            found.runs.retain(|next| {
                best.is_none_or(|best| {
                    rank(next.max_timestamp, next.base_offset) > rank(best.timestamp, best.offset)
                })
            });
        }
        Ok(best.unwrap_or(TimestampAndOffset::NONE))
    }

    /// Returns the run with the greatest maximum timestamp below that of `before`, if any.
    async fn next_by_timestamp(
        &self,
        partition: TopicPartition,
        before: &Run,
    ) -> Result<Found, ListOffsetsError> {
        let rank_of = |run: &Run| rank(run.max_timestamp, run.base_offset);
        let mut next: Option<Run> = None;
        let mut page = self.page(partition, 0).await?;
        while let Some(last) = page.runs.last() {
            let end = last.end_offset();
            let candidates = page.runs.iter().filter(|run| rank_of(run) < rank_of(before));
            next = candidates.chain(&next).max_by_key(|run| rank_of(run)).copied();
            page = self.page(partition, end).await?;
        }
        Ok(Found { watermarks: page.watermarks, runs: next.into_iter().collect() })
    }

    async fn watermarks_of(
        &self,
        partition: TopicPartition,
    ) -> Result<Watermarks, ListOffsetsError> {
        Ok(self.query(bounds_of(partition)).await?.watermarks)
    }

    /// Returns the runs from `offset` on.
    ///
    /// # Errors
    /// [`ListOffsetsError::Corrupt`] too if the index does not have the first of them.
    async fn page(
        &self,
        partition: TopicPartition,
        offset: i64,
    ) -> Result<Found, ListOffsetsError> {
        let found = self.find(partition, FindFrom::Offset(offset), PAGE_RUNS).await?;
        let first = offset.max(found.watermarks.log_start_offset);
        let is_complete = first >= found.watermarks.high_watermark
            || found.runs.first().is_some_and(|run| run.base_offset <= first);
        if is_complete { Ok(found) } else { Err(ListOffsetsError::MISSING_ENTRY) }
    }

    async fn find(
        &self,
        partition: TopicPartition,
        from: FindFrom,
        runs_max: u32,
    ) -> Result<Found, ListOffsetsError> {
        self.query(FindRequest { partition, from, bytes_max: u64::MAX, runs_max }).await
    }

    async fn query(&self, request: FindRequest) -> Result<Found, ListOffsetsError> {
        let found = self.finder.find([request]).await.pop();
        Ok(found.ok_or(ListOffsetsError::Corrupt("the coordinator returned no result"))??)
    }

    /// Searches the readable records of a run.
    async fn search(
        &self,
        partition: TopicPartition,
        run: &Run,
        watermarks: &Watermarks,
        query: RecordQuery,
    ) -> Result<Option<TimestampAndOffset>, ListOffsetsError> {
        // Never closed.
        let _permit = self.searches.acquire().await.ok();
        let bytes = self.cache.read(partition, run, ReadClass::Tailing, None).await?.bytes;
        let (base_offset, log_start_offset) = (run.base_offset, watermarks.log_start_offset);
        tasks::run_blocking(move || search_run(&bytes, base_offset, log_start_offset, query)).await
    }
}

/// The record to be found in a run.
#[derive(Clone, Copy, Debug)]
enum RecordQuery {
    /// The first record with at least this timestamp, in milliseconds.
    AtOrAfter(i64),
    /// The first record with the greatest timestamp.
    MaxTimestamp,
}

/// Orders by timestamp, and equal timestamps by descending offset.
fn rank(timestamp: i64, offset: i64) -> (i64, Reverse<i64>) {
    (timestamp, Reverse(offset))
}

fn search_run(
    bytes: &[u8],
    mut base_offset: i64,
    log_start_offset: i64,
    query: RecordQuery,
) -> Result<Option<TimestampAndOffset>, ListOffsetsError> {
    let mut best: Option<TimestampAndOffset> = None;
    for batch in batches(bytes) {
        let batch =
            batch.map_err(|_| ListOffsetsError::Corrupt("the object does not match the index"))?;
        let deleted = log_start_offset.saturating_sub(base_offset);
        let delta_min = i32::try_from(deleted.max(0)).unwrap_or(i32::MAX);
        let unreadable = |_| ListOffsetsError::Corrupt("the records of a batch cannot be read");
        let record = match query {
            _ if delta_min > batch.last_offset_delta() => None,
            RecordQuery::AtOrAfter(timestamp) => {
                records::first_at_or_after(&batch, timestamp, delta_min).map_err(unreadable)?
            }
            // Decompression is expensive, and this batch cannot contain a greater timestamp.
            RecordQuery::MaxTimestamp
                if best.is_some_and(|b| b.timestamp >= batch.max_timestamp()) =>
            {
                None
            }
            RecordQuery::MaxTimestamp => {
                records::max_timestamp_record(&batch, delta_min).map_err(unreadable)?
            }
        };
        if let Some(record) = record
            && best.is_none_or(|best| record.timestamp > best.timestamp)
        {
            let offset = base_offset + i64::from(record.offset_delta);
            best = Some(TimestampAndOffset { timestamp: record.timestamp, offset });
            if matches!(query, RecordQuery::AtOrAfter(_)) {
                break;
            }
        }
        base_offset += i64::from(batch.last_offset_delta()) + 1;
    }
    Ok(best)
}
