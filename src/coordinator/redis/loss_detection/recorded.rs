//! Positions up to which a loss is repaired instead of refused.
//!
//! When a machine loses power together with its Redis and its only replica, Redis may lack the last
//! seconds, which the replica had observed and saved. What the replica committed in that time is
//! found in its objects, and committed again before anything is served. So a process that starts
//! reports, in place of the newest positions that its predecessor saved, those of some time before,
//! which the records of processes have. Positions of other replicas are not replaced.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::observed_position::{ObservedPositionStore, ObservedPositions};

/// The positions of a process whose objects are recovered before anything is served.
#[derive(Clone, Debug)]
pub struct RecordedPositions {
    /// True if the process was one of this replica.
    pub is_own: bool,
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
}

/// A store of observed positions that has recorded ones in place of those that an earlier process
/// of this replica saved.
#[derive(Debug)]
pub struct RecoverablePositions {
    saved: Arc<dyn ObservedPositionStore>,
    records: Arc<dyn PositionRecords>,
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
    pub fn new(saved: Arc<dyn ObservedPositionStore>, records: Arc<dyn PositionRecords>) -> Self {
        Self { saved, records, earlier: OnceCell::new() }
    }

    async fn earlier(&self) -> Result<Option<&Earlier>, String> {
        let load = async || {
            let Some(saved) = self.saved.load_own().await? else { return Ok(None) };
            let mut recoverable = saved.clone();
            for record in self.records.load().await? {
                if !record.is_own || record.positions.metadata_id != saved.metadata_id {
                    continue;
                }
                let recorded = record.positions.positions.into_iter();
                for (position, recorded) in recoverable.positions.iter_mut().zip(recorded) {
                    *position = recorded.or_else(|| position.take());
                }
            }
            Ok(Some(Earlier { saved, recoverable }))
        };
        self.earlier.get_or_try_init(load).await.map(Option::as_ref)
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
        self.saved.save(&positions).await
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
