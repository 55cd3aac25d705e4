//! Positions up to which a loss is repaired instead of refused.
//!
//! When a machine loses power together with its Redis and its only replica, Redis may lack the last
//! seconds, which the replica had observed and saved. What the replica committed in that time is
//! found in its objects, and committed again before anything is served. So a process that starts
//! reports, in place of the newest positions that its predecessor saved, those of some time before,
//! which the records of processes have. Positions of other replicas are not replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::observed_position::{ObservedPositionStore, ObservedPositions};
use crate::log::ids::ProcessIdentity;

/// The positions of a process whose objects are recovered before anything is served.
#[derive(Clone, Debug)]
pub struct RecordedPositions {
    /// The process.
    pub process: ProcessIdentity,
    /// The positions that it had observed some time ago.
    pub positions: ObservedPositions,
}

/// The records of processes.
#[async_trait]
pub trait PositionRecords: Send + Sync + std::fmt::Debug {
    /// Returns the recorded positions of all processes that are not recovered, oldest first.
    ///
    /// # Errors
    /// The store's message, for logs.
    async fn load(&self) -> Result<Vec<RecordedPositions>, String>;

    /// Records the history in which this process makes changes from now on, as
    /// [`ObservedPositionStore::begin_history`].
    ///
    /// # Errors
    /// The store's message, for logs.
    async fn begin_history(&self, index: usize, replication_id: &str) -> Result<(), String>;
}

/// A store of observed positions that has recorded ones in place of those that an earlier process
/// of this replica saved.
///
/// Recorded positions replace those that the same process saved. Those of another one may be those
/// of changes that are recovered from no object: the process that saved them may be of an older
/// program without records, or may have run at the same time.
#[derive(Debug)]
pub struct RecoverablePositions {
    saved: Arc<dyn ObservedPositionStore>,
    records: Arc<dyn PositionRecords>,
    /// This process.
    process: ProcessIdentity,
    /// True once this process has a record.
    has_record: AtomicBool,
    earlier: OnceCell<Option<Earlier>>,
}

/// The positions of earlier processes of this replica.
#[derive(Debug)]
struct Earlier {
    saved: ObservedPositions,
    /// The same with recorded positions, where there are any.
    recoverable: ObservedPositions,
}

impl RecoverablePositions {
    /// Returns the store of a process that saved nothing yet.
    pub fn new(
        saved: Arc<dyn ObservedPositionStore>,
        records: Arc<dyn PositionRecords>,
        process: ProcessIdentity,
    ) -> Self {
        let (has_record, earlier) = (AtomicBool::new(false), OnceCell::new());
        Self { saved, records, process, has_record, earlier }
    }

    async fn earlier(&self) -> Result<Option<&Earlier>, String> {
        let load = async || {
            let Some(saved) = self.saved.load_own().await? else { return Ok(None) };
            let mut recoverable = saved.clone();
            let records = self.records.load().await?.into_iter();
            let mut of_it = records.filter(|record| {
                Some(record.process) == saved.process
                    && record.positions.metadata_id == saved.metadata_id
            });
            if let Some(record) = of_it.next() {
                let recorded = record.positions.positions.into_iter();
                let pairs = recoverable.positions.iter_mut().zip(recorded);
                // The first position is the registry's, whose changes are in no object.
                for (position, recorded) in pairs.skip(1) {
                    *position = recorded.or_else(|| position.take());
                }
            }
            Ok(Some(Earlier { saved, recoverable }))
        };
        self.earlier.get_or_try_init(load).await.map(Option::as_ref)
    }

    /// Returns the process whose record has what must not be lost of the positions of this one.
    /// Before this process has a record, it commits only what is in the objects of earlier ones.
    async fn recorded_process(&self) -> Result<Option<ProcessIdentity>, String> {
        if !self.has_record.load(Ordering::Acquire) {
            let records = self.records.load().await?;
            if !records.iter().any(|record| record.process == self.process) {
                return Ok(self.earlier().await?.and_then(|earlier| earlier.saved.process));
            }
            self.has_record.store(true, Ordering::Release);
        }
        Ok(Some(self.process))
    }
}

#[async_trait]
impl ObservedPositionStore for RecoverablePositions {
    async fn save(&self, positions: &ObservedPositions) -> Result<(), String> {
        let mut positions = positions.clone();
        if let Some(earlier) = self.earlier().await? {
            // Inherited ones are not weakened for the processes that follow.
            for index in &positions.inherited {
                if let Some(Some(saved)) = earlier.saved.positions.get(*index) {
                    positions.positions[*index] = Some(saved.clone());
                }
            }
        }
        positions.process = self.recorded_process().await?;
        self.saved.save(&positions).await
    }

    async fn begin_history(&self, index: usize, replication_id: &str) -> Result<(), String> {
        self.records.begin_history(index, replication_id).await
    }

    async fn load_own(&self) -> Result<Option<ObservedPositions>, String> {
        Ok(self.earlier().await?.map(|earlier| earlier.recoverable.clone()))
    }

    async fn load_all(&self) -> Result<Vec<ObservedPositions>, String> {
        let own = self.saved.load_own().await?;
        let mut all = self.saved.load_all().await?;
        // What this process observed is in its memory, and what it inherited too.
        if let Some(at) = all.iter().position(|positions| Some(positions) == own.as_ref()) {
            all.remove(at);
        }
        // Metadata with these has whatever no object has that is recovered.
        all.extend(self.records.load().await?.into_iter().map(|record| record.positions));
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
