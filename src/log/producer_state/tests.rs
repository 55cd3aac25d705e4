use super::*;

const APPENDED: Option<CommitOutcome> = None;
const OUT_OF_ORDER: Option<CommitOutcome> =
    Some(CommitOutcome::Refused(Refusal::OutOfOrderSequence));
const OLD_EPOCH: Option<CommitOutcome> =
    Some(CommitOutcome::Refused(Refusal::InvalidProducerEpoch));

/// Sends a batch of `count` records, and appends it at `offset` if it passes the check.
fn send(
    producers: &mut Producers,
    epoch: i16,
    base: i32,
    count: i32,
    offset: i64,
) -> Option<CommitOutcome> {
    let sequence = ProducerSequence { id: 7, epoch, base_sequence: base };
    let last = add_sequence(base, count - 1);
    let outcome = producers.check(sequence, last);
    if outcome == APPENDED {
        let batch = RetainedBatch {
            base_sequence: base,
            last_sequence: last,
            base_offset: offset,
            max_timestamp: offset * 10,
        };
        producers.record(7, epoch, batch);
    }
    outcome
}

fn duplicate(base_offset: i64, max_timestamp: i64) -> Option<CommitOutcome> {
    Some(CommitOutcome::Duplicate { base_offset, max_timestamp })
}

#[test]
fn unknown_producer_starts_at_any_sequence() {
    let mut p = Producers::default();
    assert_eq!(send(&mut p, 3, 41, 2, 0), APPENDED);
    assert_eq!(send(&mut p, 3, 43, 1, 2), APPENDED);
    assert_eq!(send(&mut p, 3, 45, 1, 3), OUT_OF_ORDER, "a gap");
    assert_eq!(send(&mut p, 3, 43, 2, 3), OUT_OF_ORDER, "an overlap");
}

#[test]
fn last_five_batches_are_duplicates() {
    let mut p = Producers::default();
    for i in 0..6 {
        assert_eq!(send(&mut p, 0, i, 1, i64::from(i)), APPENDED);
    }
    for i in 1..6 {
        let expected = duplicate(i64::from(i), i64::from(i) * 10);
        assert_eq!(send(&mut p, 0, i, 1, 99), expected);
    }
    assert_eq!(send(&mut p, 0, 0, 1, 99), OUT_OF_ORDER);
    assert_eq!(send(&mut p, 0, 6, 1, 6), APPENDED);
}

#[test]
fn newer_epoch_starts_at_zero_and_fences_older_epochs() {
    let mut p = Producers::default();
    send(&mut p, 1, 0, 1, 0);
    assert_eq!(send(&mut p, 2, 1, 1, 1), OUT_OF_ORDER);
    assert_eq!(send(&mut p, 2, 0, 1, 1), APPENDED);
    assert_eq!(send(&mut p, 1, 1, 1, 2), OLD_EPOCH);
    assert_eq!(send(&mut p, 1, 0, 1, 2), OLD_EPOCH, "its batches are gone");
}

#[test]
fn sequences_wrap_between_and_inside_batches() {
    let mut p = Producers::default();
    send(&mut p, 0, i32::MAX - 1, 2, 0);
    assert_eq!(send(&mut p, 0, 0, 1, 2), APPENDED);
    let mut p = Producers::default();
    send(&mut p, 0, i32::MAX - 1, 4, 0);
    assert_eq!(send(&mut p, 0, 2, 1, 4), APPENDED);
    assert_eq!(send(&mut p, 0, i32::MAX - 1, 4, 9), duplicate(0, 0));
}

#[test]
fn idle_producer_expires_after_a_day_of_seal_time() {
    let mut p = Producers::default();
    p.advance(1_000);
    send(&mut p, 5, 0, 1, 0);
    p.advance(1_000 + EXPIRATION_MS - 1);
    assert_eq!(send(&mut p, 5, 9, 1, 1), OUT_OF_ORDER);
    assert_eq!(p.iter(i64::MIN).count(), 1);
    assert_eq!(p.iter(1_000 + EXPIRATION_MS).count(), 0);
    p.advance(1_000 + EXPIRATION_MS);
    assert_eq!(p.iter(i64::MIN).count(), 0);
    assert_eq!(send(&mut p, 4, 9, 1, 1), APPENDED, "an older epoch is accepted too");
    p.advance(0);
    assert_eq!(send(&mut p, 4, 10, 1, 2), APPENDED, "the clock never goes back");
}
