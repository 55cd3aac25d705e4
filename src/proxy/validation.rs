//! Validates the records of produced batches without delaying other connections.

use tokio::sync::Semaphore;

use crate::tasks;
use crate::wire::record_batch::{Compression, ProduceBatch};
use crate::wire::records::{
    self, DECOMPRESSED_BYTES_MAX, RecordRules, RecordsError, ValidBatch, validate,
};

/// A compressed batch up to this size is decompressed inline, unless it expands to more than
/// [`INLINE_DECOMPRESSED_BYTES_MAX`].
const INLINE_BYTES_MAX: usize = 64 << 10;
/// The limit of inline decompression: about a millisecond with any codec.
const INLINE_DECOMPRESSED_BYTES_MAX: usize = 256 << 10;

/// Validates records. Large batches are decompressed on other threads, with a limit on how many at a
/// time because each needs memory for its codec.
#[derive(Debug)]
pub struct RecordValidator {
    threads: Semaphore,
}

impl RecordValidator {
    /// Uses at most as many threads as there are processors.
    pub fn new() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: Semaphore::new(threads) }
    }

    /// Calls [`records::validate`] with the limit [`DECOMPRESSED_BYTES_MAX`].
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
