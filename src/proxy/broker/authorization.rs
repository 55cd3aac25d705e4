//! Caches what the brokers' ACLs allow the client of one connection.
//!
//! Nothing is decided here: Metadata and DescribeCluster responses contain the operations that the
//! principal of the connection may perform (KIP-430), and this module caches them for a while.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::error_code::ErrorCode;

/// Time for which a decision of a broker is used, counted from the request. A revoked permission takes
/// effect on live connections within this time.
pub(crate) const DECISION_TTL: Duration = Duration::from_secs(30);
/// The age at which decisions in use are requested again while they are still valid, so that no
/// request of the client waits for it.
pub(crate) const REFRESH_AFTER: Duration = Duration::from_secs(20);
/// Topics cached for one connection. The broker is asked about others with each request.
const TOPICS_MAX: usize = 10_000;

/// An operation, with the code of `AclOperation` in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AclOperation {
    /// Read records.
    Read = 3,
    /// Write records.
    Write = 4,
    /// Delete the topic or its records.
    Delete = 6,
    /// Alter the cluster.
    Alter = 7,
    /// See that the topic exists, and its offsets.
    Describe = 8,
    /// Requests between brokers.
    ClusterAction = 9,
    /// See configs.
    DescribeConfigs = 10,
}

impl AclOperation {
    /// Returns the name of the operation in Kafka's ACLs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Delete => "Delete",
            Self::Alter => "Alter",
            Self::Describe => "Describe",
            Self::ClusterAction => "ClusterAction",
            Self::DescribeConfigs => "DescribeConfigs",
        }
    }
}

/// The operations that a principal may perform on one resource: the bits `1 << operation` of
/// KIP-430.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operations(i32);

impl Operations {
    /// Reads the bit field of a response. The value for "not requested" allows nothing.
    pub(crate) fn from_bits(bits: i32) -> Self {
        Self(bits)
    }

    /// Returns whether the operation is among them.
    pub(crate) fn allow(self, operation: AclOperation) -> bool {
        self.0 & (1 << operation as i32) != 0
    }
}

/// A broker's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The operations that the client may perform.
    pub(super) operations: Operations,
    /// When the broker was asked. The decision is at least as recent.
    pub(super) requested_at: Instant,
}

impl Decision {
    /// Returns when the decision expires.
    fn valid_until(self) -> Instant {
        self.requested_at + DECISION_TTL
    }

    pub(super) fn is_valid(self, now: Instant) -> bool {
        now < self.valid_until()
    }

    /// Returns whether it is time to ask the broker again.
    pub(super) fn is_old(self, now: Instant) -> bool {
        now.duration_since(self.requested_at) >= REFRESH_AFTER
    }
}

/// Operations that a client may perform on one topic of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicPermissions(Result<Decision, ErrorCode>);

impl TopicPermissions {
    /// Permits what the broker decided. Without a decision every check fails with a retriable error: the
    /// client may have the permission.
    pub(super) fn of(decision: Option<Decision>) -> Self {
        Self(decision.ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER))
    }

    /// Fails every check with this error: the request names a topic that does not exist.
    pub(super) fn unknown_topic(error: ErrorCode) -> Self {
        Self(Err(error))
    }

    /// Checks that the operation is allowed.
    ///
    /// # Errors
    /// The error code for the topic's row in the response.
    pub(crate) fn check(self, operation: AclOperation) -> Result<(), ErrorCode> {
        match self.0?.operations.allow(operation) {
            true => Ok(()),
            false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        }
    }

    /// Checks an operation some time after the request was read. An expired decision is none.
    ///
    /// # Errors
    /// The error code for the topic's row in the response.
    pub(crate) fn check_at(self, now: Instant, operation: AclOperation) -> Result<(), ErrorCode> {
        match self.0 {
            Ok(decision) if !decision.is_valid(now) => Self::of(None).check(operation),
            _ => self.check(operation),
        }
    }

    /// Returns when the decision expires, if there is one.
    pub(crate) fn valid_until(self) -> Option<Instant> {
        self.0.ok().map(Decision::valid_until)
    }
}

#[derive(Clone, Copy, Debug)]
struct CachedDecision {
    decision: Decision,
    /// True if the decision was used.
    used: bool,
}

