//! The reference model as a coordinator of several shards that fail independently.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use odradek::clock::ManualClock;
use odradek::coordinator::faulty::FaultyCoordinator;
use odradek::coordinator::memory::MemoryCoordinator;
use odradek::coordinator::{
    Commit, Coordinator as _, CoordinatorError, CoordinatorResult, FindRequest, Found, PartOutcome,
};
use odradek::log::batch::Part;
use odradek::log::ids::TopicPartition;
use parking_lot::Mutex;

use crate::batches::NOW;
use crate::history::HistoryChecker;
use crate::world::PARTITIONS;

/// Each partition has a shard of its own.
pub(crate) const SHARDS: u16 = PARTITIONS as u16;

/// Returns the shard of a partition.
pub(crate) fn shard_of(partition: TopicPartition) -> u16 {
    partition.partition.rem_euclid(SHARDS.into()) as u16
}

/// The fault of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ShardFault {
    /// It serves.
    #[default]
    None,
    /// It refuses every call, as a server that is loading its data.
    Refusing,
    /// It applies calls and never replies, as a master that was stopped after it read the request.
    Silent,
    /// It is being migrated to another node: a commit needs keys of both, a find only some of them.
    Migrating,
    /// It was found to lack changes, and is quarantined.
    Quarantined,
    /// The index of its partitions has disappeared.
    WithoutIndex,
}

/// The model, which can be made unavailable as a whole or by shards.
pub(crate) struct Model {
    pub(crate) memory: MemoryCoordinator,
    pub(crate) is_unavailable: AtomicBool,
    faults: Mutex<[ShardFault; SHARDS as usize]>,
    history: Arc<HistoryChecker>,
}

impl Model {
    pub(crate) fn new(history: &Arc<HistoryChecker>) -> Self {
        let memory = MemoryCoordinator::new("sim");
        let inner = Arc::new(MemoryCoordinator::new("layout"));
        let layout = Arc::new(FaultyCoordinator::new(inner).with_shards(SHARDS));
        Self {
            memory: memory.with_clock(Arc::new(ManualClock::new(NOW))).with_shards_of(layout),
            is_unavailable: AtomicBool::new(false),
            faults: Mutex::default(),
            history: Arc::clone(history),
        }
    }

    pub(crate) fn set_fault(&self, shard: u16, fault: ShardFault) {
        self.faults.lock()[usize::from(shard)] = fault;
    }

    pub(crate) fn fault(&self, shard: u16) -> ShardFault {
        self.faults.lock()[usize::from(shard)]
    }

    /// Commits parts. A call with a part in a silent shard does not return, as the slowest shard
    /// determines when a call ends.
    pub(crate) async fn commit(&self, commit: &Commit) -> Vec<CoordinatorResult<PartOutcome>> {
        let fault_of = |part: &Part| self.fault(shard_of(part.partition));
        let refusals: Vec<_> = commit.parts.iter().map(|part| refusal(fault_of(part))).collect();
        let is_silent = commit.parts.iter().any(|part| fault_of(part) == ShardFault::Silent);
        let pairs = commit.parts.iter().zip(&refusals);
        let parts = pairs.filter(|(_, refused)| refused.is_none()).map(|(part, _)| part.clone());
        let applied = Commit { parts: parts.collect(), ..commit.clone() };
        let mut outcomes = self.memory.commit(&applied).await.into_iter();
        let result = |refused: Option<CoordinatorError>| {
            refused.map_or_else(|| outcomes.next().expect("one for each part"), Err)
        };
        let results: Vec<_> = refusals.into_iter().map(result).collect();
        if results.iter().any(|result| matches!(result, Err(CoordinatorError::Fenced(_)))) {
            self.history.violation(format!("{} is fenced, and its process lives", commit.object));
        }
        if is_silent {
            std::future::pending::<()>().await;
        }
        results
    }

    pub(crate) async fn find(&self, requests: Vec<FindRequest>) -> Vec<CoordinatorResult<Found>> {
        let mut results = Vec::with_capacity(requests.len());
        for request in requests {
            results.push(self.find_one(request).await);
        }
        results
    }

    async fn find_one(&self, request: FindRequest) -> CoordinatorResult<Found> {
        let fault = self.fault(shard_of(request.partition));
        match fault {
            ShardFault::Refusing => return Err(unavailable("LOADING")),
            ShardFault::Migrating => return Err(unavailable("TRYAGAIN")),
            ShardFault::Quarantined => return Err(quarantined()),
            ShardFault::Silent => std::future::pending::<()>().await,
            ShardFault::None | ShardFault::WithoutIndex => {}
        }
        let mut found = self.memory.find(vec![request]).await.remove(0)?;
        if fault == ShardFault::WithoutIndex {
            found.runs.clear();
        }
        Ok(found)
    }
}

/// Returns the error of a commit that is refused.
fn refusal(fault: ShardFault) -> Option<CoordinatorError> {
    match fault {
        ShardFault::None | ShardFault::Silent | ShardFault::WithoutIndex => None,
        ShardFault::Refusing => Some(unavailable("LOADING")),
        ShardFault::Migrating => Some(unavailable("TRYAGAIN")),
        ShardFault::Quarantined => Some(quarantined()),
    }
}

fn unavailable(detail: &str) -> CoordinatorError {
    CoordinatorError::Unavailable(detail.to_owned())
}

fn quarantined() -> CoordinatorError {
    CoordinatorError::MetadataLost("quarantined by fault injection".to_owned())
}

/// Returns one result for each item from the result of the whole call.
pub(crate) fn each<T>(
    result: CoordinatorResult<Vec<CoordinatorResult<T>>>,
    count: usize,
) -> Vec<CoordinatorResult<T>> {
    result.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
}
