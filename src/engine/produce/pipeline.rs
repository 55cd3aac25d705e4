//! The task that owns the state of the produce path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, Span, trace_span};

use super::buffer::{LaneBatches, OpenObject};
use super::commit::commit_until_decided;
use super::event::PipelineEvent;
use super::journal::PendingJournal;
use super::pending::PendingAppends;
use super::request::AppendOutcome;
use super::sealed::{ObjectLabel, SealedObject};
use super::sequencer::{CommitSequencer, SequencedPart};
use super::settings::{FlushTuning, ProduceSettings};
use super::size_limit::SizeLimit;
use super::statistics::{record_completed, record_sealed};
use super::uploader::Uploader;
use crate::coordinator::{Commit, CommitOrder, PartOutcome};
use crate::engine::Components;
use crate::engine::cache::ObjectCache;
use crate::log::ids::ObjectId;
use crate::log::object_format::JournalEntry;
use crate::logging::SPAN_TARGET;
use crate::metrics::Metrics;
use crate::tasks;

mod refused;
mod withdrawn;

/// Divisor of the median PUT latency that gives the linger: a fast object is complete when no batch
/// has arrived for this long …
const LINGER_DIVISOR: u32 = 16;
/// … or after this multiple of the linger …
const LINGERS_MAX: u32 = 2;
/// … and immediately where the linger is below the resolution of timers.
const LINGER_MIN: Duration = Duration::from_millis(1);

/// The state of the produce path.
#[derive(Debug)]
pub(super) struct Pipeline {
    components: Components,
    settings: ProduceSettings,
    cache: Arc<ObjectCache>,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<PipelineEvent>,
    receiver: mpsc::Receiver<PipelineEvent>,
    /// The appends without a result, whose batches are in the open object or in sealed ones.
    appends: PendingAppends,
    open: OpenObject,
    sealed: BTreeMap<u32, SealedObject>,
    sequencer: CommitSequencer,
    uploader: Arc<Uploader>,
    next_sequence: u32,
    /// See [`super::Producer::lowest_undecided`].
    lowest_undecided: Arc<AtomicU32>,
    /// See [`super::Producer::is_fenced`].
    fenced: Arc<AtomicBool>,
    uploads_in_flight: usize,
    last_sealed_at: Option<Instant>,
    /// Sequence and start of the latest upload, until it completes.
    latest_upload: Option<(u32, Instant)>,
    /// Completion of the latest upload.
    last_durable_at: Option<Instant>,
    size_limit: SizeLimit,
    /// The object that is uploaded alone, because the store may refuse it for its size and objects
    /// must be committed in order.
    exclusive_upload: Option<u32>,
    flush_now: bool,
    journal: PendingJournal,
    /// The parts that were aborted and wait until a stored object reports that, with their outcome.
    withheld: BTreeMap<(u32, u32), AppendOutcome>,
    drains: Vec<oneshot::Sender<()>>,
    /// Objects must be committed in order, and one could not be committed.
    is_halted: bool,
}

impl Pipeline {
    pub(super) fn new(
        components: Components,
        settings: ProduceSettings,
        cache: Arc<ObjectCache>,
        metrics: Arc<Metrics>,
        uploader: Arc<Uploader>,
        (lowest_undecided, fenced, memory_bytes): (Arc<AtomicU32>, Arc<AtomicBool>, usize),
        (events, receiver): (mpsc::Sender<PipelineEvent>, mpsc::Receiver<PipelineEvent>),
    ) -> Self {
        let sequencer = CommitSequencer::new(components.coordinator.commit_order());
        let appends = PendingAppends::new(memory_bytes, settings.stored_outcomes_max);
        Self {
            components,
            settings,
            cache,
            metrics,
            events,
            receiver,
            appends,
            open: OpenObject::default(),
            sealed: BTreeMap::new(),
            sequencer,
            uploader,
            next_sequence: 0,
            lowest_undecided,
            fenced,
            uploads_in_flight: 0,
            last_sealed_at: None,
            latest_upload: None,
            last_durable_at: None,
            size_limit: SizeLimit::default(),
            exclusive_upload: None,
            flush_now: false,
            journal: PendingJournal::default(),
            withheld: BTreeMap::new(),
            drains: Vec::new(),
            is_halted: false,
        }
    }

