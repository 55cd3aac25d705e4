//! Takes over the objects of processes that ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::{Recovery, RecoveryError, recover};
use crate::coordinator::gated::{ClosedShards, GatedCoordinator};
use crate::coordinator::{Coordinator as _, Member, Membership};
use crate::engine::processes::{self, ProcessRecord};
use crate::log::ids::ProcessIdentity;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// The time for which a process must have no lease before it is recovered: leases do not survive
/// every failover of the coordinator, and are complete again within two renewals.
pub const LAPSED_AFTER: Duration = Duration::from_secs(15);
/// The lease that the reader of the members asks for; it never gets one.
const GUEST_LEASE: Duration = Duration::from_secs(1);

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
    /// The processes without a lease, and since when that is known.
    absent: BTreeMap<ProcessIdentity, Instant>,
    /// The processes that are recovered, until their records are deleted, and when they were.
    recovered: BTreeMap<ProcessIdentity, Instant>,
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
        Self { store, gate, own, guest, metrics, absent, recovered }
    }

    /// Recovers every process that is known to have ended: the earlier ones of this replica, and
    /// those without a lease for [`LAPSED_AFTER`]. Then opens the shards in which nothing of any
    /// process without a lease is missing.
    ///
    /// `histories` are those to which the parts of the metadata belong now, as
    /// [`ProcessRecord::positions`] numbers them: the registry's, then each shard's. A shard whose
    /// history is still that in which the process made its changes has lost none of them.
    ///
    /// # Errors
    /// [`RecoveryError`] when the records or the members cannot be read. No shard is opened.
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

    /// Returns the shards that must stay closed, and the number of processes without a lease that
    /// are not recovered.
    async fn recover_each(
        &mut self,
        histories: &[String],
    ) -> Result<(ClosedShards, usize), RecoveryError> {
        let mut records = processes::load_all(&*self.store).await?;
        records.retain(|record| {
            record.metadata_id == self.own.metadata_id
                && record.process() != self.own.process()
                && !self.recovered.contains_key(&record.process())
        });
        self.absent.retain(|id, _| records.iter().any(|record| record.process() == *id));
        // Those of this replica first, each after its own predecessors.
        records.sort_by_key(|record| (!self.is_predecessor(record), record.process()));
        let members = match records.iter().all(|record| self.is_predecessor(record)) {
            true => Vec::new(),
            false => self.members().await?.members,
        };
        let (mut closed, mut unrecovered) = (ClosedShards::NONE, 0);
        for record in records {
            if !self.is_predecessor(&record) && has_lease(&members, &record) {
                self.absent.remove(&record.process());
                continue;
            }
            unrecovered += 1;
            if !self.has_ended(&record) {
                closed = closed.and(lacking(&record, histories));
                continue;
            }
            match self.take_over(&record, histories).await {
                Ok(recovery) => {
                    unrecovered -= usize::from(recovery.failed.is_empty());
                    let failed = recovery.failed.into_keys().collect();
                    closed = closed.and(ClosedShards::Some(failed));
                }
                Err(error) => {
                    tracing::error!(%error, record = record.key(), "an earlier process cannot be recovered");
                    self.metrics.coordinator.recovery.failures.inc();
                    closed = ClosedShards::All;
                }
            }
        }
        Ok((closed, unrecovered))
    }

    async fn members(&mut self) -> Result<Membership, RecoveryError> {
        let members = self.gate.renew(&self.guest, GUEST_LEASE).await;
        if members.is_err() {
            // Nothing is known of the others.
            self.absent.clear();
        }
        Ok(members?)
    }

    /// Of two processes of one name the newer one has the lease.
    fn is_predecessor(&self, record: &ProcessRecord) -> bool {
        record.replica == self.own.replica && record.incarnation <= self.own.incarnation
    }

    /// Returns whether a process without a lease counts as ended.
    fn has_ended(&mut self, record: &ProcessRecord) -> bool {
        let now = Instant::now();
        let since = *self.absent.entry(record.process()).or_insert(now);
        self.is_predecessor(record) || now - since >= LAPSED_AFTER
    }

    /// Commits what the process may have acknowledged, and then ends it.
    async fn take_over(
        &mut self,
        record: &ProcessRecord,
        histories: &[String],
    ) -> Result<Recovery, RecoveryError> {
        let (started, coordinator) = (Instant::now(), self.gate.inner());
        let may_lack = |shard: u16| !is_intact(record, histories, 1 + usize::from(shard));
        let recovery = match (1..histories.len()).all(|index| is_intact(record, histories, index)) {
            true if histories.len() > 1 => Recovery::default(),
            _ => {
                let (store, next) = (&*self.store, record.next());
                recover(store, &**coordinator, next, &may_lack, &self.metrics).await?
            }
        };
        let (replica, process) = (&record.replica, record.process());
        if !recovery.failed.is_empty() {
            tracing::warn!(replica, %process, ?recovery, "an earlier process is recovered in part");
            return Ok(recovery);
        }
        if recovery.moved > 0 {
            let moved = recovery.moved;
            tracing::warn!(replica, %process, moved, "parts have other offsets than were acknowledged");
        }
        // Before the fence, a suspended process could still commit; after it, nothing of it can be
        // recovered.
        match coordinator.raise_fence(process, u32::MAX).await {
            Ok(()) => {
                self.recovered.insert(process, Instant::now());
                let elapsed = started.elapsed();
                tracing::info!(replica, %process, ?recovery, ?elapsed, "recovered an earlier process");
            }
            Err(error) => tracing::warn!(%error, %process, "an earlier process is not fenced yet"),
        }
        Ok(recovery)
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

/// Returns whether a part of the metadata has the history in which the process made changes.
fn is_intact(record: &ProcessRecord, histories: &[String], index: usize) -> bool {
    let Some(current) = histories.get(index).filter(|current| !current.is_empty()) else {
        return false;
    };
    let named = record.histories.get(index).filter(|history| !history.is_empty());
    // A position is older than the history that is named, and may be of the one before.
    let of_position = record.positions.get(index).and_then(Option::as_ref);
    named.or_else(|| of_position.map(|(history, _)| history)) == Some(current)
}

fn has_lease(members: &[Member], record: &ProcessRecord) -> bool {
    let process = |member: &Member| (member.incarnation, member.process_id);
    members.iter().any(|member| process(member) == (record.incarnation, record.process_id))
}
