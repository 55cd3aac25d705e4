//! ListOffsets by name, end, version and level.

use kafka_protocol::messages::ListOffsetsRequest;

use super::Findings;
use super::asking::positions;
use super::pair::{Pair, Side, To};
use super::stock::fill;

pub(super) fn run(findings: &mut Findings) {
    let mut pair = Pair::new("lookups", 5, &[]);
    fill(&mut pair);
    for version in 1..=10 {
        ends(findings, &mut pair, version);
        names(findings, &mut pair, version);
        fields(findings, &mut pair, version);
    }
}

fn ends(findings: &mut Findings, pair: &mut Pair, version: i16) {
    for timestamp in (-8..=0).chain([i64::MIN, -99, 1_000_000, 2_000_002, 5_000_001, i64::MAX]) {
        let parts = [0, 1, 2, 3, 4].map(|index| (To::Main, index, timestamp));
        findings.ask(pair, &format!("of {timestamp}"), version, |side| positions(side, &parts));
    }
}

fn names(findings: &mut Findings, pair: &mut Pair, version: i16) {
    let mut ask = |what: &str, parts: &[(To, i32, i64)]| {
        findings.ask(pair, what, version, |side| positions(side, parts));
    };
    ask("nothing", &[]);
    ask("an unknown partition", &[(To::Main, 77, -1), (To::Main, 0, -1)]);
    ask("a negative partition", &[(To::Main, -1, -1)]);
    ask("a bad timestamp of an unknown partition", &[(To::Main, 77, -99)]);
    ask("nobody's topic", &[(To::Nobody, 0, -1), (To::Second, 0, -2)]);
    ask("no topic", &[(To::Zero, 0, -1)]);
    ask("an illegal topic", &[(To::Illegal, 0, -1)]);
    ask("twice", &[(To::Main, 0, -1), (To::Main, 0, -1)]);
    ask("twice among others", &[(To::Main, 0, -1), (To::Main, 3, -1), (To::Main, 0, -2)]);
    ask("thrice", &[(To::Main, 0, -1), (To::Main, 0, -99), (To::Main, 0, 5)]);
    ask("twice an unknown one", &[(To::Main, 77, -1), (To::Main, 77, -1)]);
    ask("twice nobody's", &[(To::Nobody, 0, -1), (To::Nobody, 0, -1)]);
    ask("the same topic apart", &[(To::Main, 0, -1), (To::Second, 0, -1), (To::Main, 3, -1)]);
    ask("twice, apart", &[(To::Main, 0, -1), (To::Second, 0, -1), (To::Main, 0, -1)]);
}

fn fields(findings: &mut Findings, pair: &mut Pair, version: i16) {
    let parts = [-1, -2, 2_000_000].map(|time| (To::Main, if time == -1 { 0 } else { 2 }, time));
    let parts = &parts[..2];
    let mut ask = |what: String, edit: &dyn Fn(ListOffsetsRequest) -> ListOffsetsRequest| {
        findings.ask(pair, &what, version, |side: &Side| edit(positions(side, parts)));
    };
    for id in [-3, -2, 0, 1, 2, 77] {
        ask(format!("replica {id}"), &|r| r.with_replica_id(id.into()));
    }
    if version >= 2 {
        for level in [-1, 1, 2, 127] {
            ask(format!("isolation level {level}"), &|r| r.with_isolation_level(level));
        }
    }
    if version >= 4 {
        for epoch in [-2, -1, 0, 1, i32::MAX] {
            ask(format!("leader epoch {epoch}"), &|mut r| {
                r.topics[0].partitions[0].current_leader_epoch = epoch;
                r
            });
        }
    }
    if version >= 10 {
        for timeout in [i32::MIN, -1, 0, 1, 30_000, i32::MAX] {
            ask(format!("timeout {timeout}"), &|r| r.with_timeout_ms(timeout));
        }
    }
}
