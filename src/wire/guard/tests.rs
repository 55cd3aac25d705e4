use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, ProduceRequest};
use proptest::prelude::*;

use super::sample::{Direction, message, versions};
use super::*;
use crate::wire::fuzz::{decode_any_request, decode_any_response};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn check_direction(direction: Direction, at: (i16, i16), body: &[u8]) -> Result<usize, GuardError> {
    match direction {
        Direction::Request => check_request(at.0, at.1, body),
        Direction::Response => check_response(at.0, at.1, body),
    }
}

/// Returns whether Kafka 4.3.1 has the version and the crate, generated from 4.1, does not.
fn newer_than_kafka_protocol(direction: Direction, at: (i16, i16)) -> bool {
    matches!(at, (2, 11) | (27, 2) | (35, 5) | (78 | 79, 2))
        || (direction == Direction::Request && at == (22, 6))
}

fn splitmix(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    }
}

/// The crate aborts the process on each of these.
#[test]
fn rejects_counts_beyond_the_remaining_bytes() {
    let request = |key, version, text| check_request(key, version, &hex(text));
    assert_eq!(
        request(3, 12, "ff ff ff ff 0f"),
        Err(GuardError::Count { count: u32::MAX as usize - 1, remaining: 0 })
    );
    assert!(matches!(request(3, 13, "8b fc 73"), Err(GuardError::Count { .. })));
    assert!(request(0, 11, "01 73 61 60 76 6b bf aa 9b 53").is_err());
    assert_eq!(
        request(3, 4, "0b eb c2 00"),
        Err(GuardError::Count { count: 200_000_000, remaining: 0 })
    );
    let fetch = "ffffffff 00000000 00000000 00000000 00 00000000 00000000 7fffffff";
    assert!(matches!(request(1, 11, fetch), Err(GuardError::Count { .. })));
    for key in [19, 24, 75] {
        let version = if key == 19 {
            7
        } else if key == 24 {
            5
        } else {
            0
        };
        assert!(matches!(request(key, version, "ff ff 7f"), Err(GuardError::Count { .. })));
    }
    assert!(matches!(
        check_response(3, 9, &hex("00000000 ff ff ff 7f")),
        Err(GuardError::Count { .. })
    ));
    assert!(matches!(check_response(0, 9, &hex("ff ff 7f")), Err(GuardError::Count { .. })));
}

#[test]
fn rejects_what_kafka_protocol_and_a_broker_read_differently() {
    // DescribeTopicPartitions v0: no topics, limit 0, then the presence byte of the cursor.
    assert_eq!(check_request(75, 0, &hex("01 00000000 02 00")), Err(GuardError::Presence(2)));
    assert_eq!(check_request(75, 0, &hex("01 00000000 ff 00")), Ok(7));
    // Fetch v12 with a cluster id of two bytes (tag 0) that announces one byte.
    let fetch = "ffffffff 00000000 00000000 00000000 00 00000000 00000000 01 01 01";
    assert_eq!(check_request(1, 12, &hex(&format!("{fetch} 01 00 02 02 61"))), Ok(33));
    assert_eq!(
        check_request(1, 12, &hex(&format!("{fetch} 01 00 01 02 61"))),
        Err(GuardError::TagSize(0))
    );
    // A varint with a sixth byte.
    assert_eq!(check_request(3, 12, &hex("ff ff ff ff ff 01")), Err(GuardError::Varint));
    assert_eq!(check_request(3, 4, &hex("ff ff ff fe 00")), Err(GuardError::Negative(-2)));
    // Metadata v0 has no null for its topics: there, an empty array means all.
    assert_eq!(check_request(3, 0, &hex("ff ff ff ff")), Err(GuardError::Null));
    assert_eq!(check_request(3, 1, &hex("ff ff ff ff")), Ok(4));
    assert_eq!(check_request(3, 1, &hex("00000001 ffff")), Err(GuardError::Null));
    // ApiVersions v3 with two empty names and three tagged fields in four bytes.
    assert_eq!(
        check_request(18, 3, &hex("01 01 03 00 00 00 00")),
        Err(GuardError::Count { count: 3, remaining: 4 })
    );
}

