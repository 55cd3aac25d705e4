//! Verifies runs: the checksums of their batches, and by the object's footer the partition that
//! they belong to.

use std::collections::HashSet;
use std::future::Future;
use std::ops::Range;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::log::ids::{ObjectId, TopicPartition};
use crate::log::object_format::{Footer, decode_footer};
use crate::store::StoreErrorKind;
use crate::wire::record_batch;

/// Approximate memory of a part of the layout and of the verified runs within it, in bytes.
const PART_BYTES: u64 = 112;

/// The runs of one block that were verified, and the layout of its object.
#[derive(Debug, Default)]
pub(super) struct VerifiedRuns {
    /// By first byte and end. A run belongs to the partition that the layout names.
    runs: Mutex<HashSet<(u64, u64)>>,
    layout: OnceCell<ObjectLayout>,
}

impl VerifiedRuns {
    /// Returns whether the run was verified before.
    pub(super) fn contains(&self, partition: TopicPartition, range: &Range<u64>) -> bool {
        let layout = self.layout.get();
        layout.is_some_and(|layout| layout.contains(partition, range))
            && self.runs.lock().contains(&(range.start, range.end))
    }

    /// Returns whether the object's footer assigns the run to the partition, and remembers a run
    /// for which it does. `read_layout` is awaited once per block.
    ///
    /// # Errors
    /// The error of `read_layout`.
    pub(super) async fn verify_owner<E, F>(
        &self,
        partition: TopicPartition,
        range: &Range<u64>,
        read_layout: impl FnOnce() -> F,
    ) -> Result<bool, E>
    where
        F: Future<Output = Result<ObjectLayout, E>>,
    {
        let layout = self.layout.get_or_try_init(read_layout).await?;
        let is_owner = layout.contains(partition, range);
        if is_owner {
            let mut runs = self.runs.lock();
            // Usually one run per part. More would only be remembered at the cost of memory.
            if runs.len() < 2 * layout.parts.len() {
                runs.insert((range.start, range.end));
            }
        }
        Ok(is_owner)
    }

    /// Returns the memory of the layout and of the verified runs, in bytes; 0 until the layout is
    /// known.
    pub(super) fn memory(&self) -> u64 {
        self.layout.get().map_or(0, |layout| PART_BYTES * layout.parts.len() as u64)
    }
}

/// Verifies the structure and the checksums of a run's batches.
///
/// # Errors
/// A description of the fault.
pub(super) fn verify_batches(run: &[u8]) -> Result<(), String> {
    for batch in record_batch::batches(run) {
        match batch {
            Ok(batch) if batch.is_crc_valid() => {}
            Ok(_) => return Err("checksum mismatch in a record batch".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// Byte ranges of an object's parts and their partitions, from its footer.
#[derive(Debug)]
pub(super) struct ObjectLayout {
    /// In byte order; ranges do not overlap. Adjacent parts of one partition are one range, as they
    /// may be one run.
    parts: Vec<(Range<u64>, TopicPartition)>,
}

impl ObjectLayout {
    /// Decodes the footer of `object` from its last bytes. `object_bytes` is the object's length.
    ///
    /// # Errors
    /// [`StoreErrorKind::UnsupportedFormat`] for an object of another version,
    /// [`StoreErrorKind::Corrupt`] otherwise, with a description of the fault.
    pub(super) fn decode(
        object: ObjectId,
        object_bytes: u64,
        tail: &[u8],
    ) -> Result<Self, (StoreErrorKind, String)> {
        let footer = decode_footer(object_bytes, tail).map_err(|error| {
            let kind = match error.is_unsupported() {
                true => StoreErrorKind::UnsupportedFormat,
                false => StoreErrorKind::Corrupt,
            };
            (kind, format!("footer: {error}"))
        })?;
        if footer.object != object {
            let detail = format!("the footer names another object, {}", footer.object);
            return Err((StoreErrorKind::Corrupt, detail));
        }
        Ok(Self::from_footer(&footer))
    }

    fn from_footer(footer: &Footer) -> Self {
        let mut parts: Vec<(Range<u64>, TopicPartition)> = Vec::new();
        for part in &footer.parts {
            let bytes = part.batches.iter().map(|batch| u64::from(batch.bytes)).sum::<u64>();
            match parts.last_mut() {
                Some((range, owner)) if range.end == part.start && *owner == part.partition => {
                    range.end += bytes;
                }
                _ => parts.push((part.start..part.start + bytes, part.partition)),
            }
        }
        Self { parts }
    }

    /// Returns whether a part of the partition contains the whole range.
    pub(super) fn contains(&self, partition: TopicPartition, range: &Range<u64>) -> bool {
        let next = self.parts.partition_point(|(part, _)| part.start <= range.start);
        next.checked_sub(1)
            .and_then(|index| self.parts.get(index))
            .is_some_and(|(part, owner)| *owner == partition && range.end <= part.end)
    }
}
