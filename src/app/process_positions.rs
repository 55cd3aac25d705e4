//! The records of processes, as positions that metadata must have.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::coordinator::redis::loss_detection::observed_position::{
    ObservedPosition, ObservedPositions,
};
use crate::coordinator::redis::loss_detection::recorded::{PositionRecords, RecordedPositions};
use crate::engine::processes::{self, ProcessRecord};
use crate::store::Store;

/// The records of processes as positions.
#[derive(Debug)]
pub(super) struct ProcessPositions {
    store: Arc<dyn Store>,
    replica: String,
}

impl ProcessPositions {
    pub(super) fn new(store: &Arc<dyn Store>, replica: &str) -> Self {
        Self { store: Arc::clone(store), replica: replica.to_owned() }
    }
}

#[async_trait]
impl PositionRecords for ProcessPositions {
    async fn load(&self) -> Result<Vec<RecordedPositions>, String> {
        let records = processes::load_all(&*self.store).await.map_err(|error| error.to_string())?;
        let position = |(replication_id, sequence)| ObservedPosition { replication_id, sequence };
        let positions = |record: ProcessRecord| RecordedPositions {
            is_own: record.replica == self.replica,
            positions: ObservedPositions {
                metadata_id: record.metadata_id,
                positions: record.positions.into_iter().map(|pair| pair.map(position)).collect(),
                inherited: BTreeSet::new(),
            },
        };
        Ok(records.into_iter().map(positions).collect())
    }
}
