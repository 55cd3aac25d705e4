//! Fetch sessions of the diskless nodes (KIP-227): the partitions of a client are retained between
//! requests, so that each names only what changed.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::entropy::Entropy;
use crate::log::ids::TopicId;

/// The maximum number of sessions. Beyond it, the least recently used one is evicted.
const SESSIONS_MAX: usize = 1000;
/// The epoch that requests a new session.
pub const INITIAL_EPOCH: i32 = 0;
/// The epoch that requests no session, or closes one.
pub const FINAL_EPOCH: i32 = -1;

/// A partition as the client names it: by topic id from Fetch version 13 on, else by topic name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionPartition {
    /// The topic id; zero before version 13.
    pub topic_id: TopicId,
    /// The topic name; empty from version 13 on.
    pub name: String,
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

#[derive(Debug)]
struct FetchSession {
    epoch: i32,
    naming: Naming,
    last_used: u64,
    /// In the order in which they are served next. Those that returned records move to the end.
    partitions: Vec<(SessionPartition, FetchPosition, Option<ReportedState>)>,
}

/// Reason that a session cannot continue. The client then opens a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionError {
    /// The session does not exist: it was evicted, or it belongs to another replica.
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

/// The sessions.
#[derive(Debug)]
pub struct FetchSessions {
    entropy: Arc<Entropy>,
    table: Mutex<SessionTable>,
}

#[derive(Debug, Default)]
struct SessionTable {
    sessions: HashMap<i32, FetchSession>,
    uses: u64,
}

impl FetchSessions {
    /// Session ids are drawn from `entropy`.
    pub fn new(entropy: Arc<Entropy>) -> Self {
        Self { entropy, table: Mutex::default() }
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
        forgotten: &[SessionPartition],
    ) -> Result<SessionPlan, SessionError> {
        let mut table = self.table.lock();
        table.uses += 1;
        let now = table.uses;
        if epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            table.sessions.remove(&session_id);
            let mut partitions = Vec::new();
            upsert(&mut partitions, requested);
            let requested = partitions.iter().map(|(w, p, _)| (w.clone(), *p)).collect();
            let session_id = match epoch {
                FINAL_EPOCH => 0,
                _ => self.open(
                    &mut table,
                    FetchSession { epoch: 1, naming, last_used: now, partitions },
                ),
            };
            return Ok(SessionPlan { session_id, partitions: requested, incremental: false });
        }
        let session = table.sessions.get_mut(&session_id).ok_or(SessionError::NotFound)?;
        if session.epoch != epoch {
            return Err(SessionError::InvalidEpoch);
        }
        if session.naming != naming {
            return Err(SessionError::Naming);
        }
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        session.last_used = now;
        upsert(&mut session.partitions, requested);
        // Last, as a broker does: a partition that is both named and forgotten is forgotten.
        session.partitions.retain(|(w, _, _)| !forgotten.contains(w));
        let partitions: Vec<_> =
            session.partitions.iter().map(|(w, p, _)| (w.clone(), *p)).collect();
        // A session without partitions ends.
        if partitions.is_empty() {
            table.sessions.remove(&session_id);
            return Ok(SessionPlan { session_id: 0, partitions, incremental: false });
        }
        Ok(SessionPlan { session_id, partitions, incremental: true })
    }

    /// Ends a fetch: records what is reported, and returns for each partition whether the response
    /// includes it. `reported` has the order of the plan; the flag is whether the partition returns
    /// records.
    pub fn finish(&self, plan: &SessionPlan, reported: &[(ReportedState, bool)]) -> Vec<bool> {
        let mut table = self.table.lock();
        let Some(session) = table.sessions.get_mut(&plan.session_id) else {
            return reported.iter().map(|_| true).collect();
        };
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

    fn open(&self, table: &mut SessionTable, session: FetchSession) -> i32 {
        if table.sessions.len() >= SESSIONS_MAX
            && let Some(&idle) = table.sessions.iter().min_by_key(|(_, s)| s.last_used).map(|s| s.0)
        {
            table.sessions.remove(&idle);
        }
        loop {
            let id = (self.entropy.next_u64() & 0x7fff_ffff) as i32;
            if id != 0 && !table.sessions.contains_key(&id) {
                table.sessions.insert(id, session);
                return id;
            }
        }
    }
}

