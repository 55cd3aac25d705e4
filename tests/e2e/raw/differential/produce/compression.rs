//! `compression.type`: a batch is stored with the topic's codec, whatever the producer's.

use super::super::raw_batch::{CODECS, RawBatch, RawRecord, raw_record, three};
use super::Findings;
use super::record_contents::invalid_records;
use super::side_by_side::{Case, SideBySide, case};

pub(super) fn run(findings: &mut Findings) {
    for target in ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"] {
        let name = format!("to {target}").leak();
        let mut sides = SideBySide::new(name, &[("compression.type", target)]);
        findings.compare(&mut sides, &good());
        // Invalid records are detected in the same way for every codec.
        if ["uncompressed", "lz4"].contains(&target) {
            findings.compare(&mut sides, &wrong());
        }
    }
    let small = [("compression.type", "uncompressed"), ("max.message.bytes", "5000")];
    findings.compare(&mut SideBySide::new("opened too large", &small), &large());
    let level = [
        ("compression.type", "gzip"),
        ("compression.gzip.level", "1"),
        ("max.message.bytes", "5000"),
    ];
    findings.compare(&mut SideBySide::new("levels", &level), &large());
}

fn good() -> Vec<Case> {
    let mut cases = Vec::new();
    let many = RawBatch::of(
        (0..2_000).map(|n| raw_record(n, &format!("the value of record {n}"))).collect(),
    );
    for (name, codec) in CODECS {
        let mut add = |label: &str, batch: RawBatch| {
            cases.push(case(format!("{name} {label}"), &batch.codec(codec)))
        };
        add("three", RawBatch::of(three()));
        add("of a producer", RawBatch::two().by(4, 2, i32::from(codec) * 2));
        add("many", many.clone());
        add("one large", RawBatch::of(vec![raw_record(0, &"large ".repeat(100_000))]));
        add("no value at all", RawBatch::of(vec![RawRecord { value: None, ..raw_record(0, "") }]));
    }
    cases
}

fn wrong() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, codec) in [CODECS[0], CODECS[1], CODECS[3]] {
        cases.extend(
            invalid_records()
                .into_iter()
                .map(|(label, batch)| case(format!("{name} {label}"), &batch.codec(codec))),
        );
    }
    cases
}

fn large() -> Vec<Case> {
    let sized = |bytes: usize| RawBatch::of(vec![raw_record(0, &"x".repeat(bytes))]);
    let mut cases = Vec::new();
    for (name, codec) in CODECS {
        for bytes in [3_000, 4_900, 5_100, 100_000] {
            cases.push(case(format!("{name} {bytes}"), &sized(bytes).codec(codec)));
        }
    }
    cases
}
