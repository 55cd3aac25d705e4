//! Takes over the objects of processes that ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::{Duration, Instant, timeout};

use super::absence::{Absence, Reading};
use super::{Recovery, RecoveryError, recover};
use crate::coordinator::gated::{ClosedShards, GatedCoordinator};
use crate::coordinator::{Coordinator as _, Member};
use crate::engine::processes::{self, ProcessRecord};
use crate::log::ids::ProcessIdentity;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// The time for which a reader of the running processes counts as one, which it is.
const GUEST_LEASE: Duration = Duration::from_secs(1);
/// The greatest age of a reading by which a process is judged.
const READING_AGE_MAX: Duration = Duration::from_secs(1);
/// The time between two attempts of a start.
const BEGIN_INTERVAL: Duration = Duration::from_secs(1);

/// Recovers earlier processes, fences them, and deletes their records. Any number of processes may
/// do so at once, and may end at any step: a commit is repeated with the same ids, and the record
/// is deleted last.
#[derive(Debug)]
pub struct Takeover {
    store: Arc<dyn Store>,
    gate: Arc<GatedCoordinator>,
    /// The record of this process.
    own: ProcessRecord,
    /// This replica without nodes.
    guest: Member,
    metrics: Arc<Metrics>,
    /// True if the record of this process was not among those that were read last.
    lacks_own_record: bool,
    /// The processes that run, as they were read last, and when that was.
    running: Option<(BTreeSet<ProcessIdentity>, Reading)>,
    /// The processes of other replicas that do not run, as far as that was observed.
    absent: BTreeMap<ProcessIdentity, Absence>,
    /// The processes that are recovered, until their records are deleted, and when they were.
    recovered: BTreeMap<ProcessIdentity, Instant>,
    /// The processes of which something could not be committed.
    incomplete: BTreeMap<ProcessIdentity, IncompleteRecovery>,
}

/// A recovery that is not repeated while nothing more could be committed: each one reads the objects
/// of its process.
#[derive(Debug)]
struct IncompleteRecovery {
    record: ProcessRecord,
    histories: Vec<String>,
    recovery: Recovery,
}

/// The state of a process, as far as it is known.
enum ProcessState {
    /// It runs, and commits what it stored.
    Runs,
    /// It may have ended.
    Absent,
    /// It commits nothing more.
    Ended,
}

impl Takeover {
    /// Returns the takeover of a process that has no record yet. The shards of `gate` are opened as
    /// the recoveries allow.
    pub fn new(
        store: Arc<dyn Store>,
        gate: Arc<GatedCoordinator>,
        own: ProcessRecord,
        member: &Member,
        metrics: Arc<Metrics>,
    ) -> Self {
        let guest = Member { nodes: 0, ..member.clone() };
        let (absent, recovered) = (BTreeMap::new(), BTreeMap::new());
        let (lacks_own_record, running, incomplete) = (false, None, BTreeMap::new());
        Self {
            store,
            gate,
            own,
            guest,
            metrics,
            lacks_own_record,
            running,
            absent,
            recovered,
            incomplete,
        }
    }

    /// Recovers the processes that ended until a shard can be served: one that is lost or away does
    /// not keep the others from being served. Returns whether one can within `limit`. An attempt
    /// that takes longer is given up, and [`Takeover::recover_ended`] repeats it.
    pub async fn begin(&mut self, histories: impl Fn() -> Vec<String>, limit: Duration) -> bool {
        let attempts = async {
            loop {
                if let Err(error) = self.recover_ended(&histories()).await {
                    tracing::error!(%error, "waiting for the recovery of earlier processes");
                }
                if self.gate.is_partly_open() {
                    return;
                }
                tokio::time::sleep(BEGIN_INTERVAL).await;
            }
        };
        timeout(limit, attempts).await.is_ok()
    }

    /// Recovers every process that is known to have ended. Then opens the shards in which nothing of
    /// any process that does not run is missing.
    ///
    /// Ended are those whose record says so, the earlier ones of this replica that do not run, and
    /// those of other replicas that were seen without a lease for [`LAPSED_AFTER`], without
    /// interruption ([`Takeover::observe`]).
    ///
    /// `histories` are those to which the parts of the metadata belong now, as
    /// [`ProcessRecord::positions`] numbers them: the registry's, then each shard's. A shard whose
    /// history is still that in which the process made its changes has lost none of them.
    ///
    /// # Errors
    /// [`RecoveryError`] when the records or the running processes cannot be read. No shard is
    /// opened.
    ///
    /// # Cancel safety
    /// If dropped, no shard is opened, and what is recovered stays; a further call completes it.
    ///
    /// [`LAPSED_AFTER`]: super::LAPSED_AFTER
    pub async fn recover_ended(&mut self, histories: &[String]) -> Result<(), RecoveryError> {
        let result = self.recover_each(histories).await;
        let closed = match &result {
            Ok((closed, unrecovered)) => {
                let unrecovered = i64::try_from(*unrecovered).unwrap_or(i64::MAX);
                self.metrics.coordinator.recovery.pending_processes.set(unrecovered);
                closed.clone()
            }
            Err(_) => {
                self.metrics.coordinator.recovery.failures.inc();
                ClosedShards::All
            }
        };
        if !self.gate.is_open() {
            self.gate.open_all_but(closed);
            if self.gate.is_open() {
                tracing::info!("everything that earlier processes stored is committed");
            }
        }
        result.map(drop)
    }

