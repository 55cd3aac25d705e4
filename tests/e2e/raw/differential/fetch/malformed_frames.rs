//! Frames that are truncated, padded, or have wrong counts.

use super::super::frame_edits::{Edit, cut, halve, pad};
use super::Findings;
use super::request_builders::{fetch, positions};
use super::side_by_side::{SideBySide, TopicRef};
use super::topic_contents::fill;

const CUTS: &[(&str, Edit)] = &[
    ("one byte less", |f| cut(f, 1)),
    ("four bytes less", |f| cut(f, 4)),
    ("ten bytes less", |f| cut(f, 10)),
    ("half of it", halve),
    ("one byte more", |f| pad(f, &[0])),
    ("a hundred bytes more", |f| pad(f, &[0xff; 100])),
    ("version -1", |f| version(f, -1)),
    ("version 99", |f| version(f, 99)),
];

/// Edits of the topic count, which follows the header: client id "raw", and from flexible versions
/// on a byte of tags.
const COUNTS: &[(&str, Edit)] = &[
    ("no count", |f| count(f, 0)),
    ("two", |f| count(f, 2)),
    ("a null count", |f| count(f, -1)),
    ("a negative count", |f| count(f, -2)),
    ("very many", |f| count(f, i32::MAX)),
];

pub(super) fn run(findings: &mut Findings) {
    let mut sides = SideBySide::new("frames", 5, &[]);
    fill(&mut sides);
    let parts = [(TopicRef::Main, 0, 0)];
    for (label, edit) in CUTS {
        for version in [4, 7, 11, 12, 13, 15] {
            let label = format!("fetch: {label}");
            let build = |side: &_| fetch(side, version, &parts);
            findings.query_edited(&mut sides, &label, version, build, Some(*edit));
        }
        for version in [1, 2, 5, 6, 10] {
            let label = format!("list: {label}");
            let build = |side: &_| positions(side, &parts);
            findings.query_edited(&mut sides, &label, version, build, Some(*edit));
        }
    }
    for (label, edit) in COUNTS {
        for version in [4, 6] {
            let label = format!("fetch: {label}");
            let build = |side: &_| fetch(side, version, &parts);
            findings.query_edited(&mut sides, &label, version, build, Some(*edit));
        }
        let label = format!("list: {label}");
        let build = |side: &_| positions(side, &parts);
        findings.query_edited(&mut sides, &label, 1, build, Some(*edit));
    }
}

fn version(mut frame: Vec<u8>, version: i16) -> Vec<u8> {
    frame[6..8].copy_from_slice(&version.to_be_bytes());
    frame
}

/// Sets the count of topics: the first 1 of four bytes before the name's length.
fn count(mut frame: Vec<u8>, count: i32) -> Vec<u8> {
    let at = frame.windows(5).rposition(|w| w == [0, 0, 0, 1, 0]).expect("a count");
    let first = frame.windows(5).position(|w| w == [0, 0, 0, 1, 0]).unwrap_or(at);
    let at = if frame[5] == 1 { 4 + 13 + 4 + 4 + 4 + 4 + 1 } else { first };
    assert_eq!(frame[at..at + 4], [0, 0, 0, 1], "one topic");
    frame[at..at + 4].copy_from_slice(&count.to_be_bytes());
    frame
}
