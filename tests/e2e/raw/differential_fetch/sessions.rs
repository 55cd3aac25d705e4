//! Fetch sessions (KIP-227).

use super::super::requests::fetch_partition;
use super::Findings;
use super::asking::{fetch, fetch_parts, forgotten, in_session};
use super::pair::{Pair, To};
use super::stock::{batch, fill};

const START: [(To, i32, i64); 5] =
    [(To::Main, 0, 0), (To::Main, 1, 0), (To::Main, 2, 6), (To::Second, 0, 0), (To::Main, 3, 0)];

pub(super) fn run(findings: &mut Findings) {
    for version in [7, 9, 11, 12, 13, 15, 17] {
        let mut pair = Pair::new("sessions", 5, &[]);
        fill(&mut pair);
        life(findings, &mut pair, version);
        errors(findings, &mut pair, version);
        twice(findings, &mut pair, version);
    }
    let mut pair = Pair::new("session versions", 5, &[]);
    fill(&mut pair);
    versions(findings, &mut pair);
    budgets(findings, &mut pair);
}

/// Opens, continues, moves, forgets, and closes.
fn life(findings: &mut Findings, pair: &mut Pair, version: i16) {
    let mut ask = |pair: &mut Pair, what: &str, epoch, parts: &[(To, i32, i64)]| {
        findings.ask(pair, what, version, |side| in_session(side, version, epoch, parts));
    };
    pair.each().into_iter().for_each(|side| side.session = 0);
    ask(pair, "open", 0, &START);
    ask(pair, "the same again", 1, &[]);
    pair.reconnect();
    let ends = [(To::Main, 0, 30), (To::Main, 2, 16), (To::Second, 0, 2), (To::Main, 3, 51)];
    ask(pair, "from another connection, all read", 2, &ends);
    ask(pair, "nothing new", 3, &[]);
    pair.append(To::Main, 1, &batch(0, 2, 1));
    ask(pair, "something new", 4, &[]);
    ask(pair, "not read yet", 5, &[]);
    ask(pair, "read", 6, &[(To::Main, 1, 2)]);
    ask(pair, "a new one", 7, &[(To::Main, 4, 2)]);
    ask(pair, "out of range", 8, &[(To::Main, 4, 9)]);
    ask(pair, "still out of range", 9, &[]);
    ask(pair, "in range again", 10, &[(To::Main, 4, 2)]);
    ask(pair, "unknown ones", 11, &[(To::Main, 77, 0), (To::Nobody, 0, 0)]);
    ask(pair, "unknown ones still", 12, &[]);
    ask(pair, "back", 13, &[(To::Main, 0, 28), (To::Main, 3, 1)]);
    ask(pair, "in the order served", 14, &[]);
    ask(pair, "one back", 15, &[(To::Main, 0, 30), (To::Main, 2, 15)]);
    ask(pair, "in the order served then", 16, &[]);
    let mut forget = |pair: &mut Pair, what: &str, epoch, partitions: &[i32], parts: &[_]| {
        findings.ask(pair, what, version, |side| {
            let forgotten = vec![
                forgotten(side, version, To::Main, partitions),
                forgotten(side, version, To::Nobody, &[0]),
            ];
            in_session(side, version, epoch, parts).with_forgotten_topics_data(forgotten)
        });
    };
    forget(pair, "forget two", 17, &[0, 2], &[]);
    forget(pair, "forget what is not there", 18, &[0, 55], &[]);
    forget(pair, "forget and name", 19, &[3], &[(To::Main, 3, 1)]);
    forget(pair, "named still", 20, &[], &[]);
    forget(pair, "forget nearly all", 21, &[1, 3, 4, 77], &[(To::Main, 0, 27)]);
    forget(pair, "what is left", 22, &[], &[]);
    findings.ask(pair, "forget the rest", version, |side| {
        let all = |to| forgotten(side, version, to, &[0, 1, 2, 3, 4, 77]);
        let roles = [To::Main, To::Second, To::Nobody, To::Zero];
        in_session(side, version, 23, &[]).with_forgotten_topics_data(roles.map(all).to_vec())
    });
    findings.ask(pair, "ended when empty", version, |side| {
        in_session(side, version, 24, &[(To::Main, 0, 27)])
    });
}

