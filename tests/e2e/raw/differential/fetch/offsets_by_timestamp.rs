//! ListOffsets by timestamp.

use bytes::Bytes;

use super::super::raw_batch::{CODECS, RawBatch, raw_record};
use super::Findings;
use super::request_builders::{deletion, positions};
use super::side_by_side::{SideBySide, TopicRef};
use crate::raw::requests::offset_of;

pub(super) fn run(findings: &mut Findings) {
    created(findings);
    appended(findings);
    untimed(findings);
}

/// Returns a batch of records with these timestamps.
fn at(codec: i16, times: &[i64]) -> Bytes {
    let records = (0..).zip(times).map(|(n, time)| super::super::raw_batch::RawRecord {
        timestamp_delta: time - times[0],
        ..raw_record(n, "v")
    });
    RawBatch::of(records.collect()).codec(codec).at(times[0]).bytes()
}

/// Partition 0: in order; 1: out of order; 2: ties; 3: like 1, deleted up to the middle of a batch;
/// 4: partly without timestamps.
fn created(findings: &mut Findings) {
    for (name, codec) in CODECS {
        let mut sides = SideBySide::new(
            "times",
            5,
            &[("message.timestamp.after.max.ms", "9223372036854775807")],
        );
        let logs: [&[&[i64]]; 4] = [
            &[&[100, 110, 120], &[200], &[300, 310]],
            &[&[500, 100, 400], &[50], &[300, 700, 700, 20], &[699, 10], &[60, 5]],
            &[&[100, 100], &[100], &[100, 90, 100], &[90, 90]],
            &[&[900, 100, 400], &[800, 500, 300], &[500, 600], &[10]],
        ];
        for (partition, log) in (0..).zip(logs) {
            for times in log {
                sides.append(TopicRef::Main, partition, &at(codec, times));
            }
        }
        sides.append(TopicRef::Main, 4, &at(codec, &[-1, -1]));
        sides.append(TopicRef::Main, 4, &at(codec, &[5]));
        for (step, start) in [("whole", 0), ("one less", 1), ("two less", 4), ("more", 6)] {
            if start > 0 {
                delete(&mut sides, 3, start);
            }
            ask_all(findings, &mut sides, &format!("{name}, {step}"));
        }
        for (partition, start) in [(0, 2), (1, 5), (2, 2), (4, 1)] {
            delete(&mut sides, partition, start);
        }
        ask_all(findings, &mut sides, &format!("{name}, all cut"));
        delete(&mut sides, 1, 7);
        delete(&mut sides, 2, 8);
        ask_all(findings, &mut sides, &format!("{name}, cut again"));
    }
}

fn delete(sides: &mut SideBySide, partition: i32, offset: i64) {
    for side in sides.each() {
        let request = deletion(side, &[(TopicRef::Main, partition, offset)]);
        let response = side.client.call(&request, 2);
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
    }
}

fn ask_all(findings: &mut Findings, sides: &mut SideBySide, label: &str) {
    const TIMES: [i64; 37] = [
        -3, 0, 1, 5, 6, 10, 11, 20, 50, 51, 60, 90, 91, 99, 100, 101, 110, 111, 120, 121, 200, 201,
        300, 301, 310, 311, 400, 500, 501, 600, 601, 699, 700, 701, 800, 900, 901,
    ];
    for time in TIMES {
        let parts = [0, 1, 2, 3, 4].map(|index| (TopicRef::Main, index, time));
        findings.query(sides, &format!("{label}: {time}"), 7, |side| positions(side, &parts));
    }
}

/// The timestamps are the broker's clock: results are compared with the time at which both sides
/// appended.
fn appended(findings: &mut Findings) {
    let configs = [("message.timestamp.type", "LogAppendTime")];
    let mut sides = SideBySide::new("append times", 1, &configs);
    for round in 0..3 {
        for (_, codec) in CODECS {
            sides.append(TopicRef::Main, 0, &at(codec, &[1_000, 900, 2_000 + round]));
        }
    }
    let found = sides.each().map(|side| {
        let at = side.topics[0].partition(0);
        let greatest = offset_of(&mut side.client, at, -3);
        let past = offset_of(&mut side.client, at, greatest.timestamp + 1);
        let first = offset_of(&mut side.client, at, 3_000);
        let from_first = offset_of(&mut side.client, at, first.timestamp);
        assert!(first.timestamp > 1_700_000_000_000, "the clock's");
        assert_eq!(
            offset_of(&mut side.client, at, greatest.timestamp).timestamp,
            greatest.timestamp
        );
        // Batches that are appended within one millisecond tie, and the clock decides which is
        // first.
        let is_first_of_batch = greatest.offset % 3 == 0;
        format!("{is_first_of_batch} {past:?} {} {}", first.offset, from_first.offset)
    });
    findings.compare(sides.name, "found", &found[0], &found[1]);
}

/// No record has a timestamp.
fn untimed(findings: &mut Findings) {
    let mut sides = SideBySide::new("no times", 1, &[]);
    for codec in [0, 1] {
        sides.append(TopicRef::Main, 0, &at(codec, &[-1, -1, -1]));
    }
    for (step, start) in [("whole", 0), ("cut", 1), ("more", 4), ("empty", 6)] {
        if start > 0 {
            delete(&mut sides, 0, start);
        }
        for time in [-3, -2, -1, 0, 1] {
            let parts = [(TopicRef::Main, 0, time)];
            findings
                .query(&mut sides, &format!("{step}: {time}"), 7, |side| positions(side, &parts));
        }
    }
}
