//! DeleteRecords, and the records that remain.

use super::Findings;
use super::request_builders::{deletion, fetch, positions};
use super::side_by_side::{SideBySide, TopicRef};
use super::topic_contents::fill;

pub(super) fn run(findings: &mut Findings) {
    for version in 0..=2 {
        let mut sides = SideBySide::new("deletions", 5, &[]);
        fill(&mut sides);
        steps(findings, &mut sides, version);
    }
}

/// A label, and the partitions with their offsets.
type Step = (&'static str, &'static [(TopicRef, i32, i64)]);

fn steps(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    let steps: [Step; 19] = [
        ("no partitions", &[]),
        ("from the start", &[(TopicRef::Main, 0, 0)]),
        ("in mid-batch", &[(TopicRef::Main, 0, 4)]),
        ("the same again", &[(TopicRef::Main, 0, 4)]),
        ("below the start", &[(TopicRef::Main, 0, 1)]),
        ("beyond the end", &[(TopicRef::Main, 0, 31)]),
        ("far beyond the end", &[(TopicRef::Main, 0, i64::MAX)]),
        ("negative", &[(TopicRef::Main, 0, -2), (TopicRef::Main, 3, i64::MIN)]),
        ("an empty one", &[(TopicRef::Main, 1, 0), (TopicRef::Main, 4, -1)]),
        ("an empty one, beyond", &[(TopicRef::Main, 1, 1)]),
        ("an empty one to its end", &[(TopicRef::Main, 1, -1)]),
        (
            "several fates",
            &[(TopicRef::Main, 0, 6), (TopicRef::Main, 77, 0), (TopicRef::Main, 2, 99)],
        ),
        (
            "unknown ones",
            &[(TopicRef::Main, -1, 0), (TopicRef::Unknown, 0, 0), (TopicRef::Zero, 0, 0)],
        ),
        ("an illegal one", &[(TopicRef::Illegal, 0, 0), (TopicRef::Second, 0, 1)]),
        ("twice", &[(TopicRef::Main, 3, 1), (TopicRef::Main, 3, 2)]),
        ("twice, the other way", &[(TopicRef::Main, 3, 9), (TopicRef::Main, 3, 5)]),
        ("twice, one wrong", &[(TopicRef::Main, 3, 99), (TopicRef::Main, 3, 10)]),
        ("all but one", &[(TopicRef::Main, 0, 29), (TopicRef::Main, 3, 50)]),
        ("all", &[(TopicRef::Main, 0, -1), (TopicRef::Main, 2, 16)]),
    ];
    for (label, parts) in steps {
        findings.query(sides, label, version, |side| deletion(side, parts));
        let of = |time| [0, 1, 2, 3, 4].map(|index| (TopicRef::Main, index, time));
        for time in [-1, -2, -4, 0] {
            let label = format!("{label} at {version}: offsets of {time}");
            findings.query(sides, &label, 8, |side| positions(side, &of(time)));
        }
        for offset in [0, 1, 4, 6, 29, 30] {
            let label = format!("{label} at {version}: fetched from {offset}");
            findings.query(sides, &label, 12, |side| fetch(side, 12, &of(offset)));
        }
    }
}
