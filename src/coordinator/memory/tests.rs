use super::outcomes::Outcomes;
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
fn outcomes_are_stored_until_the_fence_passes_them() {
    let mut outcomes = Outcomes::default();
    let object = |sequence| ObjectId { incarnation: 1, process_id: 1, sequence };
    let outcome = PartOutcome { index: 3, batches: Vec::new(), log_start_offset: 0, sealed_ms: 0 };
    for sequence in 0..3 {
        outcomes.store(object(sequence), outcome.clone());
    }
    let other = ObjectId { process_id: 2, ..object(0) };
    outcomes.store(other, outcome.clone());
    outcomes.raise_fence(object(0).process(), 2);
    outcomes.raise_fence(object(0).process(), 1);
    assert_eq!(outcomes.stored(object(1), 3), None);
    assert_eq!(outcomes.stored(object(2), 3), Some(&outcome));
    assert_eq!(outcomes.stored(object(2), 4), None);
    assert!(outcomes.is_fenced(object(1)) && !outcomes.is_fenced(object(2)));
    outcomes.raise_fence(object(0).process(), u32::MAX);
    assert!(outcomes.is_fenced(object(u32::MAX)) && !outcomes.is_fenced(other));
    assert_eq!(outcomes.stored(object(2), 3), None);
    assert_eq!(outcomes.stored(other, 3), Some(&outcome));
}
