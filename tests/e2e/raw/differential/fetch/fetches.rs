//! Full fetches: names and ids, offsets, limits, isolation levels, epochs, followers.

use kafka_protocol::messages::fetch_request::{FetchPartition, ReplicaState};
use kafka_protocol::messages::{BrokerId, FetchRequest};

use super::Findings;
use super::request_builders::{fetch, fetch_parts};
use super::side_by_side::{Side, SideBySide, TopicRef};
use super::topic_contents::fill;
use crate::raw::requests::{fetch_partition, text};

pub(super) fn run(findings: &mut Findings) {
    let mut sides = SideBySide::new("fetches", 5, &[]);
    fill(&mut sides);
    for version in 4..=18 {
        names(findings, &mut sides, version);
        limits(findings, &mut sides, version);
    }
    offsets(findings, &mut sides);
    many_limits(findings, &mut sides);
    leader_epochs(findings, &mut sides);
    followers(findings, &mut sides);
}

const ALL: [(TopicRef, i32, i64); 6] = [
    (TopicRef::Main, 0, 0),
    (TopicRef::Main, 1, 0),
    (TopicRef::Main, 2, 6),
    (TopicRef::Main, 3, 0),
    (TopicRef::Main, 4, 2),
    (TopicRef::Second, 0, 0),
];

fn names(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    let mut query = |label: &str, parts: &[(TopicRef, i32, i64)]| {
        findings.query(sides, label, version, |side| fetch(side, version, parts));
    };
    query("all", &ALL);
    query("no partitions", &[]);
    query("an empty partition", &[(TopicRef::Main, 1, 0)]);
    query("an unknown partition", &[(TopicRef::Main, 77, 0)]);
    query("a negative partition", &[(TopicRef::Main, -1, 0)]);
    query("an unknown topic", &[(TopicRef::Unknown, 0, 0)]);
    query("no topic", &[(TopicRef::Zero, 0, 0)]);
    query("an illegal topic", &[(TopicRef::Illegal, 0, 0)]);
    query("one good and one unknown", &[(TopicRef::Main, 0, 0), (TopicRef::Main, 77, 0)]);
    query("one unknown and one good", &[(TopicRef::Main, 77, 0), (TopicRef::Main, 0, 0)]);
    query("a known topic and an unknown one", &[(TopicRef::Unknown, 0, 0), (TopicRef::Main, 0, 0)]);
    query("twice the same", &[(TopicRef::Main, 0, 0), (TopicRef::Main, 0, 0)]);
    query("twice, from two offsets", &[(TopicRef::Main, 0, 0), (TopicRef::Main, 0, 6)]);
    query(
        "twice, apart",
        &[(TopicRef::Main, 0, 0), (TopicRef::Main, 3, 0), (TopicRef::Main, 0, 6)],
    );
    query(
        "twice, another between",
        &[(TopicRef::Main, 0, 3), (TopicRef::Second, 0, 0), (TopicRef::Main, 3, 0)],
    );
    query("the end", &[(TopicRef::Main, 0, 30), (TopicRef::Main, 3, 51), (TopicRef::Main, 4, 2)]);
    query(
        "out of range",
        &[(TopicRef::Main, 0, 31), (TopicRef::Main, 2, 5), (TopicRef::Main, 1, 1)],
    );
    query("mid-batch", &[(TopicRef::Main, 0, 1), (TopicRef::Main, 2, 7), (TopicRef::Main, 3, 30)]);
}

fn limits(findings: &mut Findings, sides: &mut SideBySide, version: i16) {
    let mut query = |label: &str, edit: fn(FetchRequest) -> FetchRequest| {
        findings.query(sides, label, version, |side| edit(fetch(side, version, &ALL)));
    };
    for level in [-1, 1, 2] {
        let edit: fn(FetchRequest) -> FetchRequest = match level {
            -1 => |f| f.with_isolation_level(-1),
            1 => |f| f.with_isolation_level(1),
            _ => |f| f.with_isolation_level(2),
        };
        query(&format!("isolation level {level}"), edit);
    }
    findings.query(sides, "out of range, committed", version, |side| {
        let unusual = [
            (TopicRef::Main, 2, 0),
            (TopicRef::Main, 0, 0),
            (TopicRef::Main, 77, 0),
            (TopicRef::Unknown, 0, 0),
        ];
        fetch(side, version, &unusual).with_isolation_level(1)
    });
    let mut query = |label: &str, edit: fn(FetchRequest) -> FetchRequest| {
        findings.query(sides, label, version, |side| edit(fetch(side, version, &ALL)));
    };
    query("at most 0 bytes", |f| f.with_max_bytes(0));
    query("at most -1 byte", |f| f.with_max_bytes(-1));
    query("at most i32::MIN bytes", |f| f.with_max_bytes(i32::MIN));
    query("at most 1000 bytes", |f| f.with_max_bytes(1000));
    query("at least -1 byte", |f| f.with_min_bytes(-1));
    if version >= 11 {
        query("a rack", |f| f.with_rack_id(text("rack-1")));
    }
}

