use super::outcomes::{OUTCOME_RETENTION_MS, Outcomes};
use super::subscribers::{SUBSCRIBER_EVENTS_MAX, Subscribers};
use super::*;
use crate::coordinator::EventScope;
use crate::log::ids::ObjectId;

#[test]
fn slow_subscriber_gets_a_gap_and_later_events() {
    let mut subscribers = Subscribers::default();
    let mut slow = subscribers.subscribe();
    let event = |n: usize| CoordinatorEvent::Trimmed {
        partition: TopicPartition { topic: TopicId([1; 16]), partition: 0 },
        log_start_offset: i64::try_from(n).unwrap(),
    };
    for n in 0..SUBSCRIBER_EVENTS_MAX + 10 {
        subscribers.publish(&event(n));
    }
    for n in 0..SUBSCRIBER_EVENTS_MAX {
        assert_eq!(slow.try_recv(), Ok(event(n)));
    }
    assert_eq!(slow.try_recv(), Ok(CoordinatorEvent::Gap(EventScope::All)));
    subscribers.publish(&event(7));
    assert_eq!(slow.try_recv(), Ok(event(7)));
    assert!(slow.try_recv().is_err());
}

#[test]
fn outcomes_are_stored_for_an_hour_of_seal_time() {
    let mut outcomes = Outcomes::default();
    let object = |sequence| ObjectId { incarnation: 1, process_id: 1, sequence };
    let outcome = PartOutcome { index: 3, batches: Vec::new(), log_start_offset: 0 };
    outcomes.store(object(0), 1_000, outcome.clone());
    outcomes.store(object(1), 1_000 + OUTCOME_RETENTION_MS, outcome.clone());
    assert_eq!(outcomes.stored(object(0), 3), Some(&outcome));
    assert_eq!(outcomes.stored(object(0), 4), None);
    outcomes.store(object(2), 1_001 + OUTCOME_RETENTION_MS, outcome.clone());
    assert_eq!(outcomes.stored(object(0), 3), None);
    assert_eq!(outcomes.stored(object(1), 3), Some(&outcome));
}
