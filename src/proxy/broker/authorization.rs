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
/// Topics cached for one connection. At the limit the cache is cleared.
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

/// The operations that a principal may perform on one resource: the bits `1 << operation` of
/// KIP-430.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operations(i32);

impl Operations {
    /// No operation.
    pub(crate) const NONE: Self = Self(0);

    /// Reads the bit field of a response. The value for "not requested" allows nothing.
    pub(crate) fn from_bits(bits: i32) -> Self {
        Self(bits)
    }

    /// Returns whether the operation is among them.
    pub(crate) fn allow(self, operation: AclOperation) -> bool {
        self.0 & (1 << operation as i32) != 0
    }
}

/// Operations that a client may perform on one topic of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicPermissions(Result<Operations, ErrorCode>);

impl TopicPermissions {
    /// Permits these operations.
    pub(super) fn of(operations: Operations) -> Self {
        Self(Ok(operations))
    }

    /// Fails every check with this error: the request names the topic by an unknown id.
    pub(super) fn unknown_topic(error: ErrorCode) -> Self {
        Self(Err(error))
    }

    /// Checks that the operation is allowed.
    ///
    /// # Errors
    /// The error code for the topic's row in the response.
    pub(crate) fn check(self, operation: AclOperation) -> Result<(), ErrorCode> {
        match self.0?.allow(operation) {
            true => Ok(()),
            false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct CachedDecision {
    operations: Operations,
    /// When the broker was asked. The decision is at least as recent.
    requested_at: Instant,
    /// True if the decision was used.
    used: bool,
}

impl CachedDecision {
    fn is_valid(&self, now: Instant) -> bool {
        now.duration_since(self.requested_at) < DECISION_TTL
    }
}

/// The brokers' decisions about the principal of one connection.
#[derive(Debug, Default)]
pub(crate) struct AuthorizationCache {
    topics: HashMap<String, CachedDecision>,
    cluster: Option<CachedDecision>,
    accepted: Option<Instant>,
}

impl AuthorizationCache {
    /// Records a broker's decisions about topics. A response also means that the broker accepts the
    /// connection.
    pub(crate) fn record_topics(
        &mut self,
        requested_at: Instant,
        decisions: impl IntoIterator<Item = (String, Operations)>,
    ) {
        self.accepted = self.accepted.max(Some(requested_at));
        for (name, operations) in decisions {
            if self.topics.len() >= TOPICS_MAX && !self.topics.contains_key(&name) {
                self.topics.clear();
            }
            // A late response does not replace a newer decision.
            if self.topics.get(&name).is_none_or(|before| before.requested_at <= requested_at) {
                self.topics.insert(name, CachedDecision { operations, requested_at, used: false });
            }
        }
    }

    /// Records a broker's decision about the cluster.
    pub(crate) fn record_cluster(&mut self, requested_at: Instant, operations: Operations) {
        self.accepted = self.accepted.max(Some(requested_at));
        self.cluster = Some(CachedDecision { operations, requested_at, used: false });
    }

    /// Clears the cache: the connection gets another principal.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns whether a broker has responded on this connection recently.
    pub(crate) fn is_accepted(&self, now: Instant) -> bool {
        self.accepted.is_some_and(|requested_at| now.duration_since(requested_at) < DECISION_TTL)
    }

    /// Returns the operations allowed on a topic; `None` if no recent decision is cached.
    pub(crate) fn topic(&mut self, name: &str, now: Instant) -> Option<Operations> {
        let decisions = self.topics.get_mut(name).filter(|decisions| decisions.is_valid(now))?;
        decisions.used = true;
        Some(decisions.operations)
    }

    /// Returns the operations allowed on the cluster; `None` if no recent decision is cached.
    pub(crate) fn cluster(&self, now: Instant) -> Option<Operations> {
        self.cluster
            .filter(|decisions| decisions.is_valid(now))
            .map(|decisions| decisions.operations)
    }

    /// Returns the topics whose decisions are to be requested again before they expire: none until
    /// one in use is old, then all in use, so that a connection sends one request instead of one
    /// for each topic.
    pub(crate) fn due_for_refresh(&mut self, now: Instant) -> Vec<String> {
        let is_old = |decisions: &CachedDecision| {
            now.duration_since(decisions.requested_at) >= REFRESH_AFTER
        };
        if !self.topics.values().any(|decisions| decisions.used && is_old(decisions)) {
            return Vec::new();
        }
        self.topics.retain(|_, decisions| decisions.is_valid(now));
        let used = self.topics.iter().filter(|(_, decisions)| decisions.used);
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

    fn decisions(name: &str) -> [(String, Operations); 1] {
        [(name.to_owned(), only(AclOperation::Read))]
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
        assert_eq!(cache.topic("t", last), Some(only(AclOperation::Read)));
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
    async fn late_response_does_not_replace_newer_decision_and_cache_is_bounded() {
        let mut cache = AuthorizationCache::default();
        let requested_at = Instant::now();
        cache.record_topics(requested_at + SECOND, [("t".to_owned(), Operations::from_bits(0))]);
        cache.record_topics(requested_at, decisions("t"));
        assert_eq!(cache.topic("t", requested_at + SECOND), Some(Operations::from_bits(0)));
        for i in 0..3 * TOPICS_MAX {
            cache.record_topics(requested_at, decisions(&i.to_string()));
            assert!(cache.topics.len() <= TOPICS_MAX);
        }
        cache.clear();
        assert!(!cache.is_accepted(requested_at));
    }
}
