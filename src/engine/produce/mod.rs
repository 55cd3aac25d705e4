//! The produce path: append → seal → upload → commit → respond.
//!
//! One [`pipeline::Pipeline`] task owns the state. Requests that are in flight together share an
//! object. Uploads run in parallel and complete in any order. The [`sequencer::CommitSequencer`]
//! alone decides what may be committed when.

mod buffer;
mod commit;
mod event;
mod journal;
mod pending;
mod pipeline;
mod rate_limit;
mod refusal;
mod request;
mod sealed;
mod sequencer;
mod settings;
mod shards;
mod size_limit;
mod statistics;
mod stored_outcomes;
mod uploader;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::event::PipelineEvent;
use self::pipeline::Pipeline;
use self::request::AppendRequest;
pub use self::request::{AppendOutcome, AppendResult, ConnectionId, FlushProfile, ProducedBatch};
pub use self::settings::{FlushTuning, ProduceSettings, UploadSettings};
use self::uploader::Uploader;
use super::Components;
use super::cache::ObjectCache;
use super::memory::{MemoryLimiter, MemoryPermit, ShuttingDown};
use crate::metrics::Metrics;
use crate::tasks;

/// Requests that may wait for the pipeline's task.
const EVENTS_MAX: usize = 1024;

/// Handle to the produce pipeline; cheap to clone.
#[derive(Clone, Debug)]
pub struct Producer {
    events: mpsc::Sender<PipelineEvent>,
    memory: Arc<MemoryLimiter>,
    lowest_undecided: Arc<AtomicU32>,
    fenced: Arc<AtomicBool>,
    uploader: Arc<Uploader>,
}

impl Producer {
    /// Spawns the pipeline's task. Appends hold permits of `memory`; written objects are inserted
    /// into `cache`.
    pub fn start(
        components: Components,
        settings: ProduceSettings,
        memory: Arc<MemoryLimiter>,
        cache: Arc<ObjectCache>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let lowest_undecided = Arc::new(AtomicU32::new(0));
        let uploader = Arc::new(Uploader::new(
            components.clone(),
            settings.upload.clone(),
            settings.puts_per_second_max,
            Arc::clone(&metrics),
        ));
        let fenced = Arc::new(AtomicBool::new(false));
        let shared = (Arc::clone(&lowest_undecided), Arc::clone(&fenced), memory.bytes());
        let (channel, puts) = ((events.clone(), receiver), Arc::clone(&uploader));
        let pipeline = Pipeline::new(components, settings, cache, metrics, puts, shared, channel);
        tasks::spawn_critical("produce", pipeline.run());
        Self { events, memory, lowest_undecided, fenced, uploader }
    }

    /// Appends batches in the order of the calls, and returns a receiver for their outcomes. The
    /// permit, acquired before the batches were read, is held until all outcomes are known.
    ///
    /// # Errors
    /// [`ShuttingDown`] if the pipeline has ended.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing was appended. Dropping the receiver afterwards has no
    /// effect on the batches: they are committed all the same.
    pub async fn append(
        &self,
        connection: ConnectionId,
        batches: Vec<ProducedBatch>,
        permit: MemoryPermit,
    ) -> Result<oneshot::Receiver<AppendResult>, ShuttingDown> {
        let (reply, result) = oneshot::channel();
        if batches.is_empty() {
            let empty = AppendResult { outcomes: Vec::new(), completed_at: Instant::now() };
            let _received = reply.send(empty);
            return Ok(result);
        }
        let span = tracing::Span::current();
        let request = AppendRequest { connection, batches, reply, permit, span };
        self.events.send(PipelineEvent::Append(request)).await.map_err(|_| ShuttingDown)?;
        Ok(result)
    }

    /// Returns the lowest sequence of an object of this process whose commit may not be decided
    /// yet. It never decreases: no lower sequence will be committed from now on.
    pub fn lowest_undecided(&self) -> u32 {
        self.lowest_undecided.load(Ordering::Acquire)
    }

    /// Returns whether another process has taken over the objects of this one. What is outstanding
    /// then has no result, and the process has to end.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Returns why the store refuses objects, if it has done so within the last minute and has
    /// stored none since.
    pub fn store_refusal(&self) -> Option<String> {
        self.uploader.refusal()
    }

    /// Replaces the flush settings.
    pub async fn reconfigure(&self, tuning: FlushTuning) {
        let _closed = self.events.send(PipelineEvent::Reconfigure(tuning)).await;
    }

    /// Seals without linger and without rate limit from now on, because the replica is about to
    /// stop.
    pub async fn flush_now(&self) {
        let _closed = self.events.send(PipelineEvent::FlushNow).await;
    }

    /// Closes the memory limiter, and returns once every append accepted before has its outcomes.
    pub async fn drain(&self) {
        self.memory.close();
        let (done, drained) = oneshot::channel();
        if self.events.send(PipelineEvent::Drain(done)).await.is_ok() {
            // An error means that the pipeline has ended, with nothing outstanding.
            let _closed = drained.await;
        }
    }
}
