//! Decides what a client may do with the topics of one request.
//!
//! A decision that expires while another one is made is made again, and one for which the broker
//! gives no answer is missing. Neither is ever taken for a refusal, on which clients give up.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use super::authorization::{AuthorizationCache, Decision, Operations};
use crate::proxy::response::CloseReason;

/// Maximum number of questions for one request. An answer may be old when it arrives: it comes after
/// the responses to everything that the client requested before. There is nothing before the
/// second one.
const QUESTIONS_MAX: u32 = 3;

/// The broker of a client.
pub(super) trait DecisionSource {
    /// Asks what the client may do with topics. Topics that the broker does not decide are left
    /// out.
    fn ask(
        &mut self,
        topics: &[String],
    ) -> impl Future<Output = Result<Vec<(String, Operations)>, CloseReason>> + Send;
}

/// Returns the decisions about topics that are valid now, from the cache or from the broker. A topic
/// that could not be decided has none.
pub(super) async fn decide<'a>(
    cache: &mut AuthorizationCache,
    broker: &mut impl DecisionSource,
    topics: impl Iterator<Item = &'a str>,
) -> Result<HashMap<&'a str, Option<Decision>>, CloseReason> {
    let mut decisions: HashMap<&str, Option<Decision>> =
        topics.map(|topic| (topic, None)).collect();
    let mut unanswered: HashSet<&str> = HashSet::new();
    for questions in 0.. {
        // One moment for all: what is valid at the check is valid when it is used.
        let now = Instant::now();
        for (topic, decision) in &mut decisions {
            *decision = decision.filter(|d| d.is_valid(now)).or_else(|| cache.topic(topic, now));
        }
        let is_missing = |(topic, decision): (&&str, &Option<Decision>)| {
            decision.is_none() && !unanswered.contains(topic)
        };
        if questions == QUESTIONS_MAX || !decisions.iter().any(is_missing) {
            break;
        }
        // Includes what might expire meanwhile.
        let is_due = |decision: &Option<Decision>| decision.is_none_or(|d| d.is_old(now));
        let due = decisions.iter().filter(|(_, decision)| is_due(decision));
        let mut asked: Vec<_> = due.map(|(topic, _)| (*topic).to_owned()).collect();
        asked.sort_unstable();
        let answers = broker.ask(&asked).await?;
        cache.record_topics(now, answers.iter().map(|(name, allowed)| (name.as_str(), *allowed)));
        for (topic, operations) in answers {
            if let Some(decision) = decisions.get_mut(topic.as_str()) {
                *decision = Some(Decision { operations, requested_at: now });
            }
        }
        let missing = decisions.iter().filter(|(_, decision)| decision.is_none());
        unanswered.extend(missing.map(|(topic, _)| *topic));
    }
    Ok(decisions)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::authorization::{AclOperation, DECISION_TTL, TopicPermissions};
    use super::*;
    use crate::proxy::error_code::ErrorCode;

    const READ: i32 = 1 << AclOperation::Read as i32;

    /// Answers each question after a time of its own, the last one being that of all further ones.
    #[derive(Default)]
    struct FakeBroker {
        delays: Vec<Duration>,
        silent_about: &'static str,
        asked: Vec<Vec<String>>,
    }

    impl FakeBroker {
        fn answering_after(delays: &[u64]) -> Self {
            let delays = delays.iter().map(|ms| Duration::from_millis(*ms)).collect();
            Self { delays, ..Self::default() }
        }
    }

    impl DecisionSource for FakeBroker {
        async fn ask(
            &mut self,
            topics: &[String],
        ) -> Result<Vec<(String, Operations)>, CloseReason> {
            let delay = self.delays.get(self.asked.len()).or_else(|| self.delays.last());
            self.asked.push(topics.to_vec());
            tokio::time::sleep(delay.copied().unwrap_or_default()).await;
            let decided = topics.iter().filter(|topic| *topic != self.silent_about);
            Ok(decided.map(|topic| (topic.clone(), Operations::from_bits(READ))).collect())
        }
    }

    /// Returns the result of a check of each topic, in their order.
    async fn check(
        cache: &mut AuthorizationCache,
        broker: &mut FakeBroker,
        topics: &[&str],
    ) -> Vec<Result<(), ErrorCode>> {
        let decisions = decide(cache, broker, topics.iter().copied()).await.unwrap();
        let permissions = topics.iter().map(|topic| TopicPermissions::of(decisions[topic]));
        permissions.map(|p| p.check_at(Instant::now(), AclOperation::Read)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn decision_that_expires_while_another_is_made_is_made_again() {
        let mut cache = AuthorizationCache::default();
        let mut broker = FakeBroker::answering_after(&[1]);
        assert_eq!(check(&mut cache, &mut broker, &["known"]).await, [Ok(())]);
        tokio::time::advance(DECISION_TTL - Duration::from_millis(2)).await;
        assert_eq!(check(&mut cache, &mut broker, &["known", "new"]).await, [Ok(()); 2]);
        assert_eq!(broker.asked[1..], [["known", "new"]], "both, in one question");

        // One that is not old yet expires during a slow answer.
        tokio::time::advance(Duration::from_secs(15)).await;
        broker = FakeBroker::answering_after(&[16_000, 1]);
        assert_eq!(check(&mut cache, &mut broker, &["known", "newest"]).await, [Ok(()); 2]);
        assert_eq!(broker.asked, [["newest"], ["known"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_is_old_on_arrival_is_requested_again() {
        let mut cache = AuthorizationCache::default();
        let mut broker = FakeBroker::answering_after(&[31_000, 1]);
        assert_eq!(check(&mut cache, &mut broker, &["t"]).await, [Ok(())]);
        assert_eq!(broker.asked, [["t"], ["t"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn undecided_topic_fails_with_a_retriable_error() {
        let mut cache = AuthorizationCache::default();
        let undecided = Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        let mut slow = FakeBroker::answering_after(&[31_000]);
        assert_eq!(check(&mut cache, &mut slow, &["t"]).await, [undecided]);
        assert_eq!(slow.asked.len(), 3);
        let mut silent = FakeBroker { silent_about: "t", ..FakeBroker::default() };
        assert_eq!(check(&mut cache, &mut silent, &["t", "u"]).await, [undecided, Ok(())]);
        assert_eq!(silent.asked.len(), 1, "asked again with the next request");
    }

    #[tokio::test(start_paused = true)]
    async fn decision_at_any_age_is_valid_or_made_again() {
        let mut cache = AuthorizationCache::default();
        let mut broker = FakeBroker::answering_after(&[3]);
        for _ in 0..10_000 {
            tokio::time::advance(Duration::from_millis(29_990)).await;
            for _ in 0..10 {
                tokio::time::advance(Duration::from_millis(1)).await;
                assert_eq!(check(&mut cache, &mut broker, &["t"]).await, [Ok(())]);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn request_of_more_topics_than_are_cached_is_decided_whole() {
        let mut cache = AuthorizationCache::default();
        let mut broker = FakeBroker::default();
        let names: Vec<_> = (0..25_000).map(|index| index.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        for _ in 0..3 {
            let checked = check(&mut cache, &mut broker, &names).await;
            assert!(checked.iter().all(Result::is_ok));
        }
        assert_eq!(broker.asked.len(), 3, "one question for each request");
    }
}
