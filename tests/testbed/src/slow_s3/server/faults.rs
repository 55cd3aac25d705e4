//! Scripted faults.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::Notify;

use super::call::{Call, Operation};

/// End of a call other than its normal response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The connection is closed at once; the call has no effect.
    Refuse,
    /// An error is returned; the call has no effect.
    Status(StatusCode, String),
    /// The call takes effect and the connection is closed without a response.
    Lost,
    /// PUT: half of the body is read, without effect. GET: half of the body is sent.
    Partial,
    /// GET: one bit of the body is flipped.
    Corrupt,
}

/// The effects of a rule, which may be combined.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effect {
    /// The delay before the call takes effect.
    pub(crate) hang_before: Duration,
    /// The delay of the response after the call took effect.
    pub(crate) hang_after: Duration,
    pub(crate) outcome: Option<Outcome>,
    /// A wrong checksum is accepted.
    pub(crate) lenient_checksum: bool,
    /// An existing object is overwritten.
    pub(crate) ignore_if_none_match: bool,
}

/// Which calls a fault applies to, and its effects.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: u64,
    /// `None`: all operations.
    pub(crate) operation: Option<Operation>,
    /// The prefix of the key without its bucket.
    pub(crate) prefix: String,
    /// A part of the key; empty matches all.
    pub(crate) contains: String,
    /// Bodies of more bytes than this match; 0 matches all.
    pub(crate) bytes_above: u64,
    /// Number of matching calls that are unaffected first.
    pub(crate) skip: Cell<u64>,
    /// Number of calls to which it still applies; `u64::MAX` has no limit.
    pub(crate) left: Cell<u64>,
    pub(crate) effect: Effect,
    hits: Cell<u64>,
    hanging: Cell<u64>,
    released: Notify,
}

impl Rule {
    pub(crate) fn new(operation: Option<Operation>, effect: Effect) -> Self {
        Self {
            id: 0,
            operation,
            prefix: String::new(),
            contains: String::new(),
            bytes_above: 0,
            skip: Cell::new(0),
            left: Cell::new(u64::MAX),
            effect,
            hits: Cell::new(0),
            hanging: Cell::new(0),
            released: Notify::new(),
        }
    }

    fn matches(&self, call: &Call) -> bool {
        self.operation.is_none_or(|operation| operation == call.operation)
            && call.key.starts_with(&self.prefix)
            && call.key.contains(&self.contains)
            && (self.bytes_above == 0 || call.content_length > self.bytes_above)
    }

    /// Waits for `length` or until the rule is released.
    pub(crate) async fn hang(&self, length: Duration) {
        if length.is_zero() {
            return;
        }
        self.hanging.set(self.hanging.get() + 1);
        tokio::select! {
            () = tokio::time::sleep(length) => {}
            () = self.released.notified() => {}
        }
        self.hanging.set(self.hanging.get() - 1);
    }
}

/// All rules since the start, including those that have ended.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: RefCell<Vec<Rc<Rule>>>,
}

impl Faults {
    /// Adds a rule behind the others and returns its id.
    pub(crate) fn add(&self, mut rule: Rule) -> u64 {
        let mut rules = self.rules.borrow_mut();
        rule.id = rules.len() as u64 + 1;
        let id = rule.id;
        rules.push(Rc::new(rule));
        id
    }

    /// Returns the first rule that matches a call, and counts the call as one of its hits.
    pub(crate) fn take(&self, call: &Call) -> Option<Rc<Rule>> {
        let rules = self.rules.borrow();
        let rule = rules.iter().find(|rule| {
            let concerned = rule.left.get() > 0 && rule.matches(call);
            let skipped = concerned && rule.skip.get() > 0;
            if skipped {
                rule.skip.set(rule.skip.get() - 1);
            }
            concerned && !skipped
        })?;
        if rule.left.get() != u64::MAX {
            rule.left.set(rule.left.get() - 1);
        }
        rule.hits.set(rule.hits.get() + 1);
        Some(Rc::clone(rule))
    }

    /// Ends a rule, or all; delayed calls stay delayed.
    pub(crate) fn lift(&self, id: Option<u64>) {
        self.each(id, |rule| rule.left.set(0));
    }

    /// Continues the calls that a rule, or any rule, delays.
    pub(crate) fn release(&self, id: Option<u64>) {
        self.each(id, |rule| rule.released.notify_waiters());
    }

    fn each(&self, id: Option<u64>, act: impl Fn(&Rule)) {
        let rules = self.rules.borrow();
        rules.iter().filter(|rule| id.is_none_or(|id| id == rule.id)).for_each(|rule| act(rule));
    }

    /// Returns a line for each rule.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for rule in self.rules.borrow().iter() {
            let left = match rule.left.get() {
                u64::MAX => "standing".to_owned(),
                left => left.to_string(),
            };
            let operation = rule.operation.map_or("any", Operation::name);
            let (hits, hanging) = (rule.hits.get(), rule.hanging.get());
            let _ = writeln!(
                text,
                "id={} operation={operation} prefix={} contains={} left={left} hits={hits} hanging={hanging}",
                rule.id, rule.prefix, rule.contains
            );
        }
        text
    }
}
