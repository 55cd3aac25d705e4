//! The reference model: every rule of the batch coordinator in one process's memory.
//!
//! Other implementations must be equal to it under `conformance`. Its state ends with the process,
//! so it is for tests; `embedded` makes it durable.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::membership::Leases;
use super::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, CoordinatorEvent,
    CoordinatorResult, FindRequest, Found, Member, Membership, PartOutcome, ProducerSnapshot,
    Registration, TopicBinding, Watermarks,
};
use crate::clock::WallClock;
use crate::entropy::Entropy;
use crate::log::ids::{ProcessIdentity, TopicId, TopicPartition};

pub(super) mod outcomes;
pub(super) mod state;
pub(super) mod subscribers;

use state::MetadataState;

/// The batch coordinator in memory.
#[derive(Debug)]
pub struct MemoryCoordinator {
    metadata_id: String,
    // Never held across an await.
    state: Mutex<MetadataState>,
    leases: Mutex<Leases>,
    clock: Option<Arc<dyn WallClock>>,
    /// The coordinator whose shards it has.
    layout: Option<Arc<dyn Coordinator>>,
}

impl MemoryCoordinator {
    /// Returns an empty coordinator with this metadata id.
    pub fn new(metadata_id: impl Into<String>) -> Self {
        let leases = Mutex::new(Leases::new(Entropy::from_os().secret()));
        Self {
            metadata_id: metadata_id.into(),
            state: Mutex::new(MetadataState::default()),
            leases,
            clock: None,
            layout: None,
        }
    }

    /// Sets the coordinator's clock, which bounds the seal times. Without it they are not bounded.
    pub fn with_clock(self, clock: Arc<dyn WallClock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Divides the partitions into shards as another coordinator does.
    pub fn with_shards_of(self, layout: Arc<dyn Coordinator>) -> Self {
        Self { layout: Some(layout), ..self }
    }

    fn now_ms(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.now_ms())
    }

    fn state(&self) -> MutexGuard<'_, MetadataState> {
        self.state.lock()
    }
}

#[async_trait]
impl Coordinator for MemoryCoordinator {
    fn shard(&self, partition: TopicPartition) -> u16 {
        self.layout.as_ref().map_or(0, |layout| layout.shard(partition))
    }

    fn commit_order(&self) -> CommitOrder {
        CommitOrder::Independent
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        let mut state = self.state();
        let zone_index = state.attach(cluster_id, zone)?;
        let zones = state.zones().to_vec();
        Ok(Attachment { zone_index, zones, metadata_id: self.metadata_id.clone() })
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        Ok(self.state().register(registrations))
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        Ok(self.state().topics())
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        self.state().delete_topic(topic);
        Ok(())
    }

    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        self.state().commit(commit, self.now_ms(), &|partition| self.shard(partition))
    }

    async fn raise_fence(
        &self,
        process: ProcessIdentity,
        lowest: u32,
    ) -> Result<(), CoordinatorError> {
        self.state().raise_fence(process, lowest);
        Ok(())
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        let state = self.state();
        requests.iter().map(|request| Ok(state.find(request))).collect()
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        let mut state = self.state();
        starts.into_iter().map(|(partition, start)| Ok(state.trim(partition, start))).collect()
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        Ok(self.state().producers(partition, self.now_ms()))
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<CoordinatorEvent>, CoordinatorError> {
        Ok(self.state().subscribe())
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError> {
        let zones = self.state().zones().to_vec();
        let mut leases = self.leases.lock();
        Ok(leases.renew(member, ttl, &zones))
    }
}

#[cfg(test)]
mod tests;
