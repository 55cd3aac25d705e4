//! What replicas have seen of the metadata, kept in the object store (ADR 0014).

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::WallClock;
use crate::coordinator::redis::floors::{
    ObservedPosition, ObservedPositionStore, ObservedPositions,
};
use crate::store::{ObjectMeta, PutMode, Store, StoreError, StoreErrorKind};

/// One object for each replica lies below it.
const PREFIX: &str = "meta/observed/";
const FORMAT: u32 = 1;
const PAGE_KEYS: usize = 1_000;
/// What a replica kept so long ago is deleted once another has kept as much.
const MAX_AGE_MS: i64 = 24 * 3_600_000;

/// Keeps floors in the object store.
#[derive(Debug)]
pub(super) struct ObservedPositionObjects {
    store: Arc<dyn Store>,
    clock: Arc<dyn WallClock>,
    key: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    format: u32,
    metadata_id: String,
    written_ms: i64,
    /// The registry's, then each shard's: a life and the greatest sequence seen in it.
    tags: Vec<Option<(String, u64)>>,
}

impl ObservedPositionObjects {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn WallClock>, replica: &str) -> Self {
        Self { store, clock, key: format!("{PREFIX}{replica}.json") }
    }

    /// Deletes what replicas kept that have been gone for long. Comes after this process has kept
    /// its own floors: they count for as much, because the metadata was settled with all there were.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        let records = self.records().await?;
        let Some((_, own)) = records.iter().find(|(key, _)| *key == self.key) else {
            return Ok(());
        };
        let old = self.clock.now_ms() - MAX_AGE_MS;
        for (key, record) in &records {
            if *key != self.key && record.written_ms < old && record.is_covered_by(own) {
                self.store.delete(key).await?;
            }
        }
        Ok(())
    }

    async fn records(&self) -> Result<Vec<(String, Record)>, StoreError> {
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
            let bytes = match self.store.get(&meta.key, None).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind == StoreErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let record = serde_json::from_slice::<Record>(&bytes);
            match record {
                Ok(record) if record.format == FORMAT => records.push((meta.key, record)),
                // Rather no service than one that may have forgotten what this one knew.
                _ => {
                    let (kind, detail) = (StoreErrorKind::Corrupt, "is not what a replica writes");
                    return Err(StoreError::determinate(kind, "read", &meta.key, detail));
                }
            }
        }
        Ok(records)
    }
}

impl Record {
    /// Whether the other one binds every shard that this one binds, later in its lives.
    fn is_covered_by(&self, later: &Self) -> bool {
        let mut tags = self.tags.iter().enumerate().filter(|(_, floor)| floor.is_some());
        self.metadata_id == later.metadata_id
            && tags.all(|(place, _)| later.tags.get(place).is_some_and(Option::is_some))
    }
}

#[async_trait]
impl ObservedPositionStore for ObservedPositionObjects {
    async fn keep(&self, positions: &ObservedPositions) -> Result<(), String> {
        let tag = |floor: &Option<ObservedPosition>| {
            floor.as_ref().map(|f| (f.replication_id.clone(), f.sequence))
        };
        let record = Record {
            format: FORMAT,
            metadata_id: positions.metadata_id.clone(),
            written_ms: self.clock.now_ms(),
            tags: positions.tags.iter().map(tag).collect(),
        };
        let json = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        let put = self.store.put(&self.key, vec![json.into()], PutMode::Overwrite).await;
        put.map_err(|error| error.to_string())
    }

    async fn all(&self) -> Result<Vec<ObservedPositions>, String> {
        let records = self.records().await.map_err(|error| error.to_string())?;
        let floor = |(replication_id, sequence)| ObservedPosition { replication_id, sequence };
        let positions = |(_, record): (String, Record)| ObservedPositions {
            metadata_id: record.metadata_id,
            tags: record.tags.into_iter().map(|tag| tag.map(floor)).collect(),
        };
        Ok(records.into_iter().map(positions).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[derive(Debug)]
    struct At(i64);

    impl WallClock for At {
        fn now_ms(&self) -> i64 {
            self.0
        }
    }

    fn positions(tags: &[Option<u64>]) -> ObservedPositions {
        let floor = |sequence| ObservedPosition { replication_id: "a1".to_owned(), sequence };
        let tags = tags.iter().map(|tag| tag.map(floor)).collect();
        ObservedPositions { metadata_id: "g".to_owned(), tags }
    }

    #[tokio::test]
    async fn what_old_replicas_kept_goes_once_another_kept_as_much() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let of = |replica, at| {
            ObservedPositionObjects::new(Arc::clone(&store), Arc::new(At(at)), replica)
        };
        of("gone", 0).keep(&positions(&[Some(7), None])).await.unwrap();
        of("more", 0).keep(&positions(&[Some(7), Some(1)])).await.unwrap();
        of("late", MAX_AGE_MS).keep(&positions(&[Some(7), None])).await.unwrap();
        let me = of("me", MAX_AGE_MS + 1);
        me.sweep().await.unwrap();
        assert_eq!(me.all().await.unwrap().len(), 3, "nothing before we kept our own");
        me.keep(&positions(&[Some(9), None])).await.unwrap();
        me.sweep().await.unwrap();
        let left = me.all().await.unwrap();
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
    async fn floors_that_cannot_be_read_are_an_error() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let me = ObservedPositionObjects::new(Arc::clone(&store), Arc::new(At(0)), "me");
        store.put("meta/observed/x.json", vec!["?".into()], PutMode::Create).await.unwrap();
        assert!(me.all().await.is_err());
    }
}
