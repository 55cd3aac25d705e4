//! Idempotent producers (KIP-98): duplicates, gaps, epochs, and sequences that wrap.
//!
//! A producer expires after `producer.id.expiration.ms`, a day: `log/producer_state` tests it.

use super::super::raw_batch::{GZIP, RawBatch, raw_record};
use super::Findings;
use super::side_by_side::{Case, SideBySide, case};

pub(super) fn run(findings: &mut Findings) {
    findings.compare(&mut SideBySide::new("sequences", &[]), &sequences());
    findings.compare(&mut SideBySide::new("wraps", &[]), &wraps());
    findings.compare(&mut SideBySide::new("epochs", &[]), &epochs());
    findings.compare(&mut SideBySide::new("producers", &[]), &producers());
    let rebuilt = [("compression.type", "zstd")];
    findings.compare(&mut SideBySide::new("rebuilt sequences", &rebuilt), &sequences());
}

/// A batch of two records with this first sequence.
pub(super) fn of(id: i64, epoch: i16, sequence: i32) -> Case {
    sized(id, epoch, sequence, 2)
}

pub(super) fn sized(id: i64, epoch: i16, sequence: i32, records: i64) -> Case {
    let batch = RawBatch::of((0..records).map(|n| raw_record(n, "v")).collect());
    case(
        format!("producer {id} epoch {epoch} sequence {sequence}+{records}"),
        &batch.by(id, epoch, sequence),
    )
}

/// Numbers the cases: many are sent twice.
pub(super) fn numbered(cases: Vec<Case>) -> Vec<Case> {
    let number = |(n, case): (usize, Case)| Case { label: format!("{n}. {}", case.label), ..case };
    cases.into_iter().enumerate().map(number).collect()
}

fn sequences() -> Vec<Case> {
    let mut cases: Vec<Case> = (0..7).map(|n| of(1, 0, 2 * n)).collect();
    cases.extend((0..7).rev().map(|n| of(1, 0, 2 * n)));
    cases.extend([
        of(1, 0, 16),
        of(1, 0, 20),
        of(1, 0, 13),
        of(1, 0, 11),
        sized(1, 0, 12, 1),
        sized(1, 0, 13, 1),
        sized(1, 0, 10, 4),
        sized(1, 0, 12, 4),
        sized(1, 0, 14, 5),
        sized(1, 0, 14, 5),
        sized(1, 0, 14, 2),
        of(1, 0, i32::MAX),
        of(2, 0, 77),
        of(2, 0, 0),
        of(2, 0, 79),
        case(
            "other content",
            &RawBatch::of(vec![raw_record(0, "other"), raw_record(1, "x")]).by(2, 0, 79),
        ),
        case("other codec", &RawBatch::two().codec(GZIP).by(2, 0, 79)),
        case("other time", &RawBatch::two().at(5).by(2, 0, 79)),
        case(
            "corrupt and a duplicate",
            &RawBatch { bad_crc: true, ..RawBatch::two() }.by(2, 0, 79),
        ),
        of(2, 0, 81).acks(0),
        of(2, 0, 81),
        of(2, 0, 90).acks(0),
        of(2, 0, 83).acks(1),
    ]);
    for partition in 1..3 {
        cases.push(of(1, 0, 19).to(super::side_by_side::TopicRef::Topic, partition));
    }
    let twice = of(3, 0, 0).and(1, RawBatch::two().by(3, 0, 0).bytes());
    cases.push(twice.and(2, RawBatch::two().by(3, 0, 9).bytes()));
    cases.push(
        of(3, 0, 2)
            .and(1, RawBatch::two().by(3, 0, 7).bytes())
            .and(2, RawBatch::two().by(3, 0, 9).bytes()),
    );
    numbered(cases)
}

fn wraps() -> Vec<Case> {
    let max = i32::MAX;
    numbered(vec![
        of(1, 0, max - 3),
        of(1, 0, max - 1),
        of(1, 0, 0),
        of(1, 0, max - 1),
        of(1, 0, 2),
        of(1, 0, 2),
        sized(2, 0, max - 1, 5),
        of(2, 0, 3),
        sized(2, 0, max - 1, 5),
        of(2, 0, 3),
        of(2, 0, 4),
        of(2, 0, 5),
        sized(3, 0, max, 1),
        sized(3, 0, 1, 1),
        sized(3, 0, 0, 1),
        sized(3, 0, max, 1),
    ])
}

fn epochs() -> Vec<Case> {
    numbered(vec![
        of(1, 4, 0),
        of(1, 4, 2),
        of(1, 5, 4),
        of(1, 5, 2),
        of(1, 3, 0),
        of(1, 3, 4),
        of(1, 4, 4),
        of(1, 5, 0),
        of(1, 5, 0),
        of(1, 4, 4),
        of(1, 4, 6),
        of(1, 5, 2),
        of(1, i16::MAX, 0),
        of(1, 6, 0),
        of(2, 9, 33),
        of(2, 10, 35),
        of(2, 10, 0),
        of(2, 9, 35),
        of(1, 0, -1),
        of(9, 0, -1),
        of(9, 0, i32::MIN),
        of(9, 0, -5),
    ])
}

/// Invalid producer ids.
fn producers() -> Vec<Case> {
    numbered(vec![
        of(-1, 0, 0),
        of(-1, 3, 9),
        of(-2, 0, 0),
        of(-2, 0, 5),
        of(i64::MIN, 0, 5),
        of(i64::MAX, 0, 5),
        of(i64::MAX, 0, 7),
        of(0, 0, 0),
        of(0, 0, 3),
    ])
}
