//! Versions, topics and partitions, and batch headers.

use bytes::Bytes;

use super::super::raw_batch::{
    CODECS, CONTROL, GZIP, RawBatch, TRANSACTIONAL, ZSTD, raw_record, three,
};
use super::Findings;
use super::side_by_side::{Case, SideBySide, TopicRef, case, of_bytes};

pub(super) fn run(findings: &mut Findings) {
    findings.compare(&mut SideBySide::new("versions", &[]), &versions());
    findings.compare(&mut SideBySide::new("headers", &[]), &headers());
    findings.compare(&mut SideBySide::new("sizes", &[("max.message.bytes", "2000")]), &sizes());
    findings.compare(&mut SideBySide::new("requests", &[]), &requests());
}

fn versions() -> Vec<Case> {
    let bad = RawBatch { bad_crc: true, ..RawBatch::two() };
    let mut cases = Vec::new();
    for version in 3..=13 {
        let good =
            |label: &str| case(format!("{label} v{version}"), &RawBatch::two()).version(version);
        cases.push(good("good"));
        cases.push(case(format!("corrupt v{version}"), &bad).version(version));
        cases.push(good("an unknown topic").to(TopicRef::Unknown, 0));
        cases.push(good("no topic").to(TopicRef::Zero, 0));
        cases.push(good("no partition").to(TopicRef::Topic, 7));
        cases.push(good("negative partition").to(TopicRef::Topic, -1));
        for (name, codec) in CODECS {
            let batch = RawBatch::of(three()).codec(codec);
            cases.push(case(format!("{name} v{version}"), &batch).version(version));
        }
        for codec in 5..8 {
            let batch = RawBatch::two().codec(codec);
            cases.push(case(format!("codec {codec} v{version}"), &batch).version(version));
        }
    }
    cases
}

fn headers() -> Vec<Case> {
    let two = RawBatch::two;
    let mut cases = Vec::new();
    for magic in [0, 1, 3, 127, -1] {
        cases.push(case(format!("magic {magic}"), &RawBatch { magic, ..two() }));
    }
    for count in [-1, 0, 1, 3, i32::MAX, i32::MIN] {
        cases.push(case(format!("count {count}"), &RawBatch { count: Some(count), ..two() }));
        let last_delta = Some(count);
        cases.push(case(format!("last delta {count}"), &RawBatch { last_delta, ..two() }));
        let both =
            RawBatch { last_delta: Some(count.wrapping_sub(1)), count: Some(count), ..two() };
        cases.push(case(format!("count and delta {count}"), &both));
        let compressed = both.codec(GZIP);
        cases.push(case(format!("compressed count and delta {count}"), &compressed));
    }
    for length in [-1, 0, 13, 14, 48, 49, 60, 1_000, i32::MAX] {
        cases.push(case(format!("length {length}"), &RawBatch { length: Some(length), ..two() }));
    }
    for base_offset in [-1, 1, i64::MAX] {
        cases.push(case(format!("base offset {base_offset}"), &RawBatch { base_offset, ..two() }));
    }
    let marked = |attributes| RawBatch { attributes, ..two() };
    cases.push(case("control", &marked(CONTROL)));
    cases.push(case("control of a producer", &marked(CONTROL).by(5, 0, 0)));
    cases.push(case("unknown attributes", &marked(0x7f80)));
    cases.push(case(
        "unknown attributes and a wrong max",
        &RawBatch { max_time: Some(9), ..marked(0x7f80) },
    ));
    cases.push(case("delete horizon", &marked(0x40)));
    cases.push(case(
        "delete horizon and a wrong max",
        &RawBatch { max_time: Some(9), ..marked(0x40) },
    ));
    cases.push(case("transactional", &marked(TRANSACTIONAL).by(5, 0, 0)));
    cases.push(case("transactional without id", &marked(TRANSACTIONAL)));
    let id = Some("same-txn");
    cases.push(Case { transactional_id: id, ..case("an id without the bit", &two()) });
    let good = two().bytes();
    cases.push(of_bytes("no bytes", Some(Bytes::new())));
    cases.push(of_bytes("half", Some(good.slice(..good.len() - 1))));
    cases.push(of_bytes("half a header", Some(good.slice(..30))));
    for (tail, bytes) in
        [("a byte", 1), ("16 bytes", 16), ("17 bytes", 17), ("all but one", good.len() - 1)]
    {
        cases.push(of_bytes(
            format!("{tail} more"),
            Some([&good[..], &good[..bytes]].concat().into()),
        ));
    }
    cases.push(of_bytes("zeros behind", Some([&good[..], &[0; 40]].concat().into())));
    cases.push(of_bytes("two batches", Some([&good[..], &good[..]].concat().into())));
    let other = RawBatch { magic: 1, ..two() }.bytes();
    cases.push(of_bytes("a batch and an old one", Some([&good[..], &other[..]].concat().into())));
    let other = RawBatch { magic: 9, ..two() }.bytes();
    cases.push(of_bytes(
        "a batch and an unknown one",
        Some([&good[..], &other[..]].concat().into()),
    ));
    cases
}

