//! Fetch sessions of the diskless nodes (KIP-227): the partitions of a client are retained between
//! requests, so that each names only what changed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::entropy::Entropy;
use crate::log::ids::TopicId;

/// The maximum number of sessions, and of partitions in all of them. Beyond it, a client gets no
/// session, and names all partitions in each fetch.
const SESSIONS_MAX: usize = 100_000;
const PARTITIONS_MAX: usize = 1_000_000;
/// The maximum number of sessions that one connection has open, and of partitions in each. A consumer
/// uses one; it opens another when it has lost count of the first.
const OWNED_MAX: usize = 2;
const SESSION_PARTITIONS_MAX: usize = 50_000;
/// A session that was not used for this time ends if another one needs its place, as at a broker.
const EVICTION_IDLE: Duration = Duration::from_secs(120);
/// A session that was not used for this time ends. By then a broker has closed the connection of its
/// client.
const EXPIRY_IDLE: Duration = Duration::from_secs(600);
/// The time between searches for sessions that are not used.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// The epoch that requests a new session.
pub const INITIAL_EPOCH: i32 = 0;
/// The epoch that requests no session, or closes one.
pub const FINAL_EPOCH: i32 = -1;

/// A partition as the client names it: by topic id from Fetch version 13 on, else by topic name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionPartition {
    /// The topic id; zero before version 13.
    pub topic_id: TopicId,
    /// The topic name, which the partitions of a request share; empty from version 13 on.
    pub name: Arc<str>,
    /// The partition index.
    pub partition: i32,
}

/// Form in which a request names topics. It cannot change within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Before Fetch 13.
    Names,
    /// From Fetch 13 on.
    Ids,
}

/// The client's last request of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPosition {
    /// The first offset to fetch.
    pub offset: i64,
    /// The maximum number of bytes.
    pub bytes_max: i32,
    /// The current leader epoch according to the client.
    pub current_leader_epoch: i32,
}

/// State of a partition that was last reported to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedState {
    /// The error code.
    pub error_code: i16,
    /// The high watermark.
    pub high_watermark: i64,
    /// The log start offset.
    pub log_start_offset: i64,
}

type RetainedPartition = (SessionPartition, FetchPosition, Option<ReportedState>);

#[derive(Debug)]
struct FetchSession {
    epoch: i32,
    naming: Naming,
    last_used: Instant,
    /// In the order in which they are served next. Those that returned records move to the end.
    partitions: Vec<RetainedPartition>,
    counted: CountedPartitions,
}

/// Reason that a session cannot continue. The client then opens a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// The session does not exist: it has ended, or it belongs to another replica.
    NotFound,
    /// The epoch is not the next one.
    InvalidEpoch,
    /// The session names topics differently.
    Naming,
}

/// The partitions of one fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPlan {
    /// The session id of the response; 0 without a session.
    pub session_id: i32,
    /// Partitions to fetch, in this order.
    pub partitions: Vec<(SessionPartition, FetchPosition)>,
    /// True if the response omits unchanged partitions.
    pub incremental: bool,
}

/// The partitions of one session, which count towards the limit of all.
#[derive(Debug)]
struct CountedPartitions {
    free: Arc<Semaphore>,
    count: usize,
}

impl CountedPartitions {
    fn none(free: &Arc<Semaphore>) -> Self {
        Self { free: Arc::clone(free), count: 0 }
    }

    /// Counts `count` partitions instead. Returns `false`, and changes nothing, beyond the limit.
    fn change_to(&mut self, count: usize) -> bool {
        if count > SESSION_PARTITIONS_MAX {
            return false;
        }
        if let Some(more) = count.checked_sub(self.count).filter(|more| *more > 0) {
            let taken = u32::try_from(more).ok().and_then(|n| self.free.try_acquire_many(n).ok());
            let Some(taken) = taken else { return false };
            taken.forget();
        } else {
            self.free.add_permits(self.count - count);
        }
        self.count = count;
        true
    }
}

impl Drop for CountedPartitions {
    fn drop(&mut self) {
        self.free.add_permits(self.count);
    }
}

