//! The order in which many lagging partitions are served under a small limit.

use std::collections::BTreeMap;

use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;

use super::Findings;
use super::describe::batches;
use super::request_builders::fetch_parts;
use super::side_by_side::{Side, SideBySide, TopicRef};
use super::topic_contents::batch;
use crate::raw::requests::fetch_partition;

const PARTITIONS: i32 = 50;
const BATCHES: i64 = 3;

pub(super) fn run(findings: &mut Findings) {
    let mut sides = SideBySide::new("fairness", PARTITIONS, &[]);
    let one = batch(0, 2, 1);
    for partition in 0..PARTITIONS {
        for _ in 0..BATCHES {
            sides.append(TopicRef::Main, partition, &one);
        }
    }
    let size = i32::try_from(one.len()).expect("small");
    for (label, partition_bytes, bytes) in [
        ("one each, three in all", size, 3 * size),
        ("one each, a bit more than three", size, 3 * size + 10),
        ("all, a bit more than three", 1 << 20, 3 * size + 10),
        ("two each, seven", 2 * size, 7 * size),
        ("less than one", 10, 10),
        ("zero bytes", 0, 0),
    ] {
        for moves in [true, false] {
            let [ours, theirs] = [&mut sides.ours, &mut sides.theirs]
                .map(|side| rounds(side, partition_bytes, bytes, moves));
            let how = if moves { "reading on" } else { "staying" };
            for (round, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                findings.compare(sides.name, &format!("{label}, {how}, {round}"), ours, theirs);
            }
        }
    }
}

/// Returns which partitions have records in each round of a session. Partitions with records are
/// read further; the others are requested again.
fn rounds(side: &mut Side, partition_bytes: i32, bytes: i32, moves: bool) -> Vec<String> {
    const ROUNDS: i32 = 60;
    let part =
        |index, offset| fetch_partition(index, offset).with_partition_max_bytes(partition_bytes);
    let mut moved: BTreeMap<i32, FetchPartition> =
        (0..PARTITIONS).map(|index| (index, part(index, 0))).collect();
    let (mut id, mut progressed, mut rounds) = (0, BTreeMap::new(), Vec::new());
    for epoch in 0..ROUNDS {
        let parts: Vec<_> = moved.values().map(|part| (TopicRef::Main, part.clone())).collect();
        let request = fetch_parts(side, 12, &parts).with_max_bytes(bytes);
        let request = request.with_session_id(id).with_session_epoch(epoch);
        let response = side.client.call::<FetchRequest>(&request, 12);
        assert_eq!(response.error_code, 0);
        id = response.session_id;
        moved.clear();
        let mut gave = Vec::new();
        for row in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let got = batches(row.records.as_deref().unwrap_or_default());
            let Some((_, next, _)) = got.last() else { continue };
            gave.push(format!("{}x{}", row.partition_index, got.len()));
            progressed.insert(row.partition_index, *next);
            if moves {
                moved.insert(row.partition_index, part(row.partition_index, *next));
            }
        }
        rounds.push(gave.join(" "));
    }
    let lagging = PARTITIONS - i32::try_from(progressed.len()).expect("few");
    rounds.push(format!("{lagging} of {PARTITIONS} never progressed"));
    rounds
}
