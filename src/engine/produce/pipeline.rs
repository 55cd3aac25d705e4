//! The task that owns the produce path.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, trace_span};

use super::buffer::{OpenObject, SealedObject};
use super::sequencer::CommitSequencer;
use super::statistics;
use super::uploader::Uploader;
use super::{Append, FlushTuning, ProduceSettings, RowOutcome};
use crate::coordinator::{Commit, CommitOrder, CoordinatorError, PartOutcome};
use crate::engine::Components;
use crate::engine::cache::ObjectCache;
use crate::log::ids::ObjectId;
use crate::log::object_format::{JournalEntry, JournalOutcome};
use crate::logging::SPAN_TARGET;
use crate::metrics::Metrics;
use crate::tasks;

/// Outcomes that ride on the next object; older ones are dropped beyond this many.
const JOURNAL_MAX: usize = 4096;
/// An object is complete when nothing came for this fraction of a PUT …
const GATHER_QUIET: u32 = 16;
/// … or after so many times as long, …
const GATHER_MAX: u32 = 2;
/// … and at once where that is less than timers can tell.
const GATHER_MIN: Duration = Duration::from_millis(1);
/// How long a commit is waited for before it is repeated. Adapters have shorter deadlines for what
/// they ask of others; this one is for whatever they did not think of.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// All that can happen to the pipeline.
#[derive(Debug)]
pub(crate) enum Event {
    /// A request was admitted.
    Append(Append),
    /// An object's bytes are durable.
    Uploaded(u32),
    /// The coordinator has decided on parts of an object, or has lost its metadata.
    Decided { sequence: u32, parts: Vec<u32>, outcomes: Option<Vec<PartOutcome>> },
    /// Other numbers count from now on.
    FlushTuning(FlushTuning),
    /// Wait for company no longer: the replica is about to stop.
    FlushNow,
    /// Answer when nothing is left.
    Drain(oneshot::Sender<()>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Pipeline {
    components: Components,
    settings: ProduceSettings,
    objects: Arc<ObjectCache>,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<Event>,
    receiver: mpsc::Receiver<Event>,
    open: OpenObject,
    sealed: BTreeMap<u32, SealedObject>,
    sequencer: CommitSequencer,
    uploader: Arc<Uploader>,
    sequence_next: u32,
    uploading: usize,
    /// When an object was last sealed.
    sealed_at: Option<Instant>,
    /// The object sealed last and when, until it is durable.
    latest: Option<(u32, Instant)>,
    /// When the object sealed last became durable.
    last_durable_at: Option<Instant>,
    flush_now: bool,
    journal: VecDeque<JournalEntry>,
    drains: Vec<oneshot::Sender<()>>,
    /// Objects must be committed in order, and one could not be.
    halted: bool,
}

impl Pipeline {
    pub(crate) fn new(
        components: Components,
        settings: ProduceSettings,
        objects: Arc<ObjectCache>,
        metrics: Arc<Metrics>,
        events: mpsc::Sender<Event>,
        receiver: mpsc::Receiver<Event>,
    ) -> Self {
        let sequencer = CommitSequencer::new(components.coordinator.commit_order());
        let uploader = Uploader::new(components.clone(), &settings, Arc::clone(&metrics));
        Self {
            components,
            settings,
            objects,
            metrics,
            events,
            receiver,
            open: OpenObject::default(),
            sealed: BTreeMap::new(),
            sequencer,
            uploader: Arc::new(uploader),
            sequence_next: 0,
            uploading: 0,
            sealed_at: None,
            latest: None,
            last_durable_at: None,
            flush_now: false,
            journal: VecDeque::new(),
            drains: Vec::new(),
            halted: false,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let event = match self.seal_at() {
                Some(at) => tokio::time::timeout_at(at, self.receiver.recv()).await.ok(),
                None => Some(self.receiver.recv().await),
            };
            match event {
                Some(None) => return,
                Some(Some(event)) => {
                    self.apply(event);
                    // Whatever else has arrived by now rides along.
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
                    let _gone = drain.send(());
                }
            }
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Append(append) => {
                self.open.push(append, Instant::now());
                if self.halted {
                    self.open.abort(|_| true);
                }
            }
            Event::Uploaded(sequence) => {
                self.uploading -= 1;
                if self.latest.is_some_and(|(latest, _)| latest == sequence) {
                    self.latest = None;
                    self.last_durable_at = Some(Instant::now());
                }
                if let Some(object) = self.sealed.get_mut(&sequence) {
                    object.durable_at = Some(Instant::now());
                    self.metrics.produce.objects_written.inc();
                    self.metrics.produce.objects_written_bytes.inc_by(object.bytes.len() as u64);
                    // From here on the cache bounds them.
                    self.objects.insert_written(object.id, std::mem::take(&mut object.bytes));
                }
                self.sequencer.uploaded(sequence);
            }
            Event::Decided { sequence, parts, outcomes: Some(outcomes) } => {
                self.sequencer.decided(sequence, &parts);
                self.complete(sequence, &parts, &outcomes);
            }
            Event::Decided { sequence, parts, outcomes: None } => self.abort(sequence, &parts),
            Event::FlushTuning(FlushTuning { interval, object_bytes, puts_per_second_max }) => {
                (self.settings.interval, self.settings.object_bytes) = (interval, object_bytes);
                self.uploader.cap(puts_per_second_max);
            }
            Event::FlushNow => self.flush_now = true,
            Event::Drain(done) => {
                self.flush_now = true;
                self.drains.push(done);
            }
        }
    }

    /// When the open object is to be sealed; `None` when there is none, or no room to upload it.
    fn seal_at(&self) -> Option<Instant> {
        let opened = self.open.opened()?;
        if self.uploading >= self.uploader.window() {
            return None;
        }
        if self.flush_now {
            return Some(opened);
        }
        // One object for each interval: who comes after a pause waits for nothing.
        let in_turn = self.sealed_at.map_or(opened, |at| opened.max(at + self.settings.interval));
        let wanted = match self.latest {
            _ if self.open.bytes() >= self.settings.object_bytes => opened,
            _ if !self.open.urgent() => in_turn,
            None => self.buffered_at(opened),
            // Nobody waits for a PUT that takes longer than PUTs usually do.
            Some((_, sealed)) => in_turn.min(sealed + self.uploader.usual()),
        };
        Some(wanted.max(self.uploader.next_put(Instant::now())))
    }

    /// When those who were just told of the last object's landing have had the time to send what
    /// they kept back for it: a producer that may have five requests under way sends five at once,
    /// and sealed behind the first of them, the other four would wait for another PUT.
    fn buffered_at(&self, opened: Instant) -> Instant {
        let begun = self.last_durable_at.map_or(opened, |landed| landed.max(opened));
        let quiet = self.uploader.usual_if_known() / GATHER_QUIET;
        if quiet < GATHER_MIN {
            return opened;
        }
        let last = self.open.last().map_or(begun, |last| last.max(begun));
        (last + quiet).min(begun + quiet * GATHER_MAX)
    }

    fn seal(&mut self) {
        let id = ObjectId {
            incarnation: self.settings.incarnation,
            process_id: self.settings.process_id,
            sequence: self.sequence_next,
        };
        self.sequence_next += 1;
        let journal = self.journal.drain(..).collect();
        let sealed_ms = self.components.clock.now_ms();
        let object =
            std::mem::take(&mut self.open).seal(id, &self.settings.replica, sealed_ms, journal);
        let parts = object.parts.iter().map(|sealed| (sealed.part.index, sealed.lane));
        self.sequencer.sealed(id.sequence, parts);
        tracing::debug!(object = %id, bytes = object.bytes.len(), parts = object.parts.len(), "sealed");
        statistics::sealed(&self.metrics, &object);
        self.upload(&object);
        self.sealed.insert(id.sequence, object);
    }

    fn upload(&mut self, object: &SealedObject) {
        self.uploading += 1;
        self.sealed_at = Some(Instant::now());
        self.latest = Some((object.id.sequence, Instant::now()));
        let (uploader, events) = (Arc::clone(&self.uploader), self.events.clone());
        let (id, bytes) = (object.id, object.bytes.clone());
        let span = trace_span!(target: SPAN_TARGET, parent: &object.span, "upload");
        let uploading = async move {
            uploader.upload(id, &bytes).await;
            // The pipeline ends only with the process.
            let _gone = events.send(Event::Uploaded(id.sequence)).await;
        };
        tasks::spawn_critical("upload", uploading.instrument(span));
    }

    fn commit_ready(&mut self) {
        for (sequence, parts) in self.sequencer.take_ready() {
            let Some(object) = self.sealed.get(&sequence) else { continue };
            let commit = Commit {
                object: object.id,
                sealed_ms: object.sealed_ms,
                parts: object
                    .parts
                    .iter()
                    .filter(|sealed| parts.contains(&sealed.part.index))
                    .map(|sealed| sealed.part.clone())
                    .collect(),
            };
            let (components, events) = (self.components.clone(), self.events.clone());
            let metrics = Arc::clone(&self.metrics);
            let span = trace_span!(target: SPAN_TARGET, parent: &object.span, "commit");
            let committing = async move {
                let outcomes = commit_until_known(&components, &commit, &metrics).await;
                let _gone = events.send(Event::Decided { sequence, parts, outcomes }).await;
            };
            tasks::spawn_critical("commit", committing.instrument(span));
        }
    }

    /// Answers parts; those without an outcome are lost.
    fn complete(&mut self, sequence: u32, parts: &[u32], outcomes: &[PartOutcome]) {
        let Some(object) = self.sealed.get_mut(&sequence) else { return };
        for index in parts {
            let Some(sealed) = object.parts.iter().find(|p| p.part.index == *index) else {
                continue;
            };
            let outcome = outcomes.iter().find(|outcome| outcome.index == *index);
            for (batch, row) in sealed.rows.iter().enumerate() {
                let row_outcome = outcome.and_then(|o| {
                    let log_start_offset = o.log_start_offset;
                    o.batches
                        .get(batch)
                        .map(|&outcome| RowOutcome::Decided { outcome, log_start_offset })
                });
                let pending = &mut object.pending_appends[row.pending];
                if pending.complete(row.row, row_outcome.unwrap_or(RowOutcome::CoordinatorLost)) {
                    let taken_in = pending.appended();
                    statistics::answered(
                        &self.metrics,
                        taken_in,
                        object.sealed_at,
                        object.durable_at,
                    );
                }
            }
            if let Some(outcome) = outcome {
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

    /// Answers parts that the coordinator could not take, and all that must not be committed
    /// without them: see [`CommitSequencer::abort`].
    fn abort(&mut self, sequence: u32, parts: &[u32]) {
        if self.components.coordinator.commit_order() == CommitOrder::ByObject {
            tracing::error!("an object is left out of the order: nothing more can be committed");
            self.halted = true;
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

/// Repeats a commit under the same ids until its outcome is known; `None` when the coordinator has
/// lost its metadata, so that nothing may be taken for granted.
async fn commit_until_known(
    components: &Components,
    commit: &Commit,
    metrics: &Metrics,
) -> Option<Vec<PartOutcome>> {
    let mut delays = components.retry_delays();
    for attempt in 0_u32.. {
        let call = tokio::time::timeout(COMMIT_WITHIN, components.coordinator.commit(commit));
        let outcomes = call.await.unwrap_or_else(|_| {
            Err(CoordinatorError::Unknown(format!("no answer in {COMMIT_WITHIN:?}")))
        });
        match outcomes {
            Ok(outcomes) => return Some(outcomes),
            Err(error @ (CoordinatorError::Unavailable(_) | CoordinatorError::Unknown(_))) => {
                metrics.produce.commit_retries.inc();
                tracing::warn!(object = %commit.object, attempt, %error, "commit in doubt; repeating it");
                delays.wait().await;
            }
            // Said once for all, by whoever watches the metadata.
            Err(CoordinatorError::MetadataLost(detail)) => {
                tracing::debug!(object = %commit.object, detail, "commit refused");
                return None;
            }
            Err(error @ (CoordinatorError::OtherCluster { .. } | CoordinatorError::Corrupt(_))) => {
                tracing::error!(object = %commit.object, %error, "commit impossible");
                return None;
            }
        }
    }
    None
}
