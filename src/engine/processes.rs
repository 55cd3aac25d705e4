//! The records of the processes that write objects, kept in the object store, where a loss of the
//! coordinator's latest data does not affect them.
//!
//! A record names the lowest sequence of its process that may not be decided. The value is that of
//! some time ago: what the coordinator may have lost in the meantime is covered by it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::log::ids::ObjectId;
use crate::store::record::RecordFormat;
use crate::store::{PutMode, Store, StoreError};

/// The prefix of the records; `<incarnation>-<process id>.json` follows.
const PREFIX: &str = "meta/processes/";
const FORMAT: RecordFormat = RecordFormat { what: "the record of a process", version: 1 };
const PAGE_KEYS: usize = 1_000;

/// The age of the sequence that a record names. It exceeds the age of the positions by which a
/// coordinator's loss is noticed, so that what is lost unnoticed is recovered.
pub const SEQUENCE_LAG: Duration = Duration::from_secs(20);
/// The time between two records.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(5);

/// The record of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessRecord {
    /// The incarnation of its objects.
    pub incarnation: u64,
    /// The process id of its objects.
    pub process_id: u32,
    /// The name of the replica.
    pub replica: String,
    /// The metadata to which it commits.
    pub metadata_id: String,
    /// The commits of all lower sequences were decided [`SEQUENCE_LAG`] ago.
    pub lowest_undecided: u32,
}

impl ProcessRecord {
    /// Returns the first object that may not be decided.
    pub fn next(&self) -> ObjectId {
        let (incarnation, process_id) = (self.incarnation, self.process_id);
        ObjectId { incarnation, process_id, sequence: self.lowest_undecided }
    }

    fn key(&self) -> String {
        format!("{PREFIX}{:016x}-{:08x}.json", self.incarnation, self.process_id)
    }
}

/// Keeps the record of this process.
#[derive(Debug)]
pub struct ProcessRecorder {
    store: Arc<dyn Store>,
    record: ProcessRecord,
    /// Recent sequences, oldest first.
    recent: VecDeque<(Instant, u32)>,
}

impl ProcessRecorder {
    /// Writes the first record, which must precede the first object.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin(store: Arc<dyn Store>, record: ProcessRecord) -> Result<Self, StoreError> {
        let recorder = Self { store, record, recent: VecDeque::new() };
        recorder.save().await?;
        Ok(recorder)
    }

    /// Notes the lowest undecided sequence, and writes that of [`SEQUENCE_LAG`] ago if it changed.
    ///
    /// # Errors
    /// The store's; the record then names an older sequence, which is harmless.
    pub async fn update(&mut self, lowest_undecided: u32) -> Result<(), StoreError> {
        let now = Instant::now();
        self.recent.push_back((now, lowest_undecided));
        let mut due = None;
        while let Some((at, sequence)) = self.recent.front()
            && now.duration_since(*at) >= SEQUENCE_LAG
        {
            due = Some(*sequence);
            self.recent.pop_front();
        }
        match due {
            Some(sequence) if sequence > self.record.lowest_undecided => {
                self.record.lowest_undecided = sequence;
                self.save().await
            }
            _ => Ok(()),
        }
    }

    async fn save(&self) -> Result<(), StoreError> {
        let key = self.record.key();
        FORMAT.save(&*self.store, &key, &self.record, PutMode::Overwrite).await
    }
}

/// Returns the records of all processes that commit to this metadata.
///
/// # Errors
/// The store's, or a record of another version.
pub async fn load_all(
    store: &dyn Store,
    metadata_id: &str,
) -> Result<Vec<ProcessRecord>, StoreError> {
    let mut records: Vec<ProcessRecord> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(PREFIX, after.as_deref(), PAGE_KEYS).await?;
        for meta in &page {
            records.extend(FORMAT.load::<ProcessRecord>(store, &meta.key).await?);
        }
        if page.len() < PAGE_KEYS {
            break;
        }
        after = page.last().map(|meta| meta.key.clone());
    }
    records.retain(|record| record.metadata_id == metadata_id);
    Ok(records)
}

/// Deletes the record of a process that was recovered and fenced.
///
/// # Errors
/// The store's.
pub async fn delete(store: &dyn Store, record: &ProcessRecord) -> Result<(), StoreError> {
    store.delete(&record.key()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test(start_paused = true)]
    async fn record_names_the_sequence_of_some_time_ago() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let record = ProcessRecord {
            incarnation: 1,
            process_id: 2,
            replica: "a".to_owned(),
            metadata_id: "m".to_owned(),
            lowest_undecided: 0,
        };
        let mut recorder =
            ProcessRecorder::begin(Arc::clone(&store), record.clone()).await.unwrap();
        let saved = async || load_all(&*store, "m").await.unwrap().remove(0).lowest_undecided;
        assert_eq!(saved().await, 0);
        for step in 0..12 {
            recorder.update(step).await.unwrap();
            let lag = u32::try_from(SEQUENCE_LAG.as_secs() / SAVE_INTERVAL.as_secs()).unwrap();
            assert_eq!(saved().await, step.saturating_sub(lag));
            tokio::time::advance(SAVE_INTERVAL).await;
        }
        assert_eq!(load_all(&*store, "other").await.unwrap(), []);
        delete(&*store, &record).await.unwrap();
        assert_eq!(load_all(&*store, "m").await.unwrap(), []);
    }
}
