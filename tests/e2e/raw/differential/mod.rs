//! One stream of Produce requests, sent to a classic topic at its broker and to a diskless one
//! through us: the answers are equal, and so is what a consumer reads afterwards.
//!
//! Where they differ on purpose, [`known::KNOWN`] says so with both answers; `docs/protocol.md`
//! has the reasons. Any other difference fails, and so does a listed one that is gone.

mod apart;
mod batches;
pub(super) mod bytes;
mod changes;
mod codecs;
mod frames;
mod idempotence;
mod inner;
mod known;
mod pair;
mod seen;
mod times;

use std::fmt::Write as _;

use known::{KNOWN, Known};
use pair::{Case, Pair};

/// What was found, and which of the known differences were seen.
#[derive(Default)]
struct Findings {
    differences: String,
    seen: Vec<&'static str>,
    cases: usize,
}

#[test]
fn a_broker_and_we_say_and_store_the_same() {
    let mut findings = Findings::default();
    batches::run(&mut findings);
    frames::run(&mut findings);
    inner::run(&mut findings);
    times::run(&mut findings);
    idempotence::run(&mut findings);
    codecs::run(&mut findings);
    apart::run(&mut findings);
    let gone = KNOWN.iter().filter(|known| !findings.seen.contains(&known.case));
    for known in gone {
        let _ = writeln!(findings.differences, "{}: listed, but not seen", known.case);
    }
    findings.report();
    // Waits for configs to be followed, and so cannot be reached while much is wrong.
    let mut findings = Findings::default();
    changes::run(&mut findings);
    findings.report();
}

impl Findings {
    fn report(self) {
        let (cases, differences) = (self.cases, self.differences);
        assert!(differences.is_empty(), "of {cases} cases:\n{differences}");
    }

    /// Sends every case to both, then reads both.
    fn compare(&mut self, pair: &mut Pair, cases: &[Case]) {
        for case in cases {
            self.compare_one(pair, case);
        }
        self.compare_logs(pair);
    }

    fn compare_one(&mut self, pair: &mut Pair, case: &Case) {
        let (ours, theirs) = pair.ask(case);
        self.cases += 1;
        let name = format!("{}: {}", pair.name, case.what);
        if let Some(known) = KNOWN.iter().find(|known| known.case == name) {
            self.seen.push(known.case);
            if !known.is(&ours, &theirs) {
                self.differ(&format!("{name} (known otherwise)"), &ours, &theirs);
            }
        } else if !is_same(&ours, &theirs) {
            self.differ(&name, &ours, &theirs);
        }
    }

    /// What a consumer reads of both topics.
    fn compare_logs(&mut self, pair: &mut Pair) {
        let (ours, theirs) = pair.read();
        for at in 0..ours.len().max(theirs.len()) {
            let of = |log: &[String]| log.get(at).map_or("nothing", String::as_str).to_owned();
            if of(&ours) != of(&theirs) {
                self.differ(
                    &format!("{}: batch {at} of the log", pair.name),
                    &of(&ours),
                    &of(&theirs),
                );
            }
        }
    }

    fn differ(&mut self, what: &str, ours: &str, theirs: &str) {
        let _ = writeln!(self.differences, "{what}\n    ours   {ours}\n    theirs {theirs}");
    }
}

/// Beside what a broker says, a refusal of ours may say why.
fn is_same(ours: &str, theirs: &str) -> bool {
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (ours.split("; ").collect(), theirs.split("; ").collect());
    let same = |(ours, theirs): (&&str, &&str)| {
        ours == theirs || ours.strip_suffix(" said") == Some(*theirs)
    };
    ours.len() == theirs.len() && ours.iter().zip(&theirs).all(same)
}

impl Known {
    fn is(&self, ours: &str, theirs: &str) -> bool {
        is_same(ours, self.ours) && theirs == self.theirs
    }
}
