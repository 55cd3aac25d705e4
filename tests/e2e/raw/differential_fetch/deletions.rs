//! DeleteRecords, and what is left afterwards.

use super::Findings;
use super::asking::{deletion, fetch, positions};
use super::pair::{Pair, To};
use super::stock::fill;

pub(super) fn run(findings: &mut Findings) {
    for version in 0..=2 {
        let mut pair = Pair::new("deletions", 5, &[]);
        fill(&mut pair);
        steps(findings, &mut pair, version);
    }
}

/// What it is about, and the partitions with their offsets.
type Step = (&'static str, &'static [(To, i32, i64)]);

fn steps(findings: &mut Findings, pair: &mut Pair, version: i16) {
    let steps: [Step; 19] = [
        ("nothing", &[]),
        ("from the start", &[(To::Main, 0, 0)]),
        ("in mid-batch", &[(To::Main, 0, 4)]),
        ("the same again", &[(To::Main, 0, 4)]),
        ("below the start", &[(To::Main, 0, 1)]),
        ("beyond the end", &[(To::Main, 0, 31)]),
        ("far beyond the end", &[(To::Main, 0, i64::MAX)]),
        ("negative", &[(To::Main, 0, -2), (To::Main, 3, i64::MIN)]),
        ("an empty one", &[(To::Main, 1, 0), (To::Main, 4, -1)]),
        ("an empty one, beyond", &[(To::Main, 1, 1)]),
        ("an empty one to its end", &[(To::Main, 1, -1)]),
        ("several fates", &[(To::Main, 0, 6), (To::Main, 77, 0), (To::Main, 2, 99)]),
        ("unknown ones", &[(To::Main, -1, 0), (To::Nobody, 0, 0), (To::Zero, 0, 0)]),
        ("an illegal one", &[(To::Illegal, 0, 0), (To::Second, 0, 1)]),
        ("twice", &[(To::Main, 3, 1), (To::Main, 3, 2)]),
        ("twice, the other way", &[(To::Main, 3, 9), (To::Main, 3, 5)]),
        ("twice, one wrong", &[(To::Main, 3, 99), (To::Main, 3, 10)]),
        ("all but one", &[(To::Main, 0, 29), (To::Main, 3, 50)]),
        ("all", &[(To::Main, 0, -1), (To::Main, 2, 16)]),
    ];
    for (what, parts) in steps {
        findings.ask(pair, what, version, |side| deletion(side, parts));
        let of = |time| [0, 1, 2, 3, 4].map(|index| (To::Main, index, time));
        for time in [-1, -2, -4, 0] {
            let what = format!("{what} at {version}: offsets of {time}");
            findings.ask(pair, &what, 8, |side| positions(side, &of(time)));
        }
        for offset in [0, 1, 4, 6, 29, 30] {
            let what = format!("{what} at {version}: fetched from {offset}");
            findings.ask(pair, &what, 12, |side| fetch(side, 12, &of(offset)));
        }
    }
}
