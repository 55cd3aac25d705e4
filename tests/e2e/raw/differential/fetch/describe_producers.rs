//! DescribeProducers.

use kafka_protocol::messages::DescribeProducersRequest;
use kafka_protocol::messages::describe_producers_request::TopicRequest;

use super::super::raw_batch::{RawBatch, raw_record};
use super::Findings;
use super::request_builders::deletion;
use super::side_by_side::{Side, SideBySide, TopicRef};
use crate::raw::requests::topic_name;

pub(super) fn run(findings: &mut Findings) {
    let mut sides = SideBySide::new("producers", 5, &[]);
    query(findings, &mut sides, "no producers yet");
    let of = |id, epoch, sequence, time| {
        RawBatch::of(vec![raw_record(0, "a"), raw_record(1, "b"), raw_record(2, "c")])
            .by(id, epoch, sequence)
            .at(time)
            .bytes()
    };
    for (label, partition, batch) in [
        ("one", 0, of(7, 0, 0, 1_000)),
        ("on", 0, of(7, 0, 3, 5_000)),
        ("an earlier time", 0, of(7, 0, 6, 2_000)),
        ("again", 0, of(7, 0, 6, 2_000)),
        ("another", 0, of(8, 3, 77, 100)),
        ("elsewhere", 1, of(7, 0, 0, 9)),
        ("a new epoch", 0, of(7, 1, 0, 3_000)),
        ("nearly wrapped", 2, of(9, 0, i32::MAX - 1, 1)),
        ("wrapped", 2, of(9, 0, 1, 2)),
        ("no producer", 3, RawBatch::two().bytes()),
    ] {
        sides.append(TopicRef::Main, partition, &batch);
        query(findings, &mut sides, label);
    }
    for side in sides.each() {
        let request = deletion(side, &[(TopicRef::Main, 0, -1)]);
        side.client.call(&request, 2);
    }
    query(findings, &mut sides, "deleted");
}

fn query(findings: &mut Findings, sides: &mut SideBySide, label: &str) {
    let parts = [
        (TopicRef::Main, vec![0, 1, 2, 3, 4, 77, -1]),
        (TopicRef::Unknown, vec![0]),
        (TopicRef::Zero, vec![0]),
        (TopicRef::Illegal, vec![0]),
    ];
    findings.query(sides, label, 0, |side| request(side, &parts));
    findings.query(sides, &format!("{label}, twice"), 0, |side| {
        request(side, &[(TopicRef::Main, vec![0, 0])])
    });
    findings.query(sides, &format!("{label}, nothing"), 0, |side| request(side, &[]));
}

fn request(side: &Side, parts: &[(TopicRef, Vec<i32>)]) -> DescribeProducersRequest {
    let topic = |(to, indexes): &(TopicRef, Vec<i32>)| {
        TopicRequest::default()
            .with_name(topic_name(side.name_and_id(*to).0))
            .with_partition_indexes(indexes.clone())
    };
    DescribeProducersRequest::default().with_topics(parts.iter().map(topic).collect())
}
