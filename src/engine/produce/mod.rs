//! Life of a produce: append → seal → upload → commit → answer.
//!
//! One [`pipeline::Pipeline`] task owns all of the state. Requests that are in flight together
//! ride in one object; uploads run side by side and finish in any order; what is committed when is
//! decided by [`chains::Chains`] alone.

pub mod chains;
pub mod object;
pub mod pipeline;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Components;
use super::objects::Objects;
use crate::coordinator::BatchOutcome;
use crate::log::batch::BatchClaim;
use crate::log::ids::TopicPartition;
use crate::metrics::Metrics;
use crate::tasks;

/// One client connection, or one producer: the scope within which batches of a partition keep
/// their order. Never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// When an object that holds such a batch is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealProfile {
    /// At once when no object is in flight, else when the last one lands.
    Fast,
    /// Only at the interval or the size: fewest PUTs.
    Cheap,
}

/// Numbers of the produce path that an operator turns.
#[derive(Clone, Debug)]
pub struct ProduceSettings {
    /// The longest that a batch waits for company.
    pub interval: Duration,
    /// Seal at this many bytes of batches.
    pub object_bytes: usize,
    /// Bytes of batches that may be in memory between their reading and their acknowledgement.
    pub inflight_bytes_max: usize,
    /// Objects that may be uploading at once.
    pub uploads_max: usize,
    /// The replica's name, for the objects' footers.
    pub replica: String,
    /// Names the process in object ids: see [`crate::log::ids::ObjectId`].
    pub incarnation: u64,
    /// Random tag of the process in object ids.
    pub replica_tag: u32,
}

/// A checked batch on its way into an object.
#[derive(Clone, Debug)]
pub struct AppendRow {
    /// Where it goes.
    pub partition: TopicPartition,
    /// How long it may wait for company.
    pub profile: SealProfile,
    /// What it claims.
    pub claim: BatchClaim,
    /// The batch, as it will lie in the object.
    pub batch: Bytes,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// The coordinator decided.
    Decided {
        /// Its decision.
        outcome: BatchOutcome,
        /// The partition's log start offset.
        log_start_offset: i64,
    },
    /// The metadata is lost or unreadable, and the row was not appended; neither was what its
    /// connection had sent for the partition after it.
    CoordinatorLost,
}

#[derive(Debug)]
pub(crate) struct Append {
    connection: ConnectionId,
    rows: Vec<AppendRow>,
    reply: oneshot::Sender<Vec<RowOutcome>>,
    permit: OwnedSemaphorePermit,
}

/// The replica can take no more: it is shutting down, or the pipeline died.
#[derive(Debug, thiserror::Error)]
#[error("the produce pipeline is closed")]
pub struct Closed;

/// The way into the produce pipeline; cheap to clone.
#[derive(Clone, Debug)]
pub struct Producer {
    events: mpsc::Sender<pipeline::Event>,
    budget: Arc<Semaphore>,
    budget_bytes: usize,
}

impl Producer {
    /// Starts the pipeline's task.
    pub fn start(
        components: Components,
        settings: ProduceSettings,
        objects: Arc<Objects>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (events, receiver) = mpsc::channel(1024);
        let budget_bytes = settings.inflight_bytes_max;
        let pipeline = pipeline::Pipeline::new(
            components,
            settings,
            objects,
            metrics,
            events.clone(),
            receiver,
        );
        tasks::spawn_critical("produce", pipeline.run());
        Self { events, budget: Arc::new(Semaphore::new(budget_bytes)), budget_bytes }
    }

    /// Admits rows, in the order of the calls; gives back the way to wait for their outcomes.
    ///
    /// Waits while the byte budget is spent: the caller stops reading its socket meanwhile.
    ///
    /// # Errors
    /// [`Closed`] once the replica drains.
    ///
    /// # Cancel safety
    /// Dropped before it returns, nothing was appended. Dropping the receiver afterwards takes
    /// nothing back: the batches are committed all the same.
    pub async fn append(
        &self,
        connection: ConnectionId,
        rows: Vec<AppendRow>,
    ) -> Result<oneshot::Receiver<Vec<RowOutcome>>, Closed> {
        let bytes: usize = rows.iter().map(|row| row.batch.len()).sum();
        // A request larger than the whole budget goes alone rather than never.
        let wanted = u32::try_from(bytes.min(self.budget_bytes)).unwrap_or(u32::MAX);
        let permit =
            Arc::clone(&self.budget).acquire_many_owned(wanted).await.map_err(|_| Closed)?;
        let (reply, outcome) = oneshot::channel();
        if rows.is_empty() {
            let _received = reply.send(Vec::new());
            return Ok(outcome);
        }
        let append = Append { connection, rows, reply, permit };
        self.events.send(pipeline::Event::Append(append)).await.map_err(|_| Closed)?;
        Ok(outcome)
    }

    /// Takes no more appends, and returns once everything admitted before is answered.
    pub async fn drain(&self) {
        self.budget.close();
        let (done, wait) = oneshot::channel();
        if self.events.send(pipeline::Event::Drain(done)).await.is_ok() {
            // An error means that the pipeline is gone, and so nothing is left to wait for.
            let _gone = wait.await;
        }
    }
}