#[test]
fn rejects_unknown_apis_and_versions() {
    assert_eq!(check_request(8, 9, b""), Err(GuardError::UnknownApi(8)));
    assert_eq!(check_request(-1, 0, b""), Err(GuardError::UnknownApi(-1)));
    let unknown = |api_key, version| Err(GuardError::UnknownVersion { api_key, version });
    assert_eq!(check_request(0, 2, b""), unknown(0, 2));
    assert_eq!(check_request(3, 14, b""), unknown(3, 14));
    assert_eq!(check_request(3, -1, b""), unknown(3, -1));
}

#[test]
fn ignores_trailing_bytes_as_a_broker_does() {
    let body = Bytes::from(hex("ff ff ff ff 01 aa bb cc"));
    assert_eq!(check_request(3, 4, &body), Ok(5));
    let request: MetadataRequest = decode_request(4, body).unwrap();
    assert!(request.topics.is_none() && request.allow_auto_topic_creation);
}

#[test]
fn bounds_the_memory_of_unknown_tags() {
    // AlterConfigs v2: 100,000 resources of 7 bytes, each with an unknown tag: a tree node apiece.
    let mut body = BytesMut::new();
    body.put_slice(&hex("a1 8d 06"));
    for _ in 0..100_000 {
        body.put_slice(&hex("02 01 01 01 7f 00"));
    }
    body.put_slice(&hex("00 00"));
    assert_eq!(check_request(33, 2, &body), Err(GuardError::Memory));
}

#[test]
fn bounds_the_memory_of_one_message() {
    // DeleteTopics v5: two million empty names of one byte would take 64 MB of handles.
    let count = REQUEST_BYTES_MAX / 32 + 1;
    let mut body = BytesMut::new();
    let mut left = count + 1;
    while left >= 0x80 {
        body.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    body.put_u8(left as u8);
    body.put_bytes(1, count);
    body.put_slice(&[0, 0, 0, 0, 0]);
    assert_eq!(check_request(20, 5, &body), Err(GuardError::Memory));
}

#[test]
fn decoded_sizes_of_the_schema_are_upper_bounds() {
    let root = |table: &[MessageSchema], key: i16| {
        let m = table.iter().find(|m| m.key == key).unwrap();
        schema::STRUCTS[usize::from(m.root)].decoded_bytes
    };
    assert!(size_of::<ProduceRequest>() <= root(&schema::REQUESTS, 0));
    assert!(size_of::<MetadataResponse>() <= root(&schema::RESPONSES, 3));
    assert!(size_of::<kafka_protocol::messages::FetchRequest>() <= root(&schema::REQUESTS, 1));
}

/// The densest valid message: many elements, each as small as its version allows.
#[test]
fn accepts_any_number_of_the_smallest_elements() {
    for direction in [Direction::Request, Direction::Response] {
        for at in versions(direction) {
            // Long arrays at the first level that has one, the smallest value of everything else.
            let mut long = true;
            let mut choose = |below: usize| {
                if below == 10_001 {
                    if std::mem::take(&mut long) { 10_000 } else { 0 }
                } else {
                    usize::from(below == 3)
                }
            };
            let body = message(direction, at, 10_001, &mut choose);
            assert_eq!(check_direction(direction, at, &body), Ok(body.len()), "{at:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Guard, crate and schema agree on every key and version.
    #[test]
    fn kafka_protocol_decodes_what_the_guard_accepts(seed: u64) {
        let mut choose = splitmix(seed);
        for direction in [Direction::Request, Direction::Response] {
            for at in versions(direction) {
                let body = message(direction, at, 4, &mut choose);
                prop_assert_eq!(check_direction(direction, at, &body), Ok(body.len()), "{:?}", at);
                let decoded = match direction {
                    Direction::Request => decode_any_request(at.0, at.1, body.clone().into()),
                    Direction::Response => decode_any_response(at.0, at.1, body.clone().into()),
                };
                if newer_than_kafka_protocol(direction, at) {
                    prop_assert!(matches!(decoded, Err(DecodeError::Codec(_))), "{:?} {:?} {:?}", direction, at, decoded);
                } else {
                    prop_assert!(decoded.is_ok(), "{:?} {:?}: {:?}", direction, at, decoded);
                }
                for cut in 0..body.len() {
                    prop_assert!(check_direction(direction, at, &body[..cut]).is_err());
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(key in 0_i16..80, version in 0_i16..14, body: Vec<u8>) {
        let _ = decode_any_request(key, version, body.clone().into());
        let _ = decode_any_response(key, version, body.into());
    }
}
