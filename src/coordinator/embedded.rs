//! The batch coordinator of a single replica, made durable by the WAL objects themselves.
//!
//! It is the reference model, replayed at every start: the order of the objects is the record of
//! the offsets (`docs/adr/0003-embedded-coordinator-commits-in-object-order.md`). A commit needs
//! no IO, because its object is durable already. Everything else that must survive lies in small
//! JSON records under `embedded/`, written before the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::membership::Leases;
use super::memory::state::State;
use super::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, Event, FindRequest, Found,
    Member, Membership, PartOutcome, ProducerSnapshot, Registration, TopicBinding, Watermarks,
};
use crate::clock::WallClock;
use crate::entropy::Entropy;
use crate::log::ids::{ObjectId, TopicId, TopicPartition};
use crate::store::Store;

mod records;
mod replay;

use records::{ClusterRecord, Position, Records, TopicRecord, TrimRecord};

/// Reads and writes of records and footers that are under way at once.
const CONCURRENCY: usize = 16;

/// The batch coordinator of a single replica.
///
/// # Guarantees
/// Those of [`Coordinator`], as long as one process at a time has the store open, and every
/// object is PUT under [`crate::log::object_format::wal_key`] before it is committed.
#[derive(Debug)]
pub struct EmbeddedCoordinator {
    records: Records,
    metadata_id: String,
    /// The id of this process's first object.
    first: ObjectId,
    // Never held across an await.
    live: Mutex<Live>,
    /// Those of this process only: there is no other replica.
    leases: Mutex<Leases>,
    /// One change of records at a time, so that none is overwritten by an older one.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Live {
    state: State,
    /// The only sequence that may be committed next.
    next_sequence: u32,
}

impl EmbeddedCoordinator {
    /// Replays the store and begins a new incarnation.
    ///
    /// # Errors
    /// [`CoordinatorError::Corrupt`] names an object that cannot be read,
    /// [`CoordinatorError::MetadataLost`] one that is missing or that no embedded coordinator wrote;
    /// [`CoordinatorError::Unavailable`] and [`CoordinatorError::Unknown`] are the store's.
    pub async fn open(
        clock: &dyn WallClock,
        entropy: &Entropy,
        store: Arc<dyn Store>,
    ) -> Result<Self, CoordinatorError> {
        let records = Records::new(store);
        let cluster = match records.cluster().await? {
            Some(cluster) => cluster,
            None => ClusterRecord::new(format!("{:016x}", entropy.next_u64())),
        };
        let replayed = replay::replay(&records, &cluster).await?;
        records.save_cluster(&cluster).await?;
        let now = u64::try_from(clock.now_ms()).unwrap_or(0);
        let above = replayed.newest_incarnation.map_or(0, |newest| newest.saturating_add(1));
        let first = ObjectId {
            incarnation: now.max(above),
            process_id: (entropy.next_u64() >> 32) as u32,
            sequence: 0,
        };
        records.begin_incarnation(first, replayed.adopted).await?;
        let live = Live { state: replayed.state, next_sequence: 0 };
        let mut leases = Leases::new(entropy.secret());
        for (zone, nodes) in (0..).zip(cluster.nodes) {
            leases.raise_nodes(zone, nodes);
        }
        Ok(Self {
            records,
            metadata_id: cluster.metadata_id,
            first,
            live: Mutex::new(live),
            leases: Mutex::new(leases),
            changing: tokio::sync::Mutex::new(()),
        })
    }

    /// The incarnation of every object that this process may commit.
    pub fn incarnation(&self) -> u64 {
        self.first.incarnation
    }

    /// The replica tag of every object that this process may commit.
    pub fn process_id(&self) -> u32 {
        self.first.process_id
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock()
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock()
    }

    /// The caller holds `changing`.
    async fn save_cluster(&self) -> Result<Vec<String>, CoordinatorError> {
        let mut record = ClusterRecord::new(self.metadata_id.clone());
        {
            let state = &self.live().state;
            record.cluster_id = state.cluster_id().map(str::to_owned);
            record.zones = state.zones().to_vec();
        }
        let leases = (0..).zip(&record.zones).map(|(zone, _)| self.leases().nodes(zone));
        record.nodes = leases.collect();
        self.records.save_cluster(&record).await?;
        Ok(record.zones)
    }

