//! What a partition remembers of idempotent producers, and what it answers them.
//!
//! The rules are those of KIP-98 as a stock broker applies them (`ProducerAppendInfo`,
//! `ProducerStateEntry.findDuplicateBatch`), down to the order of the checks: a repeat is
//! recognised before anything else is judged.

use std::collections::{BTreeMap, VecDeque};

use super::batch::{ProducerSequence, add_sequence};

/// Batches remembered for each producer: `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`, which is
/// also the most that an idempotent client keeps in flight (KIP-185).
pub const BATCHES_REMEMBERED: usize = 5;

/// Silence after which a producer is forgotten, in milliseconds: the broker's
/// `producer.id.expiration.ms`.
pub const EXPIRATION_MS: i64 = 86_400_000;

/// Expired producers leave memory at most this much later, in milliseconds. Nobody can tell:
/// an expired producer is answered as one never seen from the moment it expires.
pub const SWEEP_INTERVAL_MS: i64 = 3_600_000;

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RememberedBatch {
    /// Sequence of its first record.
    pub base_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// The offset that it was given.
    pub base_offset: i64,
    /// The greatest timestamp of its records, in milliseconds.
    pub max_timestamp: i64,
}

/// What the producer state makes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It continues what is known: append it, then [`Producers::remember`] it.
    Append,
    /// One of the last five again.
    Duplicate(RememberedBatch),
    /// Neither the next batch nor one of the last five.
    OutOfOrderSequence,
    /// Its epoch is older than one already seen.
    InvalidProducerEpoch,
}

/// One producer's state in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerEntry {
    /// Its newest epoch.
    pub epoch: i16,
    /// The partition's clock when it last appended, in milliseconds.
    pub seen_ms: i64,
    /// Its last batches, oldest first: between one and [`BATCHES_REMEMBERED`].
    pub batches: VecDeque<RememberedBatch>,
}

/// The producers of one partition.
///
/// Time is the greatest seal time of the objects committed so far and never goes back, so that a
/// replay of the same commits decides as the first run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    entries: BTreeMap<i64, ProducerEntry>,
    clock_ms: Option<i64>,
    swept_ms: i64,
}

impl Producers {
    /// Moves the clock to `sealed_ms` unless it is later already, and drops what has expired.
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

    /// Judges a batch whose last record has `last_sequence`; changes nothing.
    pub fn check(&self, claim: ProducerSequence, last_sequence: i32) -> Verdict {
        let Some(entry) = self.live(claim.id) else { return Verdict::Append };
        if claim.epoch == entry.epoch {
            let again = entry.batches.iter().find(|b| {
                (b.base_sequence, b.last_sequence) == (claim.base_sequence, last_sequence)
            });
            if let Some(batch) = again {
                return Verdict::Duplicate(*batch);
            }
        }
        if claim.epoch < entry.epoch {
            return Verdict::InvalidProducerEpoch;
        }
        let expected = if claim.epoch > entry.epoch {
            0
        } else {
            entry.batches.back().map_or(0, |b| add_sequence(b.last_sequence, 1))
        };
        if claim.base_sequence == expected { Verdict::Append } else { Verdict::OutOfOrderSequence }
    }

    /// Records a batch that [`Producers::check`] let through.
    pub fn remember(&mut self, id: i64, epoch: i16, batch: RememberedBatch) {
        let now = self.clock_ms.unwrap_or(i64::MIN);
        let fresh = || ProducerEntry { epoch, seen_ms: now, batches: VecDeque::new() };
        let entry = self.entries.entry(id).or_insert_with(fresh);
        if entry.epoch != epoch || is_expired(entry, now) {
            *entry = fresh();
        }
        entry.seen_ms = now;
        if entry.batches.len() == BATCHES_REMEMBERED {
            entry.batches.pop_front();
        }
        entry.batches.push_back(batch);
    }

    /// The producers that have not expired, by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerEntry)> {
        let now = self.clock_ms.unwrap_or(i64::MIN);
        self.entries.iter().filter(move |(_, e)| !is_expired(e, now)).map(|(id, e)| (*id, e))
    }

    fn live(&self, id: i64) -> Option<&ProducerEntry> {
        let now = self.clock_ms.unwrap_or(i64::MIN);
        self.entries.get(&id).filter(|entry| !is_expired(entry, now))
    }
}

fn is_expired(entry: &ProducerEntry, now_ms: i64) -> bool {
    now_ms.saturating_sub(entry.seen_ms) >= EXPIRATION_MS
}

#[cfg(test)]
mod tests;
