//! Fetch sessions (KIP-227).

use super::Findings;
use super::request_builders::{fetch, fetch_parts, forgotten, in_session};
use super::side_by_side::{SideBySide, TopicRef};
use super::topic_contents::{batch, fill};
use crate::raw::requests::fetch_partition;

const START: [(TopicRef, i32, i64); 5] = [
    (TopicRef::Main, 0, 0),
    (TopicRef::Main, 1, 0),
    (TopicRef::Main, 2, 6),
    (TopicRef::Second, 0, 0),
    (TopicRef::Main, 3, 0),
];

pub(super) fn run(findings: &mut Findings) {
    for version in [7, 9, 11, 12, 13, 15, 17] {
        let mut sides = SideBySide::new("sessions", 5, &[]);
        fill(&mut sides);
        life(findings, &mut sides, version);
        errors(findings, &mut sides, version);
        twice(findings, &mut sides, version);
    }
    let mut sides = SideBySide::new("session versions", 5, &[]);
    fill(&mut sides);
    versions(findings, &mut sides);
    budgets(findings, &mut sides);
}

/// Opens a session, continues it, changes positions, removes partitions, and closes it.
fn life(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    let mut query = |sides: &mut SideBySide, label: &str, epoch, parts: &[(TopicRef, i32, i64)]| {
        findings.query(sides, label, version, |side| in_session(side, version, epoch, parts));
    };
    sides.each().into_iter().for_each(|side| side.session = 0);
    query(sides, "open", 0, &START);
    query(sides, "the same again", 1, &[]);
    sides.reconnect();
    let ends = [
        (TopicRef::Main, 0, 30),
        (TopicRef::Main, 2, 16),
        (TopicRef::Second, 0, 2),
        (TopicRef::Main, 3, 51),
    ];
    query(sides, "from another connection, all read", 2, &ends);
    query(sides, "no changes", 3, &[]);
    sides.append(TopicRef::Main, 1, &batch(0, 2, 1));
    query(sides, "something new", 4, &[]);
    query(sides, "not read yet", 5, &[]);
    query(sides, "read", 6, &[(TopicRef::Main, 1, 2)]);
    query(sides, "a new one", 7, &[(TopicRef::Main, 4, 2)]);
    query(sides, "out of range", 8, &[(TopicRef::Main, 4, 9)]);
    query(sides, "still out of range", 9, &[]);
    query(sides, "in range again", 10, &[(TopicRef::Main, 4, 2)]);
    query(sides, "unknown ones", 11, &[(TopicRef::Main, 77, 0), (TopicRef::Unknown, 0, 0)]);
    query(sides, "unknown ones still", 12, &[]);
    query(sides, "back", 13, &[(TopicRef::Main, 0, 28), (TopicRef::Main, 3, 1)]);
    query(sides, "in the order served", 14, &[]);
    query(sides, "one back", 15, &[(TopicRef::Main, 0, 30), (TopicRef::Main, 2, 15)]);
    query(sides, "in the order served then", 16, &[]);
    let mut forget =
        |sides: &mut SideBySide, label: &str, epoch, partitions: &[i32], parts: &[_]| {
            findings.query(sides, label, version, |side| {
                let forgotten = vec![
                    forgotten(side, version, TopicRef::Main, partitions),
                    forgotten(side, version, TopicRef::Unknown, &[0]),
                ];
                in_session(side, version, epoch, parts).with_forgotten_topics_data(forgotten)
            });
        };
    forget(sides, "forget two", 17, &[0, 2], &[]);
    forget(sides, "forget what is not there", 18, &[0, 55], &[]);
    forget(sides, "forget and name", 19, &[3], &[(TopicRef::Main, 3, 1)]);
    forget(sides, "named still", 20, &[], &[]);
    forget(sides, "forget nearly all", 21, &[1, 3, 4, 77], &[(TopicRef::Main, 0, 27)]);
    forget(sides, "what is left", 22, &[], &[]);
    findings.query(sides, "forget the rest", version, |side| {
        let all = |to| forgotten(side, version, to, &[0, 1, 2, 3, 4, 77]);
        let roles = [TopicRef::Main, TopicRef::Second, TopicRef::Unknown, TopicRef::Zero];
        in_session(side, version, 23, &[]).with_forgotten_topics_data(roles.map(all).to_vec())
    });
    findings.query(sides, "ended when empty", version, |side| {
        in_session(side, version, 24, &[(TopicRef::Main, 0, 27)])
    });
}

