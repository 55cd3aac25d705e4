use super::*;

/// Sends `(epoch, base sequence, records)` and appends what is let through at `offset`.
fn send(producers: &mut Producers, epoch: i16, base: i32, count: i32, offset: i64) -> Verdict {
    let claim = ProducerSequence { id: 7, epoch, base_sequence: base };
    let last = add_sequence(base, count - 1);
    let verdict = producers.check(claim, last);
    if verdict == Verdict::Append {
        let batch = RememberedBatch {
            base_sequence: base,
            last_sequence: last,
            base_offset: offset,
            max_timestamp: offset * 10,
        };
        producers.remember(7, epoch, batch);
    }
    verdict
}

fn duplicate_at(verdict: Verdict) -> Option<(i64, i64)> {
    match verdict {
        Verdict::Duplicate(batch) => Some((batch.base_offset, batch.max_timestamp)),
        Verdict::Append | Verdict::OutOfOrderSequence | Verdict::InvalidProducerEpoch => None,
    }
}

#[test]
fn an_unknown_producer_starts_anywhere_and_then_continues() {
    let mut p = Producers::default();
    assert_eq!(send(&mut p, 3, 41, 2, 0), Verdict::Append);
    assert_eq!(send(&mut p, 3, 43, 1, 2), Verdict::Append);
    assert_eq!(send(&mut p, 3, 45, 1, 3), Verdict::OutOfOrderSequence, "a gap");
    assert_eq!(send(&mut p, 3, 43, 2, 3), Verdict::OutOfOrderSequence, "an overlap");
}

#[test]
fn five_batches_back_is_a_duplicate_and_six_is_not() {
    let mut p = Producers::default();
    for i in 0..6 {
        assert_eq!(send(&mut p, 0, i, 1, i64::from(i)), Verdict::Append);
    }
    for i in 1..6 {
        let expected = Some((i64::from(i), i64::from(i) * 10));
        assert_eq!(duplicate_at(send(&mut p, 0, i, 1, 99)), expected);
    }
    assert_eq!(send(&mut p, 0, 0, 1, 99), Verdict::OutOfOrderSequence);
    assert_eq!(send(&mut p, 0, 6, 1, 6), Verdict::Append);
}

#[test]
fn a_newer_epoch_starts_at_zero_and_fences_the_older() {
    let mut p = Producers::default();
    send(&mut p, 1, 0, 1, 0);
    assert_eq!(send(&mut p, 2, 1, 1, 1), Verdict::OutOfOrderSequence);
    assert_eq!(send(&mut p, 2, 0, 1, 1), Verdict::Append);
    assert_eq!(send(&mut p, 1, 1, 1, 2), Verdict::InvalidProducerEpoch);
    assert_eq!(send(&mut p, 1, 0, 1, 2), Verdict::InvalidProducerEpoch, "its batches are gone");
}

#[test]
fn sequences_wrap_between_and_inside_batches() {
    let mut p = Producers::default();
    send(&mut p, 0, i32::MAX - 1, 2, 0);
    assert_eq!(send(&mut p, 0, 0, 1, 2), Verdict::Append);
    let mut p = Producers::default();
    send(&mut p, 0, i32::MAX - 1, 4, 0);
    assert_eq!(send(&mut p, 0, 2, 1, 4), Verdict::Append);
    assert_eq!(duplicate_at(send(&mut p, 0, i32::MAX - 1, 4, 9)), Some((0, 0)));
}

#[test]
fn a_silent_producer_expires_after_a_day_of_seal_time() {
    let mut p = Producers::default();
    p.advance(1_000);
    send(&mut p, 5, 0, 1, 0);
    p.advance(1_000 + EXPIRATION_MS - 1);
    assert_eq!(send(&mut p, 5, 9, 1, 1), Verdict::OutOfOrderSequence);
    assert_eq!(p.iter().count(), 1);
    p.advance(1_000 + EXPIRATION_MS);
    assert_eq!(p.iter().count(), 0);
    assert_eq!(send(&mut p, 4, 9, 1, 1), Verdict::Append, "even the older epoch is welcome");
    p.advance(0);
    assert_eq!(send(&mut p, 4, 10, 1, 2), Verdict::Append, "the clock never goes back");
}