/// Adds partitions. One that exists already, or is named twice, stays at its first place with the
/// last position.
fn upsert(
    partitions: &mut Vec<(SessionPartition, FetchPosition, Option<ReportedState>)>,
    requested: Vec<(SessionPartition, FetchPosition)>,
) {
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
mod tests {
    use super::*;

    fn requested(partition: i32) -> SessionPartition {
        SessionPartition { topic_id: TopicId([1; 16]), name: String::new(), partition }
    }

    fn at(offset: i64) -> FetchPosition {
        FetchPosition { offset, bytes_max: 1000, current_leader_epoch: 0 }
    }

    fn reported(high_watermark: i64) -> ReportedState {
        ReportedState { error_code: 0, high_watermark, log_start_offset: 0 }
    }

    #[test]
    fn session_omits_unchanged_partitions() {
        let sessions = FetchSessions::new(Arc::new(Entropy::from_seed(1)));
        let both = vec![(requested(0), at(0)), (requested(1), at(0))];
        let full = sessions.begin(0, 0, Naming::Ids, both, &[]).unwrap();
        assert!(full.session_id > 0 && !full.incremental);
        assert_eq!(
            sessions.finish(&full, &[(reported(5), true), (reported(0), false)]),
            [true, true]
        );

        let id = full.session_id;
        let next = sessions.begin(id, 1, Naming::Ids, vec![(requested(0), at(5))], &[]).unwrap();
        assert!(next.incremental);
        // Rotation begins with the first incremental fetch.
        assert_eq!(next.partitions, [(requested(0), at(5)), (requested(1), at(0))]);
        assert_eq!(
            sessions.finish(&next, &[(reported(7), true), (reported(0), false)]),
            [true, false]
        );

        let third = sessions.begin(id, 2, Naming::Ids, vec![], &[]).unwrap();
        assert_eq!(third.partitions, [(requested(1), at(0)), (requested(0), at(5))]);
        assert_eq!(
            sessions.finish(&third, &[(reported(0), false), (reported(7), false)]),
            [false, false]
        );

        let fourth = sessions.begin(id, 3, Naming::Ids, vec![], &[requested(1)]).unwrap();
        assert_eq!(fourth.partitions, [(requested(0), at(5))]);
        assert_eq!(
            sessions.finish(&fourth, &[(reported(8), false)]),
            [true],
            "a new high watermark"
        );

        let empty = sessions.begin(id, 4, Naming::Ids, vec![], &[requested(0)]).unwrap();
        assert_eq!(empty.session_id, 0, "nothing is left of it");
        let gone = sessions.begin(id, 5, Naming::Ids, vec![], &[]);
        assert_eq!(gone, Err(SessionError::NotFound));
    }

    #[test]
    fn session_epochs_and_ids_are_checked() {
        let sessions = FetchSessions::new(Arc::new(Entropy::from_seed(1)));
        let plan = sessions.begin(0, 0, Naming::Ids, vec![(requested(0), at(0))], &[]).unwrap();
        let id = plan.session_id;
        assert_eq!(
            sessions.begin(id, 2, Naming::Ids, vec![], &[]),
            Err(SessionError::InvalidEpoch)
        );
        let by_name = sessions.begin(id, 1, Naming::Names, vec![], &[]);
        assert_eq!(by_name, Err(SessionError::Naming));
        assert_eq!(
            sessions.begin(id ^ 1, 1, Naming::Ids, vec![], &[]),
            Err(SessionError::NotFound)
        );
        let closing =
            sessions.begin(id, FINAL_EPOCH, Naming::Ids, vec![(requested(0), at(0))], &[]).unwrap();
        assert_eq!((closing.session_id, closing.incremental), (0, false));
        assert_eq!(sessions.begin(id, 1, Naming::Ids, vec![], &[]), Err(SessionError::NotFound));
    }
}