    /// Looks whether the processes of other replicas that did not run still do not, if there are
    /// any. Returns whether one counts as ended from now on. Their absence is uninterrupted only
    /// while the time between two calls is at most [`OBSERVATION_GAP_MAX`].
    ///
    /// # Errors
    /// [`RecoveryError::Coordinator`]; nothing is known then.
    ///
    /// [`OBSERVATION_GAP_MAX`]: super::OBSERVATION_GAP_MAX
    pub async fn observe(&mut self) -> Result<bool, RecoveryError> {
        if self.absent.is_empty() {
            return Ok(false);
        }
        let before = self.lapsed();
        self.read_running().await?;
        Ok(self.lapsed() > before)
    }

    fn lapsed(&self) -> usize {
        self.absent.values().filter(|absence| absence.has_lapsed()).count()
    }

    /// Returns the shards that must stay closed, and the number of processes that neither run nor
    /// are recovered.
    async fn recover_each(
        &mut self,
        histories: &[String],
    ) -> Result<(ClosedShards, usize), RecoveryError> {
        let mut records = processes::load_all(&*self.store).await?;
        self.lacks_own_record = records.iter().all(|record| record.process() != self.own.process());
        records.retain(|record| {
            record.metadata_id == self.own.metadata_id
                && record.process() != self.own.process()
                && !self.recovered.contains_key(&record.process())
        });
        self.absent.retain(|id, _| records.iter().any(|record| record.process() == *id));
        self.incomplete.retain(|id, _| records.iter().any(|record| record.process() == *id));
        // Those of this replica first, each after its own predecessors.
        records.sort_by_key(|record| (!self.is_predecessor(record), record.process()));
        let (mut closed, mut unrecovered) = (ClosedShards::NONE, 0);
        for record in records {
            match self.state(&record).await? {
                // It may have ended just now: a process of this name does not wait for itself when a
                // shard is verified. If it runs, its record names the history soon.
                ProcessState::Runs if self.is_predecessor(&record) => {
                    closed = closed.and(lacking(&record, histories));
                }
                ProcessState::Runs => {}
                ProcessState::Absent => {
                    unrecovered += 1;
                    closed = closed.and(lacking(&record, histories));
                }
                ProcessState::Ended => match self.take_over(&record, histories).await {
                    Ok(recovery) => {
                        unrecovered += usize::from(!recovery.is_complete());
                        let failed = recovery.failed.into_keys().collect();
                        closed = closed.and(ClosedShards::Some(failed));
                    }
                    Err(error) => {
                        tracing::error!(%error, record = record.key(), "an earlier process cannot be recovered");
                        self.metrics.coordinator.recovery.failures.inc();
                        unrecovered += 1;
                        closed = ClosedShards::All;
                    }
                },
            }
        }
        Ok((closed.of(histories.len().saturating_sub(1)), unrecovered))
    }

    /// Returns the state of a process, by a reading that is not old: the recovery of another one may
    /// have taken long.
    async fn state(&mut self, record: &ProcessRecord) -> Result<ProcessState, RecoveryError> {
        if record.has_ended {
            return Ok(ProcessState::Ended);
        }
        let is_current = |(_, reading): &&(_, Reading)| reading.sent.elapsed() <= READING_AGE_MAX;
        let (is_running, reading) = match self.running.as_ref().filter(is_current) {
            Some((running, reading)) => (running.contains(&record.process()), *reading),
            None => self.is_running(record).await?,
        };
        if is_running {
            return Ok(ProcessState::Runs);
        }
        if self.is_predecessor(record) {
            return Ok(ProcessState::Ended);
        }
        let absence = self.absent.entry(record.process());
        Ok(match absence.or_insert_with(|| Absence::new(reading)).has_lapsed() {
            true => ProcessState::Ended,
            false => ProcessState::Absent,
        })
    }

    /// Reads whether a process runs.
    async fn is_running(
        &mut self,
        record: &ProcessRecord,
    ) -> Result<(bool, Reading), RecoveryError> {
        let reading = self.read_running().await?;
        let running = self.running.as_ref().map(|(running, _)| running);
        Ok((running.is_some_and(|running| running.contains(&record.process())), reading))
    }

    async fn read_running(&mut self) -> Result<Reading, RecoveryError> {
        let sent = Instant::now();
        self.running = None;
        let running = self.gate.renew(&self.guest, GUEST_LEASE).await?.processes;
        let reading = Reading { sent, received: Instant::now() };
        self.absent.retain(|process, _| !running.contains(process));
        self.absent.values_mut().for_each(|absence| absence.observe(reading));
        self.running = Some((running, reading));
        Ok(reading)
    }

