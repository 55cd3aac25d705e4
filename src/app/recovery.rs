//! Keeps the record of this process, and recovers processes that ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::coordinator::OpenedCoordinator;
use super::membership::LEASE_DURATION;
use super::process_positions::recorded;
use crate::admin::Readiness;
use crate::config::Settings;
use crate::coordinator::gated::{ClosedShards, GatedCoordinator};
use crate::coordinator::redis::RedisCoordinator;
use crate::coordinator::redis::loss_detection::observed_position::ObservedPosition;
use crate::coordinator::{Attachment, Coordinator, Member};
use crate::engine::processes::{
    NOTE_INTERVAL, PinnedPosition, ProcessRecord, ProcessRecorder, SharedRecorder,
};
use crate::engine::produce::Producer;
use crate::engine::recovery::{OBSERVATION_GAP_MAX, Takeover};
use crate::metrics::Metrics;
use crate::retry::retry_until_ok;
use crate::store::Store;
use crate::tasks;

/// The time for which a start waits for the recovery of earlier processes. Classic topics do not
/// wait any longer; diskless topics do.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The first time between two attempts while a shard is not served yet; it doubles, because each
/// attempt reads the objects again.
const CLOSED_INTERVAL: Duration = Duration::from_secs(5);
/// The time between two looks at the records of others.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// The time between two observations of the processes without a lease.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(1);
/// A renewal between two observations is seen in the second one.
const _: () = assert!(OBSERVATION_GAP_MAX.as_millis() < LEASE_DURATION.as_millis());
/// The interval at which a process looks whether another one has taken over its objects.
const FENCE_INTERVAL: Duration = Duration::from_millis(500);

/// Recovers processes, and keeps the record of this one.
#[derive(Debug)]
pub(super) struct Recovery {
    takeover: Takeover,
    gate: Arc<GatedCoordinator>,
    redis: Arc<RedisCoordinator>,
    store: Arc<dyn Store>,
    recorder: Arc<SharedRecorder>,
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
        has_ended: false,
    };
    let inner = Arc::clone(&opened.coordinator);
    let gate = Arc::new(GatedCoordinator::new(inner, ClosedShards::All));
    let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
    let takeover =
        Takeover::new(Arc::clone(&store), Arc::clone(&gate), own.clone(), member, metrics);
    let (recorder, readiness) = (Arc::clone(&redis.recorder), Arc::clone(readiness));
    let redis = Arc::clone(&redis.coordinator);
    Some(Recovery { takeover, gate, redis, store, recorder, own, readiness })
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
    /// Recovers the earlier processes, until a shard can be served.
    async fn begin(&mut self) {
        let redis = Arc::clone(&self.redis);
        if !self.takeover.begin(|| redis.replication_ids(), BEGIN_TIMEOUT).await {
            tracing::error!(
                "diskless topics are not served before earlier processes are recovered"
            );
            self.readiness.set_recovering(true);
        }
    }

    /// Writes the record of this process, which must precede its first object. Then keeps it, and
    /// recovers others, for the lifetime of the process, which must take its lease at once: without
    /// one it is recovered by others.
    pub(super) async fn watch(self, producer: Producer) -> RecordKeeper {
        let mut recorder = self.recorder.lock().await;
        let begin = || {
            let histories = self.redis.replication_ids();
            ProcessRecorder::begin(
                Arc::clone(&self.store),
                ProcessRecord { histories, ..self.own.clone() },
            )
        };
        let begun = recorder.insert(retry_until_ok("the object store", begin).await);
        // Those that began meanwhile did not find a record.
        let histories = || self.redis.replication_ids().into_iter().enumerate().collect();
        while let Err(error) = begun.set_histories(&histories()).await {
            tracing::warn!(%error, "waiting to write the record of this process");
            tokio::time::sleep(NOTE_INTERVAL).await;
        }
        drop(recorder);
        let (recorder, redis) = (Arc::clone(&self.recorder), Arc::clone(&self.redis));
        end_when_fenced(producer.clone());
        let keeper = RecordKeeper { recorder, redis, producer };
        tasks::spawn_critical("record", keeper.clone().run());
        tasks::spawn_critical("processes", self.run(keeper.clone()));
        keeper
    }

    async fn run(mut self, keeper: RecordKeeper) {
        let (mut looked_at, mut closed_interval) = (Instant::now(), CLOSED_INTERVAL);
        loop {
            tokio::time::sleep(OBSERVE_INTERVAL).await;
            let has_lapsed = match self.takeover.observe().await {
                Ok(has_lapsed) => has_lapsed,
                Err(error) => {
                    tracing::debug!(%error, "cannot observe the processes without a lease");
                    false
                }
            };
            let interval = if self.gate.is_open() { LOOK_INTERVAL } else { closed_interval };
            if !has_lapsed && looked_at.elapsed() < interval {
                continue;
            }
            closed_interval = (2 * closed_interval).min(LOOK_INTERVAL);
            if let Some(stored_of) = keeper.stored_of().await
                && let Err(error) = self.takeover.delete_recovered(stored_of).await
            {
                tracing::warn!(%error, "cannot delete the record of a process that was recovered");
            }
            if let Err(error) = self.takeover.recover_ended(&self.redis.replication_ids()).await {
                tracing::warn!(%error, "cannot look for processes that ended");
            }
            if self.takeover.lacks_own_record() {
                keeper.restore().await;
            }
            if self.gate.is_partly_open() {
                self.readiness.set_recovering(false);
            }
            looked_at = Instant::now();
        }
    }
}

/// Keeps the record of this process. The recovery of others does not delay it.
#[derive(Clone, Debug)]
pub(super) struct RecordKeeper {
    recorder: Arc<SharedRecorder>,
    redis: Arc<RedisCoordinator>,
    producer: Producer,
}

impl RecordKeeper {
    async fn run(self) {
        loop {
            tokio::time::sleep(NOTE_INTERVAL).await;
            let mut recorder = self.recorder.lock().await;
            let Some(recorder) = recorder.as_mut() else { continue };
            // In this order: the positions include what was decided.
            let lowest_undecided = self.producer.lowest_undecided();
            let positions = self.redis.observed_positions().into_iter().map(recorded).collect();
            recorder.note(lowest_undecided, positions);
            if let Err(error) = recorder.save(&self.pinned()).await {
                tracing::warn!(%error, "cannot write the record of this process");
            }
        }
    }

    /// Writes the record again, without which nothing of this process would be recovered.
    async fn restore(&self) {
        tracing::warn!("the record of this process was deleted while it runs; it is written again");
        if let Some(recorder) = self.recorder.lock().await.as_ref()
            && let Err(error) = recorder.restore().await
        {
            tracing::warn!(%error, "cannot write the record of this process");
        }
    }

    /// Writes that this process has ended, so that the next one need not wait for its lease.
    /// Everything that it stored must be decided.
    pub(super) async fn end(&self) {
        if let Some(recorder) = self.recorder.lock().await.as_mut()
            && let Err(error) = recorder.end(&self.pinned()).await
        {
            tracing::warn!(%error, "cannot write that this process has ended");
        }
    }

    async fn stored_of(&self) -> Option<Instant> {
        self.recorder.lock().await.as_ref().map(ProcessRecorder::stored_of)
    }

    fn pinned(&self) -> Vec<Option<PinnedPosition>> {
        self.redis.pinned_positions().into_iter().map(pin).collect()
    }
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