    /// Processes events until all senders are gone.
    pub(super) async fn run(mut self) {
        loop {
            let event = match self.seal_at() {
                Some(at) => tokio::time::timeout_at(at, self.receiver.recv()).await.ok(),
                None => Some(self.receiver.recv().await),
            };
            match event {
                Some(None) => return,
                Some(Some(event)) => {
                    self.apply(event);
                    // Whatever else has arrived shares the object.
                    while let Ok(event) = self.receiver.try_recv() {
                        self.apply(event);
                        if self.open.bytes() >= self.object_bytes() {
                            break;
                        }
                    }
                }
                None => {}
            }
            if self.seal_at().is_some_and(|at| at <= Instant::now()) {
                self.seal();
            }
            self.commit_ready();
            self.appends.stored.release(|shard| self.sequencer.lowest_undecided(shard));
            let lowest = self.sequencer.lowest_undecided_of_all().unwrap_or(self.next_sequence);
            self.lowest_undecided.store(lowest, Ordering::Release);
            if self.sealed.is_empty() && self.open.is_empty() {
                for drain in self.drains.drain(..) {
                    let _closed = drain.send(());
                }
            }
        }
    }

    fn apply(&mut self, event: PipelineEvent) {
        match event {
            PipelineEvent::Append(request) => {
                let coordinator = &self.components.coordinator;
                let shards = request.batches.iter().map(|b| coordinator.shard(b.partition));
                let shards = shards.collect();
                let refused = self.open.push(request, shards, &mut self.appends, Instant::now());
                self.metrics.produce.batches_of_failing_shards.inc_by(refused);
                if self.is_halted {
                    self.open.abort_all(AppendOutcome::MetadataLost, &mut self.appends);
                }
            }
            PipelineEvent::Uploaded { sequence, result: Ok(()) } => self.complete_upload(sequence),
            PipelineEvent::Uploaded { sequence, result: Err(refusal) } => {
                self.handle_refusal(sequence, refusal);
            }
            PipelineEvent::Decided { sequence, outcomes } => {
                for outcome in &outcomes {
                    self.sequencer.complete(sequence, outcome.index);
                    self.complete(sequence, outcome);
                }
            }
            PipelineEvent::Lost { sequence, parts } => {
                for index in parts {
                    self.abort(sequence, index, AppendOutcome::MetadataLost);
                }
            }
            PipelineEvent::Fenced => {
                self.fenced.store(true, Ordering::Release);
            }
            PipelineEvent::CommitEnded { shard, commit } => {
                self.appends.commits.end(shard, commit);
            }
            PipelineEvent::Reconfigure(FlushTuning {
                interval,
                object_bytes,
                puts_per_second_max,
            }) => {
                (self.settings.interval, self.settings.object_bytes) = (interval, object_bytes);
                self.uploader.set_put_rate(puts_per_second_max);
            }
            PipelineEvent::FlushNow => self.flush_now = true,
            PipelineEvent::Drain(done) => {
                self.flush_now = true;
                self.drains.push(done);
            }
        }
    }

    fn end_upload(&mut self, sequence: u32) {
        self.uploads_in_flight -= 1;
        self.exclusive_upload.take_if(|exclusive| *exclusive == sequence);
        if self.latest_upload.is_some_and(|(latest, _)| latest == sequence) {
            self.latest_upload = None;
            self.last_durable_at = Some(Instant::now());
        }
    }

    fn complete_upload(&mut self, sequence: u32) {
        self.end_upload(sequence);
        let reported = self.journal.end_upload(sequence);
        self.release_reported(&reported);
        if let Some(object) = self.sealed.get_mut(&sequence) {
            object.durable_at = Some(Instant::now());
            self.metrics.produce.objects_written.inc();
            self.metrics.produce.objects_written_bytes.inc_by(object.bytes.len() as u64);
            self.size_limit.record_stored(object.bytes.len());
            // From here on the cache bounds the memory.
            self.cache.insert_written(object.id, std::mem::take(&mut object.bytes));
        }
        self.sequencer.mark_durable(sequence);
    }

