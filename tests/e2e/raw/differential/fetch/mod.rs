//! The same Fetch requests and lookups, sent to classic topics at their broker and to diskless
//! topics with the same content through a replica: the responses are equal, except for
//! [`EXPECTED_DIFFERENCES`].

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

/// The differences that were found, and the expected ones that occurred.
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
        let _ = writeln!(findings.differences, "{}: listed, but did not occur", expected.case);
    }
    let (requests, differences) = (findings.requests, findings.differences);
    assert!(differences.is_empty(), "of {requests} requests:\n{differences}");
}

/// Returns the rows that differ; all rows if the numbers of rows differ.
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

/// Returns whether a name matches a pattern, in which a star stands for any text.
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
    /// Sends a request to both sides and compares the responses.
    fn query<R>(
        &mut self,
        sides: &mut SideBySide,
        label: &str,
        version: i16,
        build: impl Fn(&Side) -> R,
    ) where
        R: Request,
        R::Response: Describe,
    {
        self.query_edited(sides, label, version, build, None);
    }

    /// Compares like [`Findings::query`], with a frame that is edited before it is sent.
    fn query_edited<R>(
        &mut self,
        sides: &mut SideBySide,
        label: &str,
        version: i16,
        build: impl Fn(&Side) -> R,
        edit: Option<Edit>,
    ) where
        R: Request,
        R::Response: Describe,
    {
        let (ours, theirs) = sides.query(version, build, edit);
        self.compare(sides.name, &format!("{label} v{version}"), &ours, &theirs);
    }

    fn compare(&mut self, sides: &str, label: &str, ours: &str, theirs: &str) {
        self.requests += 1;
        let name = format!("{sides}: {label}");
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

    fn differ(&mut self, label: &str, ours: &str, theirs: &str) {
        let _ = writeln!(self.differences, "{label}\n    ours   {ours}\n    theirs {theirs}");
    }
}