fn offsets(findings: &mut Findings, sides: &mut SideBySide) {
    for (partition, end) in [(0, 30), (1, 0), (2, 16), (3, 51), (4, 2)] {
        for offset in (-2..=end + 2).chain([i64::MIN, i64::MAX, 1 << 40]) {
            let parts = [(TopicRef::Main, partition, offset)];
            let label = format!("partition {partition} from {offset}");
            findings.query(sides, &label, 12, |side| fetch(side, 12, &parts));
        }
    }
}

fn many_limits(findings: &mut Findings, sides: &mut SideBySide) {
    for bytes in [i32::MIN, -1, 0, 1, 60, 61, 100, 400, 543, 544, 1000, 5000, i32::MAX] {
        let sized = |part: FetchPartition| part.with_partition_max_bytes(bytes);
        let one = |index| (TopicRef::Main, sized(fetch_partition(index, 0)));
        let parts: Vec<_> =
            ALL.iter().map(|&(to, index, at)| (to, sized(fetch_partition(index, at)))).collect();
        let first: Vec<_> = [(TopicRef::Main, fetch_partition(1, 0)), one(0), one(3)].into();
        findings.query(sides, &format!("partitions of {bytes} bytes"), 12, |side| {
            fetch_parts(side, 12, &parts)
        });
        findings.query(sides, &format!("an empty one, then {bytes} bytes"), 12, |side| {
            fetch_parts(side, 12, &first)
        });
        findings.query(sides, &format!("no more than {bytes} bytes"), 12, |side| {
            fetch(side, 12, &ALL).with_max_bytes(bytes)
        });
    }
    let mixed = [(0, -1), (2, 1000), (3, 1 << 20)].map(|(index, bytes)| {
        let at = if index == 2 { 6 } else { 0 };
        (TopicRef::Main, fetch_partition(index, at).with_partition_max_bytes(bytes))
    });
    findings.query(sides, "one negative limit", 12, |side| fetch_parts(side, 12, &mixed));
}

fn leader_epochs(findings: &mut Findings, sides: &mut SideBySide) {
    let mut query = |label: String, version, part: FetchPartition| {
        let parts = [(TopicRef::Main, part), (TopicRef::Second, fetch_partition(0, 0))];
        findings.query(sides, &label, version, |side: &Side| fetch_parts(side, version, &parts));
    };
    let at = |offset| fetch_partition(0, offset);
    for version in [9, 11, 12, 15, 17] {
        for epoch in [-2, -1, 0, 1, i32::MAX] {
            query(format!("leader epoch {epoch}"), version, at(0).with_current_leader_epoch(epoch));
        }
    }
    for version in [12, 15] {
        for (last, offset) in [(-2, 3), (-1, 3), (0, 3), (0, 0), (0, 30), (0, 31), (1, 3), (9, 0)] {
            let label = format!("last fetched epoch {last} at {offset}");
            query(label, version, at(offset).with_last_fetched_epoch(last));
            let label = format!("last fetched epoch {last} at {offset} of epoch 0");
            let part = at(offset).with_last_fetched_epoch(last).with_current_leader_epoch(0);
            query(label, version, part);
        }
    }
}

fn followers(findings: &mut Findings, sides: &mut SideBySide) {
    let parts = [
        (TopicRef::Main, 0, 0),
        (TopicRef::Main, 77, 0),
        (TopicRef::Unknown, 0, 0),
        (TopicRef::Second, 0, 9),
    ];
    for version in [4, 7, 11, 12, 13, 14] {
        for id in [-3, -2, 0, 1, 2, 77] {
            findings.query(sides, &format!("replica {id}"), version, |side| {
                fetch(side, version, &parts).with_replica_id(BrokerId(id))
            });
        }
    }
    for version in [15, 16, 17, 18] {
        for id in [-3, -2, 0, 1, 2, 77] {
            let state = ReplicaState::default().with_replica_id(BrokerId(id)).with_replica_epoch(1);
            findings.query(sides, &format!("replica {id}"), version, |side| {
                fetch(side, version, &parts).with_replica_state(state.clone())
            });
        }
    }
}
