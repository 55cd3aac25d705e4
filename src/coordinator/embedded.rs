//! The batch coordinator of a single replica, made durable by the WAL objects themselves.
//!
//! It is the reference model, rebuilt by a replay at every start: the order of the objects is the
//! record of the offsets (`docs/adr/0003-embedded-coordinator-commits-in-object-order.md`). A commit
//! needs no IO, because its object is durable. All other durable state is stored in small JSON
//! records under `embedded/`, which are written before a call returns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::membership::Leases;
use super::memory::state::MetadataState;
use super::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, CoordinatorEvent,
    CoordinatorResult, FindRequest, Found, Member, Membership, PartOutcome, ProducerSnapshot,
    Registration, TopicBinding, Watermarks,
};
use crate::clock::WallClock;
use crate::entropy::Entropy;
use crate::log::batch::Part;
use crate::log::ids::{ObjectId, ProcessIdentity, TopicId, TopicPartition};
use crate::store::Store;

mod checkpoints;
mod records;
mod replay;
mod takeover;

use checkpoints::WrittenCheckpoint;
use records::{CONCURRENCY, ClusterRecord, EmbeddedRecords, LogPosition, TopicRecord, TrimRecord};

/// The batch coordinator of a single replica.
///
/// # Guarantees
/// Those of [`Coordinator`], if every object is created under
/// [`crate::log::object_format::wal_key`], where none exists, before it is committed. When another
/// process opens the store, this one cannot create its next object any more.
#[derive(Debug)]
pub struct EmbeddedCoordinator {
    records: EmbeddedRecords,
    metadata_id: String,
    /// The id of this process's first object.
    first: ObjectId,
    // Never held across an await.
    state: Mutex<EmbeddedState>,
    /// The lease of this process only: there is no other replica.
    leases: Mutex<Leases>,
    /// Held while records change, so that none is overwritten by an older one.
    records_lock: tokio::sync::Mutex<()>,
    /// Held while a checkpoint is written.
    checkpoint: tokio::sync::Mutex<CheckpointProgress>,
}

/// The number of objects after which the next checkpoint is due.
const CHECKPOINT_OBJECTS: u32 = 4_096;

#[derive(Debug)]
struct CheckpointProgress {
    last: WrittenCheckpoint,
    /// The number of objects of earlier processes that no checkpoint covers.
    inherited: u32,
    /// The number of objects of this process that a checkpoint covers.
    covered: u32,
}

#[derive(Debug)]
struct EmbeddedState {
    metadata: MetadataState,
    /// The only sequence that may be committed next.
    next_sequence: u32,
}

impl EmbeddedCoordinator {
    /// Replays the store and begins a new incarnation.
    ///
    /// # Errors
    /// [`CoordinatorError::Corrupt`] names an object that cannot be decoded,
    /// [`CoordinatorError::MetadataLost`] one that is missing or that no embedded coordinator wrote.
    /// [`CoordinatorError::Unavailable`] and [`CoordinatorError::Unknown`] are failures of the store.
    pub async fn open(
        clock: &dyn WallClock,
        entropy: &Entropy,
        store: Arc<dyn Store>,
    ) -> Result<Self, CoordinatorError> {
        let records = EmbeddedRecords::new(store);
        let new = ClusterRecord::new(format!("{:016x}", entropy.next_u64()));
        let metadata_id =
            records.cluster().await?.map_or_else(|| new.metadata_id.clone(), |c| c.metadata_id);
        let log = replay::end_last_log(&records, &metadata_id).await?;
        // The number after the last one: of two processes that start at once, only one can begin it.
        let incarnation = match log.incarnations.last() {
            Some(newest) => newest.saturating_add(1),
            None => u64::try_from(clock.now_ms()).unwrap_or(0),
        };
        let first =
            ObjectId { incarnation, process_id: (entropy.next_u64() >> 32) as u32, sequence: 0 };
        records.begin_incarnation(first, log.inherited.clone()).await?;
        records.check_only(&log.incarnations, incarnation).await?;
        // Only now: until here, an earlier process that still runs changes records.
        let cluster = match records.cluster().await? {
            Some(cluster) => cluster,
            None => {
                records.save_cluster(&new).await?;
                new
            }
        };
        let replayed = replay::replay(&records, &cluster, log).await?;
        let state = EmbeddedState { metadata: replayed.state, next_sequence: 0 };
        let mut leases = Leases::new(entropy.secret());
        for (zone, nodes) in (0..).zip(cluster.nodes) {
            leases.raise_nodes(zone, nodes);
        }
        let progress = CheckpointProgress {
            last: replayed.checkpoint,
            inherited: u32::try_from(replayed.objects_read).unwrap_or(u32::MAX),
            covered: 0,
        };
        Ok(Self {
            checkpoint: tokio::sync::Mutex::new(progress),
            records,
            metadata_id: cluster.metadata_id,
            first,
            state: Mutex::new(state),
            leases: Mutex::new(leases),
            records_lock: tokio::sync::Mutex::new(()),
        })
    }

