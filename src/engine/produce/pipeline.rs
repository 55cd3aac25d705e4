//! The task that owns the state of the produce path.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, Span, trace_span};

use super::buffer::{OpenObject, SealedObject};
use super::request::{AppendOutcome, AppendRequest};
use super::sequencer::CommitSequencer;
use super::settings::{FlushTuning, ProduceSettings};
use super::statistics::{record_completed, record_sealed};
use super::uploader::Uploader;
use crate::coordinator::{Commit, CommitOrder, CoordinatorError, CoordinatorResult, PartOutcome};
use crate::engine::Components;
use crate::engine::cache::ObjectCache;
use crate::log::batch::Part;
use crate::log::ids::ObjectId;
use crate::log::object_format::{JournalEntry, JournalOutcome};
use crate::logging::SPAN_TARGET;
use crate::metrics::Metrics;
use crate::tasks;

/// Commit outcomes that wait to be written to the journal of the next object. When there are more,
/// the oldest are dropped.
const JOURNAL_MAX: usize = 4096;
/// Divisor of the median PUT latency that gives the linger: a fast object is complete when no batch
/// has arrived for this long …
const LINGER_DIVISOR: u32 = 16;
/// … or after this multiple of the linger …
const LINGERS_MAX: u32 = 2;
/// … and immediately where the linger is below the resolution of timers.
const LINGER_MIN: Duration = Duration::from_millis(1);
/// Deadline of a commit, after which it is repeated. Adapters have shorter deadlines for their own
/// calls; this one covers whatever they do not.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Input of the pipeline.
#[derive(Debug)]
pub(super) enum PipelineEvent {
    /// A request was admitted.
    Append(AppendRequest),
    /// The object with this sequence is durable.
    Uploaded(u32),
    /// The coordinator has decided parts of an object.
    Decided { sequence: u32, outcomes: Vec<PartOutcome> },
    /// The coordinator cannot commit these parts of an object, because their metadata is lost.
    Lost { sequence: u32, parts: Vec<u32> },
    /// The flush settings have changed.
    Reconfigure(FlushTuning),
    /// Seal without linger and without rate limit from now on.
    FlushNow,
    /// Reply when nothing is outstanding.
    Drain(oneshot::Sender<()>),
}

