//! The records of the processes that write objects, kept in the object store, where a loss of the
//! coordinator's latest data does not affect them.
//!
//! A record has two values of one moment some time ago: the lowest sequence of the process that was
//! not decided, and the positions that it had observed of the coordinator's metadata. Metadata that
//! has these positions has the outcome of every lower sequence. So whatever else it lacks of this
//! process is found in the objects from that sequence on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::log::ids::{ObjectId, ProcessIdentity};
use crate::store::record::RecordFormat;
use crate::store::{PutMode, Store, StoreError};

/// The prefix of the records; `<incarnation>-<process id>.json` follows.
const PREFIX: &str = "meta/processes/";
const FORMAT: RecordFormat = RecordFormat { what: "the record of a process", version: 1 };
const PAGE_KEYS: usize = 1_000;

/// The least age of the values of a record. It exceeds what a coordinator loses with its machine's
/// power, so that such a loss is repaired instead of refused.
pub const RECORD_LAG: Duration = Duration::from_secs(5);
/// The least time between two writes of a record.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(10);
/// The time between two notes.
pub const NOTE_INTERVAL: Duration = Duration::from_secs(1);

/// A position: the history that it belongs to, and a sequence in it.
pub type RecordedPosition = (String, u64);
/// The position of each part of the metadata, as the coordinator numbers them; `None` where no
/// change was observed.
pub type RecordedPositions = Vec<Option<RecordedPosition>>;

/// A position that a record must have although it is newer than the record's other values: it is
/// that of a change which is not in the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedPosition {
    /// The time at which it was observed.
    pub observed_at: Instant,
    /// The position.
    pub position: RecordedPosition,
}

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
    /// The commits of all lower sequences are decided in metadata that has [`Self::positions`].
    pub lowest_undecided: u32,
    /// The positions that the process had observed.
    pub positions: RecordedPositions,
    /// The history of each part of the metadata while it made its last changes; empty if unknown.
    #[serde(default)]
    pub histories: Vec<String>,
    /// True once it has ended by itself: everything that it stored is decided, and it will commit
    /// nothing more.
    #[serde(default)]
    pub has_ended: bool,
}

impl ProcessRecord {
    /// Returns the process.
    pub fn process(&self) -> ProcessIdentity {
        self.next().process()
    }

    /// Returns the first object that may not be decided.
    pub fn next(&self) -> ObjectId {
        let (incarnation, process_id) = (self.incarnation, self.process_id);
        ObjectId { incarnation, process_id, sequence: self.lowest_undecided }
    }

    /// Returns the key of the record.
    pub fn key(&self) -> String {
        format!("{PREFIX}{:016x}-{:08x}.json", self.incarnation, self.process_id)
    }
}

/// The state of a process at one moment.
#[derive(Debug)]
struct Note {
    at: Instant,
    lowest_undecided: u32,
    positions: RecordedPositions,
}

/// Keeps the record of this process.
#[derive(Debug)]
pub struct ProcessRecorder {
    store: Arc<dyn Store>,
    record: ProcessRecord,
    saved_at: Instant,
    /// The time of the values that are stored.
    stored_of: Instant,
    has_ended: bool,
    /// Oldest first; the first one is the newest of at least [`RECORD_LAG`] ago, if any.
    notes: VecDeque<Note>,
}

impl ProcessRecorder {
    /// Writes the first record, which must precede the first object. Its positions are those of the
    /// start, before what this process recovers.
    ///
    /// # Errors
    /// The store's.
    pub async fn begin(store: Arc<dyn Store>, record: ProcessRecord) -> Result<Self, StoreError> {
        let now = Instant::now();
        FORMAT.save(&*store, &record.key(), &record, PutMode::Overwrite).await?;
        let (saved_at, stored_of, has_ended, notes) = (now, now, false, VecDeque::new());
        Ok(Self { store, record, saved_at, stored_of, has_ended, notes })
    }

    /// Notes the lowest undecided sequence, and the positions that were observed after it was read.
    pub fn note(&mut self, lowest_undecided: u32, positions: RecordedPositions) {
        let at = Instant::now();
        self.notes.push_back(Note { at, lowest_undecided, positions });
        while self.notes.get(1).is_some_and(|note| at - note.at >= RECORD_LAG) {
            self.notes.pop_front();
        }
    }

