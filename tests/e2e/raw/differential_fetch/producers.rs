//! DescribeProducers.

use kafka_protocol::messages::DescribeProducersRequest;
use kafka_protocol::messages::describe_producers_request::TopicRequest;

use super::super::differential::bytes::{Raw, rec};
use super::super::requests::topic_name;
use super::Findings;
use super::asking::deletion;
use super::pair::{Pair, Side, To};

pub(super) fn run(findings: &mut Findings) {
    let mut pair = Pair::new("producers", 5, &[]);
    ask(findings, &mut pair, "nobody yet");
    let of = |id, epoch, sequence, time| {
        Raw::of(vec![rec(0, "a"), rec(1, "b"), rec(2, "c")])
            .by(id, epoch, sequence)
            .at(time)
            .bytes()
    };
    for (what, partition, batch) in [
        ("one", 0, of(7, 0, 0, 1_000)),
        ("on", 0, of(7, 0, 3, 5_000)),
        ("an earlier time", 0, of(7, 0, 6, 2_000)),
        ("again", 0, of(7, 0, 6, 2_000)),
        ("another", 0, of(8, 3, 77, 100)),
        ("elsewhere", 1, of(7, 0, 0, 9)),
        ("a new epoch", 0, of(7, 1, 0, 3_000)),
        ("nearly wrapped", 2, of(9, 0, i32::MAX - 1, 1)),
        ("wrapped", 2, of(9, 0, 1, 2)),
        ("no producer", 3, Raw::two().bytes()),
    ] {
        pair.append(To::Main, partition, &batch);
        ask(findings, &mut pair, what);
    }
    for side in pair.each() {
        let request = deletion(side, &[(To::Main, 0, -1)]);
        side.client.call(&request, 2);
    }
    ask(findings, &mut pair, "deleted");
}

fn ask(findings: &mut Findings, pair: &mut Pair, what: &str) {
    let parts = [
        (To::Main, vec![0, 1, 2, 3, 4, 77, -1]),
        (To::Nobody, vec![0]),
        (To::Zero, vec![0]),
        (To::Illegal, vec![0]),
    ];
    findings.ask(pair, what, 0, |side| request(side, &parts));
    findings
        .ask(pair, &format!("{what}, twice"), 0, |side| request(side, &[(To::Main, vec![0, 0])]));
    findings.ask(pair, &format!("{what}, nothing"), 0, |side| request(side, &[]));
}

fn request(side: &Side, parts: &[(To, Vec<i32>)]) -> DescribeProducersRequest {
    let topic = |(to, indexes): &(To, Vec<i32>)| {
        TopicRequest::default()
            .with_name(topic_name(side.name_and_id(*to).0))
            .with_partition_indexes(indexes.clone())
    };
    DescribeProducersRequest::default().with_topics(parts.iter().map(topic).collect())
}
