//! What the brokers' ACLs allow the client of one connection, as the brokers last said.
//!
//! Nothing here decides anything: brokers answer Metadata and DescribeCluster with the operations
//! that the asking connection's principal may do (KIP-430), and this remembers it for a while.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::proxy::error_code::ErrorCode;

/// What a broker said holds no longer than this, counted from when it was asked: so soon does a
/// live connection feel that a permission was revoked.
pub(crate) const DECISION_TTL: Duration = Duration::from_secs(30);
/// What is older is asked for again while it still holds, so that no request waits for it.
pub(crate) const REFRESH_AFTER: Duration = Duration::from_secs(20);
/// Topics remembered for one connection; beyond, all are forgotten and asked for again.
const TOPICS_MAX: usize = 10_000;

/// An operation; the number is that of `AclOperation` in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Read records.
    Read = 3,
    /// Write records.
    Write = 4,
    /// Delete the topic or its records.
    Delete = 6,
    /// Alter the cluster.
    Alter = 7,
    /// See that it exists, and its offsets.
    Describe = 8,
    /// What brokers do among themselves.
    ClusterAction = 9,
    /// See configs.
    DescribeConfigs = 10,
}

/// The operations that a principal may do on one resource: the bits `1 << operation` of KIP-430.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operations(i32);

impl Operations {
    /// None at all.
    pub(crate) const NONE: Self = Self(0);

    /// As a broker answers it. The value that stands for "was not asked" allows nothing.
    pub(crate) fn from_bits(bits: i32) -> Self {
        Self(bits)
    }

    /// Whether the operation is among them.
    pub(crate) fn allow(self, operation: Operation) -> bool {
        self.0 & (1 << operation as i32) != 0
    }
}

/// What a client may do with one topic of a request.
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
    pub(crate) fn check(self, operation: Operation) -> Result<(), ErrorCode> {
        match self.0?.allow(operation) {
            true => Ok(()),
            false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct CachedDecision {
    operations: Operations,
    /// When the broker was asked, not when it answered: the answer is at least as new.
    requested_at: Instant,
    /// Whether anybody wanted to know since.
    used: bool,
}

impl CachedDecision {
    fn is_valid(&self, now: Instant) -> bool {
        now.duration_since(self.requested_at) < DECISION_TTL
    }
}

/// What the brokers said of one connection's principal.
#[derive(Debug, Default)]
pub(crate) struct AuthorizationCache {
    topics: HashMap<String, CachedDecision>,
    cluster: Option<CachedDecision>,
    accepted: Option<Instant>,
}

impl AuthorizationCache {
    /// Notes what a broker, asked at `requested_at`, said of topics; that it answered at all means that
    /// it accepts the connection.
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
            // An answer that was long under way takes nothing newer back.
            if self.topics.get(&name).is_none_or(|before| before.requested_at <= requested_at) {
                self.topics.insert(name, CachedDecision { operations, requested_at, used: false });
            }
        }
    }

    /// Notes what a broker, asked at `requested_at`, said of the cluster.
    pub(crate) fn record_cluster(&mut self, requested_at: Instant, operations: Operations) {
        self.accepted = self.accepted.max(Some(requested_at));
        self.cluster = Some(CachedDecision { operations, requested_at, used: false });
    }

    /// Forgets everything: the connection is about to be somebody else's.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a broker answered this connection lately.
    pub(crate) fn is_accepted(&self, now: Instant) -> bool {
        self.accepted.is_some_and(|requested_at| now.duration_since(requested_at) < DECISION_TTL)
    }

    /// What may be done with a topic; `None` when nobody said so lately.
    pub(crate) fn topic(&mut self, name: &str, now: Instant) -> Option<Operations> {
        let decisions = self.topics.get_mut(name).filter(|decisions| decisions.is_valid(now))?;
        decisions.used = true;
        Some(decisions.operations)
    }

    /// What may be done with the cluster; `None` when nobody said so lately.
    pub(crate) fn cluster(&self, now: Instant) -> Option<Operations> {
        self.cluster
            .filter(|decisions| decisions.is_valid(now))
            .map(|decisions| decisions.operations)
    }

    /// Topics to ask for again before their time is over: none until one that is in use comes of
    /// age, then all that are in use, so that a connection asks once and not topic by topic.
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

    fn only(operation: Operation) -> Operations {
        Operations::from_bits(1 << operation as i32)
    }

    fn decisions(name: &str) -> [(String, Operations); 1] {
        [(name.to_owned(), only(Operation::Read))]
    }

    #[test]
    fn operation_bits_match_kafka() {
        // `kafka-topics` of a user with Read, Write and so Describe.
        let some = Operations::from_bits(0b1_0001_1000);
        assert!(some.allow(Operation::Read) && some.allow(Operation::Write));
        assert!(some.allow(Operation::Describe) && !some.allow(Operation::Delete));
        let all = Operations::from_bits(3576);
        assert!([Operation::Read, Operation::Delete, Operation::Alter].map(|o| all.allow(o))[1]);
        let unasked = Operations::from_bits(i32::MIN);
        let every = [Operation::Read, Operation::Write, Operation::Delete, Operation::Describe];
        assert!(!every.iter().any(|&operation| unasked.allow(operation)));
    }

    #[tokio::test(start_paused = true)]
    async fn decisions_expire_thirty_seconds_after_the_request() {
        let mut cache = AuthorizationCache::default();
        let requested_at = Instant::now();
        assert!(!cache.is_accepted(requested_at), "silence is no consent");
        assert_eq!(cache.topic("t", requested_at), None);
        cache.record_topics(requested_at, decisions("t"));
        cache.record_cluster(requested_at, only(Operation::Describe));
        let last = requested_at + DECISION_TTL - Duration::from_millis(1);
        assert_eq!(cache.topic("t", last), Some(only(Operation::Read)));
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
