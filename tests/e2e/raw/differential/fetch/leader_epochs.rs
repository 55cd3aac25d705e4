//! OffsetForLeaderEpoch.

use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{BrokerId, OffsetForLeaderEpochRequest};

use super::Findings;
use super::side_by_side::{Side, SideBySide, TopicRef};
use super::topic_contents::fill;
use crate::raw::requests::topic_name;

pub(super) fn run(findings: &mut Findings) {
    let mut sides = SideBySide::new("epochs", 5, &[]);
    fill(&mut sides);
    for version in 2..=4 {
        let parts = [0, 1, 2, 4, 77].map(|index| (TopicRef::Main, index));
        let mut query = |current, epoch| {
            let label = format!("epoch {epoch} of {current}");
            findings.query(&mut sides, &label, version, |side| {
                request(side, version, &parts, current, epoch, -1)
            });
        };
        for epoch in [i32::MIN, -2, -1, 0, 1, i32::MAX] {
            query(-1, epoch);
            query(0, epoch);
        }
        for current in [-2, 1, i32::MAX] {
            query(current, 0);
        }
        let unusual = [
            (TopicRef::Main, -1),
            (TopicRef::Unknown, 0),
            (TopicRef::Zero, 0),
            (TopicRef::Illegal, 0),
        ];
        findings.query(&mut sides, "unusual names", version, |side| {
            request(side, version, &unusual, -1, 0, -1)
        });
        let twice = [(TopicRef::Main, 0), (TopicRef::Main, 0), (TopicRef::Second, 0)];
        findings
            .query(&mut sides, "twice", version, |side| request(side, version, &twice, -1, 0, -1));
        for replica in [-3, -2, 0, 1, 77] {
            if version >= 3 {
                findings.query(&mut sides, &format!("replica {replica}"), version, |side| {
                    request(side, version, &twice[1..], -1, 0, replica)
                });
            }
        }
    }
}

fn request(
    side: &Side,
    version: i16,
    parts: &[(TopicRef, i32)],
    current: i32,
    epoch: i32,
    replica: i32,
) -> OffsetForLeaderEpochRequest {
    let mut topics: Vec<OffsetForLeaderTopic> = Vec::new();
    for &(to, index) in parts {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let name = topic_name(side.name_and_id(to).0);
        match topics.last_mut() {
            Some(topic) if topic.topic == name => topic.partitions.push(partition),
            _ => topics.push(
                OffsetForLeaderTopic::default().with_topic(name).with_partitions(vec![partition]),
            ),
        }
    }
    let request = OffsetForLeaderEpochRequest::default().with_topics(topics);
    if version >= 3 { request.with_replica_id(BrokerId(replica)) } else { request }
}
