use super::*;
use crate::engine::produce::ConnectionId;
use crate::log::ids::{TopicId, TopicPartition};

fn lane(partition: i32, connection: u64) -> CommitLane {
    (TopicPartition { topic: TopicId([1; 16]), partition }, ConnectionId(connection))
}

/// Returns a part whose shard is its partition modulo 2.
fn part(partition: i32, connection: u64) -> SequencedPart {
    let shard = u16::try_from(partition % 2).unwrap();
    SequencedPart { lane: lane(partition, connection), shard }
}

fn ready(sequence: u32, shard: u16, parts: &[u32]) -> ReadyParts {
    ReadyParts { sequence, shard, parts: parts.to_vec() }
}

fn is_empty(sequencer: &CommitSequencer) -> bool {
    sequencer.objects.is_empty()
        && sequencer.lanes.is_empty()
        && sequencer.ready.is_empty()
        && sequencer.undecided.values().all(BTreeMap::is_empty)
}

#[test]
fn part_waits_for_its_own_lane_only() {
    let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
    sequencer.add_sealed(0, [part(0, 1)]);
    // Connection 1 continues its lane; connection 2 writes to the same partition.
    sequencer.add_sealed(1, [part(0, 1), part(0, 2)]);
    sequencer.mark_durable(1);
    assert_eq!(sequencer.take_ready(), [ready(1, 0, &[1])]);
    sequencer.complete(1, 1);
    assert_eq!(sequencer.take_ready(), []);
    sequencer.mark_durable(0);
    assert_eq!(sequencer.take_ready(), [ready(0, 0, &[0])]);
    assert_eq!(sequencer.take_ready(), [], "a part is returned once");
    sequencer.complete(0, 0);
    assert_eq!(sequencer.take_ready(), [ready(1, 0, &[0])]);
    sequencer.complete(1, 0);
    assert!(is_empty(&sequencer));
}

#[test]
fn parts_are_grouped_by_object_and_shard() {
    let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
    sequencer.add_sealed(0, [part(0, 1), part(1, 1), part(2, 1)]);
    sequencer.add_sealed(1, [part(4, 2)]);
    assert_eq!(sequencer.lowest_undecided(1), Some(0));
    sequencer.mark_durable(1);
    sequencer.mark_durable(0);
    let all = [ready(0, 0, &[0, 2]), ready(0, 1, &[1]), ready(1, 0, &[0])];
    assert_eq!(sequencer.take_ready(), all);
    // An object that is not durable is undecided, too.
    sequencer.add_sealed(2, [part(1, 1)]);
    sequencer.complete(0, 1);
    assert_eq!((sequencer.lowest_undecided(0), sequencer.lowest_undecided(1)), (Some(0), Some(2)));
    sequencer.complete(0, 0);
    sequencer.complete(0, 2);
    assert_eq!(
        (sequencer.lowest_undecided(0), sequencer.lowest_undecided_of_all()),
        (Some(1), Some(1))
    );
    assert_eq!(sequencer.lowest_undecided(7), None);
}

#[test]
fn by_object_every_part_waits_for_the_oldest_object() {
    let mut sequencer = CommitSequencer::new(CommitOrder::ByObject);
    sequencer.add_sealed(0, [part(0, 1)]);
    sequencer.add_sealed(1, [part(2, 2), part(4, 2)]);
    sequencer.mark_durable(1);
    assert_eq!(sequencer.take_ready(), []);
    sequencer.mark_durable(0);
    assert_eq!(sequencer.take_ready(), [ready(0, 0, &[0])]);
    assert_eq!(sequencer.take_ready(), [], "the next object waits for this one's decision");
    sequencer.complete(0, 0);
    assert_eq!(sequencer.take_ready(), [ready(1, 0, &[0, 1])]);
    sequencer.complete(1, 0);
    assert_eq!(sequencer.take_ready(), [], "a part is returned once");
    sequencer.complete(1, 1);
    assert!(is_empty(&sequencer));
}