/// The sessions.
#[derive(Debug)]
pub struct FetchSessions {
    entropy: Arc<Entropy>,
    sessions_max: usize,
    free_partitions: Arc<Semaphore>,
    /// Held for a moment only; each session has a lock of its own.
    table: Mutex<SessionTable>,
}

#[derive(Debug, Default)]
struct SessionTable {
    sessions: HashMap<i32, Arc<Mutex<FetchSession>>>,
    swept_at: Option<Instant>,
}

impl FetchSessions {
    /// Session ids are drawn from `entropy`.
    pub fn new(entropy: Arc<Entropy>) -> Self {
        Self::with_limits(entropy, SESSIONS_MAX, PARTITIONS_MAX)
    }

    fn with_limits(entropy: Arc<Entropy>, sessions_max: usize, partitions_max: usize) -> Self {
        let free_partitions = Arc::new(Semaphore::new(partitions_max));
        Self { entropy, sessions_max, free_partitions, table: Mutex::default() }
    }

    /// Begins a fetch: opens, continues or closes its session. A session can be used from any
    /// connection.
    ///
    /// # Errors
    /// The session cannot continue.
    pub fn begin(
        &self,
        session_id: i32,
        epoch: i32,
        naming: Naming,
        requested: Vec<(SessionPartition, FetchPosition)>,
        forgotten: &HashSet<SessionPartition>,
    ) -> Result<SessionPlan, SessionError> {
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            self.remove(session_id);
            let mut partitions = Vec::new();
            upsert(&mut partitions, requested);
            let requested = partitions.iter().map(|(w, p, _)| (w.clone(), *p)).collect();
            let session_id = match epoch {
                FINAL_EPOCH => 0,
                _ => self.open(naming, partitions).unwrap_or(0),
            };
            return Ok(SessionPlan { session_id, partitions: requested, incremental: false });
        }
        let session = self.get(session_id).ok_or(SessionError::NotFound)?;
        let mut session = session.lock();
        if session.epoch != epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.naming != naming {
            return Err(SessionError::Naming);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.last_used = Instant::now();
        upsert(&mut session.partitions, requested);
        // Last, as a broker does: a partition that is both named and forgotten is forgotten.
        if !forgotten.is_empty() {
            session.partitions.retain(|(w, _, _)| !forgotten.contains(w));
        }
        let partitions: Vec<_> =
            session.partitions.iter().map(|(w, p, _)| (w.clone(), *p)).collect();
        let is_within_limit = session.counted.change_to(partitions.len());
        drop(session);
        match (partitions.is_empty(), is_within_limit) {
            (false, true) => Ok(SessionPlan { session_id, partitions, incremental: true }),
            // A session without partitions ends.
            (true, _) => {
                self.remove(session_id);
                Ok(SessionPlan { session_id: 0, partitions, incremental: false })
            }
            (false, false) => {
                self.remove(session_id);
                Err(SessionError::NotFound)
            }
        }
    }

    /// Ends a fetch: records what is reported, and returns for each partition whether the response
    /// includes it. `reported` has the order of the plan; the flag is whether the partition returns
    /// records.
    pub fn finish(&self, plan: &SessionPlan, reported: &[(ReportedState, bool)]) -> Vec<bool> {
        let Some(session) = self.get(plan.session_id) else {
            return reported.iter().map(|_| true).collect();
        };
        let mut session = session.lock();
        let mut results: HashMap<&SessionPartition, (ReportedState, bool)> =
            plan.partitions.iter().map(|(w, _)| w).zip(reported.iter().copied()).collect();
        let mut included = HashMap::new();
        let (mut stay, mut rotate) = (Vec::new(), Vec::new());
        for (requested, position, before) in session.partitions.drain(..) {
            let Some((now, records)) = results.remove(&requested) else {
                stay.push((requested, position, before));
                continue;
            };
            // An error is reported every time until the client reacts to it.
            let name = !plan.incremental || records || now.error_code != 0 || before != Some(now);
            included.insert(requested.clone(), name);
            let retained = (now.error_code == 0).then_some(now);
            // As with a broker, a full fetch does not change the order.
            let moves = records && plan.incremental;
            (if moves { &mut rotate } else { &mut stay }).push((requested, position, retained));
        }
        stay.append(&mut rotate);
        session.partitions = stay;
        plan.partitions.iter().map(|(w, _)| included.get(w).copied().unwrap_or(true)).collect()
    }