    /// Returns the time at which the open object has to be sealed; `None` if it is empty or no
    /// further upload may start.
    fn seal_at(&self) -> Option<Instant> {
        let is_empty = self.open.is_empty();
        let first_append = match self.open.first_append_at() {
            // Clients wait for the object that reports that their batches were withdrawn.
            None if self.must_report() => Instant::now(),
            first_append => first_append?,
        };
        if self.uploads_in_flight >= self.uploader.window() || self.exclusive_upload.is_some() {
            return None;
        }
        if self.flush_now || is_empty {
            return Some(first_append);
        }
        // One object per interval: after a pause, the first batch does not wait.
        let interval_end = |sealed: Instant| first_append.max(sealed + self.settings.interval);
        let at_interval = self.last_sealed_at.map_or(first_append, interval_end);
        let due = match self.latest_upload {
            _ if self.open.bytes() >= self.object_bytes() => first_append,
            _ if !self.open.has_fast_batch() => at_interval,
            None => self.linger_end(first_append),
            // Uploads overlap: a batch does not wait for the end of an earlier PUT.
            Some((_, started)) => {
                let spaced = started + self.uploader.upload_spacing();
                at_interval.min(spaced.max(self.linger_end(first_append)))
            }
        };
        Some(due.max(self.uploader.next_put_at(Instant::now())))
    }

    /// Returns the end of the linger of a fast object. The clients that received their responses
    /// when the latest upload completed need time to send the requests that they held back. A
    /// producer with five requests in flight sends five at once; an object sealed after the first
    /// of them would make the other four wait for another PUT.
    fn linger_end(&self, first_append: Instant) -> Instant {
        let start = self.last_durable_at.map_or(first_append, |durable| durable.max(first_append));
        let linger = self.uploader.measured_median_latency() / LINGER_DIVISOR;
        if linger < LINGER_MIN {
            return first_append;
        }
        let last_append = self.open.last_append_at().map_or(start, |last| last.max(start));
        (last_append + linger).min(start + linger * LINGERS_MAX)
    }

    /// Returns the size of the buffered batches at which an object is sealed.
    fn object_bytes(&self) -> usize {
        self.settings.object_bytes.min(self.size_limit.batch_bytes_max(Instant::now()))
    }

    fn seal(&mut self) {
        let bytes_max = self.size_limit.batch_bytes_max(Instant::now());
        let limit = if bytes_max < self.settings.object_bytes { bytes_max } else { 0 };
        self.metrics.produce.object_bytes_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
        let batches = self.open.take(bytes_max);
        let journal = self.journal.take(batches.len());
        let (sequence, parts) = self.seal_batches(batches, journal);
        if !parts.is_empty() {
            self.sequencer.add_sealed(sequence, parts);
        }
    }

    /// Seals an object and starts its upload; returns its sequence and its parts. Without batches,
    /// the object only reports the outcomes of others.
    fn seal_batches(
        &mut self,
        batches: LaneBatches,
        journal: Vec<JournalEntry>,
    ) -> (u32, Vec<SequencedPart>) {
        let id = self.object_id(self.next_sequence);
        self.next_sequence += 1;
        let label = ObjectLabel {
            id,
            replica: &self.settings.replica,
            sealed_ms: self.components.clock.now_ms(),
            lowest_undecided: self.sequencer.lowest_undecided_of_all().unwrap_or(id.sequence),
            journal,
        };
        let mut object = SealedObject::seal(batches, label, &self.appends);
        self.journal.begin_upload(id.sequence, std::mem::take(&mut object.journal));
        let parts: Vec<_> = object.sequenced().collect();
        tracing::debug!(object = %id, bytes = object.bytes.len(), parts = parts.len(), "sealed object");
        record_sealed(&self.metrics, &object);
        let by_object = self.components.coordinator.commit_order() == CommitOrder::ByObject;
        if by_object && !self.size_limit.is_proven(object.bytes.len()) {
            self.exclusive_upload = Some(id.sequence);
        }
        let (bytes, span) = (object.bytes.clone(), object.span.clone());
        if !parts.is_empty() {
            self.sealed.insert(id.sequence, object);
        }
        self.start_upload(id, bytes, &span, Duration::ZERO);
        (id.sequence, parts)
    }

