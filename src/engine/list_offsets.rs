//! ListOffsets: where a partition begins and ends, and where a point in time lies in it.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Components;
use super::cache::{ObjectCache, ReadClass};
use crate::coordinator::{CoordinatorError, FindFrom, FindRequest, Found, Watermarks};
use crate::log::batch::Run;
use crate::log::ids::TopicPartition;
use crate::store::StoreError;
use crate::tasks;
use crate::wire::record_batch::batches;
use crate::wire::records;

/// Runs of the index that are walked over at a time.
const PAGE_RUNS: u32 = 1024;

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record that has the partition's greatest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record whose timestamp is at least this, in milliseconds.
    Timestamp(i64),
}

/// What was found. Both are −1 when no record answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampAndOffset {
    /// The record's timestamp in milliseconds; −1 for the ends of the log.
    pub timestamp: i64,
    /// The offset.
    pub offset: i64,
}

impl TimestampAndOffset {
    const NOTHING: Self = Self { timestamp: -1, offset: -1 };
}

/// Why nothing could be looked up.
#[derive(Debug, thiserror::Error)]
pub enum ListOffsetsError {
    /// The coordinator did not answer.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// The object could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object does not hold what the index says.
    #[error("{0}")]
    Corrupt(&'static str),
}

/// Looks positions up.
#[derive(Debug)]
pub struct OffsetLookup {
    components: Components,
    objects: Arc<ObjectCache>,
}

impl OffsetLookup {
    /// Reads through `objects`, so that what is cached is not read again.
    pub fn new(components: Components, objects: Arc<ObjectCache>) -> Self {
        Self { components, objects }
    }

    /// Looks up one position of one partition.
    ///
    /// # Errors
    /// [`ListOffsetsError`]; all of them are passing or alarms, none means "no such record".
    pub async fn resolve(
        &self,
        partition: TopicPartition,
        spec: OffsetSpec,
    ) -> Result<TimestampAndOffset, ListOffsetsError> {
        match spec {
            OffsetSpec::Earliest => {
                let found = self.find(partition, FindFrom::Offset(i64::MAX), 0).await?;
                Ok(TimestampAndOffset { timestamp: -1, offset: found.watermarks.log_start_offset })
            }
            OffsetSpec::Latest => {
                let found = self.find(partition, FindFrom::Offset(i64::MAX), 0).await?;
                Ok(TimestampAndOffset { timestamp: -1, offset: found.watermarks.high_watermark })
            }
            OffsetSpec::MaxTimestamp => self.greatest(partition).await,
            OffsetSpec::Timestamp(timestamp) => self.first_at_or_after(partition, timestamp).await,
        }
    }

