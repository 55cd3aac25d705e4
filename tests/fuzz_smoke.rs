//! The fuzz targets on the stable toolchain: seeded random mutations of valid inputs, for
//! `FUZZ_SECONDS` (3) from `FUZZ_SEED` (1). `scripts/fuzz.sh` runs the real fuzzer.

#![cfg(feature = "test-util")]

use std::time::Duration;

use odradek::wire::fuzz;
use odradek::wire::guard::sample::{Direction, message, versions};
use odradek::wire::header;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[expect(clippy::print_stderr, reason = "a failure is of no use without its input")]
fn run(target: fn(&[u8]), mut draw: impl FnMut(&mut StdRng) -> Vec<u8>) {
    let seed = from_env("FUZZ_SEED", 1);
    let mut rng = StdRng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs(from_env("FUZZ_SECONDS", 3));
    let mut inputs = 0_u64;
    while Instant::now() < end {
        let mut data = draw(&mut rng);
        target(&data);
        for _ in 0..8 {
            mutate(&mut rng, &mut data);
            // The input of a panic is printed, not only its location.
            if let Err(panic) = std::panic::catch_unwind(|| target(&data)) {
                eprintln!("seed {seed}, input {inputs}: {data:02x?}");
                std::panic::resume_unwind(panic);
            }
            inputs += 1;
        }
    }
    assert!(inputs > 100, "only {inputs} inputs");
}

fn mutate(rng: &mut StdRng, data: &mut Vec<u8>) {
    let at = rng.random_range(0..=data.len());
    let byte = [0, 1, 0x7f, 0x80, 0xff, rng.random()][rng.random_range(0..6)];
    match rng.random_range(0..5) {
        0 | 1 if at < data.len() => data[at] = byte,
        2 => data.insert(at, byte),
        3 if at < data.len() => drop(data.remove(at)),
        _ if rng.random_range(0..4) == 0 => data.truncate(at),
        _ => data.extend(std::iter::repeat_n(byte, rng.random_range(0..9))),
    }
}

fn body(rng: &mut StdRng, direction: Direction) -> ((i16, i16), Vec<u8>) {
    let all = versions(direction);
    let at = all[rng.random_range(0..all.len())];
    (at, message(direction, at, 4, &mut |n| rng.random_range(0..n)))
}

fn request(rng: &mut StdRng) -> Vec<u8> {
    let ((key, version), body) = body(rng, Direction::Request);
    let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
    frame.extend([0, 0, 0, 7, 0, 2, b'm', b'e']);
    if header::flexible(key, version) == Some(true) {
        frame.push(0);
    }
    frame.extend(body);
    frame
}

fn response(rng: &mut StdRng) -> Vec<u8> {
    let ((key, version), body) = body(rng, Direction::Response);
    let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
    header::put_response_header(&mut frame, key, version, 7);
    frame.extend(body);
    frame
}

/// Returns a batch whose records begin like a gzip, snappy, LZ4 or zstd stream, or are
/// uncompressed.
fn record_batch(rng: &mut StdRng) -> Vec<u8> {
    let records: &[&[u8]] = &[
        &[14, 0, 2, 0, 1, 2, b'v', 0, 14, 0, 4, 2, 1, 2, b'v', 0],
        &[
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1, 2, 0, 0xfd, 0xff, 14, 0, 0, 0, 0, 0, 0, 0, 0,
            0,
        ],
        &[
            0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 2, 4,
            14, 0,
        ],
        &[4, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82, 2, 0, 0, 0x80, 14, 0, 0, 0, 0, 0],
        &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 2, 0x11, 0, 0, 14, 0],
    ];
    let codec = rng.random_range(0..records.len());
    let records = records[codec];
    let mut out = vec![0; 8];
    out.extend((49 + records.len() as i32).to_be_bytes());
    out.extend([0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0, codec as u8, 0, 0, 0, 1]);
    out.extend([0; 8]);
    out.extend([0, 0, 0, 0, 0, 0, 0, 9]);
    out.extend([0xff; 14]);
    out.extend([0, 0, 0, 2]);
    out.extend(records);
    out
}

#[test]
fn frames() {
    run(fuzz::frame, |rng| {
        let mut out = vec![rng.random()];
        for _ in 0..rng.random_range(0..4) {
            let request = request(rng);
            out.extend((request.len() as i32).to_be_bytes());
            out.extend(request);
        }
        out
    });
}

#[test]
fn requests() {
    run(fuzz::request, request);
}

#[test]
fn responses() {
    run(fuzz::response, response);
}

#[test]
fn record_batches() {
    run(fuzz::record_batch, record_batch);
}

#[test]
fn proxy_protocol_headers() {
    run(fuzz::proxy_protocol, |rng| {
        let mut out = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        let (family, bytes) = [(0x11, 12), (0x21, 36), (0, 0)][rng.random_range(0..3)];
        let more = rng.random_range(0..20);
        out.extend([0x20 | rng.random_range(0..2_u8), family, 0, bytes + more]);
        out.extend((0..bytes + more).map(|_| rng.random::<u8>()));
        out
    });
}