    async fn save_bindings(
        &self,
        changed: BTreeMap<TopicId, TopicBinding>,
    ) -> Result<(), CoordinatorError> {
        let saves = changed.into_values().map(|binding| async move {
            // Earlier versions bound forgotten topics anew; what such a record says stays true.
            let since = self.records.topic(binding.topic).await?;
            let since = since.map_or(Position::START, |record| record.since);
            let record = TopicRecord::bound(&binding, since);
            self.records.save_topic(binding.topic, &record).await
        });
        let saves: Vec<_> = saves.collect();
        stream::iter(saves).buffer_unordered(CONCURRENCY).try_collect::<()>().await
    }
}

impl Live {
    fn commit(
        &mut self,
        first: ObjectId,
        commit: &Commit,
    ) -> Result<Vec<PartOutcome>, CoordinatorError> {
        let stored = commit.parts.iter().map(|p| self.state.stored(commit.object, p.index));
        if let Some(stored) = stored.collect::<Option<Vec<_>>>() {
            return Ok(stored);
        }
        let next = ObjectId { sequence: self.next_sequence, ..first };
        if commit.object != next {
            let detail = format!("object {} cannot be committed, only {next} can", commit.object);
            return Err(CoordinatorError::Unavailable(detail));
        }
        let whole = (0..).zip(&commit.parts).all(|(index, part)| index == part.index);
        if commit.parts.is_empty() || !whole {
            let detail = format!("object {} must be committed whole", commit.object);
            return Err(CoordinatorError::Unavailable(detail));
        }
        let Some(following) = self.next_sequence.checked_add(1) else {
            let detail = "the incarnation's sequences are used up; restart".to_owned();
            return Err(CoordinatorError::Unavailable(detail));
        };
        self.next_sequence = following;
        Ok(self.state.commit(commit))
    }
}

#[async_trait]
impl Coordinator for EmbeddedCoordinator {
    fn commit_order(&self) -> CommitOrder {
        CommitOrder::ByObject
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        let _changing = self.changing.lock().await;
        let zone_index = self.live().state.attach(cluster_id, zone)?;
        // Applied before it is durable, harmlessly: nobody learns of it, and it is saved again.
        let zones = self.save_cluster().await?;
        Ok(Attachment { zone_index, zones, metadata_id: self.metadata_id.clone() })
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        let _changing = self.changing.lock().await;
        let changed = self.live().state.plan_register(&registrations);
        self.save_bindings(changed).await?;
        Ok(self.live().state.register(registrations))
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        Ok(self.live().state.topics())
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        let _changing = self.changing.lock().await;
        if self.live().state.is_deleted(topic) {
            return Ok(());
        }
        self.records.save_topic(topic, &TopicRecord::deleted()).await?;
        self.live().state.delete_topic(topic);
        Ok(())
    }

    async fn commit(&self, commit: &Commit) -> Result<Vec<PartOutcome>, CoordinatorError> {
        self.live().commit(self.first, commit)
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Result<Vec<Found>, CoordinatorError> {
        let live = self.live();
        Ok(requests.iter().map(|request| live.state.find(request)).collect())
    }

    async fn trim(
        &self,
        starts: Vec<(TopicPartition, i64)>,
    ) -> Result<Vec<Watermarks>, CoordinatorError> {
        let _changing = self.changing.lock().await;
        let mut raised: BTreeMap<TopicId, BTreeMap<i32, i64>> = BTreeMap::new();
        let mut capped = Vec::with_capacity(starts.len());
        for (partition, start) in starts {
            let bounds = self.live().state.watermarks(partition);
            // Capped now, so that what is applied below is what was written, and no more.
            let start = start.min(bounds.high_watermark);
            capped.push((partition, start));
            if start > bounds.log_start_offset {
                let of_topic = raised.entry(partition.topic).or_default();
                let known = of_topic.entry(partition.partition).or_insert(start);
                *known = start.max(*known);
            }
        }
        for (topic, starts) in raised {
            let mut record = self.records.trims(topic).await?.unwrap_or_else(TrimRecord::new);
            record.raise(starts);
            self.records.save_trims(topic, &record).await?;
        }
        let state = &mut self.live().state;
        Ok(capped.into_iter().map(|(partition, start)| state.trim(partition, start)).collect())
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        Ok(self.live().state.producers(partition))
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<Event>, CoordinatorError> {
        Ok(self.live().state.subscribe())
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError> {
        let asks_for_more = !ttl.is_zero() && member.nodes > self.leases().nodes(member.zone);
        if asks_for_more {
            let _changing = self.changing.lock().await;
            self.leases().raise_nodes(member.zone, member.nodes);
            self.save_cluster().await?;
        }
        let zones = self.live().state.zones().to_vec();
        Ok(self.leases().renew(member, ttl, &zones))
    }
}

#[cfg(test)]
mod tests;
