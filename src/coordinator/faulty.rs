//! A decorator that fails on demand.
//!
//! # Fault model
//! As that of the faulty store: whether a call is *applied* and what is *reported* vary
//! independently ([`Effect`] × [`ReportedOutcome`]).
//!
//! | | reports success | reports an error |
//! |---|---|---|
//! | applied | an ordinary call | a lost reply: [`CoordinatorError::Unknown`] |
//! | not applied | impossible: a result cannot be invented | a rejection, a timeout before the request arrived, or lost metadata |
//!
//! In addition a call may be *late* (before it is applied, or before it is reported) and may *hang*.
//! Faults are scripted for each operation and used in order, or persist until they are removed.
//! Results are never changed: wrong results are what the conformance suite detects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, CoordinatorEvent,
    CoordinatorResult, FindRequest, Found, Member, Membership, PartOutcome, ProducerSnapshot,
    Registration, TopicBinding, Watermarks,
};
use crate::log::batch::Part;
use crate::log::ids::{ProcessIdentity, TopicId, TopicPartition};
use crate::log::object_format::ShardPosition;

/// An operation of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Coordinator::attach`].
    Attach,
    /// [`Coordinator::check_shard`].
    CheckShard,
    /// [`Coordinator::register`].
    Register,
    /// [`Coordinator::topics`].
    Topics,
    /// [`Coordinator::delete_topic`].
    DeleteTopic,
    /// [`Coordinator::commit`].
    Commit,
    /// [`Coordinator::raise_fence`].
    RaiseFence,
    /// [`Coordinator::find`].
    Find,
    /// [`Coordinator::trim`].
    Trim,
    /// [`Coordinator::producers`].
    Producers,
    /// [`Coordinator::subscribe`].
    Subscribe,
    /// [`Coordinator::renew`].
    Renew,
}

/// The effect of a call on the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The call is applied.
    Applied,
    /// The call is not applied.
    NotApplied,
    /// The first half of the parts of a commit is applied, as if the partitions were on several
    /// shards. Any other call is applied as a whole.
    PartiallyApplied,
}

/// The result that the caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportedOutcome {
    /// The result of the coordinator; [`CoordinatorError::Unavailable`] for a call that was not
    /// applied.
    Accurate,
    /// [`CoordinatorError::Unavailable`]: accurate only for a call that was not applied.
    Unavailable,
    /// [`CoordinatorError::Unknown`].
    Unknown,
    /// [`CoordinatorError::MetadataLost`].
    MetadataLost,
    /// None: the call never returns.
    Hang,
}

/// The fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The effect on the coordinator.
    pub effect: Effect,
    /// The result that the caller gets.
    pub report: ReportedOutcome,
    /// The delay before it is applied.
    pub before: Duration,
    /// The delay of the result after that.
    pub after: Duration,
}

impl Fault {
    /// No fault.
    pub const NONE: Self = Self {
        effect: Effect::Applied,
        report: ReportedOutcome::Accurate,
        before: Duration::ZERO,
        after: Duration::ZERO,
    };
    /// Not applied, and the error says so.
    pub const REFUSED: Self =
        Self { effect: Effect::NotApplied, report: ReportedOutcome::Unavailable, ..Self::NONE };
    /// Applied, and the reply is lost.
    pub const REPLY_LOST: Self = Self { report: ReportedOutcome::Unknown, ..Self::NONE };
    /// Not applied, and the outcome is unknown to the caller.
    pub const TIMED_OUT: Self = Self { effect: Effect::NotApplied, ..Self::REPLY_LOST };
    /// Not applied, because the metadata is lost.
    pub const METADATA_LOST: Self =
        Self { effect: Effect::NotApplied, report: ReportedOutcome::MetadataLost, ..Self::NONE };
    /// Applied, and the call never returns.
    pub const HANG: Self = Self { report: ReportedOutcome::Hang, ..Self::NONE };

    /// Applied for the first half of a commit's parts, and the outcome is unknown to the caller.
    pub const PARTIALLY_APPLIED: Self =
        Self { effect: Effect::PartiallyApplied, ..Self::REPLY_LOST };

    /// Applied after `latency`.
    pub fn slow(latency: Duration) -> Self {
        Self { before: latency, ..Self::NONE }
    }
}

/// A coordinator with scripted faults.
#[derive(Debug)]
pub struct FaultyCoordinator {
    inner: Arc<dyn Coordinator>,
    scripts: Mutex<BTreeMap<Operation, FaultScript>>,
    /// The number of shards that partitions are distributed over, by their index; `None` for those
    /// of the inner coordinator.
    shards: Option<u16>,
    /// The faults of the checks and the commits of a shard.
    shard_faults: Mutex<BTreeMap<u16, Fault>>,
    /// The partitions whose metadata is lost.
    lost: Mutex<BTreeSet<TopicPartition>>,
}

#[derive(Debug, Default)]
struct FaultScript {
    scripted: VecDeque<Fault>,
    persistent: Option<Fault>,
    calls: u64,
}

