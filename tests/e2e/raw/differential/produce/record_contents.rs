//! The records inside a batch, uncompressed and with each codec.

use super::super::raw_batch::{
    CODECS, GZIP, LZ4, NONE, RawBatch, RawRecord, SNAPPY, ZSTD, compress, encoded, raw_record,
    three,
};
use super::Findings;
use super::side_by_side::{Case, SideBySide, case};

pub(super) fn run(findings: &mut Findings) {
    for (name, codec) in CODECS {
        let cases: Vec<Case> = invalid_records()
            .into_iter()
            .map(|(label, batch)| case(format!("{name} {label}"), &batch.codec(codec)))
            .collect();
        findings.compare(&mut SideBySide::new("inner", &[]), &cases);
    }
    findings.compare(&mut SideBySide::new("streams", &[]), &streams());
}

/// Batches with wrong or unusual records.
pub(super) fn invalid_records() -> Vec<(String, RawBatch)> {
    let mut all = vec![("three".to_owned(), RawBatch::of(three()))];
    let mut add = |label: &str, batch: RawBatch| all.push((label.to_owned(), batch));
    let unusual = |edit: fn(&mut RawRecord)| {
        let mut records = three();
        edit(&mut records[1]);
        RawBatch::of(records)
    };
    let deltas = |deltas: [i64; 3]| {
        RawBatch::of(
            deltas
                .iter()
                .zip(0..)
                .map(|(d, n)| RawRecord { offset_delta: *d, ..raw_record(n, "v") })
                .collect(),
        )
    };
    add("offsets in disorder", deltas([0, 2, 1]));
    add("offsets all the same", deltas([0, 0, 0]));
    add("offsets with a gap", deltas([0, 5, 6]));
    add("offsets from one on", deltas([1, 2, 3]));
    add("offsets that are negative", deltas([-3, -2, -1]));
    add("offsets that overflow", deltas([0, i64::from(i32::MAX), i64::from(i32::MIN)]));
    let counted =
        |count| RawBatch { count: Some(count), last_delta: Some(count - 1), ..RawBatch::two() };
    add("fewer records than announced", counted(3));
    add("many fewer records than announced", counted(1_000));
    add("more records than announced", counted(1));
    add("a byte behind", RawBatch { trailing: vec![0], ..RawBatch::two() });
    add("much behind", RawBatch { trailing: vec![7; 5_000], ..RawBatch::two() });
    add(
        "no bytes of records",
        RawBatch {
            payload: None,
            trailing: Vec::new(),
            count: Some(1),
            last_delta: Some(0),
            ..RawBatch::of(Vec::new())
        },
    );
    add("a longer length", unusual(|r| r.length_lie = 1));
    add("a shorter length", unusual(|r| r.length_lie = -1));
    add("a huge length", unusual(|r| r.length_lie = 1 << 20));
    add("a negative length", unusual(|r| r.length_lie = -100));
    add("a zero length", unusual(|r| r.length_lie = -6));
    add("bytes behind the headers", unusual(|r| r.extra = vec![1, 2, 3]));
    add("a header too many", unusual(|r| r.header_count = Some(1)));
    add("many headers too many", unusual(|r| r.header_count = Some(1 << 20)));
    add("a negative count of headers", unusual(|r| r.header_count = Some(-1)));
    add(
        "a null header key",
        unusual(|r| {
            r.header_count = Some(1);
            r.extra = vec![1, 0];
        }),
    );
    add(
        "a long header key",
        unusual(|r| {
            r.header_count = Some(1);
            r.extra = vec![50, 0];
        }),
    );
    add(
        "a header key that is not text",
        unusual(|r| r.headers = vec![(vec![0xff, 0xc3, b'x'], None)]),
    );
    all.extend(torn());
    all
}