    /// The watermarks of partitions, in order.
    ///
    /// # Errors
    /// What the coordinator answers.
    pub async fn watermarks(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Watermarks>, CoordinatorError> {
        let request = |&partition: &TopicPartition| FindRequest {
            partition,
            from: FindFrom::Offset(i64::MAX),
            bytes_max: 1,
            runs_max: 0,
        };
        let found = self.components.coordinator.find(partitions.iter().map(request).collect());
        Ok(found.await?.into_iter().map(|found| found.watermarks).collect())
    }

    /// The first run that promises such a record may not keep it: a run that the log start offset
    /// cuts keeps the timestamp of what was cut off, and a batch's header is its producer's word.
    async fn first_at_or_after(
        &self,
        partition: TopicPartition,
        timestamp: i64,
    ) -> Result<TimestampAndOffset, ListOffsetsError> {
        let mut found = self.find(partition, FindFrom::Timestamp(timestamp), 1).await?;
        while let Some(last) = found.runs.last() {
            let next = last.end_offset();
            for run in found.runs.iter().filter(|run| run.max_timestamp >= timestamp) {
                let query = RecordQuery::AtOrAfter(timestamp);
                if let Some(located) = self.search(partition, run, &found.watermarks, query).await?
                {
                    return Ok(located);
                }
            }
            found = self.find(partition, FindFrom::Offset(next), PAGE_RUNS).await?;
        }
        Ok(TimestampAndOffset::NOTHING)
    }

    /// Opens runs from the greatest timestamp that they promise downwards, mostly one.
    async fn greatest(
        &self,
        partition: TopicPartition,
    ) -> Result<TimestampAndOffset, ListOffsetsError> {
        let mut best = TimestampAndOffset::NOTHING;
        let mut found = self.find(partition, FindFrom::MaxTimestamp, 1).await?;
        while let Some(run) = found.runs.pop() {
            if let Some(located) =
                self.search(partition, &run, &found.watermarks, RecordQuery::Greatest).await?
                && rank(located.timestamp, located.offset) > rank(best.timestamp, best.offset)
            {
                best = located;
            }
            if best.timestamp >= run.max_timestamp {
                break;
            }
            found = self.next_in_rank(partition, &run).await?;
            found.runs.retain(|next| {
                rank(next.max_timestamp, next.base_offset) > rank(best.timestamp, best.offset)
            });
        }
        Ok(best)
    }

    /// The run that promises the greatest timestamp after `before`, or none.
    async fn next_in_rank(
        &self,
        partition: TopicPartition,
        before: &Run,
    ) -> Result<Found, ListOffsetsError> {
        let rank_of = |run: &Run| rank(run.max_timestamp, run.base_offset);
        let mut next: Option<Run> = None;
        let mut page = self.find(partition, FindFrom::Offset(0), PAGE_RUNS).await?;
        while let Some(last) = page.runs.last() {
            let end = last.end_offset();
            let candidates = page.runs.iter().filter(|run| rank_of(run) < rank_of(before));
            next = candidates.chain(&next).max_by_key(|run| rank_of(run)).copied();
            page = self.find(partition, FindFrom::Offset(end), PAGE_RUNS).await?;
        }
        Ok(Found { watermarks: page.watermarks, runs: next.into_iter().collect() })
    }

    async fn find(
        &self,
        partition: TopicPartition,
        from: FindFrom,
        runs_max: u32,
    ) -> Result<Found, ListOffsetsError> {
        let request = FindRequest { partition, from, bytes_max: u64::MAX, runs_max };
        let mut found = self.components.coordinator.find(vec![request]).await?;
        found.pop().ok_or(ListOffsetsError::Corrupt("the coordinator answered nothing"))
    }

    /// The record within the run, among those that can be read.
    async fn search(
        &self,
        partition: TopicPartition,
        run: &Run,
        watermarks: &Watermarks,
        query: RecordQuery,
    ) -> Result<Option<TimestampAndOffset>, ListOffsetsError> {
        let bytes = self.objects.read(partition, run, ReadClass::CatchUp).await?;
        let (base_offset, start) = (run.base_offset, watermarks.log_start_offset);
        tasks::run_blocking(move || search_run(&bytes, base_offset, start, query)).await
    }
}

/// Which record of a run is wanted.
#[derive(Clone, Copy, Debug)]
enum RecordQuery {
    /// The first with this timestamp or a later one.
    AtOrAfter(i64),
    /// The first with the greatest timestamp.
    Greatest,
}

/// Greater timestamps first, and of equal ones the lower offset.
fn rank(timestamp: i64, offset: i64) -> (i64, Reverse<i64>) {
    (timestamp, Reverse(offset))
}

fn search_run(
    bytes: &[u8],
    base_offset: i64,
    log_start_offset: i64,
    query: RecordQuery,
) -> Result<Option<TimestampAndOffset>, ListOffsetsError> {
    let mut base_offset = base_offset;
    let mut best: Option<TimestampAndOffset> = None;
    for batch in batches(bytes) {
        let batch = batch
            .map_err(|_| ListOffsetsError::Corrupt("the object does not hold a batch there"))?;
        let cut = log_start_offset.saturating_sub(base_offset);
        let delta_min = i32::try_from(cut.max(0)).unwrap_or(i32::MAX);
        let unreadable = |_| ListOffsetsError::Corrupt("the records of a batch cannot be read");
        let record = match query {
            _ if delta_min > batch.last_offset_delta() => None,
            RecordQuery::AtOrAfter(timestamp) => {
                records::first_at_or_after(&batch, timestamp, delta_min).map_err(unreadable)?
            }
            // Opening is dear, and a batch that promises no more cannot be better.
            RecordQuery::Greatest if best.is_some_and(|b| b.timestamp >= batch.max_timestamp()) => {
                None
            }
            RecordQuery::Greatest => {
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
