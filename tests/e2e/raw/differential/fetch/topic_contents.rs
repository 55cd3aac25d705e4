//! The contents of the topics.

use bytes::Bytes;
use kafka_protocol::messages::DeleteRecordsRequest;

use super::super::raw_batch::{CODECS, RawBatch, raw_record};
use super::request_builders::deletion;
use super::side_by_side::{SideBySide, TopicRef};

/// Returns a batch of `records` records with a codec.
pub(super) fn batch(codec: i16, records: i64, time: i64) -> Bytes {
    let records = (0..records).map(|n| raw_record(n, &format!("value {n} ").repeat(20))).collect();
    RawBatch::of(records).codec(codec).at(time).bytes()
}

/// Partition 0 has a batch of each codec, twice; 1 is empty; 2 starts in the middle of its second
/// batch; 3 has two batches; all records of 4 are deleted. The second topic has a batch in
/// partition 0.
pub(super) fn fill(sides: &mut SideBySide) {
    for round in 0..2 {
        for (_, codec) in CODECS {
            sides.append(TopicRef::Main, 0, &batch(codec, 3, 1_000_000 * (round + 1)));
        }
    }
    for _ in 0..4 {
        sides.append(TopicRef::Main, 2, &batch(0, 4, 5_000_000));
    }
    sides.append(TopicRef::Main, 3, &batch(0, 1, 6_000_000));
    sides.append(TopicRef::Main, 3, &batch(0, 50, 6_000_000));
    sides.append(TopicRef::Main, 4, &batch(0, 2, 7_000_000));
    sides.append(TopicRef::Second, 0, &batch(0, 2, 8_000_000));
    for (partition, offset) in [(2, 6), (4, -1)] {
        for side in sides.each() {
            let request: DeleteRecordsRequest =
                deletion(side, &[(TopicRef::Main, partition, offset)]);
            let response = side.client.call(&request, 2);
            assert_eq!(response.topics[0].partitions[0].error_code, 0);
        }
    }
}