fn errors(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    let mut query = |label: &str, id: Option<i32>, epoch, parts: &[(TopicRef, i32, i64)]| {
        findings.query(sides, label, version, |side| {
            let id = id.unwrap_or(side.session);
            fetch(side, version, parts).with_session_id(id).with_session_epoch(epoch)
        });
    };
    query("unknown id", Some(77), 1, &[]);
    query("unknown id that names", Some(77), 1, &START);
    query("no id", Some(0), 1, &START);
    query("negative id", Some(-5), 1, &START);
    query("negative id, epoch 0", Some(-5), 0, &START);
    query("unknown id, epoch 0", Some(78), 0, &START);
    query("epoch too high", None, 2, &[]);
    query("epoch too low", None, -2, &[]);
    query("epoch i32::MIN", None, i32::MIN, &[]);
    query("the right epoch", None, 1, &[]);
    query("the same epoch again", None, 1, &[]);
    query("unknown id, epoch -1", Some(77), -1, &START);
    query("the next epoch", None, 2, &[]);
    query("new one in its place", None, 0, &START[..1]);
    query("the new one", None, 1, &[]);
    query("closed", None, -1, &[]);
    query("closed already", None, 2, &[]);
    query("closed twice", None, -1, &START[..1]);
    query("epoch 0 without partitions", Some(0), 0, &[]);
    query("then", None, 1, &START[..2]);
    query("open again", Some(0), 0, &START[..2]);
    query("closed with a fetch", None, -1, &START[3..]);
    query("gone", None, 1, &[]);
    query("open unknown ones", Some(0), 0, &[(TopicRef::Unknown, 0, 0), (TopicRef::Main, 77, 0)]);
    query("unknown ones still there", None, 1, &[]);
    query("open the zero id", Some(0), 0, &[(TopicRef::Zero, 0, 0)]);
    query("the zero id goes on", None, 1, &[]);
    query("two unknown ids", None, 2, &[(TopicRef::Unknown, 0, 0)]);
}

fn twice(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    let mut query = |label: &str, epoch, parts: &[(TopicRef, i32, i64)]| {
        findings.query(sides, label, version, |side| in_session(side, version, epoch, parts));
    };
    query(
        "one named twice",
        0,
        &[(TopicRef::Main, 0, 0), (TopicRef::Main, 0, 6), (TopicRef::Main, 3, 0)],
    );
    query("one named twice, then", 1, &[]);
    query("one moved twice", 2, &[(TopicRef::Main, 0, 9), (TopicRef::Main, 0, 12)]);
    query("one moved twice, then", 3, &[]);
    query("all done", -1, &[]);
}

/// A session that began with names continues with names, and one with ids continues with ids.
fn versions(findings: &mut Findings, sides: &mut SideBySide) {
    for (from, to) in [(12, 13), (13, 12), (7, 12), (13, 17), (12, 15)] {
        let mut query = |label: &str, version, epoch, parts: &[(TopicRef, i32, i64)]| {
            let label = format!("{label} from {from} to {to}");
            findings.query(sides, &label, version, |side| in_session(side, version, epoch, parts));
        };
        query("begun", from, 0, &START);
        query("goes on", to, 1, &[]);
        query("goes on with another", to, 2, &[(TopicRef::Main, 4, 2)]);
        query("goes back", from, 1, &[]);
        query("goes back later", from, 2, &[]);
        query("ends", to, -1, &[]);
        query("has ended", from, 3, &[]);
    }
}

/// Sessions remember limits too.
fn budgets(findings: &mut Findings, sides: &mut SideBySide) {
    let small = [0, 3]
        .map(|index| (TopicRef::Main, fetch_partition(index, 0).with_partition_max_bytes(600)));
    findings.query(sides, "small limits", 12, |side| {
        fetch_parts(side, 12, &small).with_session_epoch(0)
    });
    for epoch in 1..6 {
        findings.query(sides, &format!("small limits, epoch {epoch}"), 12, |side| {
            in_session(side, 12, epoch, &[])
        });
    }
    let large = [(TopicRef::Main, fetch_partition(0, 0))];
    findings.query(sides, "a larger limit", 12, |side| {
        let request = fetch_parts(side, 12, &large);
        request.with_session_id(side.session).with_session_epoch(6)
    });
    findings.query(sides, "a larger limit still", 12, |side| in_session(side, 12, 7, &[]));
}