    /// Checks that no newer process has taken over the store, and writes a checkpoint if one is due.
    ///
    /// # Errors
    /// [`CoordinatorError::Fenced`] for a process that was replaced: it must end. Any other error is
    /// one of the store.
    pub async fn maintain(&self, clock: &dyn WallClock) -> Result<(), CoordinatorError> {
        self.records.check_newest(self.first.incarnation).await?;
        self.write_checkpoint(clock, CHECKPOINT_OBJECTS).await
    }

    /// Writes a checkpoint if at least `objects_min` objects were committed since the last one.
    ///
    /// # Errors
    /// Those of the store. The next checkpoint then covers what this one does not.
    pub async fn write_checkpoint(
        &self,
        clock: &dyn WallClock,
        objects_min: u32,
    ) -> Result<(), CoordinatorError> {
        let mut progress = self.checkpoint.lock().await;
        let (next, content) = {
            let state = self.state();
            let next = state.next_sequence;
            let pending = progress.inherited.saturating_add(next - progress.covered);
            if pending < objects_min.max(1) {
                return Ok(());
            }
            (next, progress.last.content(&state.metadata))
        };
        let position = ObjectId { sequence: next, ..self.first };
        let (id, before) = (&self.metadata_id, &progress.last);
        let written =
            checkpoints::write(&self.records, id, position, clock.now_ms(), before, content).await;
        if let Err(CoordinatorError::Corrupt(_)) = written {
            // The next one is written without what is damaged.
            progress.last = WrittenCheckpoint::default();
        }
        let written = written?;
        *progress = CheckpointProgress { last: written, inherited: 0, covered: next };
        Ok(())
    }

    /// Returns the incarnation of the objects that this process may commit.
    pub fn incarnation(&self) -> u64 {
        self.first.incarnation
    }

    /// Returns the process id of the objects that this process may commit.
    pub fn process_id(&self) -> u32 {
        self.first.process_id
    }

    fn state(&self) -> MutexGuard<'_, EmbeddedState> {
        self.state.lock()
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock()
    }

    /// Saves the cluster record and returns the zones. The caller holds `records_lock`.
    async fn save_cluster(&self) -> Result<Vec<String>, CoordinatorError> {
        self.records.check_newest(self.first.incarnation).await?;
        let mut record = ClusterRecord::new(self.metadata_id.clone());
        {
            let state = &self.state().metadata;
            record.cluster_id = state.cluster_id().map(str::to_owned);
            record.zones = state.zones().to_vec();
        }
        let leases = (0..).zip(&record.zones).map(|(zone, _)| self.leases().nodes(zone));
        record.nodes = leases.collect();
        self.records.save_cluster(&record).await?;
        Ok(record.zones)
    }

    /// Saves raised log start offsets, then applies them.
    async fn save_trims(
        &self,
        starts: Vec<(TopicPartition, i64)>,
    ) -> CoordinatorResult<Vec<Watermarks>> {
        let _guard = self.records_lock.lock().await;
        self.records.check_newest(self.first.incarnation).await?;
        let mut raised: BTreeMap<TopicId, BTreeMap<i32, i64>> = BTreeMap::new();
        let mut limited = Vec::with_capacity(starts.len());
        for (partition, start) in starts {
            let bounds = self.state().metadata.watermarks(partition);
            // Limited here, so that exactly what was written is applied below.
            let start = start.min(bounds.high_watermark);
            limited.push((partition, start));
            if start > bounds.log_start_offset {
                let of_topic = raised.entry(partition.topic).or_default();
                let current = of_topic.entry(partition.partition).or_insert(start);
                *current = start.max(*current);
            }
        }
        for (topic, starts) in raised {
            let mut record = self.records.trims(topic).await?.unwrap_or_else(TrimRecord::new);
            record.raise(starts);
            self.records.save_trims(topic, &record).await?;
        }
        let state = &mut self.state().metadata;
        Ok(limited.into_iter().map(|(partition, start)| state.trim(partition, start)).collect())
    }

    async fn save_bindings(
        &self,
        changed: BTreeMap<TopicId, TopicBinding>,
    ) -> Result<(), CoordinatorError> {
        let saves = changed.into_values().map(|binding| async move {
            // Earlier versions bound deleted topics again; `since` of such a record stays valid.
            let since = self.records.topic(binding.topic).await?;
            let since = since.map_or(LogPosition::START, |record| record.since);
            let record = TopicRecord::bound(&binding, since);
            self.records.save_topic(binding.topic, &record).await
        });
        let saves: Vec<_> = saves.collect();
        stream::iter(saves).buffer_unordered(CONCURRENCY).try_collect::<()>().await
    }
}

