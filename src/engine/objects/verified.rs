//! Which runs of a block are known to be what their producers sent.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::wire::record_batch;

/// Runs of one block whose batches were checked, by first byte and length.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<HashSet<(u64, u64)>>);

impl Verified {
    /// Checks a run's batches and their checksums, unless that was done before; an error says what
    /// is wrong.
    pub(super) fn check(&self, start: u64, run: &[u8]) -> Result<(), String> {
        let key = (start, run.len() as u64);
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&key) {
            return Ok(());
        }
        for batch in record_batch::batches(run) {
            match batch {
                Ok(batch) if batch.crc_holds() => {}
                Ok(_) => return Err("a batch does not have its checksum".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        Ok(())
    }
}