/// Batches of a valid record and a truncated second one.
fn torn() -> Vec<(String, RawBatch)> {
    let mut all = Vec::new();
    let mut add = |label: &str, batch: RawBatch| all.push((label.to_owned(), batch));
    let last = |bytes: &[u8]| {
        let payload = [&encoded(&[raw_record(0, "a")])[..], bytes].concat();
        RawBatch {
            trailing: payload,
            count: Some(2),
            last_delta: Some(1),
            ..RawBatch::of(Vec::new())
        }
    };
    add("a length that never ends", last(&[0xff; 8]));
    add("a length that is cut", last(&[0xff]));
    add("a length of five bytes", last(&[0x8c, 0x80, 0x80, 0x80, 0x70, 0, 2, 2, 1, 1, 0]));
    add(
        "a timestamp that never ends",
        last(&[
            40, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0,
            0, 0, 0,
        ]),
    );
    add("an offset that never ends", last(&[20, 0, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]));
    add("a key that is too long", last(&[12, 0, 2, 2, 100, 1, 0]));
    add("a value that is too long", last(&[12, 0, 2, 2, 1, 100, 0]));
    add("a value of minus two", last(&[12, 0, 2, 2, 1, 3, 0]));
    add("only attributes", last(&[2, 0]));
    add("a cut record", last(&[14, 0, 2, 2]));
    all
}

/// Streams that do not decompress, or decompress in an unusual way.
fn streams() -> Vec<Case> {
    let plain = encoded(&RawBatch::two().records);
    let mut cases = Vec::new();
    let mut add = |label: String, codec: i16, payload: Vec<u8>| {
        cases.push(case(
            label,
            &RawBatch { payload: Some(payload), ..RawBatch::two() }.codec(codec),
        ));
    };
    for (name, codec) in CODECS.into_iter().filter(|(_, codec)| *codec != NONE) {
        let good = compress(codec, &plain);
        add(format!("{name} garbage"), codec, b"this is not compressed at all".to_vec());
        add(format!("{name} zeros"), codec, vec![0; 40]);
        add(format!("{name} nothing"), codec, Vec::new());
        add(format!("{name} a byte"), codec, vec![good[0]]);
        add(format!("{name} cut by one"), codec, good[..good.len() - 1].to_vec());
        add(format!("{name} cut by nine"), codec, good[..good.len() - 9].to_vec());
        add(format!("{name} cut in half"), codec, good[..good.len() / 2].to_vec());
        add(format!("{name} garbage behind"), codec, [&good[..], b"garbage"].concat());
        add(format!("{name} zeros behind"), codec, [&good[..], &[0; 30]].concat());
        let halves = plain.split_at(plain.len() / 2);
        let both = [compress(codec, halves.0), compress(codec, halves.1)].concat();
        add(format!("{name} two streams"), codec, both);
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 0x10;
        add(format!("{name} a flipped bit"), codec, flipped);
        let mut wrong_sum = good.clone();
        wrong_sum[good.len() - 6] ^= 0xff;
        add(format!("{name} a wrong byte near the end"), codec, wrong_sum);
    }
    add("gzip marked as lz4".into(), LZ4, compress(GZIP, &plain));
    add(
        "snappy without its framing".into(),
        SNAPPY,
        snap::raw::Encoder::new().compress_vec(&plain).expect("a block"),
    );
    add("lz4 with linked blocks".into(), LZ4, linked_lz4(&plain));
    add("lz4 with all checksums".into(), LZ4, checked_lz4(&plain, false));
    add("zstd with a large window".into(), ZSTD, wide_zstd(&plain, 27));
    add("zstd with a huge window".into(), ZSTD, wide_zstd(&plain, 30));
    cases
}

fn linked_lz4(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let frame = lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked);
    let mut out = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
    out.write_all(bytes).expect("memory");
    out.finish().expect("memory")
}

/// Returns an LZ4 frame with checksums of blocks and content; the last may be wrong.
pub(super) fn checked_lz4(bytes: &[u8], wrong: bool) -> Vec<u8> {
    use std::io::Write as _;
    let frame = lz4_flex::frame::FrameInfo::new()
        .block_checksums(true)
        .content_checksum(true)
        .content_size(Some(bytes.len() as u64));
    let mut out = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
    out.write_all(bytes).expect("memory");
    let mut out = out.finish().expect("memory");
    let last = out.len() - 1;
    out[last] ^= u8::from(wrong);
    out
}

/// Returns a zstd frame that requests a window of `2^log` bytes.
fn wide_zstd(bytes: &[u8], log: u8) -> Vec<u8> {
    let block = ((bytes.len() as u32) << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3][..], &block[..3], bytes].concat()
}
