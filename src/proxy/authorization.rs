//! What the brokers' ACLs allow the client of one connection, as the brokers last said.
//!
//! Nothing here decides anything: brokers answer Metadata and DescribeCluster with the operations
//! that the asking connection's principal may do (KIP-430), and this remembers it for a while.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// What a broker said holds no longer than this, counted from when it was asked: so soon does a
/// live connection feel that a permission was revoked.
pub const VALID_MAX: Duration = Duration::from_secs(30);
/// What is older is asked for again while it still holds, so that no request waits for it.
pub const REFRESH_AFTER: Duration = Duration::from_secs(20);
/// Topics remembered for one connection; beyond, all are forgotten and asked for again.
const TOPICS_MAX: usize = 10_000;

/// An operation; the number is that of `AclOperation` in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
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
pub struct Operations(i32);

impl Operations {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// As a broker answers it. The value that stands for "was not asked" allows nothing.
    pub fn from_bits(bits: i32) -> Self {
        Self(bits)
    }

    /// Whether the operation is among them.
    pub fn allow(self, operation: Operation) -> bool {
        self.0 & (1 << operation as i32) != 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Said {
    operations: Operations,
    /// When the broker was asked, not when it answered: the answer is at least as new.
    asked: Instant,
    /// Whether anybody wanted to know since.
    used: bool,
}

impl Said {
    fn holds(&self, now: Instant) -> bool {
        now.duration_since(self.asked) < VALID_MAX
    }
}

/// What the brokers said of one connection's principal.
#[derive(Debug, Default)]
pub struct Standing {
    topics: HashMap<String, Said>,
    cluster: Option<Said>,
    accepted: Option<Instant>,
}

impl Standing {
    /// Notes what a broker, asked at `asked`, said of topics; that it answered at all means that
    /// it accepts the connection.
    pub fn learn_topics(
        &mut self,
        asked: Instant,
        said: impl IntoIterator<Item = (String, Operations)>,
    ) {
        self.accepted = self.accepted.max(Some(asked));
        for (name, operations) in said {
            if self.topics.len() >= TOPICS_MAX && !self.topics.contains_key(&name) {
                self.topics.clear();
            }
            // An answer that was long under way takes nothing newer back.
            if self.topics.get(&name).is_none_or(|before| before.asked <= asked) {
                self.topics.insert(name, Said { operations, asked, used: false });
            }
        }
    }

    /// Notes what a broker, asked at `asked`, said of the cluster.
    pub fn learn_cluster(&mut self, asked: Instant, operations: Operations) {
        self.accepted = self.accepted.max(Some(asked));
        self.cluster = Some(Said { operations, asked, used: false });
    }

    /// Forgets everything: the connection is about to be somebody else's.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether a broker answered this connection lately.
    pub fn is_accepted(&self, now: Instant) -> bool {
        self.accepted.is_some_and(|asked| now.duration_since(asked) < VALID_MAX)
    }

    /// What may be done with a topic; `None` when nobody said so lately.
    pub fn topic(&mut self, name: &str, now: Instant) -> Option<Operations> {
        let said = self.topics.get_mut(name).filter(|said| said.holds(now))?;
        said.used = true;
        Some(said.operations)
    }

    /// What may be done with the cluster; `None` when nobody said so lately.
    pub fn cluster(&self, now: Instant) -> Option<Operations> {
        self.cluster.filter(|said| said.holds(now)).map(|said| said.operations)
    }

    /// Topics to ask for again before their time is over: none until one that is in use comes of
    /// age, then all that are in use, so that a connection asks once and not topic by topic.
    pub fn due(&mut self, now: Instant) -> Vec<String> {
        let is_old = |said: &Said| now.duration_since(said.asked) >= REFRESH_AFTER;
        if !self.topics.values().any(|said| said.used && is_old(said)) {
            return Vec::new();
        }
        self.topics.retain(|_, said| said.holds(now));
        let used = self.topics.iter().filter(|(_, said)| said.used);
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

    fn said(name: &str) -> [(String, Operations); 1] {
        [(name.to_owned(), only(Operation::Read))]
    }

    #[test]
    fn bits_are_kafkas() {
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
    async fn nothing_holds_longer_than_thirty_seconds_after_it_was_asked() {
        let mut standing = Standing::default();
        let asked = Instant::now();
        assert!(!standing.is_accepted(asked), "silence is no consent");
        assert_eq!(standing.topic("t", asked), None);
        standing.learn_topics(asked, said("t"));
        standing.learn_cluster(asked, only(Operation::Describe));
        let last = asked + VALID_MAX - Duration::from_millis(1);
        assert_eq!(standing.topic("t", last), Some(only(Operation::Read)));
        assert!(standing.is_accepted(last) && standing.cluster(last).is_some());
        assert_eq!(standing.topic("t", asked + VALID_MAX), None);
        assert!(!standing.is_accepted(asked + VALID_MAX));
        assert_eq!(standing.cluster(asked + VALID_MAX), None);
        assert_eq!(VALID_MAX, 30 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_use_is_asked_for_again_before_its_time_is_over() {
        let mut standing = Standing::default();
        let asked = Instant::now();
        standing.learn_topics(asked, said("used"));
        standing.learn_topics(asked + 5 * SECOND, said("younger"));
        standing.learn_topics(asked, said("idle"));
        standing.topic("used", asked + 6 * SECOND);
        standing.topic("younger", asked + 6 * SECOND);
        assert!(standing.due(asked + 19 * SECOND).is_empty());
        let mut due = standing.due(asked + 20 * SECOND);
        due.sort();
        assert_eq!(due, ["used", "younger"]);

        standing.learn_topics(asked + 20 * SECOND, said("used"));
        assert!(standing.topic("used", asked + 49 * SECOND).is_some());
        assert_eq!(standing.topic("idle", asked + 30 * SECOND), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_takes_nothing_back_and_the_memory_is_bounded() {
        let mut standing = Standing::default();
        let asked = Instant::now();
        standing.learn_topics(asked + SECOND, [("t".to_owned(), Operations::from_bits(0))]);
        standing.learn_topics(asked, said("t"));
        assert_eq!(standing.topic("t", asked + SECOND), Some(Operations::from_bits(0)));
        for i in 0..3 * TOPICS_MAX {
            standing.learn_topics(asked, said(&i.to_string()));
            assert!(standing.topics.len() <= TOPICS_MAX);
        }
        standing.forget();
        assert!(!standing.is_accepted(asked));
    }
}
