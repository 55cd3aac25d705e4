//! Life of a produce: append → seal → upload → commit → answer.
//!
//! One [`pipeline::Pipeline`] task owns all of the state. Requests that are in flight together
//! ride in one object; uploads run side by side and finish in any order; what is committed when is
//! decided by [`sequencer::CommitSequencer`] alone.

pub mod buffer;
mod latency;
pub mod pipeline;
mod rate_limit;
pub mod sequencer;
mod statistics;
mod uploader;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub use uploader::UploadSettings;

use super::Components;
use super::cache::ObjectCache;
use super::memory::{Closed, MemoryLimiter, MemoryPermit};
use crate::coordinator::CommitOutcome;
use crate::log::batch::BatchMetadata;
use crate::log::ids::TopicPartition;
use crate::metrics::Metrics;
use crate::tasks;

/// One client connection, or one producer: the scope within which batches of a partition keep
/// their order. Never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// When an object that contains such a batch is sealed.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    serde::Deserialize,
    serde::Serialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum FlushProfile {
    /// At once when no object is in flight, else when the last one has landed or takes longer
    /// than PUTs usually do.
    Fast,
    /// Once for each interval, or at the size: fewest PUTs.
    Cheap,
}

/// Numbers of the produce path that an operator turns.
#[derive(Clone, Debug)]
pub struct ProduceSettings {
    /// The longest that a batch waits for company: the time between two objects, unless something
    /// else seals them.
    pub interval: Duration,
    /// Seal at this many bytes of batches.
    pub object_bytes: usize,
    /// PUTs that may be begun in a second on average; `None` for as many as it takes.
    pub puts_per_second_max: Option<f64>,
    /// How objects get into the store.
    pub upload: UploadSettings,
    /// The replica's name, for the objects' footers.
    pub replica: String,
    /// Names the process in object ids: see [`crate::log::ids::ObjectId`].
    pub incarnation: u64,
    /// Random tag of the process in object ids.
    pub process_id: u32,
}

/// What an operator may turn while the replica runs; see [`ProduceSettings`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlushTuning {
    /// [`ProduceSettings::interval`].
    pub interval: Duration,
    /// [`ProduceSettings::object_bytes`].
    pub object_bytes: usize,
    /// [`ProduceSettings::puts_per_second_max`].
    pub puts_per_second_max: Option<f64>,
}

/// A checked batch on its way into an object.
#[derive(Clone, Debug)]
pub struct ProducedBatch {
    /// Where it goes.
    pub partition: TopicPartition,
    /// How long it may wait for company.
    pub profile: FlushProfile,
    /// What it claims.
    pub claim: BatchMetadata,
    /// The batch, as it will lie in the object.
    pub batch: Bytes,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    /// The coordinator decided.
    Decided {
        /// Its decision.
        outcome: CommitOutcome,
        /// The partition's log start offset.
        log_start_offset: i64,
    },
    /// The metadata is lost or unreadable, and the row was not appended; neither was what its
    /// connection had sent for the partition after it.
    CoordinatorLost,
}

/// What became of an append.
#[derive(Clone, Debug)]
pub struct AppendResult {
    /// One outcome for each row, in order.
    pub rows: Vec<RowOutcome>,
    /// When the last of them was known.
    pub at: Instant,
}

impl Deref for AppendResult {
    type Target = [RowOutcome];

    fn deref(&self) -> &[RowOutcome] {
        &self.rows
    }
}

#[derive(Debug)]
pub(crate) struct Append {
    connection: ConnectionId,
    rows: Vec<ProducedBatch>,
    reply: oneshot::Sender<AppendResult>,
    permit: MemoryPermit,
    /// The request's span, which the object's is linked to.
    span: tracing::Span,
}

/// The way into the produce pipeline; cheap to clone.
#[derive(Clone, Debug)]
pub struct Producer {
    events: mpsc::Sender<pipeline::Event>,
    budget: Arc<MemoryLimiter>,
}

impl Producer {
    /// Starts the pipeline's task. Appends come with room of `budget`.
    pub fn start(
        components: Components,
        settings: ProduceSettings,
        budget: Arc<MemoryLimiter>,
        objects: Arc<ObjectCache>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (events, receiver) = mpsc::channel(1024);
        let pipeline = pipeline::Pipeline::new(
            components,
            settings,
            objects,
            metrics,
            events.clone(),
            receiver,
        );
        tasks::spawn_critical("produce", pipeline.run());
        Self { events, budget }
    }

    /// Takes rows in, in the order of the calls; gives back the way to wait for their outcomes.
    /// The room, taken before the rows were read, is held until they are decided.
    ///
    /// # Errors
    /// [`Closed`] when the pipeline is gone.
    ///
    /// # Cancel safety
    /// Dropped before it returns, nothing was appended. Dropping the receiver afterwards takes
    /// nothing back: the batches are committed all the same.
    pub async fn append(
        &self,
        connection: ConnectionId,
        rows: Vec<ProducedBatch>,
        permit: MemoryPermit,
    ) -> Result<oneshot::Receiver<AppendResult>, Closed> {
        let (reply, outcome) = oneshot::channel();
        if rows.is_empty() {
            let _received = reply.send(AppendResult { rows: Vec::new(), at: Instant::now() });
            return Ok(outcome);
        }
        let span = tracing::Span::current();
        let append = Append { connection, rows, reply, permit, span };
        self.events.send(pipeline::Event::Append(append)).await.map_err(|_| Closed)?;
        Ok(outcome)
    }

    /// From now on these numbers count.
    pub async fn reconfigure(&self, reconfigure: FlushTuning) {
        let _gone = self.events.send(pipeline::Event::FlushTuning(reconfigure)).await;
    }

    /// From now on nothing waits for company: the replica is about to stop.
    pub async fn flush_now(&self) {
        let _gone = self.events.send(pipeline::Event::FlushNow).await;
    }

    /// Closes the budget, and returns once everything taken in before is answered.
    pub async fn drain(&self) {
        self.budget.close();
        let (done, wait) = oneshot::channel();
        if self.events.send(pipeline::Event::Drain(done)).await.is_ok() {
            // An error means that the pipeline is gone, and so nothing is left to wait for.
            let _gone = wait.await;
        }
    }
}
