//! Frames that are truncated, padded, or have wrong lengths.

use super::super::frame_edits::{Edit, cut, halve, pad};
use super::super::raw_batch::RawBatch;
use super::Findings;
use super::side_by_side::{Case, SideBySide, case};

/// The position of the API version in a frame. The batch is found by its bytes; other positions are
/// counted from the beginning of the frame.
const API_VERSION_AT: usize = 6;

pub(super) fn run(findings: &mut Findings) {
    let mut cases: Vec<Case> = Vec::new();
    for (label, version, edit) in EDITS {
        cases.push(case(*label, &RawBatch::two()).version(*version).edited(*edit));
    }
    findings.compare(&mut SideBySide::new("frames", &[]), &cases);
}

/// A name, the version of the request, and the edit.
const EDITS: &[(&str, i16, Edit)] = &[
    ("one byte less v9", 9, |f| cut(f, 1)),
    ("one byte less v3", 3, |f| cut(f, 1)),
    ("ten bytes less v9", 9, |f| cut(f, 10)),
    ("half of it v9", 9, halve),
    ("half of it v3", 3, halve),
    ("only the header v9", 9, |f| {
        let n = f.len() - 19;
        cut(f, n)
    }),
    ("one byte more v9", 9, |f| pad(f, &[0])),
    ("one byte more v3", 3, |f| pad(f, &[0])),
    ("a hundred bytes more v13", 13, |f| pad(f, &[0xff; 100])),
    ("records that are longer v9", 9, |f| records_length(f, 1)),
    ("records that are shorter v9", 9, |f| records_length(f, -1)),
    ("records that are longer v3", 3, |f| at_records_v3(f, 1)),
    ("records that are much longer v3", 3, |f| at_records_v3(f, 1 << 30)),
    ("records that are shorter v3", 3, |f| at_records_v3(f, -1)),
    ("records of a negative length v3", 3, |f| at_records_v3(f, i32::MIN)),
    ("a negative count of topics v3", 3, |f| topics_v3(f, -2)),
    ("a null count of topics v3", 3, |f| topics_v3(f, -1)),
    ("no topics v3", 3, |f| topics_v3(f, 0)),
    ("two topics v3", 3, |f| topics_v3(f, 2)),
    ("very many topics v3", 3, |f| topics_v3(f, i32::MAX)),
    ("version 14", 9, |mut f| {
        f[API_VERSION_AT + 1] = 14;
        f
    }),
    ("version 2", 3, |mut f| {
        f[API_VERSION_AT + 1] = 2;
        f
    }),
    ("version -1", 3, |mut f| {
        f[API_VERSION_AT] = 0xff;
        f[API_VERSION_AT + 1] = 0xff;
        f
    }),
    ("version 8 of a request of version 9", 9, |mut f| {
        f[API_VERSION_AT + 1] = 8;
        f
    }),
    ("version 9 of a request of version 8", 8, |mut f| {
        f[API_VERSION_AT + 1] = 9;
        f
    }),
    ("version 12 of a request of version 13", 13, |mut f| {
        f[API_VERSION_AT + 1] = 12;
        f
    }),
];

/// Returns the position of the batch in the frame.
fn batch_at(frame: &[u8]) -> usize {
    let batch = RawBatch::two().bytes();
    frame.windows(batch.len()).position(|w| w == batch).expect("it holds the batch")
}

/// Changes the records' length, a compact length of one byte.
fn records_length(mut frame: Vec<u8>, more: i8) -> Vec<u8> {
    let at = batch_at(&frame) - 1;
    frame[at] = frame[at].wrapping_add_signed(more);
    frame
}

fn at_records_v3(mut frame: Vec<u8>, more: i32) -> Vec<u8> {
    let at = batch_at(&frame) - 4;
    let length = i32::try_from(RawBatch::two().bytes().len()).expect("a short batch");
    let length = if more == i32::MIN { more } else { length.saturating_add(more) };
    frame[at..at + 4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Sets the count of topics, which follows the header (client id "raw"), the transactional id, acks
/// and the timeout.
fn topics_v3(mut frame: Vec<u8>, count: i32) -> Vec<u8> {
    let at = 4 + 8 + 2 + 3 + 2 + 2 + 4;
    assert_eq!(frame[at..at + 4], [0, 0, 0, 1], "one topic");
    frame[at..at + 4].copy_from_slice(&count.to_be_bytes());
    frame
}
