//! Which runs of a block are known to be what their producers sent, and to be whose the index says.

use std::collections::HashSet;
use std::future::Future;
use std::ops::Range;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::log::ids::{ObjectId, TopicPartition};
use crate::log::object_format::{Footer, decode_footer};
use crate::wire::record_batch;

/// What was checked of one block.
#[derive(Debug, Default)]
pub(super) struct VerifiedRuns {
    /// By partition, first byte and length.
    runs: Mutex<HashSet<(TopicPartition, u64, u64)>>,
    contents: OnceCell<ObjectLayout>,
}

impl VerifiedRuns {
    pub(super) fn knows(&self, partition: TopicPartition, range: &Range<u64>) -> bool {
        let key = (partition, range.start, range.end);
        self.runs.lock().contains(&key)
    }

    /// That a run belongs to the partition, by the object's own word; `read` is awaited for that
    /// once.
    pub(super) async fn check_owner<E, F>(
        &self,
        partition: TopicPartition,
        range: &Range<u64>,
        read: impl FnOnce() -> F,
    ) -> Result<bool, E>
    where
        F: Future<Output = Result<ObjectLayout, E>>,
    {
        let contents = self.contents.get_or_try_init(read).await?;
        let holds = contents.holds(partition, range);
        if holds {
            let key = (partition, range.start, range.end);
            self.runs.lock().insert(key);
        }
        Ok(holds)
    }
}

/// Checks a run's batches and their checksums; an error says what is wrong.
pub(super) fn check_batches(run: &[u8]) -> Result<(), String> {
    for batch in record_batch::batches(run) {
        match batch {
            Ok(batch) if batch.is_crc_valid() => {}
            Ok(_) => return Err("a batch does not have its checksum".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// What lies where in an object, as its footer says.
#[derive(Debug)]
pub(super) struct ObjectLayout {
    /// In the order of their bytes, which do not overlap.
    parts: Vec<(Range<u64>, TopicPartition)>,
}

impl ObjectLayout {
    /// Reads the end of an object of `object_bytes` bytes; an error says what is wrong with it.
    pub(super) fn read(object: ObjectId, object_bytes: u64, tail: &[u8]) -> Result<Self, String> {
        let footer = decode_footer(object_bytes, tail).map_err(|error| error.to_string())?;
        if footer.object != object {
            return Err(format!("it is the object {}", footer.object));
        }
        Ok(Self::of(&footer))
    }

    fn of(footer: &Footer) -> Self {
        let parts = footer.parts.iter().map(|part| {
            let bytes = part.batches.iter().map(|batch| u64::from(batch.bytes)).sum::<u64>();
            (part.start..part.start + bytes, part.partition)
        });
        Self { parts: parts.collect() }
    }

    pub(super) fn holds(&self, partition: TopicPartition, range: &Range<u64>) -> bool {
        let behind = self.parts.partition_point(|(part, _)| part.start <= range.start);
        behind
            .checked_sub(1)
            .and_then(|at| self.parts.get(at))
            .is_some_and(|(part, owner)| *owner == partition && range.end <= part.end)
    }
}
