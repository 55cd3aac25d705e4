use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::super::observed_position::ObservedPosition;
use super::*;

/// The saved positions of one replica.
#[derive(Debug, Default)]
struct Saved(Mutex<Option<ObservedPositions>>);

#[async_trait]
impl ObservedPositionStore for Saved {
    async fn save(&self, positions: &ObservedPositions) -> Result<(), String> {
        *self.0.lock() = Some(positions.clone());
        Ok(())
    }

    async fn load_own(&self) -> Result<Option<ObservedPositions>, String> {
        Ok(self.0.lock().clone())
    }

    async fn load_all(&self) -> Result<Vec<ObservedPositions>, String> {
        Ok(self.0.lock().iter().cloned().collect())
    }
}

#[derive(Debug, Default)]
struct Records(Mutex<Vec<RecordedPositions>>);

#[async_trait]
impl PositionRecords for Records {
    async fn load(&self) -> Result<Vec<RecordedPositions>, String> {
        Ok(self.0.lock().clone())
    }

    async fn begin_history(&self, _index: usize, _replication_id: &str) -> Result<(), String> {
        Ok(())
    }
}

fn process(incarnation: u64) -> ProcessIdentity {
    ProcessIdentity { incarnation, process_id: 1 }
}

/// Returns positions of the registry and of one shard.
fn positions(sequences: [u64; 2]) -> ObservedPositions {
    let position = |sequence| Some(ObservedPosition { replication_id: "a1".to_owned(), sequence });
    let positions = sequences.map(position).to_vec();
    ObservedPositions { metadata_id: "m".to_owned(), positions, ..ObservedPositions::default() }
}

/// A replica with its saved positions and records.
#[derive(Default)]
struct Replica {
    saved: Arc<Saved>,
    records: Arc<Records>,
}

impl Replica {
    fn start(&self, incarnation: u64) -> RecoverablePositions {
        let (saved, records) = (Arc::clone(&self.saved), Arc::clone(&self.records));
        RecoverablePositions::new(saved, records, process(incarnation))
    }

    fn record(&self, incarnation: u64, sequences: [u64; 2]) {
        let (process, positions) = (process(incarnation), positions(sequences));
        self.records.0.lock().push(RecordedPositions { process, positions });
    }

    /// Returns the sequences that a process takes over.
    async fn inherited_by(&self, incarnation: u64) -> Vec<u64> {
        let own = self.start(incarnation).load_own().await.expect("no failure").expect("saved");
        own.positions.into_iter().flatten().map(|position| position.sequence).collect()
    }
}

#[tokio::test]
async fn record_replaces_what_its_own_process_saved_of_the_shards() {
    let replica = Replica::default();
    replica.record(1, [3, 30]);
    replica.start(1).save(&positions([9, 90])).await.expect("saved");
    assert_eq!(replica.inherited_by(2).await, [9, 30], "no object has changes of the registry");
    // Another process of the same name has saved what it observed.
    replica.record(2, [4, 40]);
    replica.start(2).save(&positions([10, 100])).await.expect("saved");
    assert_eq!(replica.inherited_by(3).await, [10, 40]);
    replica.records.0.lock().retain(|record| record.process != process(2));
    assert_eq!(replica.inherited_by(3).await, [10, 100]);
    // One of an older program names no process.
    replica.saved.save(&positions([11, 110])).await.expect("saved");
    replica.record(2, [4, 40]);
    assert_eq!(replica.inherited_by(3).await, [11, 110]);
}

#[tokio::test]
async fn process_without_a_record_has_that_of_its_predecessor() {
    let replica = Replica::default();
    replica.record(1, [3, 30]);
    replica.start(1).save(&positions([9, 90])).await.expect("saved");
    let second = replica.start(2);
    second.save(&positions([9, 95])).await.expect("saved");
    assert_eq!(replica.inherited_by(3).await, [9, 30], "it has recovered, and may again");
    replica.record(2, [9, 80]);
    let inherited = ObservedPositions { inherited: BTreeSet::from([1]), ..positions([9, 30]) };
    second.save(&inherited).await.expect("saved");
    let saved = replica.saved.load_own().await.expect("no failure").expect("saved");
    assert_eq!(saved.positions, positions([9, 90]).positions, "as its predecessor observed it");
    assert_eq!(saved.process, Some(process(2)));
    assert_eq!(replica.inherited_by(3).await, [9, 80]);
}
