//! Stores observed positions in the object store: one JSON object for each replica.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::observed_position::{ObservedPosition, ObservedPositionStore, ObservedPositions};
use crate::clock::WallClock;
use crate::log::ids::ProcessIdentity;
use crate::store::record::RecordFormat;
use crate::store::{ObjectMeta, PutMode, Store, StoreError};

/// The prefix of the objects; the replica's name and `.json` follow.
const PREFIX: &str = "meta/observed/";
const FORMAT: RecordFormat = RecordFormat { what: "a record of observed positions", version: 1 };
const PAGE_KEYS: usize = 1_000;
/// The age at which the object of a replica may be deleted.
const MAX_AGE_MS: i64 = 24 * 3_600_000;

/// An [`ObservedPositionStore`] in the object store.
#[derive(Debug)]
pub struct ObservedPositionObjects {
    store: Arc<dyn Store>,
    clock: Arc<dyn WallClock>,
    /// The key of this replica's object.
    key: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredPositions {
    metadata_id: String,
    written_ms: i64,
    /// The registry's, then each shard's: a replication id and the greatest sequence observed
    /// under it.
    positions: Vec<Option<(String, u64)>>,
    /// The indexes of positions that an earlier process observed, of shards that the writer has
    /// not verified.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    inherited: BTreeSet<usize>,
    /// The positions of the last changes that no object has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unrecoverable: Vec<Option<(String, u64)>>,
    /// The incarnation and the process id of the process whose record may be reported in place of
    /// the positions. An older program names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<(u64, u32)>,
}

impl ObservedPositionObjects {
    /// Returns the adapter of the replica of this name.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn WallClock>, replica: &str) -> Self {
        Self { store, clock, key: format!("{PREFIX}{replica}.json") }
    }

    /// Deletes the objects of replicas that did not write for a day. Does nothing before this
    /// replica saved its own positions: they cover the deleted ones, because the metadata was
    /// verified against all of them. A position that this process only inherited covers none.
    ///
    /// # Errors
    /// The store's error.
    pub async fn delete_old(&self) -> Result<(), StoreError> {
        let records = self.records().await?;
        let Some((_, own)) = records.iter().find(|(key, _)| *key == self.key) else {
            return Ok(());
        };
        let cutoff_ms = self.clock.now_ms() - MAX_AGE_MS;
        for (key, record) in &records {
            if *key != self.key && record.written_ms < cutoff_ms && record.is_covered_by(own) {
                self.store.delete(key).await?;
            }
        }
        Ok(())
    }

    async fn records(&self) -> Result<Vec<(String, StoredPositions)>, StoreError> {
        let mut metas: Vec<ObjectMeta> = Vec::new();
        loop {
            let after = metas.last().map(|meta| meta.key.clone());
            let page = self.store.list(PREFIX, after.as_deref(), PAGE_KEYS).await?;
            let is_last = page.len() < PAGE_KEYS;
            metas.extend(page);
            if is_last {
                break;
            }
        }
        let mut records = Vec::new();
        for meta in metas {
            // Skipping one that cannot be decoded could verify a Redis that lacks a position in it.
            if let Some(record) = FORMAT.load(&*self.store, &meta.key).await? {
                records.push((meta.key, record));
            }
        }
        Ok(records)
    }
}

impl StoredPositions {
    /// Returns whether `later` has a position of its own of every shard of which this record has
    /// one.
    fn is_covered_by(&self, later: &Self) -> bool {
        let covers = |index: &usize| {
            later.positions.get(*index).is_some_and(Option::is_some)
                && !later.inherited.contains(index)
        };
        let mut present =
            self.positions.iter().enumerate().filter(|(_, position)| position.is_some());
        self.metadata_id == later.metadata_id && present.all(|(index, _)| covers(&index))
    }

    fn into_observed(self) -> ObservedPositions {
        let position = |(replication_id, sequence)| ObservedPosition { replication_id, sequence };
        let positions = |pairs: Vec<Option<(String, u64)>>| {
            pairs.into_iter().map(|pair| pair.map(position)).collect()
        };
        let process = self
            .process
            .map(|(incarnation, process_id)| ProcessIdentity { incarnation, process_id });
        ObservedPositions {
            metadata_id: self.metadata_id,
            positions: positions(self.positions),
            inherited: self.inherited,
            unrecoverable: positions(self.unrecoverable),
            process,
        }
    }
}

