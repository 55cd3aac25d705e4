//! ListOffsets: where a partition begins and ends, and where a point in time lies in it.

use std::sync::Arc;

use super::Components;
use super::objects::Objects;
use crate::coordinator::{CoordinatorError, FindFrom, FindRequest, Found, Watermarks};
use crate::log::ids::TopicPartition;
use crate::store::StoreError;
use crate::wire::record_batch::batches;
use crate::wire::records;

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
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
pub struct Located {
    /// The record's timestamp in milliseconds; −1 for the ends of the log.
    pub timestamp: i64,
    /// The offset.
    pub offset: i64,
}

impl Located {
    const NOTHING: Self = Self { timestamp: -1, offset: -1 };
}

/// Why nothing could be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
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
pub struct Lookup {
    components: Components,
    objects: Arc<Objects>,
}

impl Lookup {
    /// Reads through `objects`, so that what is cached is not read again.
    pub fn new(components: Components, objects: Arc<Objects>) -> Self {
        Self { components, objects }
    }

    /// Looks up one position of one partition.
    ///
    /// # Errors
    /// [`LookupError`]; all of them are passing or alarms, none means "no such record".
    pub async fn locate(
        &self,
        partition: TopicPartition,
        position: Position,
    ) -> Result<Located, LookupError> {
        let from = match position {
            Position::Earliest | Position::Latest => FindFrom::Offset(i64::MAX),
            Position::MaxTimestamp => FindFrom::MaxTimestamp,
            Position::Timestamp(timestamp) => FindFrom::Timestamp(timestamp),
        };
        let request = FindRequest { partition, from, bytes_max: 1, runs_max: 1 };
        let mut found = self.components.coordinator.find(vec![request]).await?;
        let found = found.pop().ok_or(LookupError::Corrupt("the coordinator answered nothing"))?;
        match position {
            Position::Earliest => {
                Ok(Located { timestamp: -1, offset: found.watermarks.log_start_offset })
            }
            Position::Latest => {
                Ok(Located { timestamp: -1, offset: found.watermarks.high_watermark })
            }
            Position::MaxTimestamp => self.open_run(&found, None).await,
            Position::Timestamp(timestamp) => self.open_run(&found, Some(timestamp)).await,
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

    /// The record within the run: the first at or after `timestamp`, or the first with the run's
    /// greatest timestamp.
    async fn open_run(
        &self,
        found: &Found,
        timestamp: Option<i64>,
    ) -> Result<Located, LookupError> {
        let Some(run) = found.runs.first() else { return Ok(Located::NOTHING) };
        let wanted = timestamp.unwrap_or(run.max_timestamp);
        let bytes = self.objects.read(run).await?;
        let mut base_offset = run.base_offset;
        for batch in batches(&bytes) {
            let batch = batch
                .map_err(|_| LookupError::Corrupt("the object does not hold a batch there"))?;
            let record = records::first_at_or_after(&batch, wanted)
                .map_err(|_| LookupError::Corrupt("the records of a batch cannot be read"))?;
            if let Some(found) = record {
                let offset = base_offset + i64::from(found.offset_delta);
                return Ok(Located { timestamp: found.timestamp, offset });
            }
            base_offset += i64::from(batch.last_offset_delta()) + 1;
        }
        Ok(Located::NOTHING)
    }
}
