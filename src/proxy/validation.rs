//! Validates the records of produced batches where it delays nobody.

use tokio::sync::Semaphore;

use crate::tasks;
use crate::wire::record_batch::{Compression, ProduceBatch};
use crate::wire::records::{
    self, DECOMPRESSED_BYTES_MAX, RecordRules, RecordsError, ValidBatch, validate,
};

/// A compressed batch up to this size is opened at once, if it opens to little.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// What is little: a millisecond or so of any codec.
const INLINE_DECOMPRESSED_BYTES_MAX: usize = 256 << 10;

/// Opens batches, only so many at a time: each takes a thread, and memory for its codec.
#[derive(Debug)]
pub struct RecordValidator {
    threads: Semaphore,
}

impl RecordValidator {
    /// Keeps at most as many threads busy as there are processors.
    pub fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: Semaphore::new(threads) }
    }

    /// [`records::validate`] with the limit [`DECOMPRESSED_BYTES_MAX`].
    ///
    /// # Errors
    /// Those of [`records::validate`].
    pub(super) async fn validate(
        &self,
        batch: &ProduceBatch,
        rules: RecordRules,
        now_ms: i64,
    ) -> Result<ValidBatch, RecordsError> {
        let is_plain = batch.attributes.compression() == Some(Compression::None)
            && matches!(rules.codec, None | Some(records::Codec::None));
        if is_plain || batch.bytes.len() <= INLINE_BYTES_MAX {
            match validate(&batch.bytes, &rules, now_ms, INLINE_DECOMPRESSED_BYTES_MAX) {
                Err(RecordsError::TooLarge) => {}
                decided => return decided,
            }
        }
        // The semaphore is never closed.
        let _thread = self.threads.acquire().await;
        let bytes = batch.bytes.clone();
        tasks::run_blocking(move || validate(&bytes, &rules, now_ms, DECOMPRESSED_BYTES_MAX)).await
    }
}

impl Default for RecordValidator {
    fn default() -> Self {
        Self::new()
    }
}