    fn start_upload(&mut self, id: ObjectId, bytes: Bytes, parent: &Span, delay: Duration) {
        self.uploads_in_flight += 1;
        self.last_sealed_at = Some(Instant::now());
        self.latest_upload = Some((id.sequence, Instant::now()));
        let (uploader, events) = (Arc::clone(&self.uploader), self.events.clone());
        let has_batches = self.sealed.contains_key(&id.sequence);
        let span = trace_span!(target: SPAN_TARGET, parent: parent, "upload");
        let upload = async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let (sequence, uploading) = (id.sequence, uploader.upload(id, &bytes, has_batches));
            let result = uploading.await;
            // The pipeline ends only with the process.
            let _closed = events.send(PipelineEvent::Uploaded { sequence, result }).await;
        };
        tasks::spawn_critical("upload", upload.instrument(span));
    }

    fn commit_ready(&mut self) {
        for ready in self.sequencer.take_ready() {
            let Some(object) = self.sealed.get(&ready.sequence) else { continue };
            let parts = ready.parts.iter().filter_map(|index| object.part(*index));
            let lowest = self.sequencer.lowest_undecided(ready.shard);
            let commit = Commit {
                object: object.id,
                sealed_ms: object.sealed_ms,
                lowest_undecided: lowest.unwrap_or(ready.sequence),
                parts: parts.map(|sealed| sealed.part.clone()).collect(),
            };
            let span = trace_span!(target: SPAN_TARGET, parent: &object.span, "commit");
            let (components, metrics) = (self.components.clone(), Arc::clone(&self.metrics));
            let (events, shard) = (self.events.clone(), ready.shard);
            let started = self.appends.commits.begin(shard, Instant::now());
            let committing = async move {
                commit_until_decided(&components, commit, &metrics, &events).await;
                let ended = PipelineEvent::CommitEnded { shard, commit: started };
                let _closed = events.send(ended).await;
            };
            tasks::spawn_critical("commit", committing.instrument(span));
        }
    }

    /// Completes the batches of a part that the coordinator has decided.
    fn complete(&mut self, sequence: u32, outcome: &PartOutcome) {
        let log_start_offset = outcome.log_start_offset;
        if let Some(object) = self.sealed.get(&sequence)
            && let Some(sealed) = object.part(outcome.index)
        {
            let position = self.components.coordinator.position(sealed.part.partition);
            self.journal.push(object.id, position, outcome);
            self.appends.stored.add(sealed.shard, sequence, outcome.batches.len());
        }
        self.complete_part(sequence, outcome.index, |batch| match outcome.batches.get(batch) {
            Some(outcome) => AppendOutcome::Decided { outcome: *outcome, log_start_offset },
            None => AppendOutcome::MetadataLost,
        });
    }

    /// Completes each batch of a part with its outcome, by its index in the part.
    fn complete_part(
        &mut self,
        sequence: u32,
        index: u32,
        outcome: impl Fn(usize) -> AppendOutcome,
    ) {
        let Some(object) = self.sealed.get_mut(&sequence) else { return };
        let Some(sealed) = object.take_part(index) else { return };
        for (batch, at) in sealed.batches.iter().enumerate() {
            if let Some(received_at) = self.appends.complete(*at, outcome(batch)) {
                let (sealed_at, durable_at) = (object.sealed_at, object.durable_at);
                record_completed(&self.metrics, received_at, sealed_at, durable_at);
            }
        }
        if object.is_complete() {
            self.sealed.remove(&sequence);
        }
    }

    /// Aborts a part that cannot be committed, and all that must not be committed without it: see
    /// [`CommitSequencer::abort`].
    fn abort(&mut self, sequence: u32, index: u32, outcome: AppendOutcome) {
        if self.components.coordinator.commit_order() == CommitOrder::ByObject {
            if !self.is_halted {
                tracing::error!(
                    "an object could not be committed in its order; commits are halted"
                );
            }
            self.is_halted = true;
            self.open.abort_all(outcome, &mut self.appends);
        } else if let Some(sealed) = self.sealed.get(&sequence).and_then(|o| o.part(index)) {
            self.open.abort(&sealed.lane, outcome, &mut self.appends);
        }
        for (sequence, index) in self.sequencer.abort(sequence, index) {
            self.withdraw(sequence, index, outcome);
        }
    }

    fn object_id(&self, sequence: u32) -> ObjectId {
        let ProduceSettings { incarnation, process_id, .. } = self.settings;
        ObjectId { incarnation, process_id, sequence }
    }
}