fn errors(findings: &mut Findings, pair: &mut Pair, version: i16) {
    let mut ask = |what: &str, id: Option<i32>, epoch, parts: &[(To, i32, i64)]| {
        findings.ask(pair, what, version, |side| {
            let id = id.unwrap_or(side.session);
            fetch(side, version, parts).with_session_id(id).with_session_epoch(epoch)
        });
    };
    ask("unknown id", Some(77), 1, &[]);
    ask("unknown id that names", Some(77), 1, &START);
    ask("no id", Some(0), 1, &START);
    ask("negative id", Some(-5), 1, &START);
    ask("negative id, epoch 0", Some(-5), 0, &START);
    ask("unknown id, epoch 0", Some(78), 0, &START);
    ask("epoch too high", None, 2, &[]);
    ask("epoch too low", None, -2, &[]);
    ask("epoch i32::MIN", None, i32::MIN, &[]);
    ask("the right epoch", None, 1, &[]);
    ask("the same epoch again", None, 1, &[]);
    ask("unknown id, epoch -1", Some(77), -1, &START);
    ask("the next epoch", None, 2, &[]);
    ask("anew in its place", None, 0, &START[..1]);
    ask("the new one", None, 1, &[]);
    ask("closed", None, -1, &[]);
    ask("closed already", None, 2, &[]);
    ask("closed twice", None, -1, &START[..1]);
    ask("epoch 0 of nothing", Some(0), 0, &[]);
    ask("then", None, 1, &START[..2]);
    ask("open again", Some(0), 0, &START[..2]);
    ask("closed with a fetch", None, -1, &START[3..]);
    ask("gone", None, 1, &[]);
    ask("open unknown ones", Some(0), 0, &[(To::Nobody, 0, 0), (To::Main, 77, 0)]);
    ask("unknown ones still there", None, 1, &[]);
    ask("open the zero id", Some(0), 0, &[(To::Zero, 0, 0)]);
    ask("the zero id goes on", None, 1, &[]);
    ask("two unknown ids", None, 2, &[(To::Nobody, 0, 0)]);
}

fn twice(findings: &mut Findings, pair: &mut Pair, version: i16) {
    let mut ask = |what: &str, epoch, parts: &[(To, i32, i64)]| {
        findings.ask(pair, what, version, |side| in_session(side, version, epoch, parts));
    };
    ask("one named twice", 0, &[(To::Main, 0, 0), (To::Main, 0, 6), (To::Main, 3, 0)]);
    ask("one named twice, then", 1, &[]);
    ask("one moved twice", 2, &[(To::Main, 0, 9), (To::Main, 0, 12)]);
    ask("one moved twice, then", 3, &[]);
    ask("all done", -1, &[]);
}

/// A session that began by names goes on by names, and one by ids by ids.
fn versions(findings: &mut Findings, pair: &mut Pair) {
    for (from, to) in [(12, 13), (13, 12), (7, 12), (13, 17), (12, 15)] {
        let mut ask = |what: &str, version, epoch, parts: &[(To, i32, i64)]| {
            let what = format!("{what} from {from} to {to}");
            findings.ask(pair, &what, version, |side| in_session(side, version, epoch, parts));
        };
        ask("begun", from, 0, &START);
        ask("goes on", to, 1, &[]);
        ask("goes on with another", to, 2, &[(To::Main, 4, 2)]);
        ask("goes back", from, 1, &[]);
        ask("goes back later", from, 2, &[]);
        ask("ends", to, -1, &[]);
        ask("has ended", from, 3, &[]);
    }
}

/// Limits are remembered too.
fn budgets(findings: &mut Findings, pair: &mut Pair) {
    let small =
        [0, 3].map(|index| (To::Main, fetch_partition(index, 0).with_partition_max_bytes(600)));
    findings
        .ask(pair, "small limits", 12, |side| fetch_parts(side, 12, &small).with_session_epoch(0));
    for epoch in 1..6 {
        findings.ask(pair, &format!("small limits, epoch {epoch}"), 12, |side| {
            in_session(side, 12, epoch, &[])
        });
    }
    let large = [(To::Main, fetch_partition(0, 0))];
    findings.ask(pair, "a larger limit", 12, |side| {
        let request = fetch_parts(side, 12, &large);
        request.with_session_id(side.session).with_session_epoch(6)
    });
    findings.ask(pair, "a larger limit still", 12, |side| in_session(side, 12, 7, &[]));
}
