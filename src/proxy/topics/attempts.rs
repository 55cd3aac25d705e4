//! Attempts to find something out about topics, such as the type of a new one.
//!
//! An attempt may take seconds, or fail until a broker returns. Each topic has one at a time, in a
//! task of its own, and a failure is remembered. A response waits for the first attempt alone, and
//! not for long.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::log::ids::TopicId;

/// Maximum number of topics whose failed attempts are remembered.
const FAILED_MAX: usize = 10_000;

#[derive(Debug)]
enum State {
    /// The sender is dropped when the attempt ends.
    Running {
        end: watch::Receiver<()>,
        is_first: bool,
    },
    Failed(Instant),
}

/// The topics with an attempt, or with one that failed recently.
#[derive(Debug)]
pub(super) struct TopicAttempts {
    states: Mutex<HashMap<TopicId, State>>,
    /// Time for which a failure is remembered.
    retry_after: Duration,
}

/// One attempt. It has failed if it is dropped before it succeeds.
#[derive(Debug)]
pub(super) struct Attempt {
    attempts: Arc<TopicAttempts>,
    topics: HashSet<TopicId>,
    failed: bool,
    _end: watch::Sender<()>,
}

impl TopicAttempts {
    pub(super) fn new(retry_after: Duration) -> Arc<Self> {
        Arc::new(Self { states: Mutex::default(), retry_after })
    }

    /// Begins an attempt for topics, except those that have one, or had one that failed recently.
    /// Returns `None` if no topic is left.
    pub(super) fn begin(
        self: &Arc<Self>,
        topics: impl Iterator<Item = TopicId>,
    ) -> Option<Attempt> {
        let (sender, end) = watch::channel(());
        let mut states = self.states.lock();
        let mut begun = HashSet::new();
        for topic in topics {
            let is_first = match states.get(&topic) {
                None => true,
                Some(State::Failed(at)) if at.elapsed() >= self.retry_after => false,
                Some(_) => continue,
            };
            states.insert(topic, State::Running { end: end.clone(), is_first });
            begun.insert(topic);
        }
        let attempts = Arc::clone(self);
        let attempt = Attempt { attempts, topics: begun, failed: true, _end: sender };
        // Dropped without topics, it changes nothing.
        drop(states);
        (!attempt.topics.is_empty()).then_some(attempt)
    }

    /// Waits for the first attempts for these topics, at most for `limit`.
    pub(super) async fn first(&self, topics: &[TopicId], limit: Duration) {
        self.end_of(topics, limit, true).await;
    }

    /// Waits for all attempts for these topics, at most for `limit`.
    pub(super) async fn all(&self, topics: &[TopicId], limit: Duration) {
        self.end_of(topics, limit, false).await;
    }

    async fn end_of(&self, topics: &[TopicId], limit: Duration, first_only: bool) {
        let ends: Vec<_> = {
            let states = self.states.lock();
            let end = |topic| match states.get(topic) {
                Some(State::Running { end, is_first }) if *is_first || !first_only => {
                    Some(end.clone())
                }
                _ => None,
            };
            topics.iter().filter_map(end).collect()
        };
        let all = async {
            for mut end in ends {
                // No value is ever sent: this returns when the attempt ends.
                let _ended = end.changed().await;
            }
        };
        let _in_time = tokio::time::timeout(limit, all).await;
    }
}

impl Attempt {
    /// Returns whether the attempt is for a topic, too.
    pub(super) fn includes(&self, topic: TopicId) -> bool {
        self.topics.contains(&topic)
    }

    /// Ends the attempt; the next one is not delayed.
    pub(super) fn succeed(mut self) {
        self.failed = false;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut states = self.attempts.states.lock();
        if self.failed && states.len() > FAILED_MAX {
            states.retain(|_, state| match state {
                State::Running { .. } => true,
                State::Failed(at) => at.elapsed() < self.attempts.retry_after,
            });
        }
        for topic in self.topics.drain() {
            match self.failed {
                true => states.insert(topic, State::Failed(Instant::now())),
                false => states.remove(&topic),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY_AFTER: Duration = Duration::from_secs(3);
    const LIMIT: Duration = Duration::from_millis(500);

    fn topic(id: u8) -> TopicId {
        TopicId([id; 16])
    }

    async fn wait_for(attempts: &TopicAttempts, id: u8) -> Duration {
        let began = Instant::now();
        attempts.first(&[topic(id)], LIMIT).await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn topic_has_one_attempt_at_a_time() {
        let attempts = TopicAttempts::new(RETRY_AFTER);
        let first = attempts.begin([topic(1)].into_iter()).unwrap();
        assert!(attempts.begin([topic(1)].into_iter()).is_none());
        let other = attempts.begin([topic(1), topic(2)].into_iter()).unwrap();
        assert_eq!(other.topics, HashSet::from([topic(2)]));
        first.succeed();
        assert!(attempts.begin([topic(1)].into_iter()).is_some(), "it was deleted meanwhile");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_attempt_is_remembered_and_not_waited_for_again() {
        let attempts = TopicAttempts::new(RETRY_AFTER);
        let first = attempts.begin([topic(1)].into_iter()).unwrap();
        assert_eq!(wait_for(&attempts, 1).await, LIMIT);
        drop(first);
        assert_eq!(wait_for(&attempts, 1).await, Duration::ZERO);
        assert!(attempts.begin([topic(1)].into_iter()).is_none());
        tokio::time::advance(RETRY_AFTER).await;
        let _second = attempts.begin([topic(1)].into_iter()).unwrap();
        assert_eq!(wait_for(&attempts, 1).await, Duration::ZERO);
        assert_eq!(wait_for(&attempts, 2).await, Duration::ZERO, "another topic");
    }

    #[tokio::test(start_paused = true)]
    async fn response_waits_until_a_first_attempt_ends() {
        let attempts = TopicAttempts::new(RETRY_AFTER);
        let first = attempts.begin([topic(1)].into_iter()).unwrap();
        let decide = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            first.succeed();
        };
        let (waited, ()) = tokio::join!(wait_for(&attempts, 1), decide);
        assert_eq!(waited, Duration::from_millis(20));
    }
}
