//! One stream of Fetch requests and lookups, sent to classic topics at their broker and to
//! diskless ones with the same content through us: the answers are equal.
//!
//! Where they differ on purpose, [`known::KNOWN`] says so with both answers; `docs/protocol.md`
//! has the reasons. Any other difference fails, and so does a listed one that is gone.

mod asking;
mod deletions;
mod epochs;
mod fairness;
mod fetches;
mod frames;
mod known;
mod lookups;
mod pair;
mod producers;
mod seen;
mod sessions;
mod stock;
mod times;
mod waits;

use std::fmt::Write as _;

use kafka_protocol::protocol::Request;

use known::KNOWN;
use pair::{Pair, Side};
use seen::Describe;

/// What was found, and which of the known differences were seen.
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
    frames::run,
    lookups::run,
    times::run,
    epochs::run,
    producers::run,
    deletions::run,
];

#[test]
fn a_broker_and_we_give_and_find_the_same() {
    let mut findings = Findings::default();
    AREAS.iter().for_each(|run| run(&mut findings));
    for known in KNOWN.iter().filter(|known| !findings.seen.contains(&known.case)) {
        let _ = writeln!(findings.differences, "{}: listed, but not seen", known.case);
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
    fn ask<R>(&mut self, pair: &mut Pair, what: &str, version: i16, build: impl Fn(&Side) -> R)
    where
        R: Request,
        R::Response: Describe,
    {
        self.ask_edited(pair, what, version, build, None);
    }

    /// As [`Findings::ask`], with a frame that is changed before it is sent.
    fn ask_edited<R>(
        &mut self,
        pair: &mut Pair,
        what: &str,
        version: i16,
        build: impl Fn(&Side) -> R,
        edit: Option<fn(Vec<u8>) -> Vec<u8>>,
    ) where
        R: Request,
        R::Response: Describe,
    {
        let (ours, theirs) = pair.ask(version, build, edit);
        self.compare(pair.name, &format!("{what} v{version}"), &ours, &theirs);
    }

    fn compare(&mut self, pair: &str, what: &str, ours: &str, theirs: &str) {
        self.requests += 1;
        let name = format!("{pair}: {what}");
        if ours == theirs {
            return;
        }
        let (only_ours, only_theirs) = apart(ours, theirs);
        if let Some(known) = KNOWN.iter().find(|known| matches(known.case, &name)) {
            self.seen.push(known.case);
            if (known.ours, known.theirs) != (&only_ours, &only_theirs) {
                self.differ(&format!("{name} (known otherwise)"), &only_ours, &only_theirs);
            }
        } else {
            self.differ(&name, &only_ours, &only_theirs);
        }
    }

    fn differ(&mut self, what: &str, ours: &str, theirs: &str) {
        let _ = writeln!(self.differences, "{what}\n    ours   {ours}\n    theirs {theirs}");
    }
}
