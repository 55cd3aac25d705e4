//! ListOffsets by name, log end, version and isolation level.

use kafka_protocol::messages::ListOffsetsRequest;

use super::Findings;
use super::request_builders::positions;
use super::side_by_side::{Side, SideBySide, TopicRef};
use super::topic_contents::fill;

pub(super) fn run(findings: &mut Findings) {
    let mut sides = SideBySide::new("lookups", 5, &[]);
    fill(&mut sides);
    for version in 1..=10 {
        ends(findings, &mut sides, version);
        names(findings, &mut sides, version);
        fields(findings, &mut sides, version);
    }
}

fn ends(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    for timestamp in (-8..=0).chain([i64::MIN, -99, 1_000_000, 2_000_002, 5_000_001, i64::MAX]) {
        let parts = [0, 1, 2, 3, 4].map(|index| (TopicRef::Main, index, timestamp));
        findings.query(sides, &format!("of {timestamp}"), version, |side| positions(side, &parts));
    }
}

fn names(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    let mut query = |label: &str, parts: &[(TopicRef, i32, i64)]| {
        findings.query(sides, label, version, |side| positions(side, parts));
    };
    query("no partitions", &[]);
    query("an unknown partition", &[(TopicRef::Main, 77, -1), (TopicRef::Main, 0, -1)]);
    query("a negative partition", &[(TopicRef::Main, -1, -1)]);
    query("a bad timestamp of an unknown partition", &[(TopicRef::Main, 77, -99)]);
    query("an unknown topic", &[(TopicRef::Unknown, 0, -1), (TopicRef::Second, 0, -2)]);
    query("no topic", &[(TopicRef::Zero, 0, -1)]);
    query("an illegal topic", &[(TopicRef::Illegal, 0, -1)]);
    query("twice", &[(TopicRef::Main, 0, -1), (TopicRef::Main, 0, -1)]);
    query(
        "twice among others",
        &[(TopicRef::Main, 0, -1), (TopicRef::Main, 3, -1), (TopicRef::Main, 0, -2)],
    );
    query("thrice", &[(TopicRef::Main, 0, -1), (TopicRef::Main, 0, -99), (TopicRef::Main, 0, 5)]);
    query("twice an unknown one", &[(TopicRef::Main, 77, -1), (TopicRef::Main, 77, -1)]);
    query("an unknown one twice", &[(TopicRef::Unknown, 0, -1), (TopicRef::Unknown, 0, -1)]);
    query(
        "the same topic apart",
        &[(TopicRef::Main, 0, -1), (TopicRef::Second, 0, -1), (TopicRef::Main, 3, -1)],
    );
    query(
        "twice, apart",
        &[(TopicRef::Main, 0, -1), (TopicRef::Second, 0, -1), (TopicRef::Main, 0, -1)],
    );
}

fn fields(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    let parts =
        [-1, -2, 2_000_000].map(|time| (TopicRef::Main, if time == -1 { 0 } else { 2 }, time));
    let parts = &parts[..2];
    let mut query = |label: String, edit: &dyn Fn(ListOffsetsRequest) -> ListOffsetsRequest| {
        findings.query(sides, &label, version, |side: &Side| edit(positions(side, parts)));
    };
    for id in [-3, -2, 0, 1, 2, 77] {
        query(format!("replica {id}"), &|r| r.with_replica_id(id.into()));
    }
    if version >= 2 {
        for level in [-1, 1, 2, 127] {
            query(format!("isolation level {level}"), &|r| r.with_isolation_level(level));
        }
    }
    if version >= 4 {
        for epoch in [-2, -1, 0, 1, i32::MAX] {
            query(format!("leader epoch {epoch}"), &|mut r| {
                r.topics[0].partitions[0].current_leader_epoch = epoch;
                r
            });
        }
    }
    if version >= 10 {
        for timeout in [i32::MIN, -1, 0, 1, 30_000, i32::MAX] {
            query(format!("timeout {timeout}"), &|r| r.with_timeout_ms(timeout));
        }
    }
}