impl FaultyCoordinator {
    /// Returns a coordinator without faults.
    pub fn new(inner: Arc<dyn Coordinator>) -> Self {
        let (scripts, shard_faults) = (Mutex::default(), Mutex::default());
        Self { inner, scripts, shards: None, shard_faults, lost: Mutex::default() }
    }

    /// Distributes partitions over `shards` shards, by partition index.
    pub fn with_shards(self, shards: u16) -> Self {
        Self { shards: Some(shards), ..self }
    }

    /// Sets whether the metadata of one partition is lost, so that commits and queries of it fail.
    pub fn set_lost(&self, partition: TopicPartition, is_lost: bool) {
        let mut lost = self.lost.lock();
        match is_lost {
            true => lost.insert(partition),
            false => lost.remove(&partition),
        };
    }

    fn check_partition(&self, partition: TopicPartition) -> CoordinatorResult<()> {
        match self.lost.lock().contains(&partition) {
            true => Err(CoordinatorError::MetadataLost(format!("injected loss of {partition:?}"))),
            false => Ok(()),
        }
    }

    fn shard_fault(&self, shard: u16) -> Fault {
        self.shard_faults.lock().get(&shard).copied().unwrap_or(Fault::NONE)
    }

    /// Sets the fault of every check of a shard, and of every commit with parts of it, or removes
    /// it. A commit with parts of
    /// several shards has one result for each shard, and is as slow as the slowest.
    pub fn set_shard_fault(&self, shard: u16, fault: Option<Fault>) {
        let mut faults = self.shard_faults.lock();
        match fault {
            Some(fault) => faults.insert(shard, fault),
            None => faults.remove(&shard),
        };
    }

    /// Commits the parts of each shard with the shard's fault.
    async fn commit_shards(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        let mut by_shard: BTreeMap<u16, Vec<Part>> = BTreeMap::new();
        for part in commit.parts.iter().filter(|p| self.check_partition(p.partition).is_ok()) {
            by_shard.entry(self.shard(part.partition)).or_default().push(part.clone());
        }
        let calls = by_shard.into_iter().map(|(shard, parts)| async move {
            let fault = self.shard_fault(shard);
            let indexes: Vec<u32> = parts.iter().map(|part| part.index).collect();
            let of_shard = Commit { parts, ..commit.clone() };
            let call = self.inner.commit(&of_shard);
            let results = Self::with_fault_each(fault, Operation::Commit, indexes.len(), call);
            indexes.into_iter().zip(results.await).collect::<Vec<_>>()
        });
        let results = futures::future::join_all(calls).await.into_iter().flatten();
        let results: BTreeMap<u32, _> = results.collect();
        let result = |part: &Part| match self.check_partition(part.partition) {
            Err(error) => Some(Err(error)),
            Ok(()) => results.get(&part.index).cloned(),
        };
        commit.parts.iter().filter_map(result).collect()
    }

    /// Adds faults for the next calls of `operation`, one for each call.
    pub fn script(&self, operation: Operation, faults: impl IntoIterator<Item = Fault>) {
        self.scripts().entry(operation).or_default().scripted.extend(faults);
    }

    /// Sets the fault of every call of `operation` that has no scripted one, or removes it.
    pub fn set_persistent(&self, operation: Operation, fault: Option<Fault>) {
        self.scripts().entry(operation).or_default().persistent = fault;
    }

    /// Returns the number of calls of `operation`.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.scripts().get(&operation).map_or(0, |script| script.calls)
    }

    fn scripts(&self) -> MutexGuard<'_, BTreeMap<Operation, FaultScript>> {
        self.scripts.lock()
    }

    fn next_fault(&self, operation: Operation) -> Fault {
        let mut scripts = self.scripts();
        let script = scripts.entry(operation).or_default();
        script.calls += 1;
        script.scripted.pop_front().or(script.persistent).unwrap_or(Fault::NONE)
    }

    async fn with_next_fault<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, CoordinatorError>>,
    ) -> Result<T, CoordinatorError> {
        let fault = self.next_fault(operation);
        Self::with_fault(fault, operation, call).await
    }

    async fn with_fault<T>(
        fault: Fault,
        operation: Operation,
        call: impl Future<Output = Result<T, CoordinatorError>>,
    ) -> Result<T, CoordinatorError> {
        let detail = || format!("injected fault of {operation:?}");
        sleep(fault.before).await;
        let result = match fault.effect {
            Effect::Applied | Effect::PartiallyApplied => call.await,
            Effect::NotApplied => Err(CoordinatorError::Unavailable(detail())),
        };
        sleep(fault.after).await;
        match fault.report {
            ReportedOutcome::Accurate => result,
            ReportedOutcome::Unavailable => Err(CoordinatorError::Unavailable(detail())),
            ReportedOutcome::Unknown => Err(CoordinatorError::Unknown(detail())),
            ReportedOutcome::MetadataLost => Err(CoordinatorError::MetadataLost(detail())),
            ReportedOutcome::Hang => std::future::pending().await,
        }
    }

    /// As [`FaultyCoordinator::with_fault`], for a call with `count` results.
    async fn with_fault_each<T>(
        fault: Fault,
        operation: Operation,
        count: usize,
        call: impl Future<Output = Vec<CoordinatorResult<T>>>,
    ) -> Vec<CoordinatorResult<T>> {
        match Self::with_fault(fault, operation, async { Ok(call.await) }).await {
            Ok(results) => results,
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        }
    }
}