    fn get(&self, session_id: i32) -> Option<Arc<Mutex<FetchSession>>> {
        self.table.lock().sessions.get(&session_id).cloned()
    }

    fn remove(&self, session_id: i32) {
        // What it holds is released without the lock.
        let removed = self.table.lock().sessions.remove(&session_id);
        drop(removed);
    }

    /// Opens a session; returns `None` beyond the limits. A session in use is never evicted: if there
    /// were more clients than places, each would lose its session before it used it again.
    fn open(&self, naming: Naming, partitions: Vec<RetainedPartition>) -> Option<i32> {
        let mut counted = CountedPartitions::none(&self.free_partitions);
        let is_full = !counted.change_to(partitions.len())
            || self.table.lock().sessions.len() >= self.sessions_max;
        self.sweep(if is_full { EVICTION_IDLE } else { EXPIRY_IDLE });
        if !counted.change_to(partitions.len()) {
            return None;
        }
        let last_used = Instant::now();
        let session = FetchSession { epoch: 1, naming, last_used, partitions, counted };
        let mut table = self.table.lock();
        if table.sessions.len() >= self.sessions_max {
            return None;
        }
        loop {
            let id = (self.entropy.next_u64() & 0x7fff_ffff) as i32;
            if id != 0 && !table.sessions.contains_key(&id) {
                table.sessions.insert(id, Arc::new(Mutex::new(session)));
                return Some(id);
            }
        }
    }

    /// Ends sessions that were not used for a time, but does not search for them all the time.
    fn sweep(&self, idle: Duration) {
        let mut table = self.table.lock();
        if table.swept_at.is_some_and(|at| at.elapsed() < SWEEP_INTERVAL) {
            return;
        }
        table.swept_at = Some(Instant::now());
        let is_idle = |session: &Mutex<FetchSession>| {
            session.try_lock().is_some_and(|session| session.last_used.elapsed() >= idle)
        };
        let ended: Vec<_> = table.sessions.extract_if(|_, session| is_idle(session)).collect();
        drop(table);
        drop(ended);
    }
}

/// The sessions that one connection opened. They end with it, and the oldest one ends when the
/// connection opens too many.
#[derive(Debug)]
pub struct OwnedSessions {
    sessions: Arc<FetchSessions>,
    opened: Mutex<VecDeque<i32>>,
}

impl OwnedSessions {
    /// Creates the sessions of a new connection.
    pub fn new(sessions: Arc<FetchSessions>) -> Self {
        Self { sessions, opened: Mutex::default() }
    }

    /// Adds the session of a plan if the connection has just opened it.
    pub fn add(&self, plan: &SessionPlan) {
        if plan.incremental || plan.session_id == 0 {
            return;
        }
        let mut opened = self.opened.lock();
        opened.push_back(plan.session_id);
        if opened.len() > OWNED_MAX
            && let Some(oldest) = opened.pop_front()
        {
            self.sessions.remove(oldest);
        }
    }
}

impl Drop for OwnedSessions {
    fn drop(&mut self) {
        for id in self.opened.get_mut().drain(..) {
            self.sessions.remove(id);
        }
    }
}

/// Adds partitions. One that exists already, or is named twice, stays at its first place with the
/// last position.
fn upsert(
    partitions: &mut Vec<RetainedPartition>,
    requested: Vec<(SessionPartition, FetchPosition)>,
) {
    if requested.is_empty() {
        return;
    }
    let mut places: HashMap<SessionPartition, usize> =
        partitions.iter().enumerate().map(|(i, (w, _, _))| (w.clone(), i)).collect();
    for (requested, position) in requested {
        if let Some(&upsert) = places.get(&requested) {
            partitions[upsert].1 = position;
        } else {
            places.insert(requested.clone(), partitions.len());
            partitions.push((requested, position, None));
        }
    }
}

#[cfg(test)]
mod tests;