    fn is_predecessor(&self, record: &ProcessRecord) -> bool {
        record.replica == self.own.replica && record.incarnation <= self.own.incarnation
    }

    /// Commits what the process may have acknowledged, and then ends it.
    async fn take_over(
        &mut self,
        record: &ProcessRecord,
        histories: &[String],
    ) -> Result<Recovery, RecoveryError> {
        if let Some(recovery) = self.incomplete(record, histories).await {
            return Ok(recovery);
        }
        let (started, coordinator) = (Instant::now(), Arc::clone(self.gate.inner()));
        let may_lack = |shard: u16| !is_intact(record, histories, 1 + usize::from(shard));
        let recovery = match (1..histories.len()).all(|index| is_intact(record, histories, index)) {
            true if histories.len() > 1 => Recovery::default(),
            _ => {
                let (store, next) = (&*self.store, record.next());
                recover(store, &*coordinator, next, &may_lack, &self.metrics).await?
            }
        };
        let (replica, process) = (&record.replica, record.process());
        // What is missing in a partition whose metadata is lost is committed once that is back.
        if !recovery.is_complete() {
            tracing::warn!(replica, %process, ?recovery, "an earlier process is recovered in part");
            let (record, histories) = (record.clone(), histories.to_vec());
            let incomplete = IncompleteRecovery { record, histories, recovery: recovery.clone() };
            self.incomplete.insert(process, incomplete);
            return Ok(recovery);
        }
        if recovery.moved > 0 {
            let moved = recovery.moved;
            tracing::warn!(replica, %process, moved, "parts have other offsets than were acknowledged");
        }
        if !record.has_ended && self.is_running(record).await?.0 {
            tracing::warn!(replica, %process, "a process runs again that had no lease; it is not fenced");
            return Ok(recovery);
        }
        // Before the fence, a suspended process could still commit; after it, nothing of it can be
        // recovered.
        match coordinator.raise_fence(process, u32::MAX).await {
            Ok(()) => {
                self.recovered.insert(process, Instant::now());
                self.absent.remove(&process);
                let elapsed = started.elapsed();
                tracing::info!(replica, %process, ?recovery, ?elapsed, "recovered an earlier process");
            }
            Err(error) => tracing::warn!(%error, %process, "an earlier process is not fenced yet"),
        }
        Ok(recovery)
    }

    /// Returns the result of the last recovery of a process if another one could commit nothing more.
    async fn incomplete(
        &mut self,
        record: &ProcessRecord,
        histories: &[String],
    ) -> Option<Recovery> {
        let last = self.incomplete.remove(&record.process())?;
        if last.record != *record || last.histories != histories {
            return None;
        }
        if last.recovery.can_continue(&**self.gate.inner()).await {
            return None;
        }
        let recovery = last.recovery.clone();
        self.incomplete.insert(record.process(), last);
        Some(recovery)
    }

    /// Returns whether the record of this process is away: a replica that was connected to another
    /// Redis may have taken this process for ended.
    pub fn lacks_own_record(&self) -> bool {
        self.lacks_own_record
    }

    /// Deletes the records of the processes that were recovered before `stored_of`: the record of
    /// this process ensures from then on that no metadata is served which lacks what was recovered.
    ///
    /// # Errors
    /// The store's; the records are then recovered again by a later process.
    pub async fn delete_recovered(&mut self, stored_of: Instant) -> Result<(), StoreError> {
        let ended: Vec<_> = self.recovered.iter().filter(|(_, at)| **at < stored_of).collect();
        let ended: Vec<ProcessIdentity> = ended.into_iter().map(|(process, _)| *process).collect();
        for process in ended {
            let ProcessIdentity { incarnation, process_id } = process;
            let record = ProcessRecord { incarnation, process_id, ..self.own.clone() };
            processes::delete(&*self.store, &record).await?;
            self.recovered.remove(&process);
        }
        Ok(())
    }
}

/// Returns the shards that may lack changes of the process.
fn lacking(record: &ProcessRecord, histories: &[String]) -> ClosedShards {
    if histories.len() <= 1 {
        return ClosedShards::All;
    }
    let shards = 0..u16::try_from(histories.len() - 1).unwrap_or(u16::MAX);
    let may_lack = |shard: &u16| !is_intact(record, histories, 1 + usize::from(*shard));
    ClosedShards::Some(shards.filter(may_lack).collect())
}

/// Returns whether a part of the metadata has the history in which the process made changes. Not
/// if either is unknown: that of a position may be the one before.
fn is_intact(record: &ProcessRecord, histories: &[String], index: usize) -> bool {
    let known =
        |histories: &[String]| histories.get(index).filter(|history| !history.is_empty()).cloned();
    let current = known(histories);
    current.is_some() && known(&record.histories) == current
}
