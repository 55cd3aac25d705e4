//! A decorator that fails on demand.
//!
//! # Fault model
//! As that of the faulty store: whether a call *happened* and what was *reported* vary
//! freely ([`Effect`] × [`Report`]).
//!
//! | | reported well | reported an error |
//! |---|---|---|
//! | happened | an ordinary call | a lost reply: [`CoordinatorError::Unknown`] |
//! | did not happen | impossible: an answer cannot be made up | a refusal, a timeout before the coordinator heard of it, or metadata that is lost |
//!
//! On top of it a call may be *late* (before it happens, or before it is reported) and may *hang*.
//! Faults are scripted per verb, first come first served, or stand until lifted. Answers are never
//! changed: a coordinator that answers wrongly is what the conformance suite finds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::{
    Attachment, Commit, CommitOrder, Coordinator, CoordinatorError, Event, FindRequest, Found,
    Member, Membership, PartOutcome, ProducerSnapshot, Registration, TopicBinding, Watermarks,
};
use crate::log::ids::{TopicId, TopicPartition};

/// A verb of the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Coordinator::attach`].
    Attach,
    /// [`Coordinator::register`].
    Register,
    /// [`Coordinator::topics`].
    Topics,
    /// [`Coordinator::delete_topic`].
    Forget,
    /// [`Coordinator::commit`].
    Commit,
    /// [`Coordinator::find`].
    Find,
    /// [`Coordinator::trim`].
    Trim,
    /// [`Coordinator::producers`].
    Producers,
    /// [`Coordinator::subscribe`].
    Follow,
    /// [`Coordinator::renew`].
    Renew,
}

/// Whether a call reaches the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does.
    Applied,
    /// It does not.
    Lost,
    /// Of a commit, the first half of the parts does: partitions lie on several shards. Any other
    /// call reaches it whole.
    PartiallyApplied,
}

/// What the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// What the coordinator said; of a call that did not reach it, that it is unavailable.
    Accurate,
    /// [`CoordinatorError::Unavailable`]: right only for what did not happen.
    Unavailable,
    /// [`CoordinatorError::Unknown`].
    Unknown,
    /// [`CoordinatorError::MetadataLost`].
    MetadataLost,
    /// Nothing, ever.
    Hang,
}

/// What one call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether it reaches the coordinator.
    pub effect: Effect,
    /// What the caller is told.
    pub report: Report,
    /// How long it takes to reach the coordinator.
    pub before: Duration,
    /// How long the answer takes from there.
    pub after: Duration,
}

impl Fault {
    /// No fault at all.
    pub const NONE: Self = Self {
        effect: Effect::Applied,
        report: Report::Accurate,
        before: Duration::ZERO,
        after: Duration::ZERO,
    };
    /// It does not happen, and the error says so.
    pub const REFUSED: Self =
        Self { effect: Effect::Lost, report: Report::Unavailable, ..Self::NONE };
    /// It happens and the answer is lost.
    pub const REPLY_LOST: Self = Self { report: Report::Unknown, ..Self::NONE };
    /// It does not happen, but nobody can tell.
    pub const TIMED_OUT: Self = Self { effect: Effect::Lost, ..Self::REPLY_LOST };
    /// It does not happen, because the metadata is gone.
    pub const METADATA_LOST: Self =
        Self { effect: Effect::Lost, report: Report::MetadataLost, ..Self::NONE };
    /// It happens and the caller waits for ever.
    pub const HANG: Self = Self { report: Report::Hang, ..Self::NONE };

    /// It happens for the first half of a commit's parts, and nobody can tell.
    pub const PARTIALLY_APPLIED: Self =
        Self { effect: Effect::PartiallyApplied, ..Self::REPLY_LOST };

    /// Late: it happens after `latency`.
    pub fn slow(latency: Duration) -> Self {
        Self { before: latency, ..Self::NONE }
    }
}

/// A coordinator that fails as told.
#[derive(Debug)]
pub struct FaultyCoordinator {
    inner: Arc<dyn Coordinator>,
    scripts: Mutex<BTreeMap<Operation, Script>>,
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<Fault>,
    standing: Option<Fault>,
    calls: u64,
}

impl FaultyCoordinator {
    /// A coordinator without faults as yet.
    pub fn new(inner: Arc<dyn Coordinator>) -> Self {
        Self { inner, scripts: Mutex::default() }
    }

    /// The next calls of `operation` meet these faults, one each, after those scripted before.
    pub fn script(&self, operation: Operation, faults: impl IntoIterator<Item = Fault>) {
        self.scripts().entry(operation).or_default().next.extend(faults);
    }

    /// Every call of `operation` that has no scripted fault meets this one, until it is lifted.
    pub fn set_standing(&self, operation: Operation, fault: Option<Fault>) {
        self.scripts().entry(operation).or_default().standing = fault;
    }

