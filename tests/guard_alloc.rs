//! Messages that the guard accepts decode within the memory that it guarantees.

#![cfg(feature = "test-util")]

use bytes::Bytes;
use odradek::wire::fuzz::{decode_any_request, decode_any_response};
use odradek::wire::guard::sample::{Direction, message, versions};
use odradek::wire::guard::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX, decoded_bytes_max};
use peak_alloc::PeakAlloc;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// An error's text and the handle that shares the body are not part of the decoded message.
const SLACK_BYTES: usize = 1 << 10;

#[derive(Default)]
struct Tally {
    accepted: usize,
    refused: usize,
}

impl Tally {
    fn decode(&mut self, direction: Direction, at: (i16, i16), body: Vec<u8>) {
        let (limit, decode): (_, fn(i16, i16, Bytes) -> _) = match direction {
            Direction::Request => (REQUEST_BYTES_MAX, decode_any_request),
            Direction::Response => (RESPONSE_BYTES_MAX, decode_any_response),
        };
        let allowed = decoded_bytes_max(body.len(), limit) + SLACK_BYTES;
        let shown = body[..body.len().min(64)].to_vec();
        let body = Bytes::from(body);
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let decoded = decode(at.0, at.1, body);
        let taken = ALLOCATOR.peak_usage().saturating_sub(before);
        assert!(taken <= allowed, "{taken} bytes for {direction:?} {at:?} {shown:02x?}");
        *(if decoded.is_ok() { &mut self.accepted } else { &mut self.refused }) += 1;
    }
}

fn mutate(rng: &mut StdRng, body: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=body.len());
        let byte = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, rng.random()][rng.random_range(0..8)];
        match rng.random_range(0..4) {
            0 if at < body.len() => body[at] = byte,
            1 => body.insert(at, byte),
            2 if at < body.len() => drop(body.remove(at)),
            _ => body.extend(std::iter::repeat_n(byte, rng.random_range(0..64))),
        }
    }
}

/// A single test, so that memory of other threads is not counted.
#[test]
fn decoding_stays_within_the_memory_bound() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut tally = Tally::default();
    for round in 0..20 {
        for direction in [Direction::Request, Direction::Response] {
            for at in versions(direction) {
                let elements = if round % 10 == 0 { 9 } else { 4 };
                let body = message(direction, at, elements, &mut |n| rng.random_range(0..n));
                let mut mutated = body.clone();
                mutate(&mut rng, &mut mutated);
                tally.decode(direction, at, body);
                tally.decode(direction, at, mutated);
                let length = rng.random_range(0..200);
                let few = [0, 1, 2, 3, 0x7f, 0xff];
                let random = (0..length).map(|_| few[rng.random_range(0..few.len())]).collect();
                tally.decode(direction, at, random);
            }
        }
    }
    // The densest messages: ten thousand elements of a byte or two each, in one array.
    for direction in [Direction::Request, Direction::Response] {
        for at in versions(direction) {
            let mut long = true;
            let body = message(direction, at, 10_001, &mut |below| match below {
                10_001 if std::mem::take(&mut long) => 10_000,
                10_001 => 0,
                below => usize::from(below == 3),
            });
            tally.decode(direction, at, body);
        }
    }
    // ApiVersions v3 with unknown tags only: nodes of a tree of tags.
    let mut body = vec![2, b'a', 2, b'b', 0xb0, 0xea, 0x01];
    for tag in 0..30_000_u32 {
        let tag = tag + (1 << 14);
        body.extend([tag as u8 | 0x80, (tag >> 7) as u8 | 0x80, (tag >> 14) as u8, 0]);
    }
    tally.decode(Direction::Request, (18, 3), body);
    assert!(tally.accepted > 5_000, "only {} messages were decoded", tally.accepted);
    assert!(tally.refused > 5_000, "only {} messages were refused", tally.refused);
}