/// Returns one result for each item from the result of the whole call.
fn each<T>(result: CoordinatorResult<Vec<T>>, count: usize) -> Vec<CoordinatorResult<T>> {
    match result {
        Ok(values) => values.into_iter().map(Ok).collect(),
        Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
    }
}

impl EmbeddedState {
    fn commit(
        &mut self,
        first: ObjectId,
        commit: &Commit,
    ) -> CoordinatorResult<Vec<CoordinatorResult<PartOutcome>>> {
        let is_decided = |part: &Part| self.metadata.is_decided(commit.object, 0, part.index);
        if commit.parts.iter().all(is_decided) {
            return Ok(self.metadata.commit(commit, None, &|_| 0));
        }
        let next = ObjectId { sequence: self.next_sequence, ..first };
        if commit.object != next {
            let detail = format!("object {} is out of order, expected {next}", commit.object);
            return Err(CoordinatorError::Unavailable(detail));
        }
        let whole = (0..).zip(&commit.parts).all(|(index, part)| index == part.index);
        if commit.parts.is_empty() || !whole {
            let detail = format!("object {} must be committed whole", commit.object);
            return Err(CoordinatorError::Unavailable(detail));
        }
        let Some(following) = self.next_sequence.checked_add(1) else {
            let detail =
                "the sequences of this incarnation are exhausted; restart the replica".to_owned();
            return Err(CoordinatorError::Unavailable(detail));
        };
        self.next_sequence = following;
        Ok(self.metadata.commit(commit, None, &|_| 0))
    }
}

#[async_trait]
impl Coordinator for EmbeddedCoordinator {
    fn shard(&self, _partition: TopicPartition) -> u16 {
        0
    }

    fn commit_order(&self) -> CommitOrder {
        CommitOrder::ByObject
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        let _guard = self.records_lock.lock().await;
        let zone_index = self.state().metadata.attach(cluster_id, zone)?;
        // Applied before it is durable. This is harmless: no caller sees it, and it is saved again.
        let zones = self.save_cluster().await?;
        Ok(Attachment { zone_index, zones, metadata_id: self.metadata_id.clone() })
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        let _guard = self.records_lock.lock().await;
        self.records.check_newest(self.first.incarnation).await?;
        let changed = self.state().metadata.plan_register(&registrations);
        self.save_bindings(changed).await?;
        Ok(self.state().metadata.register(registrations))
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        Ok(self.state().metadata.topics())
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        let _guard = self.records_lock.lock().await;
        if self.state().metadata.is_deleted(topic) {
            return Ok(());
        }
        self.records.check_newest(self.first.incarnation).await?;
        self.records.save_topic(topic, &TopicRecord::deleted()).await?;
        self.state().metadata.delete_topic(topic);
        Ok(())
    }

    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        match self.state().commit(self.first, commit) {
            Ok(results) => results,
            Err(error) => each(Err(error), commit.parts.len()),
        }
    }

    async fn raise_fence(
        &self,
        process: ProcessIdentity,
        lowest: u32,
    ) -> Result<(), CoordinatorError> {
        // Not durable: objects of earlier processes are only replayed, never committed.
        self.state().metadata.raise_fence(process, lowest);
        Ok(())
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        let state = self.state();
        requests.iter().map(|request| Ok(state.metadata.find(request))).collect()
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        let count = starts.len();
        each(self.save_trims(starts).await, count)
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        Ok(self.state().metadata.producers(partition, None))
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<CoordinatorEvent>, CoordinatorError> {
        Ok(self.state().metadata.subscribe())
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError> {
        let requests_more = !ttl.is_zero() && member.nodes > self.leases().nodes(member.zone);
        if requests_more {
            let _guard = self.records_lock.lock().await;
            self.leases().raise_nodes(member.zone, member.nodes);
            self.save_cluster().await?;
        }
        let zones = self.state().metadata.zones().to_vec();
        Ok(self.leases().renew(member, ttl, &zones))
    }
}

#[cfg(test)]
mod tests;