/// The brokers' decisions about the principal of one connection.
#[derive(Debug, Default)]
pub(crate) struct AuthorizationCache {
    topics: HashMap<String, CachedDecision>,
    cluster: Option<Decision>,
    accepted: Option<Instant>,
}

impl AuthorizationCache {
    /// Records a broker's decisions about topics. A response also means that the broker accepts the
    /// connection. At the limit, decisions about further topics are not cached.
    pub(crate) fn record_topics<'a>(
        &mut self,
        requested_at: Instant,
        decisions: impl ExactSizeIterator<Item = (&'a str, Operations)>,
    ) {
        self.accepted = self.accepted.max(Some(requested_at));
        if self.topics.len() + decisions.len() > TOPICS_MAX {
            let now = Instant::now();
            self.topics.retain(|_, cached| cached.decision.is_valid(now));
        }
        for (name, operations) in decisions {
            let decision = Decision { operations, requested_at };
            let is_full = self.topics.len() >= TOPICS_MAX;
            match self.topics.get_mut(name) {
                // A late response does not replace a newer decision.
                Some(before) if before.decision.requested_at > requested_at => {}
                Some(before) => *before = CachedDecision { decision, used: false },
                None if is_full => {}
                None => {
                    self.topics.insert(name.to_owned(), CachedDecision { decision, used: false });
                }
            }
        }
    }

    /// Records a broker's decision about the cluster.
    pub(crate) fn record_cluster(&mut self, requested_at: Instant, operations: Operations) {
        self.accepted = self.accepted.max(Some(requested_at));
        self.cluster = Some(Decision { operations, requested_at });
    }

    /// Clears the cache: the connection gets another principal.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns whether a broker has responded on this connection recently.
    pub(crate) fn is_accepted(&self, now: Instant) -> bool {
        self.accepted.is_some_and(|requested_at| now.duration_since(requested_at) < DECISION_TTL)
    }

    /// Returns the decision about a topic; `None` if no recent one is cached.
    pub(super) fn topic(&mut self, name: &str, now: Instant) -> Option<Decision> {
        let cached = self.topics.get_mut(name).filter(|cached| cached.decision.is_valid(now))?;
        cached.used = true;
        Some(cached.decision)
    }

    /// Returns the operations allowed on the cluster; `None` if no recent decision is cached.
    pub(crate) fn cluster(&self, now: Instant) -> Option<Operations> {
        self.cluster.filter(|decision| decision.is_valid(now)).map(|decision| decision.operations)
    }