    /// Writes the values of [`RECORD_LAG`] ago if they changed, at most every [`SAVE_INTERVAL`].
    /// `pinned` are those of changes that no object has.
    ///
    /// # Errors
    /// The store's; the record then has older values, which are valid.
    pub async fn save(&mut self, pinned: &[Option<PinnedPosition>]) -> Result<(), StoreError> {
        let (now, mut record, mut at) = (Instant::now(), self.record.clone(), self.stored_of);
        record.has_ended = self.has_ended;
        if let Some(note) = self.notes.front().filter(|note| now - note.at >= RECORD_LAG) {
            at = note.at;
            record.lowest_undecided = note.lowest_undecided.max(record.lowest_undecided);
            record.positions.clone_from(&note.positions);
        } else if !self.has_ended {
            return Ok(());
        }
        for (position, pinned) in record.positions.iter_mut().zip(pinned) {
            if let Some(pinned) = pinned
                && pinned.observed_at >= at
            {
                *position = Some(pinned.position.clone());
            }
        }
        if record != self.record {
            if now - self.saved_at < SAVE_INTERVAL && !self.has_ended {
                return Ok(());
            }
            FORMAT.save(&*self.store, &record.key(), &record, PutMode::Overwrite).await?;
            (self.record, self.saved_at) = (record, now);
        }
        self.stored_of = at;
        Ok(())
    }

    /// Writes at once to which histories parts of the metadata belong now, by their indexes, if the
    /// record names others. Precedes the first change in a new history. Whatever the process did
    /// before it began was compared with it by this process.
    ///
    /// # Errors
    /// The store's; the record then names the earlier ones.
    pub async fn set_histories(
        &mut self,
        histories: &BTreeMap<usize, String>,
    ) -> Result<(), StoreError> {
        let mut record = self.record.clone();
        for (index, history) in histories {
            if record.histories.len() <= *index {
                record.histories.resize(index + 1, String::new());
            }
            record.histories[*index].clone_from(history);
        }
        if record != self.record {
            FORMAT.save(&*self.store, &record.key(), &record, PutMode::Overwrite).await?;
            self.record = record;
        }
        Ok(())
    }

    /// Writes the record again, which was deleted.
    ///
    /// # Errors
    /// The store's.
    pub async fn restore(&self) -> Result<(), StoreError> {
        FORMAT.save(&*self.store, &self.record.key(), &self.record, PutMode::Overwrite).await
    }

    /// Writes at once that the process has ended by itself. Its values are still those of some time
    /// ago: what the coordinator loses with its machine's power is found in the objects.
    ///
    /// # Errors
    /// The store's; others then find out that it has ended by its lease.
    pub async fn end(&mut self, pinned: &[Option<PinnedPosition>]) -> Result<(), StoreError> {
        self.has_ended = true;
        self.save(pinned).await
    }

    /// Returns the time whose values are stored: metadata that lacks a change which this process
    /// made before it is refused.
    pub fn stored_of(&self) -> Instant {
        self.stored_of
    }
}

/// The recorder of this process, for those who note what it did and for those who change the
/// history; none before the first record.
#[derive(Debug, Default)]
pub struct SharedRecorder {
    recorder: Mutex<Option<ProcessRecorder>>,
    /// The histories that the next writer names.
    pending: parking_lot::Mutex<BTreeMap<usize, String>>,
}

impl SharedRecorder {
    /// Returns the recorder. While it is held, no history begins.
    pub async fn lock(&self) -> MutexGuard<'_, Option<ProcessRecorder>> {
        self.recorder.lock().await
    }

    /// Writes, before the first change in a new history, that a part of the metadata belongs to it.
    /// One write names all that begin together. Without a record nothing is written: the first one
    /// has the histories of its time.
    ///
    /// # Errors
    /// The store's; the process must change nothing then.
    pub async fn begin_history(&self, index: usize, history: &str) -> Result<(), StoreError> {
        self.pending.lock().insert(index, history.to_owned());
        let mut recorder = self.recorder.lock().await;
        let mut histories = std::mem::take(&mut *self.pending.lock());
        let Some(recorder) = &mut *recorder else { return Ok(()) };
        // Another one may have taken it, and failed to write it.
        histories.insert(index, history.to_owned());
        recorder.set_histories(&histories).await
    }
}