/// Sleeps; does not even yield if `duration` is zero.
async fn sleep(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

#[async_trait]
impl Coordinator for FaultyCoordinator {
    fn shard(&self, partition: TopicPartition) -> u16 {
        match self.shards {
            Some(shards) => u16::try_from(partition.partition).unwrap_or(0) % shards,
            None => self.inner.shard(partition),
        }
    }

    async fn check_shard(&self, shard: u16) -> Result<(), CoordinatorError> {
        let call = async {
            let fault = self.shard_fault(shard);
            Self::with_fault(fault, Operation::CheckShard, self.inner.check_shard(shard)).await
        };
        self.with_next_fault(Operation::CheckShard, call).await
    }

    fn position(&self, partition: TopicPartition) -> ShardPosition {
        self.inner.position(partition)
    }

    fn commit_order(&self) -> CommitOrder {
        self.inner.commit_order()
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        self.with_next_fault(Operation::Attach, self.inner.attach(cluster_id, zone)).await
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        self.with_next_fault(Operation::Register, self.inner.register(registrations)).await
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        self.with_next_fault(Operation::Topics, self.inner.topics()).await
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        self.with_next_fault(Operation::DeleteTopic, self.inner.delete_topic(topic)).await
    }

    async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        let fault = self.next_fault(Operation::Commit);
        let mut applied = commit.clone();
        if fault.effect == Effect::PartiallyApplied {
            applied.parts.truncate(commit.parts.len().div_ceil(2));
        }
        let (count, call) = (commit.parts.len(), self.commit_shards(&applied));
        Self::with_fault_each(fault, Operation::Commit, count, call).await
    }

    async fn raise_fence(
        &self,
        process: ProcessIdentity,
        lowest: u32,
    ) -> Result<(), CoordinatorError> {
        let call = self.inner.raise_fence(process, lowest);
        self.with_next_fault(Operation::RaiseFence, call).await
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        let (fault, count) = (self.next_fault(Operation::Find), requests.len());
        let lost: Vec<_> = requests.iter().map(|r| self.check_partition(r.partition)).collect();
        let call = self.inner.find(requests);
        let results = Self::with_fault_each(fault, Operation::Find, count, call).await;
        lost.into_iter().zip(results).map(|(lost, result)| lost.and(result)).collect()
    }

    async fn trim(&self, starts: Vec<(TopicPartition, i64)>) -> Vec<CoordinatorResult<Watermarks>> {
        let (fault, count) = (self.next_fault(Operation::Trim), starts.len());
        Self::with_fault_each(fault, Operation::Trim, count, self.inner.trim(starts)).await
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        self.with_next_fault(Operation::Producers, self.inner.producers(partition)).await
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<CoordinatorEvent>, CoordinatorError> {
        self.with_next_fault(Operation::Subscribe, self.inner.subscribe()).await
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError> {
        self.with_next_fault(Operation::Renew, self.inner.renew(member, ttl)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::conformance::{PlainHarness, check_cases};
    use crate::coordinator::memory::MemoryCoordinator;

    #[tokio::test]
    async fn passes_the_conformance_cases_without_faults() {
        let inner = Arc::new(MemoryCoordinator::new("model"));
        check_cases(&mut PlainHarness::new(Arc::new(FaultyCoordinator::new(inner)))).await;
    }

    /// Effect × report, and delay.
    #[tokio::test(start_paused = true)]
    async fn effect_and_report_vary_independently() {
        type Check = fn(&Result<Attachment, CoordinatorError>) -> bool;
        let rows: [(Fault, bool, Check); 6] = [
            (Fault::NONE, true, Result::is_ok),
            (Fault::REPLY_LOST, true, |r| matches!(r, Err(CoordinatorError::Unknown(_)))),
            (Fault::TIMED_OUT, false, |r| matches!(r, Err(CoordinatorError::Unknown(_)))),
            (Fault::REFUSED, false, |r| matches!(r, Err(CoordinatorError::Unavailable(_)))),
            (Fault::METADATA_LOST, false, |r| matches!(r, Err(CoordinatorError::MetadataLost(_)))),
            (Fault::slow(Duration::from_secs(3)), true, Result::is_ok),
        ];
        for (fault, is_applied, is_reported) in rows {
            let memory = Arc::new(MemoryCoordinator::new("model"));
            let faulty = FaultyCoordinator::new(Arc::clone(&memory) as Arc<dyn Coordinator>);
            faulty.script(Operation::Attach, [fault]);
            let start = tokio::time::Instant::now();
            let attached = faulty.attach("first", "a").await;
            assert_eq!(start.elapsed(), fault.before, "{fault:?}");
            assert!(is_reported(&attached), "{fault:?}: {attached:?}");
            // The first attach binds the cluster.
            assert_eq!(memory.attach("second", "a").await.is_err(), is_applied, "{fault:?}");
            assert_eq!(faulty.calls(Operation::Attach), 1);
        }
    }
}
