//! The same Produce requests, sent to a classic topic at its broker and to a diskless topic through
//! a replica: the responses and the logs are equal, except for [`EXPECTED_DIFFERENCES`].

mod batches;
mod compression;
mod config_changes;
mod diverging_logs;
mod expected_differences;
mod idempotence;
mod malformed_frames;
mod read_log;
mod record_contents;
mod side_by_side;
mod timestamps;

use std::fmt::Write as _;

use expected_differences::EXPECTED_DIFFERENCES;
use side_by_side::{Case, SideBySide};

/// The differences that were found, and the expected ones that occurred.
#[derive(Default)]
struct Findings {
    differences: String,
    seen: Vec<&'static str>,
    cases: usize,
}

#[test]
fn produce_responses_and_logs_match_a_broker() {
    let mut findings = Findings::default();
    batches::run(&mut findings);
    malformed_frames::run(&mut findings);
    record_contents::run(&mut findings);
    timestamps::run(&mut findings);
    idempotence::run(&mut findings);
    compression::run(&mut findings);
    diverging_logs::run(&mut findings);
    let missing =
        EXPECTED_DIFFERENCES.iter().filter(|expected| !findings.seen.contains(&expected.case));
    for expected in missing {
        let _ = writeln!(findings.differences, "{}: listed, but did not occur", expected.case);
    }
    findings.report();
    // This part waits for config changes, and is only reached if the first part passes.
    let mut findings = Findings::default();
    config_changes::run(&mut findings);
    findings.report();
}

impl Findings {
    fn report(self) {
        let (cases, differences) = (self.cases, self.differences);
        assert!(differences.is_empty(), "of {cases} cases:\n{differences}");
    }

    /// Sends every case to both sides, then reads both logs.
    fn compare(&mut self, sides: &mut SideBySide, cases: &[Case]) {
        for case in cases {
            self.compare_one(sides, case);
        }
        self.compare_logs(sides);
    }

    fn compare_one(&mut self, sides: &mut SideBySide, case: &Case) {
        let (ours, theirs) = sides.query(case);
        self.cases += 1;
        let name = format!("{}: {}", sides.name, case.label);
        if let Some(expected) = EXPECTED_DIFFERENCES.iter().find(|expected| expected.case == name) {
            self.seen.push(expected.case);
            if !is_same(&ours, expected.ours) || theirs != expected.theirs {
                self.differ(&format!("{name} (expected otherwise)"), &ours, &theirs);
            }
        } else if !is_same(&ours, &theirs) {
            self.differ(&name, &ours, &theirs);
        }
    }

    /// Compares the logs of both topics.
    fn compare_logs(&mut self, sides: &mut SideBySide) {
        let (ours, theirs) = sides.read();
        for at in 0..ours.len().max(theirs.len()) {
            let of = |log: &[String]| log.get(at).map_or("no batch", String::as_str).to_owned();
            if of(&ours) != of(&theirs) {
                self.differ(
                    &format!("{}: batch {at} of the log", sides.name),
                    &of(&ours),
                    &of(&theirs),
                );
            }
        }
    }

    fn differ(&mut self, label: &str, ours: &str, theirs: &str) {
        let _ = writeln!(self.differences, "{label}\n    ours   {ours}\n    theirs {theirs}");
    }
}

/// Returns whether two responses are equal, except that our errors may have a message.
fn is_same(ours: &str, theirs: &str) -> bool {
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (ours.split("; ").collect(), theirs.split("; ").collect());
    let same = |(ours, theirs): (&&str, &&str)| {
        ours == theirs || ours.strip_suffix(" message") == Some(*theirs)
    };
    ours.len() == theirs.len() && ours.iter().zip(&theirs).all(same)
}
