//! What happened so far.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use hyper::StatusCode;

use super::call::Verb;

/// The counters of one verb.
#[derive(Debug, Default)]
struct OfVerb {
    /// Calls whose heads have been read.
    calls: u64,
    /// Those of them that are neither answered nor closed; a client that gave up counts still,
    /// as long as its call may happen.
    in_flight: u64,
    hanging_before: u64,
    hanging_after: u64,
    /// Calls that happened: what was to be written is there.
    landed: u64,
    /// Those of them that are not answered yet.
    landed_unanswered: u64,
    /// Bodies that landed, or that were sent.
    bytes: u64,
    /// Connections closed in place of an answer or amidst it.
    closed: u64,
    /// GETs of what `--keep-bytes` forgot.
    forgotten: u64,
    by_status: BTreeMap<u16, u64>,
}

/// The counters of all verbs.
#[derive(Debug, Default)]
pub(crate) struct Counters(RefCell<[OfVerb; 5]>);

impl Counters {
    fn with<T>(&self, verb: Verb, act: impl FnOnce(&mut OfVerb) -> T) -> T {
        act(&mut self.0.borrow_mut()[verb as usize])
    }

    /// A line for each counter: `put.landed 7`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for verb in Verb::ALL {
            self.with(verb, |of| {
                let rows = [
                    ("calls", of.calls),
                    ("in-flight", of.in_flight),
                    ("hanging-before", of.hanging_before),
                    ("hanging-after", of.hanging_after),
                    ("landed", of.landed),
                    ("landed-unanswered", of.landed_unanswered),
                    ("bytes", of.bytes),
                    ("closed", of.closed),
                    ("forgotten", of.forgotten),
                ];
                for (name, value) in rows {
                    let _ = writeln!(text, "{}.{name} {value}", verb.name());
                }
                for (status, count) in &of.by_status {
                    let _ = writeln!(text, "{}.status.{status} {count}", verb.name());
                }
            });
        }
        text
    }
}

/// Where a call hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hang {
    Before,
    After,
}

/// One call in the counters, from its head to its end.
#[derive(Debug)]
pub(crate) struct Tally {
    counters: Rc<Counters>,
    verb: Verb,
    landed: bool,
    answered: bool,
}

impl Tally {
    pub(crate) fn begin(counters: &Rc<Counters>, verb: Verb) -> Self {
        counters.with(verb, |of| {
            of.calls += 1;
            of.in_flight += 1;
        });
        Self { counters: Rc::clone(counters), verb, landed: false, answered: false }
    }

    /// It happened.
    pub(crate) fn landed(&mut self, bytes: u64) {
        self.landed = true;
        self.counters.with(self.verb, |of| {
            of.landed += 1;
            of.landed_unanswered += 1;
            of.bytes += bytes;
        });
    }

    /// It is being answered.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.answered = true;
        self.counters.with(self.verb, |of| *of.by_status.entry(status.as_u16()).or_default() += 1);
    }

    pub(crate) fn forgotten(&self) {
        self.counters.with(self.verb, |of| of.forgotten += 1);
    }

    /// It begins, or ends, to hang.
    pub(crate) fn hangs(&self, hang: Hang, begins: bool) {
        self.counters.with(self.verb, |of| {
            let count = match hang {
                Hang::Before => &mut of.hanging_before,
                Hang::After => &mut of.hanging_after,
            };
            *count = if begins { *count + 1 } else { *count - 1 };
        });
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.counters.with(self.verb, |of| {
            of.in_flight -= 1;
            of.landed_unanswered -= u64::from(self.landed);
            of.closed += u64::from(!self.answered);
        });
    }
}