#[async_trait]
impl ObservedPositionStore for ObservedPositionObjects {
    async fn save(&self, positions: &ObservedPositions) -> Result<(), String> {
        let pair = |position: &Option<ObservedPosition>| {
            position.as_ref().map(|p| (p.replication_id.clone(), p.sequence))
        };
        let pairs = |positions: &[Option<ObservedPosition>]| positions.iter().map(pair).collect();
        let record = StoredPositions {
            metadata_id: positions.metadata_id.clone(),
            written_ms: self.clock.now_ms(),
            positions: pairs(&positions.positions),
            inherited: positions.inherited.clone(),
            unrecoverable: pairs(&positions.unrecoverable),
            process: positions.process.map(|process| (process.incarnation, process.process_id)),
        };
        let put = FORMAT.save(&*self.store, &self.key, &record, PutMode::Overwrite).await;
        put.map_err(|error| error.to_string())
    }

    async fn load_own(&self) -> Result<Option<ObservedPositions>, String> {
        let record: Option<StoredPositions> =
            FORMAT.load(&*self.store, &self.key).await.map_err(|error| error.to_string())?;
        Ok(record.map(StoredPositions::into_observed))
    }

    async fn load_all(&self) -> Result<Vec<ObservedPositions>, String> {
        let records = self.records().await.map_err(|error| error.to_string())?;
        Ok(records.into_iter().map(|(_, record)| record.into_observed()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[derive(Debug)]
    struct FixedClock(i64);

    impl WallClock for FixedClock {
        fn now_ms(&self) -> i64 {
            self.0
        }
    }

    fn positions(sequences: &[Option<u64>]) -> ObservedPositions {
        let position = |sequence| ObservedPosition { replication_id: "a1".to_owned(), sequence };
        let positions = sequences.iter().map(|sequence| sequence.map(position)).collect();
        let process = Some(ProcessIdentity { incarnation: 1, process_id: 2 });
        let metadata_id = "g".to_owned();
        ObservedPositions { metadata_id, positions, process, ..ObservedPositions::default() }
    }

    #[tokio::test]
    async fn old_objects_are_deleted_once_another_replica_covers_them() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let at = |replica, now_ms| {
            ObservedPositionObjects::new(Arc::clone(&store), Arc::new(FixedClock(now_ms)), replica)
        };
        at("gone", 0).save(&positions(&[Some(7), None])).await.unwrap();
        at("more", 0).save(&positions(&[Some(7), Some(1)])).await.unwrap();
        at("late", MAX_AGE_MS).save(&positions(&[Some(7), None])).await.unwrap();
        let me = at("me", MAX_AGE_MS + 1);
        me.delete_old().await.unwrap();
        assert_eq!(me.load_all().await.unwrap().len(), 3, "nothing before it saved its own");
        me.save(&positions(&[Some(9), None])).await.unwrap();
        me.delete_old().await.unwrap();
        let left = me.load_all().await.unwrap();
        assert_eq!(
            left,
            [
                positions(&[Some(7), None]),
                positions(&[Some(9), None]),
                positions(&[Some(7), Some(1)])
            ]
        );
    }

    #[tokio::test]
    async fn inherited_position_covers_no_other() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let at = |replica, now_ms| {
            ObservedPositionObjects::new(Arc::clone(&store), Arc::new(FixedClock(now_ms)), replica)
        };
        at("gone", 0).save(&positions(&[Some(7), Some(9)])).await.unwrap();
        let me = at("me", MAX_AGE_MS + 1);
        let mut own = positions(&[Some(9), Some(5)]);
        own.inherited.insert(1);
        me.save(&own).await.unwrap();
        assert_eq!(me.load_own().await.unwrap(), Some(own.clone()));
        me.delete_old().await.unwrap();
        assert_eq!(me.load_all().await.unwrap().len(), 2, "the only record of sequence 9");
        own.inherited.clear();
        me.save(&own).await.unwrap();
        me.delete_old().await.unwrap();
        assert_eq!(me.load_all().await.unwrap(), [own]);
        assert_eq!(at("new", 0).load_own().await.unwrap(), None);
    }

    #[tokio::test]
    async fn unreadable_objects_are_an_error() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let me = ObservedPositionObjects::new(Arc::clone(&store), Arc::new(FixedClock(0)), "me");
        store.put("meta/observed/x.json", vec!["?".into()], PutMode::Create).await.unwrap();
        assert!(me.load_all().await.is_err());
    }
}
