//! The control API: plain HTTP, any method, parameters in the query, answers in plain text.
//!
//! ```text
//! /_control/latency?put=65/200&get=20/80     of the calls that begin from now on
//! /_control/fault?verb=put&next=3&status=503&code=SlowDown&contains=/wal/
//! /_control/lift?id=1                        ends a rule; without an id, all
//! /_control/release?id=1                     calls that hang by it go on; without an id, all
//! /_control/faults                           every rule with its hits and what hangs by it
//! /_control/counters                         `put.landed 7` and so on, a line each
//! ```
//!
//! A fault prints its id. It concerns calls of `verb` (`put`, `get`, `head`, `delete`, `list`;
//! without it, all) whose key without the bucket begins with `prefix` and has `contains` in it;
//! after `skip` of them, the `next` so many, or without that all until it is lifted. The first
//! rule that concerns a call is the only one; it may do several of these together:
//!
//! - `hang-before=MS`, `hang-after=MS`: waits before it happens, or with the answer; `never` is
//!   a time too. A client that gives up meanwhile does not undo its call.
//! - `lenient-checksum`: a wrong checksum is accepted; `ignore-if-none-match`: objects that exist
//!   are written over.
//! - and one of: `refuse` (the connection is closed at once; nothing happens), `status=N` with
//!   `code=C` (an error; nothing happens), `lost` (it happens, the connection is closed without
//!   an answer), `partial` (PUT: half is read, nothing happens; GET: half is sent), `corrupt`
//!   (GET: one bit differs).
//!
//! From a shell: `exec 3<>/dev/tcp/127.0.0.1/PORT; printf 'GET /_control/counters HTTP/1.0\r\n\r\n' >&3; cat <&3`.

use std::time::Duration;

use hyper::{Response, StatusCode, Uri};

use super::Server;
use super::answer::{Answer, text};
use super::call::{Verb, query};
use super::faults::{Effect, Outcome, Rule};

impl Server {
    /// Does what a request to the control API asks for.
    pub(super) fn control(&self, path: &str, uri: &Uri) -> Response<Answer> {
        let parameters = query(uri);
        let done = match path {
            "latency" => self.change_latencies(&parameters),
            "fault" => rule(&parameters).map(|rule| format!("{}\n", self.faults.add(rule))),
            "lift" => id(&parameters).map(|id| {
                self.faults.lift(id);
                String::new()
            }),
            "release" => id(&parameters).map(|id| {
                self.faults.release(id);
                String::new()
            }),
            "faults" => Ok(self.faults.text()),
            "counters" => Ok(self.counters.text()),
            _ => Err("latency, fault, lift, release, faults or counters".to_owned()),
        };
        match done {
            Ok(said) => text(StatusCode::OK, said),
            Err(why) => text(StatusCode::BAD_REQUEST, why + "\n"),
        }
    }

    fn change_latencies(&self, parameters: &[(String, String)]) -> Result<String, String> {
        let mut changes = Vec::new();
        for (name, value) in parameters {
            changes.push((verb_named(name)?, value.parse()?));
        }
        for (verb, latency) in changes {
            self.latencies[verb as usize].set(latency);
        }
        Ok(String::new())
    }
}

/// Reads a fault's parameters; one that is unknown is an error, because it is a slip.
fn rule(parameters: &[(String, String)]) -> Result<Rule, String> {
    let (mut effect, mut code) = (Effect::default(), "InternalError");
    let (mut verb, mut prefix, mut contains) = (None, "", "");
    let (mut skip, mut next) = (0, u64::MAX);
    let mut outcomes = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "verb" => verb = Some(verb_named(value)?),
            "prefix" => prefix = value,
            "contains" => contains = value,
            "skip" => skip = number(value)?,
            "next" => next = number(value)?,
            "hang-before" => effect.hang_before = length(value)?,
            "hang-after" => effect.hang_after = length(value)?,
            "lenient-checksum" => effect.lenient_checksum = true,
            "ignore-if-none-match" => effect.ignore_if_none_match = true,
            "code" => code = value,
            "status" => {
                let status = value.parse().map_err(|_none| format!("`{value}` is no status"))?;
                outcomes.push(Outcome::Status(status, String::new()));
            }
            "refuse" => outcomes.push(Outcome::Refuse),
            "lost" => outcomes.push(Outcome::Lost),
            "partial" => outcomes.push(Outcome::Partial),
            "corrupt" => outcomes.push(Outcome::Corrupt),
            _ => return Err(format!("`{name}` is unknown")),
        }
    }
    if outcomes.len() > 1 {
        return Err("one of refuse, status, lost, partial and corrupt".to_owned());
    }
    effect.outcome = outcomes.pop();
    if let Some(Outcome::Status(_, of)) = &mut effect.outcome {
        code.clone_into(of);
    }
    let mut rule = Rule::new(verb, effect);
    prefix.clone_into(&mut rule.prefix);
    contains.clone_into(&mut rule.contains);
    rule.skip.set(skip);
    rule.left.set(next);
    Ok(rule)
}

fn id(parameters: &[(String, String)]) -> Result<Option<u64>, String> {
    match parameters {
        [] => Ok(None),
        [(name, value)] if name == "id" => number(value).map(Some),
        _ => Err("id=N, or nothing for all".to_owned()),
    }
}

fn verb_named(name: &str) -> Result<Verb, String> {
    Verb::named(name).ok_or_else(|| format!("`{name}` is no verb"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_none| format!("`{text}` is no number"))
}

/// Milliseconds, or `never`.
fn length(text: &str) -> Result<Duration, String> {
    if text == "never" { Ok(Duration::MAX) } else { number(text).map(Duration::from_millis) }
}
