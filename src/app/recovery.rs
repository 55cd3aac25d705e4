//! Keeps the record of this process, and recovers processes that ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::coordinator::OpenedCoordinator;
use crate::admin::Readiness;
use crate::config::Settings;
use crate::coordinator::gated::{ClosedShards, GatedCoordinator};
use crate::coordinator::redis::RedisCoordinator;
use crate::coordinator::redis::loss_detection::observed_position::ObservedPosition;
use crate::coordinator::{Attachment, Coordinator, Member};
use crate::engine::processes::{
    NOTE_INTERVAL, PinnedPosition, ProcessRecord, ProcessRecorder, RecordedPosition,
};
use crate::engine::produce::Producer;
use crate::engine::recovery::Takeover;
use crate::metrics::Metrics;
use crate::retry::retry_until_ok;
use crate::store::Store;
use crate::tasks;

/// The time for which a start waits for the recovery of earlier processes. Classic topics do not
/// wait any longer; diskless topics do.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The time between two attempts before diskless topics are served, and the first one from then on
/// while a shard is not served yet; it doubles, because each attempt reads the objects again.
const BEGIN_INTERVAL: Duration = Duration::from_secs(1);
const CLOSED_INTERVAL: Duration = Duration::from_secs(5);
/// The time between two looks at the records of others.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// The interval at which a process looks whether another one has taken over its objects.
const FENCE_INTERVAL: Duration = Duration::from_millis(500);

/// Recovers processes, and keeps the record of this one.
#[derive(Debug)]
pub(super) struct Recovery {
    takeover: Takeover,
    gate: Arc<GatedCoordinator>,
    redis: Arc<RedisCoordinator>,
    store: Arc<dyn Store>,
    own: ProcessRecord,
    readiness: Arc<Readiness>,
}

/// Returns the recovery of a replica that writes objects and commits to Redis. The embedded
/// coordinator replays the objects instead.
fn of(
    settings: &Settings,
    opened: &OpenedCoordinator,
    (store, attachment): (&Arc<dyn Store>, &Attachment),
    member: &Member,
    (readiness, metrics): (&Arc<Readiness>, &Arc<Metrics>),
) -> Option<Recovery> {
    let redis = opened.redis.as_ref().filter(|_| settings.writer)?;
    let own = ProcessRecord {
        incarnation: opened.incarnation,
        process_id: opened.process_id,
        replica: settings.replica.clone(),
        metadata_id: attachment.metadata_id.clone(),
        lowest_undecided: 0,
        // Before the recovery: what it commits may be lost with the power again.
        positions: redis.coordinator.observed_positions().into_iter().map(recorded).collect(),
        histories: redis.coordinator.replication_ids(),
    };
    let inner = Arc::clone(&opened.coordinator);
    let gate = Arc::new(GatedCoordinator::new(inner, ClosedShards::All));
    let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
    let takeover =
        Takeover::new(Arc::clone(&store), Arc::clone(&gate), own.clone(), member, metrics);
    let (redis, readiness) = (Arc::clone(&redis.coordinator), Arc::clone(readiness));
    Some(Recovery { takeover, gate, redis, store, own, readiness })
}

/// Recovers the earlier processes, and returns the coordinator that serves what is recovered.
/// Returns no recovery with the embedded coordinator, or for a replica without a writer.
pub(super) async fn begin(
    settings: &Settings,
    opened: &OpenedCoordinator,
    stored: (&Arc<dyn Store>, &Attachment),
    member: &Member,
    shared: (&Arc<Readiness>, &Arc<Metrics>),
) -> (Arc<dyn Coordinator>, Option<Recovery>) {
    let Some(mut recovery) = of(settings, opened, stored, member, shared) else {
        return (Arc::clone(&opened.coordinator), None);
    };
    recovery.begin().await;
    (Arc::clone(&recovery.gate) as Arc<dyn Coordinator>, Some(recovery))
}

impl Recovery {
    /// Recovers the earlier processes, until a shard can be served: one that is lost or away does
    /// not keep the others from being served.
    async fn begin(&mut self) {
        let started = Instant::now();
        loop {
            if let Err(error) = self.takeover.recover_ended(&self.redis.replication_ids()).await {
                tracing::error!(%error, "waiting for the recovery of earlier processes");
            }
            if self.gate.is_partly_open() {
                break;
            }
            if started.elapsed() >= BEGIN_TIMEOUT {
                tracing::error!(
                    "diskless topics are not served before earlier processes are recovered"
                );
                self.readiness.set_recovering(true);
                break;
            }
            tokio::time::sleep(BEGIN_INTERVAL).await;
        }
    }

    /// Writes the record of this process, which must precede its first object. Then keeps it, and
    /// recovers others, for the lifetime of the process, which must take its lease at once: without
    /// one it is recovered by others.
    pub(super) async fn watch(self, producer: Producer) {
        let begin = || ProcessRecorder::begin(Arc::clone(&self.store), self.own.clone());
        let recorder = retry_until_ok("the object store", begin).await;
        end_when_fenced(producer.clone());
        tasks::spawn_critical("processes", self.run(recorder, producer));
    }

    async fn run(mut self, mut recorder: ProcessRecorder, producer: Producer) {
        let (mut looked_at, mut closed_interval) = (Instant::now(), CLOSED_INTERVAL);
        loop {
            tokio::time::sleep(NOTE_INTERVAL).await;
            self.record(&mut recorder, &producer).await;
            let interval = if self.gate.is_open() { LOOK_INTERVAL } else { closed_interval };
            if looked_at.elapsed() < interval {
                continue;
            }
            closed_interval = (2 * closed_interval).min(LOOK_INTERVAL);
            if let Err(error) = self.takeover.delete_recovered(recorder.stored_of()).await {
                tracing::warn!(%error, "cannot delete the record of a process that was recovered");
            }
            if let Err(error) = self.takeover.recover_ended(&self.redis.replication_ids()).await {
                tracing::warn!(%error, "cannot look for processes that ended");
            }
            if self.gate.is_partly_open() {
                self.readiness.set_recovering(false);
            }
            looked_at = Instant::now();
        }
    }

    async fn record(&self, recorder: &mut ProcessRecorder, producer: &Producer) {
        // In this order: the positions include what was decided.
        let lowest_undecided = producer.lowest_undecided();
        let positions = self.redis.observed_positions().into_iter().map(recorded).collect();
        recorder.note(lowest_undecided, positions);
        recorder.set_histories(self.redis.replication_ids());
        let pinned: Vec<_> = self.redis.pinned_positions().into_iter().map(pin).collect();
        if let Err(error) = recorder.save(&pinned).await {
            tracing::warn!(%error, "cannot write the record of this process");
        }
    }
}

fn recorded(position: Option<ObservedPosition>) -> Option<RecordedPosition> {
    position.map(|ObservedPosition { replication_id, sequence }| (replication_id, sequence))
}

fn pin(pinned: Option<(Instant, ObservedPosition)>) -> Option<PinnedPosition> {
    let (observed_at, position) = pinned?;
    Some(PinnedPosition { observed_at, position: recorded(Some(position))? })
}

/// Ends this process once another one has taken over its objects: it can commit nothing more, and
/// does not know the outcomes of what it has stored.
fn end_when_fenced(producer: Producer) {
    tasks::spawn_critical("fence", async move {
        loop {
            tokio::time::sleep(FENCE_INTERVAL).await;
            if producer.is_fenced() {
                tracing::error!(
                    "another process has taken over the objects of this one, which had no lease \
                     for long; this process ends"
                );
                std::process::exit(1);
            }
        }
    });
}
