//! The state of one diskless partition: its watermarks, its index, its producers.

use std::collections::BTreeMap;

use super::batch::{BatchMetadata, Part, Run};
use super::commit_outcome::CommitOutcome;
use super::ids::ObjectId;
use super::producer_state::{Producers, RetainedBatch};

mod checkpoint;

/// The start of a search for runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindFrom {
    /// The run that contains this offset, or the first one after it.
    Offset(i64),
    /// The first run, in offset order, whose greatest timestamp is at least this (milliseconds).
    Timestamp(i64),
    /// The first run, in offset order, that has the partition's greatest timestamp.
    MaxTimestamp,
}

/// One partition.
///
/// Invariant: the runs of the index are contiguous, the first one ends above the log start
/// offset, and the last one ends at the high watermark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionLog {
    log_start_offset: i64,
    high_watermark: i64,
    bytes: u64,
    index: BTreeMap<i64, Run>,
    producers: Producers,
}

impl PartitionLog {
    /// Appends the batches of the parts of one object that may be appended. Returns for each part
    /// one outcome for each batch, in order, and the runs that were added to the index. Adjacent
    /// bytes are one run, across parts too; a batch that is not appended separates two runs.
    pub fn commit<'a>(
        &mut self,
        object: ObjectId,
        sealed_ms: i64,
        parts: impl IntoIterator<Item = &'a Part>,
    ) -> (Vec<Vec<CommitOutcome>>, Vec<Run>) {
        self.producers.advance(sealed_ms);
        let (mut outcomes, mut runs) = (Vec::new(), Vec::new());
        for part in parts {
            let mut position = part.start;
            let batches = part.batches.iter().map(|batch| {
                let outcome = self.append(batch);
                if let CommitOutcome::Committed { base_offset } = outcome {
                    extend_runs(&mut runs, object, position, base_offset, batch);
                }
                position = position.saturating_add(u64::from(batch.bytes));
                outcome
            });
            outcomes.push(batches.collect());
        }
        for run in &runs {
            self.bytes = self.bytes.saturating_add(run.bytes);
            self.index.insert(run.base_offset, *run);
        }
        (outcomes, runs)
    }

    /// Raises the log start offset, at most to the high watermark, and removes the runs that end at
    /// or below it. Returns whether it rose. Producers stay, as on a broker.
    pub fn trim(&mut self, log_start_offset: i64) -> bool {
        let start = log_start_offset.min(self.high_watermark);
        if start <= self.log_start_offset {
            return false;
        }
        self.log_start_offset = start;
        while let Some(first) = self.index.first_entry() {
            if first.get().end_offset() > start {
                break;
            }
            self.bytes = self.bytes.saturating_sub(first.remove().bytes);
        }
        true
    }

    /// Returns runs in offset order, beginning at `from`, until they have `bytes_max` bytes; at most
    /// `runs_max`. The first run is returned whatever its size.
    pub fn find(&self, from: FindFrom, bytes_max: u64, runs_max: u32) -> Vec<Run> {
        let Some(first) = self.first_run(from) else { return Vec::new() };
        let mut bytes = 0_u64;
        let mut found = Vec::new();
        for run in self.index.range(first..).map(|(_, run)| run).take(runs_max as usize) {
            if !found.is_empty() && bytes >= bytes_max {
                break;
            }
            bytes = bytes.saturating_add(run.bytes);
            found.push(*run);
        }
        found
    }

    /// Returns the first offset that can be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset
    }

    /// Returns the offset after the last record.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Returns the bytes of the runs in the index.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the producers of the partition.
    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    fn append(&mut self, batch: &BatchMetadata) -> CommitOutcome {
        let base_offset = self.high_watermark;
        if let (Some(producer), Some(last_sequence)) = (batch.producer, batch.last_sequence()) {
            if let Some(outcome) = self.producers.check(producer, last_sequence) {
                return outcome;
            }
            let retained = RetainedBatch {
                base_sequence: producer.base_sequence,
                last_sequence,
                base_offset,
                max_timestamp: batch.max_timestamp,
            };
            self.producers.record(producer.id, producer.epoch, retained);
        }
        self.high_watermark = base_offset.saturating_add(i64::from(batch.offset_count));
        CommitOutcome::Committed { base_offset }
    }

    fn first_run(&self, from: FindFrom) -> Option<i64> {
        let at_least = |t: i64| self.index.values().find(|r| r.max_timestamp >= t);
        match from {
            FindFrom::Offset(offset) => {
                let containing = self.index.range(..=offset).next_back();
                match containing.filter(|(_, run)| run.end_offset() > offset) {
                    Some((base, _)) => Some(*base),
                    None => self.index.range(offset..).next().map(|(base, _)| *base),
                }
            }
            FindFrom::Timestamp(timestamp) => at_least(timestamp).map(|r| r.base_offset),
            FindFrom::MaxTimestamp => {
                let greatest = self.index.values().map(|r| r.max_timestamp).max()?;
                at_least(greatest).map(|r| r.base_offset)
            }
        }
    }
}

/// Adds an appended batch to the last run if it is adjacent to it, else as a new run.
fn extend_runs(
    runs: &mut Vec<Run>,
    object: ObjectId,
    position: u64,
    base_offset: i64,
    batch: &BatchMetadata,
) {
    match runs.last_mut() {
        Some(run) if run.start.saturating_add(run.bytes) == position => {
            run.offset_count += i64::from(batch.offset_count);
            run.bytes += u64::from(batch.bytes);
            run.max_timestamp = run.max_timestamp.max(batch.max_timestamp);
        }
        _ => runs.push(Run {
            base_offset,
            offset_count: i64::from(batch.offset_count),
            object,
            start: position,
            bytes: u64::from(batch.bytes),
            max_timestamp: batch.max_timestamp,
        }),
    }
}

#[cfg(test)]
mod tests;
