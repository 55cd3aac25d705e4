//! One stream of Fetch requests and lookups, sent to classic topics at their broker and to
//! diskless ones with the same content through us: the answers are equal.
//!
//! Where they differ on purpose, [`expected::EXPECTED_DIFFERENCES`] says so with both answers; `docs/protocol.md`
//! has the reasons. Any other difference fails, and so does a listed one that is gone.

mod delete_records;
mod describe;
mod describe_producers;
mod expected_differences;
mod fairness;
mod fetches;
mod leader_epochs;
mod list_offsets;
mod malformed_frames;
mod offsets_by_timestamp;
mod request_builders;
mod sessions;
mod side_by_side;
mod topic_contents;
mod waits;

use std::fmt::Write as _;

use kafka_protocol::protocol::Request;

use super::frame_edits::Edit;
use describe::Describe;
use expected_differences::EXPECTED_DIFFERENCES;
use side_by_side::{Side, SideBySide};

/// What was found, and which of the expected differences were seen.
#[derive(Default)]
struct Findings {
    differences: String,
    seen: Vec<&'static str>,
    requests: usize,
}

/// The areas, each with topics of its own.
const AREAS: &[fn(&mut Findings)] = &[
    fetches::run,
    sessions::run,
    waits::run,
    fairness::run,
    malformed_frames::run,
    list_offsets::run,
    offsets_by_timestamp::run,
    leader_epochs::run,
    describe_producers::run,
    delete_records::run,
];

#[test]
fn fetches_and_lookups_match_a_broker() {
    let mut findings = Findings::default();
    AREAS.iter().for_each(|run| run(&mut findings));
    for expected in
        EXPECTED_DIFFERENCES.iter().filter(|expected| !findings.seen.contains(&expected.case))
    {
        let _ = writeln!(findings.differences, "{}: listed, but not seen", expected.case);
    }
    let (requests, differences) = (findings.requests, findings.differences);
    assert!(differences.is_empty(), "of {requests} requests:\n{differences}");
}

/// The rows that differ; all of both where one has more.
fn apart(ours: &str, theirs: &str) -> (String, String) {
    let (left, right): (Vec<_>, Vec<_>) =
        (ours.split("; ").collect(), theirs.split("; ").collect());
    if left.len() != right.len() {
        return (ours.to_owned(), theirs.to_owned());
    }
    let differ = left.into_iter().zip(right).filter(|(ours, theirs)| ours != theirs);
    let (left, right): (Vec<_>, Vec<_>) = differ.unzip();
    (left.join("; "), right.join("; "))
}

/// Whether a name is of a pattern, in which a star stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter(|&at| rest.is_char_boundary(at))
                .any(|at| matches(after, &rest[at..]))
        }),
    }
}

impl Findings {
    /// Sends a request to both, and compares what they say.
    fn ask<R>(
        &mut self,
        sides: &mut SideBySide,
        what: &str,
        version: i16,
        build: impl Fn(&Side) -> R,
    ) where
        R: Request,
        R::Response: Describe,
    {
        self.ask_edited(sides, what, version, build, None);
    }

    /// As [`Findings::ask`], with a frame that is changed before it is sent.
    fn ask_edited<R>(
        &mut self,
        sides: &mut SideBySide,
        what: &str,
        version: i16,
        build: impl Fn(&Side) -> R,
        edit: Option<Edit>,
    ) where
        R: Request,
        R::Response: Describe,
    {
        let (ours, theirs) = sides.ask(version, build, edit);
        self.compare(sides.name, &format!("{what} v{version}"), &ours, &theirs);
    }

    fn compare(&mut self, sides: &str, what: &str, ours: &str, theirs: &str) {
        self.requests += 1;
        let name = format!("{sides}: {what}");
        if ours == theirs {
            return;
        }
        let (only_ours, only_theirs) = apart(ours, theirs);
        if let Some(expected) =
            EXPECTED_DIFFERENCES.iter().find(|expected| matches(expected.case, &name))
        {
            self.seen.push(expected.case);
            if (expected.ours, expected.theirs) != (&only_ours, &only_theirs) {
                self.differ(&format!("{name} (expected otherwise)"), &only_ours, &only_theirs);
            }
        } else {
            self.differ(&name, &only_ours, &only_theirs);
        }
    }

    fn differ(&mut self, what: &str, ours: &str, theirs: &str) {
        let _ = writeln!(self.differences, "{what}\n    ours   {ours}\n    theirs {theirs}");
    }
}
