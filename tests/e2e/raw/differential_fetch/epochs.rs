//! OffsetForLeaderEpoch.

use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{BrokerId, OffsetForLeaderEpochRequest};

use super::super::requests::topic_name;
use super::Findings;
use super::pair::{Pair, Side, To};
use super::stock::fill;

pub(super) fn run(findings: &mut Findings) {
    let mut pair = Pair::new("epochs", 5, &[]);
    fill(&mut pair);
    for version in 2..=4 {
        let parts = [0, 1, 2, 4, 77].map(|index| (To::Main, index));
        let mut ask = |current, epoch| {
            let what = format!("epoch {epoch} of {current}");
            findings.ask(&mut pair, &what, version, |side| {
                request(side, version, &parts, current, epoch, -1)
            });
        };
        for epoch in [i32::MIN, -2, -1, 0, 1, i32::MAX] {
            ask(-1, epoch);
            ask(0, epoch);
        }
        for current in [-2, 1, i32::MAX] {
            ask(current, 0);
        }
        let odd = [(To::Main, -1), (To::Nobody, 0), (To::Zero, 0), (To::Illegal, 0)];
        findings
            .ask(&mut pair, "odd names", version, |side| request(side, version, &odd, -1, 0, -1));
        let twice = [(To::Main, 0), (To::Main, 0), (To::Second, 0)];
        findings.ask(&mut pair, "twice", version, |side| request(side, version, &twice, -1, 0, -1));
        for replica in [-3, -2, 0, 1, 77] {
            if version >= 3 {
                findings.ask(&mut pair, &format!("replica {replica}"), version, |side| {
                    request(side, version, &twice[1..], -1, 0, replica)
                });
            }
        }
    }
}

fn request(
    side: &Side,
    version: i16,
    parts: &[(To, i32)],
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