#[test]
fn abort_removes_the_successors_in_the_lane() {
    let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
    sequencer.add_sealed(0, [part(0, 1), part(0, 2)]);
    sequencer.add_sealed(1, [part(0, 1), part(0, 3)]);
    sequencer.add_sealed(2, [part(0, 1)]);
    sequencer.mark_durable(0);
    assert_eq!(sequencer.take_ready(), [ready(0, 0, &[0, 1])]);
    assert_eq!(sequencer.abort(0, 0), [(0, 0), (1, 0), (2, 0)]);
    // The other lanes continue, and this one accepts new parts.
    sequencer.complete(0, 1);
    sequencer.add_sealed(3, [part(0, 1)]);
    (1..=3).for_each(|sequence| sequencer.mark_durable(sequence));
    assert_eq!(sequencer.take_ready(), [ready(1, 0, &[1]), ready(3, 0, &[0])]);
}

#[test]
fn abort_leaves_the_predecessors_in_the_lane() {
    let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
    (0..3).for_each(|sequence| sequencer.add_sealed(sequence, [part(0, 1)]));
    sequencer.mark_durable(0);
    assert_eq!(sequencer.abort(1, 0), [(1, 0), (2, 0)]);
    assert_eq!(sequencer.take_ready(), [ready(0, 0, &[0])]);
    sequencer.complete(0, 0);
    assert!(is_empty(&sequencer));
}

#[test]
fn replaced_object_keeps_its_place_in_the_lanes() {
    let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
    sequencer.add_sealed(0, [part(0, 1)]);
    sequencer.add_sealed(1, [part(0, 1), part(2, 1)]);
    sequencer.add_sealed(2, [part(0, 1), part(2, 1)]);
    sequencer.replace(1, vec![(3, vec![part(0, 1)]), (4, vec![part(0, 1), part(2, 1)])]);
    [0, 2, 3, 4].into_iter().for_each(|sequence| sequencer.mark_durable(sequence));
    let mut order = Vec::new();
    loop {
        let ready = sequencer.take_ready();
        if ready.is_empty() {
            break;
        }
        for ReadyParts { sequence, parts, .. } in ready {
            parts.iter().for_each(|index| sequencer.complete(sequence, *index));
            order.extend(parts.into_iter().map(|index| (sequence, index)));
        }
    }
    assert_eq!(order, [(0, 0), (4, 1), (2, 1), (3, 0), (4, 0), (2, 0)]);
    assert!(is_empty(&sequencer));
}

#[test]
fn successors_of_a_withdrawn_object_are_committed() {
    let mut sequencer = CommitSequencer::new(CommitOrder::Independent);
    sequencer.add_sealed(0, [part(0, 1)]);
    sequencer.add_sealed(1, [part(0, 1)]);
    sequencer.mark_durable(1);
    sequencer.withdraw(0);
    assert_eq!(sequencer.take_ready(), [ready(1, 0, &[0])]);
    sequencer.complete(1, 0);
    assert!(is_empty(&sequencer));
}

#[test]
fn by_object_abort_removes_everything() {
    let mut sequencer = CommitSequencer::new(CommitOrder::ByObject);
    sequencer.add_sealed(0, [part(0, 1)]);
    sequencer.add_sealed(1, [part(2, 2), part(4, 2)]);
    assert_eq!(sequencer.abort(0, 0), [(0, 0), (1, 0), (1, 1)]);
    assert!(is_empty(&sequencer));
}

/// 50 objects of 2,000 parts in flight at once, whose parts are decided one by one.
#[test]
fn work_is_linear_in_parts() {
    for order in [CommitOrder::Independent, CommitOrder::ByObject] {
        let (objects, parts) = (50_u32, 2_000_u32);
        let mut sequencer = CommitSequencer::new(order);
        for sequence in 0..objects {
            // Even parts continue the lanes of the object before, odd parts are alone.
            let connection =
                |index: u32| u64::from(if index.is_multiple_of(2) { 0 } else { sequence });
            let part = |index| part(i32::try_from(index).unwrap(), connection(index));
            sequencer.add_sealed(sequence, (0..parts).map(part));
        }
        (0..objects).rev().for_each(|sequence| sequencer.mark_durable(sequence));
        let mut decided = 0;
        while decided < objects * parts {
            let ready = sequencer.take_ready();
            assert!(!ready.is_empty(), "{decided} parts are decided");
            for ReadyParts { sequence, parts, .. } in ready {
                for index in parts {
                    sequencer.complete(sequence, index);
                    decided += 1;
                }
            }
        }
        let most = (objects * parts) as usize * 4;
        assert!(sequencer.visits <= most, "{} visits of parts", sequencer.visits);
        assert!(is_empty(&sequencer));
    }
}