    /// How often `operation` was called.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.scripts().get(&operation).map_or(0, |script| script.calls)
    }

    fn scripts(&self) -> MutexGuard<'_, BTreeMap<Operation, Script>> {
        self.scripts.lock()
    }

    fn next_fault(&self, operation: Operation) -> Fault {
        let mut scripts = self.scripts();
        let script = scripts.entry(operation).or_default();
        script.calls += 1;
        script.next.pop_front().or(script.standing).unwrap_or(Fault::NONE)
    }

    async fn meet<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, CoordinatorError>>,
    ) -> Result<T, CoordinatorError> {
        let fault = self.next_fault(operation);
        Self::meet_fault(fault, operation, call).await
    }

    async fn meet_fault<T>(
        fault: Fault,
        operation: Operation,
        call: impl Future<Output = Result<T, CoordinatorError>>,
    ) -> Result<T, CoordinatorError> {
        let detail = || format!("a fault was injected into {operation:?}");
        sleep(fault.before).await;
        let truth = match fault.effect {
            Effect::Applied | Effect::PartiallyApplied => call.await,
            Effect::Lost => Err(CoordinatorError::Unavailable(detail())),
        };
        sleep(fault.after).await;
        match fault.report {
            Report::Accurate => truth,
            Report::Unavailable => Err(CoordinatorError::Unavailable(detail())),
            Report::Unknown => Err(CoordinatorError::Unknown(detail())),
            Report::MetadataLost => Err(CoordinatorError::MetadataLost(detail())),
            Report::Hang => std::future::pending().await,
        }
    }
}

/// Not even a yield when there is nothing to wait for.
async fn sleep(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

#[async_trait]
impl Coordinator for FaultyCoordinator {
    fn commit_order(&self) -> CommitOrder {
        self.inner.commit_order()
    }

    async fn attach(&self, cluster_id: &str, zone: &str) -> Result<Attachment, CoordinatorError> {
        self.meet(Operation::Attach, self.inner.attach(cluster_id, zone)).await
    }

    async fn register(
        &self,
        registrations: Vec<Registration>,
    ) -> Result<Vec<Option<TopicBinding>>, CoordinatorError> {
        self.meet(Operation::Register, self.inner.register(registrations)).await
    }

    async fn topics(&self) -> Result<Vec<TopicBinding>, CoordinatorError> {
        self.meet(Operation::Topics, self.inner.topics()).await
    }

    async fn delete_topic(&self, topic: TopicId) -> Result<(), CoordinatorError> {
        self.meet(Operation::Forget, self.inner.delete_topic(topic)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Vec<PartOutcome>, CoordinatorError> {
        let fault = self.next_fault(Operation::Commit);
        let mut reaches = commit.clone();
        if fault.effect == Effect::PartiallyApplied {
            reaches.parts.truncate(commit.parts.len().div_ceil(2));
        }
        Self::meet_fault(fault, Operation::Commit, self.inner.commit(&reaches)).await
    }

    async fn find(&self, requests: Vec<FindRequest>) -> Result<Vec<Found>, CoordinatorError> {
        self.meet(Operation::Find, self.inner.find(requests)).await
    }

    async fn trim(
        &self,
        starts: Vec<(TopicPartition, i64)>,
    ) -> Result<Vec<Watermarks>, CoordinatorError> {
        self.meet(Operation::Trim, self.inner.trim(starts)).await
    }

    async fn producers(
        &self,
        partition: TopicPartition,
    ) -> Result<Vec<ProducerSnapshot>, CoordinatorError> {
        self.meet(Operation::Producers, self.inner.producers(partition)).await
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<Event>, CoordinatorError> {
        self.meet(Operation::Follow, self.inner.subscribe()).await
    }

    async fn renew(&self, member: &Member, ttl: Duration) -> Result<Membership, CoordinatorError> {
        self.meet(Operation::Renew, self.inner.renew(member, ttl)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::conformance::{PlainHarness, check_cases};
    use crate::coordinator::memory::MemoryCoordinator;

    #[tokio::test]
    async fn conforms_while_it_has_no_faults() {
        let inner = Arc::new(MemoryCoordinator::new("model"));
        check_cases(&mut PlainHarness::new(Arc::new(FaultyCoordinator::new(inner)))).await;
    }

    /// Happened × reported, and how late.
    #[tokio::test(start_paused = true)]
    async fn both_sides_of_a_call_vary_freely() {
        type Reported = fn(&Result<Attachment, CoordinatorError>) -> bool;
        let rows: [(Fault, bool, Reported); 6] = [
            (Fault::NONE, true, Result::is_ok),
            (Fault::REPLY_LOST, true, |r| matches!(r, Err(CoordinatorError::Unknown(_)))),
            (Fault::TIMED_OUT, false, |r| matches!(r, Err(CoordinatorError::Unknown(_)))),
            (Fault::REFUSED, false, |r| matches!(r, Err(CoordinatorError::Unavailable(_)))),
            (Fault::METADATA_LOST, false, |r| matches!(r, Err(CoordinatorError::MetadataLost(_)))),
            (Fault::slow(Duration::from_secs(3)), true, Result::is_ok),
        ];
        for (fault, happens, reported) in rows {
            let memory = Arc::new(MemoryCoordinator::new("model"));
            let faulty = FaultyCoordinator::new(Arc::clone(&memory) as Arc<dyn Coordinator>);
            faulty.script(Operation::Attach, [fault]);
            let start = tokio::time::Instant::now();
            let attached = faulty.attach("first", "a").await;
            assert_eq!(start.elapsed(), fault.before, "{fault:?}");
            assert!(reported(&attached), "{fault:?}: {attached:?}");
            // Whoever attaches first binds the cluster.
            assert_eq!(memory.attach("second", "a").await.is_err(), happens, "{fault:?}");
            assert_eq!(faulty.calls(Operation::Attach), 1);
        }
    }
}
