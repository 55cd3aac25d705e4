//! Counters of calls.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use hyper::StatusCode;

use super::call::Operation;

/// The counters of one operation.
#[derive(Debug, Default)]
struct OperationCounters {
    /// Calls whose heads have been read.
    calls: u64,
    /// Those of them for keys of metadata, such as the records of processes.
    metadata_calls: u64,
    /// Calls that are neither answered nor closed, including those whose client gave up while they
    /// may still take effect.
    in_flight: u64,
    hanging_before: u64,
    hanging_after: u64,
    /// Calls that took effect.
    landed: u64,
    /// Calls that took effect and are not answered yet.
    landed_unanswered: u64,
    /// Bytes of bodies that were stored or sent.
    bytes: u64,
    /// Connections closed instead of or within a response.
    closed: u64,
    /// GETs of objects that `--keep-bytes` dropped.
    forgotten: u64,
    by_status: BTreeMap<u16, u64>,
}

/// The counters of all operations.
#[derive(Debug, Default)]
pub(crate) struct Counters(RefCell<[OperationCounters; 5]>);

impl Counters {
    fn with<T>(&self, operation: Operation, act: impl FnOnce(&mut OperationCounters) -> T) -> T {
        act(&mut self.0.borrow_mut()[operation as usize])
    }

    /// Returns a line for each counter: `put.landed 7`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for operation in Operation::ALL {
            self.with(operation, |of| {
                let rows = [
                    ("calls", of.calls),
                    ("metadata-calls", of.metadata_calls),
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
                    let _ = writeln!(text, "{}.{name} {value}", operation.name());
                }
                for (status, count) in &of.by_status {
                    let _ = writeln!(text, "{}.status.{status} {count}", operation.name());
                }
            });
        }
        text
    }
}

/// Point at which a call is delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hang {
    Before,
    After,
}

/// Counts one call from its head to its end.
#[derive(Debug)]
pub(crate) struct CallRecord {
    counters: Rc<Counters>,
    operation: Operation,
    landed: bool,
    answered: bool,
}

impl CallRecord {
    pub(crate) fn begin(counters: &Rc<Counters>, operation: Operation, key: &str) -> Self {
        counters.with(operation, |of| {
            of.calls += 1;
            of.metadata_calls += u64::from(key.contains("meta/"));
            of.in_flight += 1;
        });
        Self { counters: Rc::clone(counters), operation, landed: false, answered: false }
    }

    /// The call took effect.
    pub(crate) fn landed(&mut self, bytes: u64) {
        self.landed = true;
        self.counters.with(self.operation, |of| {
            of.landed += 1;
            of.landed_unanswered += 1;
            of.bytes += bytes;
        });
    }

    /// The response is being sent.
    pub(crate) fn answered(mut self, status: StatusCode) {
        self.answered = true;
        self.counters
            .with(self.operation, |of| *of.by_status.entry(status.as_u16()).or_default() += 1);
    }

    pub(crate) fn forgotten(&self) {
        self.counters.with(self.operation, |of| of.forgotten += 1);
    }

    /// A delay begins or ends.
    pub(crate) fn hangs(&self, hang: Hang, begins: bool) {
        self.counters.with(self.operation, |of| {
            let count = match hang {
                Hang::Before => &mut of.hanging_before,
                Hang::After => &mut of.hanging_after,
            };
            *count = if begins { *count + 1 } else { *count - 1 };
        });
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        self.counters.with(self.operation, |of| {
            of.in_flight -= 1;
            of.landed_unanswered -= u64::from(self.landed);
            of.closed += u64::from(!self.answered);
        });
    }
}