fn sizes() -> Vec<Case> {
    let sized = |bytes: usize| {
        let empty = RawBatch::of(vec![raw_record(0, &"x".repeat(1_000))]).bytes().len() - 1_000;
        RawBatch::of(vec![raw_record(0, &"x".repeat(bytes - empty))])
    };
    let bad = |batch: RawBatch| RawBatch { bad_crc: true, ..batch };
    let repetitive = RawBatch::of(vec![raw_record(0, &"x".repeat(100_000))]);
    vec![
        case("the largest", &sized(2_000)),
        case("one too many", &sized(2_001)),
        case("too large and corrupt", &bad(sized(2_001))),
        case("too large of an unknown codec", &sized(2_001).codec(5)),
        case("large before compression", &repetitive.clone().codec(GZIP)),
        case("a large one in zstd", &repetitive.codec(ZSTD)),
    ]
}

fn requests() -> Vec<Case> {
    let (good, bad) =
        (RawBatch::two().bytes(), RawBatch { bad_crc: true, ..RawBatch::two() }.bytes());
    let unknown = RawBatch { magic: 9, ..RawBatch::two() }.bytes();
    let old = RawBatch { magic: 1, ..RawBatch::two() }.bytes();
    let codec = RawBatch::two().codec(6).bytes();
    let late = RawBatch { count: Some(3), last_delta: Some(2), ..RawBatch::two() }.bytes();
    let transactional =
        RawBatch { attributes: TRANSACTIONAL, ..RawBatch::two() }.by(5, 0, 0).bytes();
    let first = |label: &str| of_bytes(label, Some(good.clone()));
    let mut cases = Vec::new();
    for acks in [-1, 0, 1, 2, -2, 127, i16::MIN] {
        cases.push(first(&format!("good acks={acks}")).acks(acks));
        cases.push(of_bytes(format!("corrupt acks={acks}"), Some(bad.clone())).acks(acks));
        cases.push(of_bytes(format!("old acks={acks}"), Some(old.clone())).acks(acks));
        let fated = first(&format!("unknown topic acks={acks}")).acks(acks);
        cases.push(fated.to(TopicRef::Unknown, 0));
        let mixed = first(&format!("good and bad acks={acks}")).acks(acks);
        cases.push(mixed.and(1, bad.clone()).and(9, good.clone()).and(2, old.clone()));
    }
    cases.push(
        first("five fates")
            .and(1, bad)
            .and(2, late)
            .and(3, old.clone())
            .and(4, good.clone())
            .and(9, good.clone()),
    );
    cases.push(first("an unknown magic among good ones").and(1, unknown).and(2, good.clone()));
    cases.push(first("a codec that is none among good ones").and(1, codec.clone()));
    cases.push(first("a codec that is none among good ones v5").and(1, codec).version(5));
    cases.push(first("a transaction among good ones").and(1, transactional.clone()));
    cases.push(first("an old one and a transaction").and(1, old).and(2, transactional));
    cases.push(Case { parts: Vec::new(), ..first("no topic at all") });
    cases.push(Case {
        parts: vec![
            (TopicRef::Unknown, 0, Some(good.clone())),
            (TopicRef::Topic, 1, Some(good.clone())),
        ],
        ..first("an unknown topic and a known one")
    });
    cases
}
