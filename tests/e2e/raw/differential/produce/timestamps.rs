//! Timestamps: bounds, types, and header fields.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::raw_batch::{
    APPEND_TIME, BASE_TIME, CODECS, GZIP, RawBatch, RawRecord, raw_record,
};
use super::Findings;
use super::side_by_side::{Case, SideBySide, case};

const HOUR_MS: i64 = 3_600_000;

pub(super) fn run(findings: &mut Findings) {
    let bounds = [
        ("message.timestamp.before.max.ms", "3600000"),
        ("message.timestamp.after.max.ms", "60000"),
    ];
    findings.compare(&mut SideBySide::new("bounds", &bounds), &bounded());
    findings.compare(&mut SideBySide::new("times", &[]), &unusual());
    let append = [("message.timestamp.type", "LogAppendTime")];
    findings.compare(&mut SideBySide::new("append", &append), &[stamped(), unusual()].concat());
    let all = [bounds[0], bounds[1], append[0]];
    findings.compare(&mut SideBySide::new("append bounds", &all), &bounded());
    let gzip = [append[0], ("compression.type", "gzip")];
    findings.compare(&mut SideBySide::new("append gzip", &gzip), &[stamped(), unusual()].concat());
    let gzip = [("compression.type", "gzip")];
    findings.compare(&mut SideBySide::new("times gzip", &gzip), &unusual());
}

fn timed(deltas: &[i64]) -> RawBatch {
    let record =
        |(delta, n): (&i64, i64)| RawRecord { timestamp_delta: *delta, ..raw_record(n, "v") };
    RawBatch::of(deltas.iter().zip(0..).map(record).collect())
}

/// Cases for bounds of an hour before and a minute after.
fn bounded() -> Vec<Case> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = i64::try_from(now.as_millis()).expect("a small number");
    let mut cases = Vec::new();
    for (name, codec) in [CODECS[0], CODECS[1], CODECS[4]] {
        let mut add = |label: &str, batch: RawBatch| {
            cases.push(case(format!("{name} {label}"), &batch.codec(codec)))
        };
        add("now", timed(&[0, 1]).at(now));
        add("nearly too old", timed(&[0]).at(now - HOUR_MS + 60_000));
        add("too old", timed(&[0]).at(now - HOUR_MS - 1_000));
        add("nearly too new", timed(&[0]).at(now + 50_000));
        add("too new", timed(&[0]).at(now + 180_000));
        add("one of three too old", timed(&[0, -2 * HOUR_MS, 1]).at(now));
        add("all but one too new", timed(&[HOUR_MS, 0, 2 * HOUR_MS, HOUR_MS]).at(now));
        add("no time", timed(&[-1]).at(0));
        add("no time in the middle", timed(&[0, -1 - now, 5]).at(now));
        add("negative", timed(&[0]).at(-5));
        add("zero", timed(&[0]).at(0));
        add("the least", timed(&[0]).at(i64::MIN));
        add("the greatest", timed(&[0]).at(i64::MAX));
        add("over the greatest", timed(&[0, 10]).at(i64::MAX - 5));
        let lying = |max| RawBatch { max_time: Some(max), ..timed(&[0, 1]).at(now) };
        add("max time too new", lying(now + HOUR_MS));
        add("too old, of append time", timed(&[0]).at(now - 2 * HOUR_MS).codec(APPEND_TIME));
        let append = RawBatch { max_time: Some(now), ..timed(&[0]).at(now - 2 * HOUR_MS) };
        add("too old, of an append time of now", append.codec(APPEND_TIME));
        let mixed =
            RawBatch { count: Some(4), last_delta: Some(3), ..timed(&[0, HOUR_MS]).at(now) };
        add("too new, and fewer records than announced", mixed);
        let mixed = RawBatch { trailing: vec![0], ..timed(&[0, HOUR_MS]).at(now) };
        add("too new, and a byte behind", mixed);
    }
    cases
}

/// Cases for the broker's default bounds.
fn unusual() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, codec) in [CODECS[0], CODECS[1], CODECS[4]] {
        let mut add = |label: &str, batch: RawBatch| {
            cases.push(case(format!("{name} {label}"), &batch.codec(codec)))
        };
        for max in [i64::MIN, -2, -1, 0, BASE_TIME, BASE_TIME + 5, i64::MAX] {
            add(&format!("max {max}"), RawBatch { max_time: Some(max), ..timed(&[0, 7, 3]) });
        }
        add("no times", timed(&[0, 0]).at(-1));
        add("no time, then one", timed(&[0, 9]).at(-1));
        add("a time, then none", timed(&[0, -1 - BASE_TIME]));
        add("negative", timed(&[0, 1]).at(-50));
        add("negative, then not", timed(&[0, 100]).at(-50));
        add("not, then negative", timed(&[0, -100]).at(50));
        add("the least", timed(&[0]).at(i64::MIN));
        add("below the least", timed(&[-1]).at(i64::MIN));
        add("the greatest", timed(&[0]).at(i64::MAX));
        add("falling", timed(&[0, -1, -2]));
        add("append time", timed(&[0, 3]).codec(APPEND_TIME));
        let append = |max| RawBatch { max_time: Some(max), ..timed(&[0, 3]) }.codec(APPEND_TIME);
        add("append time without", append(-1));
        add("append time of then", append(BASE_TIME - 77));
        add("append time of never", append(-9));
    }
    cases
}

/// Duplicates get the append time of the original.
fn stamped() -> Vec<Case> {
    let batch = |sequence| RawBatch::two().by(9, 0, sequence);
    vec![
        case("the first", &batch(0)),
        case("the first again", &batch(0)),
        case("the second", &batch(2).codec(GZIP)),
        case("the first yet again", &batch(0)),
        case("the second again", &batch(2)),
        case("a gap", &batch(8)),
    ]
}