/// The state of the produce path.
#[derive(Debug)]
pub(super) struct Pipeline {
    components: Components,
    settings: ProduceSettings,
    cache: Arc<ObjectCache>,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<PipelineEvent>,
    receiver: mpsc::Receiver<PipelineEvent>,
    open: OpenObject,
    sealed: BTreeMap<u32, SealedObject>,
    sequencer: CommitSequencer,
    uploader: Arc<Uploader>,
    next_sequence: u32,
    uploads_in_flight: usize,
    last_sealed_at: Option<Instant>,
    /// Sequence and start of the latest upload, until it completes.
    latest_upload: Option<(u32, Instant)>,
    /// Completion of the latest upload.
    last_durable_at: Option<Instant>,
    flush_now: bool,
    journal: VecDeque<JournalEntry>,
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
        events: mpsc::Sender<PipelineEvent>,
        receiver: mpsc::Receiver<PipelineEvent>,
    ) -> Self {
        let sequencer = CommitSequencer::new(components.coordinator.commit_order());
        let uploader = Uploader::new(
            components.clone(),
            settings.upload.clone(),
            settings.puts_per_second_max,
            Arc::clone(&metrics),
        );
        Self {
            components,
            settings,
            cache,
            metrics,
            events,
            receiver,
            open: OpenObject::default(),
            sealed: BTreeMap::new(),
            sequencer,
            uploader: Arc::new(uploader),
            next_sequence: 0,
            uploads_in_flight: 0,
            last_sealed_at: None,
            latest_upload: None,
            last_durable_at: None,
            flush_now: false,
            journal: VecDeque::new(),
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
                        if self.open.bytes() >= self.settings.object_bytes {
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
                self.open.push(request, Instant::now());
                if self.is_halted {
                    self.open.abort(|_| true);
                }
            }
            PipelineEvent::Uploaded(sequence) => self.complete_upload(sequence),
            PipelineEvent::Decided { sequence, outcomes } => {
                let parts: Vec<_> = outcomes.iter().map(|outcome| outcome.index).collect();
                self.sequencer.complete(sequence, &parts);
                self.complete(sequence, &parts, &outcomes);
            }
            PipelineEvent::Lost { sequence, parts } => self.abort(sequence, &parts),
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

    fn complete_upload(&mut self, sequence: u32) {
        self.uploads_in_flight -= 1;
        if self.latest_upload.is_some_and(|(latest, _)| latest == sequence) {
            self.latest_upload = None;
            self.last_durable_at = Some(Instant::now());
        }
        if let Some(object) = self.sealed.get_mut(&sequence) {
            object.durable_at = Some(Instant::now());
            self.metrics.produce.objects_written.inc();
            self.metrics.produce.objects_written_bytes.inc_by(object.bytes.len() as u64);
            // From here on the cache bounds the memory.
            self.cache.insert_written(object.id, std::mem::take(&mut object.bytes));
        }
        self.sequencer.mark_durable(sequence);
    }

    /// Returns the time at which the open object has to be sealed; `None` if it is empty or no
    /// further upload may start.
    fn seal_at(&self) -> Option<Instant> {
        let first_append = self.open.first_append_at()?;
        if self.uploads_in_flight >= self.uploader.window() {
            return None;
        }
        if self.flush_now {
            return Some(first_append);
        }
        // One object per interval: after a pause, the first batch does not wait.
        let interval_end = |sealed: Instant| first_append.max(sealed + self.settings.interval);
        let at_interval = self.last_sealed_at.map_or(first_append, interval_end);
        let due = match self.latest_upload {
            _ if self.open.bytes() >= self.settings.object_bytes => first_append,
            _ if !self.open.has_fast_batch() => at_interval,
            None => self.linger_end(first_append),
            // A PUT slower than the median is not waited for.
            Some((_, started)) => at_interval.min(started + self.uploader.median_latency()),
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

    fn seal(&mut self) {
        let id = ObjectId {
            incarnation: self.settings.incarnation,
            process_id: self.settings.process_id,
            sequence: self.next_sequence,
        };
        self.next_sequence += 1;
        let journal = self.journal.drain(..).collect();
        let sealed_ms = self.components.clock.now_ms();
        let object =
            std::mem::take(&mut self.open).seal(id, &self.settings.replica, sealed_ms, journal);
        let parts = object.parts.iter().map(|sealed| (sealed.part.index, sealed.lane));
        self.sequencer.add_sealed(id.sequence, parts);
        tracing::debug!(object = %id, bytes = object.bytes.len(), parts = object.parts.len(), "sealed object");
        record_sealed(&self.metrics, &object);
        self.start_upload(&object);
        self.sealed.insert(id.sequence, object);
    }

    fn start_upload(&mut self, object: &SealedObject) {
        self.uploads_in_flight += 1;
        self.last_sealed_at = Some(Instant::now());
        self.latest_upload = Some((object.id.sequence, Instant::now()));
        let (uploader, events) = (Arc::clone(&self.uploader), self.events.clone());
        let (id, bytes) = (object.id, object.bytes.clone());
        let span = trace_span!(target: SPAN_TARGET, parent: &object.span, "upload");
        let upload = async move {
            uploader.upload(id, &bytes).await;
            // The pipeline ends only with the process.
            let _closed = events.send(PipelineEvent::Uploaded(id.sequence)).await;
        };
        tasks::spawn_critical("upload", upload.instrument(span));
    }

    fn commit_ready(&mut self) {
        for (sequence, parts) in self.sequencer.take_ready() {
            let Some(object) = self.sealed.get(&sequence) else { continue };
            // One call for each shard, so that none waits for another.
            let mut by_shard: BTreeMap<u16, Vec<Part>> = BTreeMap::new();
            for sealed in object.parts.iter().filter(|p| parts.contains(&p.part.index)) {
                let shard = self.components.coordinator.shard(sealed.part.partition);
                by_shard.entry(shard).or_default().push(sealed.part.clone());
            }
            for parts in by_shard.into_values() {
                let (object, sealed_ms) = (object.id, object.sealed_ms);
                self.start_commit(Commit { object, sealed_ms, lowest_undecided: 0, parts });
            }
        }
    }

    fn start_commit(&self, commit: Commit) {
        let (components, events) = (self.components.clone(), self.events.clone());
        let metrics = Arc::clone(&self.metrics);
        let span = self.sealed.get(&commit.object.sequence).map(|object| &object.span);
        let span = trace_span!(target: SPAN_TARGET, parent: span.and_then(Span::id), "commit");
        let committing =
            async move { commit_until_decided(&components, commit, &metrics, &events).await };
        tasks::spawn_critical("commit", committing.instrument(span));
    }

    /// Completes the batches of parts. Parts without an outcome are aborted.
    fn complete(&mut self, sequence: u32, parts: &[u32], outcomes: &[PartOutcome]) {
        let Some(object) = self.sealed.get_mut(&sequence) else { return };
        for index in parts {
            let Some(sealed) = object.parts.iter().find(|p| p.part.index == *index) else {
                continue;
            };
            let part_outcome = outcomes.iter().find(|outcome| outcome.index == *index);
            for (batch, at) in sealed.batches.iter().enumerate() {
                let decided = part_outcome.and_then(|part| {
                    let log_start_offset = part.log_start_offset;
                    let outcome = *part.batches.get(batch)?;
                    Some(AppendOutcome::Decided { outcome, log_start_offset })
                });
                let append = &mut object.appends[at.append];
                if append.complete(at.batch, decided.unwrap_or(AppendOutcome::MetadataLost)) {
                    let (sealed_at, durable_at) = (object.sealed_at, object.durable_at);
                    record_completed(&self.metrics, append.received_at(), sealed_at, durable_at);
                }
            }
            if let Some(outcome) = part_outcome {
                self.journal.push_back(journal_entry(object.id, outcome));
            }
        }
        object.parts.retain(|sealed| !parts.contains(&sealed.part.index));
        if object.parts.is_empty() {
            self.sealed.remove(&sequence);
        }
        while self.journal.len() > JOURNAL_MAX {
            self.journal.pop_front();
        }
    }

    /// Aborts parts that the coordinator could not commit, and all that must not be committed
    /// without them: see [`CommitSequencer::abort`].
    fn abort(&mut self, sequence: u32, parts: &[u32]) {
        if self.components.coordinator.commit_order() == CommitOrder::ByObject {
            tracing::error!("an object could not be committed in its order; commits are halted");
            self.is_halted = true;
            self.open.abort(|_| true);
        } else if let Some(object) = self.sealed.get(&sequence) {
            let lost = object.parts.iter().filter(|p| parts.contains(&p.part.index));
            let lanes: Vec<_> = lost.map(|sealed| sealed.lane).collect();
            self.open.abort(|lane| lanes.contains(lane));
        }
        for (sequence, parts) in self.sequencer.abort(sequence, parts) {
            self.complete(sequence, &parts, &[]);
        }
    }
}

fn journal_entry(object: ObjectId, outcome: &PartOutcome) -> JournalEntry {
    let outcomes = outcome.batches.iter().map(|batch| JournalOutcome::from(*batch)).collect();
    JournalEntry { object, part: outcome.index, outcomes }
}

/// Repeats a commit with the same ids until every part is decided or lost, and sends the results
/// as they arrive.
async fn commit_until_decided(
    components: &Components,
    mut commit: Commit,
    metrics: &Metrics,
    events: &mpsc::Sender<PipelineEvent>,
) {
    let sequence = commit.object.sequence;
    let mut delays = components.retry_delays();
    for attempt in 0_u32.. {
        let results = commit_once(components, &commit).await;
        let (mut outcomes, mut lost, mut undecided) = (Vec::new(), Vec::new(), Vec::new());
        let mut retried = None;
        for (part, result) in std::mem::take(&mut commit.parts).into_iter().zip(results) {
            match result {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) if is_retriable(&error) => {
                    undecided.push(part);
                    retried = Some(error);
                }
                Err(error) => {
                    log_lost_part(&commit, &part, &error);
                    lost.push(part.index);
                }
            }
        }
        // The pipeline ends only with the process.
        if !outcomes.is_empty() {
            let _closed = events.send(PipelineEvent::Decided { sequence, outcomes }).await;
        }
        if !lost.is_empty() {
            let _closed = events.send(PipelineEvent::Lost { sequence, parts: lost }).await;
        }
        let Some(error) = retried else { return };
        metrics.produce.commit_retries.inc();
        tracing::warn!(object = %commit.object, attempt, %error, "commit failed or indeterminate; retrying");
        commit.parts = undecided;
        delays.wait().await;
    }
}

/// Makes one call; returns one result for each part.
async fn commit_once(
    components: &Components,
    commit: &Commit,
) -> Vec<CoordinatorResult<PartOutcome>> {
    let call = components.coordinator.commit(commit);
    let error = match tokio::time::timeout(COMMIT_TIMEOUT, call).await {
        Ok(results) if results.len() == commit.parts.len() => return results,
        Ok(results) => CoordinatorError::Unknown(format!("{} results", results.len())),
        Err(_) => CoordinatorError::Unknown(format!("no response within {COMMIT_TIMEOUT:?}")),
    };
    commit.parts.iter().map(|_| Err(error.clone())).collect()
}

fn is_retriable(error: &CoordinatorError) -> bool {
    matches!(error, CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_))
}

fn log_lost_part(commit: &Commit, part: &Part, error: &CoordinatorError) {
    if matches!(error, CoordinatorError::MetadataLost(_)) {
        // Reported once, by the monitor of the metadata's health.
        tracing::debug!(object = %commit.object, %error, "commit rejected");
    } else {
        let partition = part.partition;
        tracing::error!(object = %commit.object, %partition, %error, "commit failed permanently");
    }
}