/// Returns the records of all processes.
///
/// # Errors
/// The store's, or a record that is damaged or of another version.
pub async fn load_all(store: &dyn Store) -> Result<Vec<ProcessRecord>, StoreError> {
    let mut records: Vec<ProcessRecord> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(PREFIX, after.as_deref(), PAGE_KEYS).await?;
        for meta in &page {
            records.extend(FORMAT.load::<ProcessRecord>(store, &meta.key).await?);
        }
        if page.len() < PAGE_KEYS {
            return Ok(records);
        }
        after = page.last().map(|meta| meta.key.clone());
    }
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

    fn at(sequence: u64) -> Option<RecordedPosition> {
        Some(("a1".to_owned(), sequence))
    }

    async fn recorder(store: &Arc<dyn Store>) -> ProcessRecorder {
        let record = ProcessRecord {
            incarnation: 1,
            process_id: 2,
            replica: "a".to_owned(),
            metadata_id: "m".to_owned(),
            lowest_undecided: 0,
            positions: vec![None, at(0)],
            histories: Vec::new(),
            has_ended: false,
        };
        ProcessRecorder::begin(Arc::clone(store), record).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn record_has_the_values_of_one_moment_some_time_ago() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let mut recorder = recorder(&store).await;
        let start = Instant::now();
        for second in 0..40_u32 {
            recorder.note(second, vec![None, at(100 + u64::from(second))]);
            recorder.save(&[None, None]).await.unwrap();
            let stored = load_all(&*store).await.unwrap().remove(0);
            // At most every ten seconds, of five seconds ago.
            let of = (second / 10 * 10).checked_sub(5);
            let expected = of.map_or((0, 0), |of| (of, 100 + u64::from(of)));
            assert_eq!(
                (stored.lowest_undecided, &stored.positions[1]),
                (expected.0, &at(expected.1))
            );
            let stored_of = recorder.stored_of() - start;
            assert!(stored_of <= Duration::from_secs(of.unwrap_or(0).into()), "{second}");
            tokio::time::advance(NOTE_INTERVAL).await;
        }
        delete(&*store, &recorder.record).await.unwrap();
        assert_eq!(load_all(&*store).await.unwrap(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn end_is_recorded_at_once_with_the_values_of_some_time_ago() {
        for (seconds, lowest, position) in [(0, 0, 0), (3, 0, 0), (9, 4, 104)] {
            let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
            let mut recorder = recorder(&store).await;
            for second in 0..=seconds {
                recorder.note(second, vec![None, at(100 + u64::from(second))]);
                tokio::time::advance(NOTE_INTERVAL).await;
            }
            recorder.end(&[None, None]).await.unwrap();
            let stored = load_all(&*store).await.unwrap().remove(0);
            assert!(stored.has_ended);
            let found = (stored.lowest_undecided, &stored.positions[1]);
            assert_eq!(found, (lowest, &at(position)), "after {seconds} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn new_histories_are_written_at_once() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let shared = SharedRecorder::default();
        shared.begin_history(1, "a").await.unwrap();
        assert_eq!(load_all(&*store).await.unwrap(), [], "there is no record yet");
        *shared.lock().await = Some(recorder(&store).await);
        let begun = [shared.begin_history(2, "c"), shared.begin_history(1, "b")];
        assert!(futures::future::join_all(begun).await.iter().all(Result::is_ok));
        let stored = load_all(&*store).await.unwrap().remove(0);
        assert_eq!(stored.histories, ["", "b", "c"]);
        // Later records still name them.
        let mut held = shared.lock().await;
        let recorder = held.as_mut().unwrap();
        recorder.note(1, vec![None, at(1)]);
        tokio::time::advance(SAVE_INTERVAL).await;
        recorder.save(&[None, None]).await.unwrap();
        let stored = load_all(&*store).await.unwrap().remove(0);
        assert_eq!((stored.lowest_undecided, stored.histories), (1, stored_histories()));
    }

    fn stored_histories() -> Vec<String> {
        ["", "b", "c"].map(str::to_owned).to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_no_object_has_are_recorded_at_once() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let mut recorder = recorder(&store).await;
        let start = Instant::now();
        recorder.note(3, vec![None, at(7)]);
        let pin = |seconds, sequence| {
            let observed_at = start + Duration::from_secs(seconds);
            Some(PinnedPosition { observed_at, position: at(sequence).unwrap() })
        };
        tokio::time::advance(SAVE_INTERVAL).await;
        recorder.note(9, vec![None, at(11)]);
        recorder.save(&[None, pin(9, 10)]).await.unwrap();
        let stored = load_all(&*store).await.unwrap().remove(0);
        assert_eq!((stored.lowest_undecided, &stored.positions[1]), (3, &at(10)));
        // An unchanged record is not written again.
        tokio::time::advance(SAVE_INTERVAL).await;
        recorder.note(9, vec![None, at(11)]);
        recorder.save(&[None, pin(9, 10)]).await.unwrap();
        let stored = load_all(&*store).await.unwrap().remove(0);
        assert_eq!((stored.lowest_undecided, &stored.positions[1]), (9, &at(11)));
        assert_eq!(recorder.stored_of(), start + SAVE_INTERVAL);
    }
}
