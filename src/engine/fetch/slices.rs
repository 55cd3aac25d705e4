//! Cuts a run into batches with their offsets, without copying a record.

use bytes::Bytes;

use crate::log::batch::Run;
use crate::wire::record_batch::{PREFIX_BYTES, batches, placed_prefix};

/// The bytes that a fetch may still give.
#[derive(Debug)]
pub(super) struct ByteLimit {
    response: usize,
    partition: usize,
    anything_given: bool,
}

impl ByteLimit {
    pub(super) fn new(response_bytes: usize) -> Self {
        Self { response: response_bytes, partition: 0, anything_given: false }
    }

    pub(super) fn begin_partition(&mut self, partition_bytes: usize) {
        self.partition = partition_bytes;
    }

    /// Bytes that the response may still give.
    pub(super) fn left(&self) -> usize {
        if self.anything_given { self.response } else { self.response.max(1) }
    }

    /// Whether a batch may be given. The first one of a response always may, else a batch larger
    /// than the limits would block its partition for ever (KIP-74).
    fn take(&mut self, bytes: usize) -> bool {
        if self.anything_given && bytes > self.response.min(self.partition) {
            return false;
        }
        self.anything_given = true;
        self.response = self.response.saturating_sub(bytes);
        self.partition = self.partition.saturating_sub(bytes);
        true
    }
}

/// Whether the partition may give more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    Yes,
    No,
}

/// The bytes of a run are not the batches that the index says.
#[derive(Debug, thiserror::Error)]
pub(super) enum CorruptRun {
    #[error("not a batch at byte {0} of the run")]
    NotABatch(usize),
    #[error("the run ends at offset {found}, not at {expected}")]
    Offsets { found: i64, expected: i64 },
    #[error("the run begins at offset {found}, above {wanted}")]
    Gap { found: i64, wanted: i64 },
}

/// Appends the run's batches from the one that holds `offset` on, as far as the budget goes.
///
/// Gives nothing of a run that does not hold exactly the offsets that the index says: a batch
/// whose count is wrong would shift those behind it.
pub(super) fn slice_run(
    run: &Run,
    bytes: &Bytes,
    offset: i64,
    leader_epoch: i32,
    budget: &mut ByteLimit,
    out: &mut Vec<Bytes>,
) -> Result<More, CorruptRun> {
    if run.base_offset > offset {
        return Err(CorruptRun::Gap { found: run.base_offset, wanted: offset });
    }
    check_run(run, bytes)?;
    let (mut at, mut next_offset) = (0, run.base_offset);
    for batch in batches(bytes) {
        let batch = batch.map_err(|_| CorruptRun::NotABatch(at))?;
        let range = at..at + batch.bytes().len();
        let base_offset = next_offset;
        next_offset += i64::from(batch.last_offset_delta()) + 1;
        at = range.end;
        if next_offset <= offset {
            continue;
        }
        if !budget.take(range.len()) {
            return Ok(More::No);
        }
        let prefix = placed_prefix(base_offset, leader_epoch, &batch);
        out.push(Bytes::copy_from_slice(&prefix));
        out.push(bytes.slice(range.start + PREFIX_BYTES..range.end));
    }
    Ok(More::Yes)
}

fn check_run(run: &Run, bytes: &[u8]) -> Result<(), CorruptRun> {
    let (mut at, mut next_offset) = (0, run.base_offset);
    for batch in batches(bytes) {
        let batch = batch.ok().filter(|batch| batch.last_offset_delta() >= 0);
        let batch = batch.ok_or(CorruptRun::NotABatch(at))?;
        next_offset += i64::from(batch.last_offset_delta()) + 1;
        at += batch.bytes().len();
    }
    if next_offset == run.end_offset() {
        Ok(())
    } else {
        Err(CorruptRun::Offsets { found: next_offset, expected: run.end_offset() })
    }
}
