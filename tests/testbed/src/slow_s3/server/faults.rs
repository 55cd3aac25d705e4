//! Calls that go wrong as scripted.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::Notify;

use super::call::{Call, Verb};

/// How a call ends, when not by its ordinary answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The connection is closed at once; nothing happens.
    Refuse,
    /// An error is answered; nothing happens.
    Status(StatusCode, String),
    /// It happens, and the connection is closed without an answer.
    Lost,
    /// PUT: half of the body is read, nothing happens. GET: half of the body is sent.
    Partial,
    /// GET: one bit of the body is another.
    Corrupt,
}

/// What befalls a call: any of these together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Effect {
    /// How long it waits before it happens.
    pub(crate) hang_before: Duration,
    /// How long its answer waits after it happened.
    pub(crate) hang_after: Duration,
    pub(crate) outcome: Option<Outcome>,
    /// A wrong checksum is accepted.
    pub(crate) lenient_checksum: bool,
    /// An object that exists is written over.
    pub(crate) ignore_if_none_match: bool,
}

/// Which calls, and what befalls them.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: u64,
    /// None: all verbs.
    pub(crate) verb: Option<Verb>,
    /// Of the key, without its bucket.
    pub(crate) prefix: String,
    /// What the key has anywhere; empty: nothing in particular.
    pub(crate) contains: String,
    /// So many calls are left alone first.
    pub(crate) skip: Cell<u64>,
    /// So many calls more; `u64::MAX` stands until it is lifted.
    pub(crate) left: Cell<u64>,
    pub(crate) effect: Effect,
    hits: Cell<u64>,
    hanging: Cell<u64>,
    released: Notify,
}

impl Rule {
    pub(crate) fn new(verb: Option<Verb>, effect: Effect) -> Self {
        Self {
            id: 0,
            verb,
            prefix: String::new(),
            contains: String::new(),
            skip: Cell::new(0),
            left: Cell::new(u64::MAX),
            effect,
            hits: Cell::new(0),
            hanging: Cell::new(0),
            released: Notify::new(),
        }
    }

    fn matches(&self, call: &Call) -> bool {
        self.verb.is_none_or(|verb| verb == call.verb)
            && call.key.starts_with(&self.prefix)
            && call.key.contains(&self.contains)
    }

    /// Waits for so long, or until it is released.
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

/// All rules since the start, those that are over too.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: RefCell<Vec<Rc<Rule>>>,
}

impl Faults {
    /// Adds a rule behind those that stand; gives its id.
    pub(crate) fn add(&self, mut rule: Rule) -> u64 {
        let mut rules = self.rules.borrow_mut();
        rule.id = rules.len() as u64 + 1;
        let id = rule.id;
        rules.push(Rc::new(rule));
        id
    }

    /// The first rule that concerns this call, which is one of its calls then.
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

    /// Ends a rule, or all; calls that hang go on hanging.
    pub(crate) fn lift(&self, id: Option<u64>) {
        self.each(id, |rule| rule.left.set(0));
    }

    /// Lets the calls that hang by a rule, or by any, go on now.
    pub(crate) fn release(&self, id: Option<u64>) {
        self.each(id, |rule| rule.released.notify_waiters());
    }

    fn each(&self, id: Option<u64>, act: impl Fn(&Rule)) {
        let rules = self.rules.borrow();
        rules.iter().filter(|rule| id.is_none_or(|id| id == rule.id)).for_each(|rule| act(rule));
    }

    /// A line for each rule.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for rule in self.rules.borrow().iter() {
            let left = match rule.left.get() {
                u64::MAX => "standing".to_owned(),
                left => left.to_string(),
            };
            let verb = rule.verb.map_or("any", Verb::name);
            let (hits, hanging) = (rule.hits.get(), rule.hanging.get());
            let _ = writeln!(
                text,
                "id={} verb={verb} prefix={} contains={} left={left} hits={hits} hanging={hanging}",
                rule.id, rule.prefix, rule.contains
            );
        }
        text
    }
}
