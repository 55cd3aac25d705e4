//! The idempotent producers of a partition.
//!
//! The rules are those of KIP-98 as a stock broker applies them (`ProducerAppendInfo`,
//! `ProducerStateEntry.findDuplicateBatch`), including the order of the checks: duplicates are
//! detected first.

use std::collections::{BTreeMap, VecDeque};

use super::batch::{ProducerSequence, add_sequence};
use super::commit_outcome::{CommitOutcome, Refusal};

/// The number of batches retained for each producer: `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`,
/// which is also the greatest number that an idempotent client has in flight (KIP-185).
pub const BATCHES_RETAINED: usize = 5;

/// The idle time after which a producer expires, in milliseconds: the broker's
/// `producer.id.expiration.ms`.
pub const EXPIRATION_MS: i64 = 86_400_000;

/// The greatest delay, in milliseconds, after which expired producers are removed from memory.
/// It has no visible effect: an expired producer counts as unknown.
pub const SWEEP_INTERVAL_MS: i64 = 3_600_000;

/// A batch that a producer appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainedBatch {
    /// The sequence of its first record.
    pub base_sequence: i32,
    /// The sequence of its last record.
    pub last_sequence: i32,
    /// The offset of its first record.
    pub base_offset: i64,
    /// The greatest timestamp of its records, in milliseconds.
    pub max_timestamp: i64,
}

/// The state of one producer in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Its newest epoch.
    pub epoch: i16,
    /// The partition's clock at its last append, in milliseconds.
    pub last_append_ms: i64,
    /// Its last batches, oldest first: between 1 and [`BATCHES_RETAINED`].
    pub batches: VecDeque<RetainedBatch>,
}

/// The producers of one partition.
///
/// The clock is the greatest seal time of the objects committed so far. It never goes back, and a
/// replay of the same commits has the same outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    entries: BTreeMap<i64, ProducerEntry>,
    clock_ms: Option<i64>,
    swept_ms: i64,
}

impl Producers {
    /// Restores producers; `clock_ms` is `None` before the first commit.
    pub(super) fn restore(clock_ms: Option<i64>, entries: Vec<(i64, ProducerEntry)>) -> Self {
        let entries = entries.into_iter().collect();
        Self { entries, clock_ms, swept_ms: clock_ms.unwrap_or_default() }
    }

    /// Returns the clock in milliseconds; `None` before the first commit.
    pub fn clock_ms(&self) -> Option<i64> {
        self.clock_ms
    }

    /// Advances the clock to `sealed_ms` unless it is later already, and removes expired producers.
    pub fn advance(&mut self, sealed_ms: i64) {
        let now = match self.clock_ms {
            None => {
                self.swept_ms = sealed_ms;
                sealed_ms
            }
            Some(clock) => clock.max(sealed_ms),
        };
        self.clock_ms = Some(now);
        if now.saturating_sub(self.swept_ms) >= SWEEP_INTERVAL_MS {
            self.entries.retain(|_, entry| !is_expired(entry, now));
            self.swept_ms = now;
        }
    }

    /// Checks a batch whose last record has `last_sequence`. Returns its outcome, or `None` if the
    /// batch may be appended.
    pub fn check(&self, sequence: ProducerSequence, last_sequence: i32) -> Option<CommitOutcome> {
        let entry = self.active(sequence.id)?;
        if sequence.epoch == entry.epoch {
            let sequences = (sequence.base_sequence, last_sequence);
            let is_repeated = |b: &&RetainedBatch| (b.base_sequence, b.last_sequence) == sequences;
            if let Some(batch) = entry.batches.iter().find(is_repeated) {
                let RetainedBatch { base_offset, max_timestamp, .. } = *batch;
                return Some(CommitOutcome::Duplicate { base_offset, max_timestamp });
            }
        }
        if sequence.epoch < entry.epoch {
            return Some(CommitOutcome::Refused(Refusal::InvalidProducerEpoch));
        }
        let expected = if sequence.epoch > entry.epoch {
            0
        } else {
            entry.batches.back().map_or(0, |b| add_sequence(b.last_sequence, 1))
        };
        (sequence.base_sequence != expected)
            .then_some(CommitOutcome::Refused(Refusal::OutOfOrderSequence))
    }

    /// Records an appended batch, for which [`Producers::check`] returned `None`.
    pub fn record(&mut self, id: i64, epoch: i16, batch: RetainedBatch) {
        let now = self.clock_ms.unwrap_or(i64::MIN);
        let fresh = || ProducerEntry { epoch, last_append_ms: now, batches: VecDeque::new() };
        let entry = self.entries.entry(id).or_insert_with(fresh);
        if entry.epoch != epoch || is_expired(entry, now) {
            *entry = fresh();
        }
        entry.last_append_ms = now;
        if entry.batches.len() == BATCHES_RETAINED {
            entry.batches.pop_front();
        }
        entry.batches.push_back(batch);
    }

    /// Returns the producers that did not expire, by id. `now_ms` is a time that the clock may not
    /// have reached, because nothing was committed since.
    pub fn iter(&self, now_ms: i64) -> impl Iterator<Item = (i64, &ProducerEntry)> {
        let now = self.clock_ms.unwrap_or(i64::MIN).max(now_ms);
        self.entries.iter().filter(move |(_, e)| !is_expired(e, now)).map(|(id, e)| (*id, e))
    }

    fn active(&self, id: i64) -> Option<&ProducerEntry> {
        let now = self.clock_ms.unwrap_or(i64::MIN);
        self.entries.get(&id).filter(|entry| !is_expired(entry, now))
    }
}

fn is_expired(entry: &ProducerEntry, now_ms: i64) -> bool {
    now_ms.saturating_sub(entry.last_append_ms) >= EXPIRATION_MS
}

#[cfg(test)]
mod tests;
