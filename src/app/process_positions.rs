//! The records of processes, as positions that metadata must have.

use std::sync::Arc;

use async_trait::async_trait;

use crate::coordinator::redis::loss_detection::observed_position::{
    ObservedPosition, ObservedPositions,
};
use crate::coordinator::redis::loss_detection::recorded::{PositionRecords, RecordedPositions};
use crate::engine::processes::{self, ProcessRecord, RecordedPosition, SharedRecorder};
use crate::store::Store;

/// The records of processes as positions.
#[derive(Debug)]
pub struct ProcessPositions {
    store: Arc<dyn Store>,
    recorder: Arc<SharedRecorder>,
}

impl ProcessPositions {
    /// Returns the records in a store. `recorder` is that of this process.
    pub fn new(store: Arc<dyn Store>, recorder: Arc<SharedRecorder>) -> Self {
        Self { store, recorder }
    }
}

#[async_trait]
impl PositionRecords for ProcessPositions {
    async fn load(&self) -> Result<Vec<RecordedPositions>, String> {
        let records = processes::load_all(&*self.store).await.map_err(|error| error.to_string())?;
        let position = |(replication_id, sequence)| ObservedPosition { replication_id, sequence };
        let positions = |record: ProcessRecord| RecordedPositions {
            process: record.process(),
            positions: ObservedPositions {
                metadata_id: record.metadata_id,
                positions: record.positions.into_iter().map(|pair| pair.map(position)).collect(),
                ..ObservedPositions::default()
            },
        };
        Ok(records.into_iter().map(positions).collect())
    }

    async fn begin_history(&self, index: usize, replication_id: &str) -> Result<(), String> {
        let begun = self.recorder.begin_history(index, replication_id).await;
        begun.map_err(|error| error.to_string())
    }
}

/// Returns a position as a record has it.
pub fn recorded(position: Option<ObservedPosition>) -> Option<RecordedPosition> {
    position.map(|ObservedPosition { replication_id, sequence }| (replication_id, sequence))
}
