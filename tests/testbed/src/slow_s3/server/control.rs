//! The control API: plain HTTP, any method, parameters in the query, answers in plain text.
//!
//! ```text
//! /_control/latency?put=65/200&get=20/80     sets p50/p99 of the calls that begin from now on
//! /_control/fault?operation=put&next=3&status=503&code=SlowDown&contains=/wal/
//! /_control/lift?id=1                        ends a rule; without an id, all
//! /_control/release?id=1                     continues calls that it delays; without an id, all
//! /_control/faults                           every rule with its hits and the calls that it delays
//! /_control/counters                         `put.landed 7` and so on, a line each
//! ```
//!
//! `fault` answers with the id of the new rule. A rule matches calls of `operation` (`put`, `get`,
//! `head`, `delete`, `list`; without it, all) whose key without the bucket begins with `prefix` and
//! contains `contains`. It leaves `skip` of them alone and applies to the `next` ones, or without `next`
//! to all until it is lifted. Only the first rule that matches applies to a call. Its effects may be
//! combined:
//!
//! - `hang-before=MS`, `hang-after=MS`: delays the call, or its response; `never` delays it until it is
//!   released. A client that gives up meanwhile does not undo its call.
//! - `lenient-checksum` accepts a wrong checksum; `ignore-if-none-match` overwrites existing objects.
//! - One of: `refuse` (closes the connection at once; the call has no effect), `status=N` with `code=C`
//!   (an error; the call has no effect), `lost` (the call takes effect, the connection is closed without
//!   a response), `partial` (PUT: half is read, no effect; GET: half is sent), `corrupt` (GET: one bit
//!   differs).
//!
//! From a shell: `exec 3<>/dev/tcp/127.0.0.1/PORT; printf 'GET /_control/counters HTTP/1.0\r\n\r\n' >&3; cat <&3`.

use std::time::Duration;

use hyper::{Response, StatusCode, Uri};

use super::Server;
use super::answer::{Answer, text};
use super::call::{Operation, query};
use super::faults::{Effect, Outcome, Rule};

impl Server {
    /// Handles a request to the control API.
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
            changes.push((parse_operation(name)?, value.parse()?));
        }
        for (operation, latency) in changes {
            self.latencies[operation as usize].set(latency);
        }
        Ok(String::new())
    }
}

/// Parses the parameters of a rule; an unknown one is an error.
fn rule(parameters: &[(String, String)]) -> Result<Rule, String> {
    let (mut effect, mut code) = (Effect::default(), "InternalError");
    let (mut operation, mut prefix, mut contains) = (None, "", "");
    let (mut skip, mut next, mut bytes_above) = (0, u64::MAX, 0);
    let mut outcomes = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "operation" => operation = Some(parse_operation(value)?),
            "prefix" => prefix = value,
            "contains" => contains = value,
            "bytes-above" => bytes_above = number(value)?,
            "skip" => skip = number(value)?,
            "next" => next = number(value)?,
            "hang-before" => effect.hang_before = length(value)?,
            "hang-after" => effect.hang_after = length(value)?,
            "lenient-checksum" => effect.lenient_checksum = true,
            "ignore-if-none-match" => effect.ignore_if_none_match = true,
            "code" => code = value,
            "status" => {
                let status = value.parse().map_err(|_none| format!("invalid status `{value}`"))?;
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
    let mut rule = Rule::new(operation, effect);
    prefix.clone_into(&mut rule.prefix);
    contains.clone_into(&mut rule.contains);
    rule.bytes_above = bytes_above;
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

fn parse_operation(name: &str) -> Result<Operation, String> {
    Operation::named(name).ok_or_else(|| format!("`{name}` is not an operation"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_none| format!("invalid number `{text}`"))
}

/// Parses milliseconds or `never`.
fn length(text: &str) -> Result<Duration, String> {
    if text == "never" { Ok(Duration::MAX) } else { number(text).map(Duration::from_millis) }
}