    /// Returns the topics whose decisions are to be requested again before they expire: none until
    /// one in use is old, then all in use, so that a connection sends one request instead of one
    /// for each topic.
    pub(crate) fn due_for_refresh(&mut self, now: Instant) -> Vec<String> {
        if !self.topics.values().any(|cached| cached.used && cached.decision.is_old(now)) {
            return Vec::new();
        }
        self.topics.retain(|_, cached| cached.decision.is_valid(now));
        let used = self.topics.iter().filter(|(_, cached)| cached.used);
        used.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn only(operation: AclOperation) -> Operations {
        Operations::from_bits(1 << operation as i32)
    }

    fn decisions(name: &str) -> std::array::IntoIter<(&str, Operations), 1> {
        [(name, only(AclOperation::Read))].into_iter()
    }

    #[test]
    fn operation_bits_match_kafka() {
        // As for a user with Read and Write, which imply Describe.
        let some = Operations::from_bits(0b1_0001_1000);
        assert!(some.allow(AclOperation::Read) && some.allow(AclOperation::Write));
        assert!(some.allow(AclOperation::Describe) && !some.allow(AclOperation::Delete));
        let all = Operations::from_bits(3576);
        assert!(
            [AclOperation::Read, AclOperation::Delete, AclOperation::Alter].map(|o| all.allow(o))
                [1]
        );
        let unasked = Operations::from_bits(i32::MIN);
        let every =
            [AclOperation::Read, AclOperation::Write, AclOperation::Delete, AclOperation::Describe];
        assert!(!every.iter().any(|&operation| unasked.allow(operation)));
    }

    #[tokio::test(start_paused = true)]
    async fn decisions_expire_thirty_seconds_after_the_request() {
        let mut cache = AuthorizationCache::default();
        let requested_at = Instant::now();
        assert!(!cache.is_accepted(requested_at), "no response yet");
        assert_eq!(cache.topic("t", requested_at), None);
        cache.record_topics(requested_at, decisions("t"));
        cache.record_cluster(requested_at, only(AclOperation::Describe));
        let last = requested_at + DECISION_TTL - Duration::from_millis(1);
        let decision = Decision { operations: only(AclOperation::Read), requested_at };
        assert_eq!(cache.topic("t", last), Some(decision));
        assert!(cache.is_accepted(last) && cache.cluster(last).is_some());
        assert_eq!(cache.topic("t", requested_at + DECISION_TTL), None);
        assert!(!cache.is_accepted(requested_at + DECISION_TTL));
        assert_eq!(cache.cluster(requested_at + DECISION_TTL), None);
        assert_eq!(DECISION_TTL, 30 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn decisions_in_use_are_refreshed_before_they_expire() {
        let mut cache = AuthorizationCache::default();
        let requested_at = Instant::now();
        cache.record_topics(requested_at, decisions("used"));
        cache.record_topics(requested_at + 5 * SECOND, decisions("younger"));
        cache.record_topics(requested_at, decisions("idle"));
        cache.topic("used", requested_at + 6 * SECOND);
        cache.topic("younger", requested_at + 6 * SECOND);
        assert!(cache.due_for_refresh(requested_at + 19 * SECOND).is_empty());
        let mut due_for_refresh = cache.due_for_refresh(requested_at + 20 * SECOND);
        due_for_refresh.sort();
        assert_eq!(due_for_refresh, ["used", "younger"]);

        cache.record_topics(requested_at + 20 * SECOND, decisions("used"));
        assert!(cache.topic("used", requested_at + 49 * SECOND).is_some());
        assert_eq!(cache.topic("idle", requested_at + 30 * SECOND), None);
    }

    #[tokio::test(start_paused = true)]
    async fn late_response_does_not_replace_newer_decision() {
        let mut cache = AuthorizationCache::default();
        let requested_at = Instant::now();
        let none = [("t", Operations::from_bits(0))];
        cache.record_topics(requested_at + SECOND, none.into_iter());
        cache.record_topics(requested_at, decisions("t"));
        let cached = cache.topic("t", requested_at + SECOND).unwrap();
        assert_eq!(cached.operations, Operations::from_bits(0));
        cache.clear();
        assert!(!cache.is_accepted(requested_at));
    }

    #[tokio::test(start_paused = true)]
    async fn full_cache_forgets_expired_decisions_only() {
        let mut cache = AuthorizationCache::default();
        let began = Instant::now();
        let names: Vec<_> = (0..=TOPICS_MAX).map(|index| index.to_string()).collect();
        let all = names.iter().map(|name| (name.as_str(), only(AclOperation::Read)));
        cache.record_topics(began, all.clone());
        assert!(cache.topic("0", began).is_some(), "recorded first");
        assert_eq!(cache.topic(&names[TOPICS_MAX], began), None, "one too many");
        tokio::time::advance(DECISION_TTL).await;
        let later = Instant::now();
        cache.record_topics(later, all.rev());
        assert!(cache.topic(&names[TOPICS_MAX], later).is_some());
        assert_eq!((cache.topic("0", later), cache.topics.len()), (None, TOPICS_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn expired_decision_fails_with_a_retriable_error() {
        let requested_at = Instant::now();
        let operations = only(AclOperation::Read);
        let permissions = TopicPermissions::of(Some(Decision { operations, requested_at }));
        let end = permissions.valid_until().unwrap();
        assert_eq!(end, requested_at + DECISION_TTL);
        let (read, write) = (AclOperation::Read, AclOperation::Write);
        let denied = Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        assert_eq!(permissions.check_at(requested_at, read), Ok(()));
        assert_eq!(permissions.check_at(requested_at, write), denied);
        let undecided = Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(permissions.check_at(end, read), undecided);
        assert_eq!(permissions.check_at(end, write), undecided);
        assert_eq!(TopicPermissions::of(None).check(read), undecided);
    }
}
